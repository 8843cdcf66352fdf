"""The answers of a device login, in every shape the issuer and what stands before it may give them."""

import json
import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.secret import Secret
from service.oauth.device import (
    DEFAULT_INTERVAL,
    SLOW_DOWN,
    Approved,
    Ended,
    NoDeviceLogin,
    Pending,
    Poll,
    Unreachable,
    UserCode,
    read_poll,
    read_user_code,
)
from service.oauth.wire import Answer, NoAnswer, NotSent, Outcome
from tests.oauth.values import NOW, answer, anything, examples, recorded

CODE = {"device_auth_id": "device-1", "user_code": "ABCD-12345", "interval": "5"}
HTML = b"<html>gateway</html>"

# -- the user code -----------------------------------------------------------------------------------------------


def test_a_recorded_user_code() -> None:
    code = read_user_code(answer(200, recorded("usercode_200")))
    assert code == UserCode(Secret("deviceauth_0001"), Secret("ABCD-12345"), 5.0)


def test_the_other_spelling_of_user_code() -> None:
    code = read_user_code(answer(200, {"device_auth_id": "device-1", "usercode": "ABCD-12345"}))
    assert code == UserCode(Secret("device-1"), Secret("ABCD-12345"), DEFAULT_INTERVAL)


@pytest.mark.parametrize(
    ("interval", "seconds"),
    [
        *(("5", 5), (5, 5), (5.5, 5.5), ("7.5", 7.5), (" 7 ", 7)),
        *(("0", 1), (0, 1), ("-5", 1), (-5, 1), (-math.inf, 1), ("0.2", 1)),
        *((61, 60), ("1e999", 60), (1e300, 60), (math.inf, 60), (10**18, 60), ("9" * 5000, 60)),
        *((math.nan, DEFAULT_INTERVAL), ("nan", DEFAULT_INTERVAL), (None, DEFAULT_INTERVAL), ("", DEFAULT_INTERVAL)),
        *(("soon", DEFAULT_INTERVAL), ([], DEFAULT_INTERVAL), ({"seconds": 9}, DEFAULT_INTERVAL)),
        (10**400, DEFAULT_INTERVAL),  # more than a float can hold
    ],
    ids=lambda value: repr(value)[:20],
)
def test_interval(interval: object, seconds: float) -> None:
    code = read_user_code(answer(200, CODE | {"interval": interval}))
    assert isinstance(code, UserCode)
    assert code.interval == seconds


@pytest.mark.parametrize("body", [b"", HTML, {"error": "not_found"}, CODE], ids=["empty", "html", "json", "a code"])
def test_404_means_that_there_are_no_device_codes(body: object) -> None:
    assert read_user_code(answer(404, body)) == NoDeviceLogin()


@pytest.mark.parametrize("status", [201, 302, 400, 401, 403, 429, 500, 503])
def test_any_other_status_gives_no_code(status: int) -> None:
    assert read_user_code(answer(status, CODE)) is None


NO_IDS: list[object] = [None, 42, [], {}, "", "\ud800", "d\u00e9", "a\nb"]
NOT_TYPABLE: list[object] = ["", None, 42, [], "x" * 65, "A\nB", "A\x1b[2J", "ÄBCD", "A\u202eB"]


@pytest.mark.parametrize(
    "body",
    [
        *(b"", HTML, b"[]", b"\xff\xfe", {}, {"device_auth_id": "device-1"}, {"user_code": "ABCD"}),
        *({**CODE, "device_auth_id": no_id} for no_id in NO_IDS),
        *({**CODE, "user_code": code} for code in NOT_TYPABLE),
    ],
    ids=lambda body: repr(body)[:50],
)
def test_a_code_that_cannot_be_understood_is_none(body: object) -> None:
    assert read_user_code(answer(200, body)) is None


def test_repr_of_a_user_code_shows_nothing() -> None:
    assert repr(read_user_code(answer(200, CODE))).count("*") == 20


# -- the poll ----------------------------------------------------------------------------------------------------

POLLS: dict[str, tuple[Outcome, Poll]] = {
    # approved
    "approved, as recorded": (
        answer(200, recorded("approved_200")),
        Approved(Secret("ac_0001.code"), Secret("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")),
    ),
    "approved, no challenge": (
        answer(200, {"authorization_code": "c", "code_verifier": "v"}),
        Approved(Secret("c"), Secret("v")),
    ),
    # 200 that says nothing
    "200, empty": (answer(200), Ended("invalid_answer")),
    "200, html": (answer(200, HTML), Ended("invalid_answer")),
    "200, no members": (answer(200, {}), Ended("invalid_answer")),
    "200, no verifier": (answer(200, {"authorization_code": "c"}), Ended("invalid_answer")),
    "200, no code": (answer(200, {"code_verifier": "v"}), Ended("invalid_answer")),
    "200, empty code": (answer(200, {"authorization_code": "", "code_verifier": "v"}), Ended("invalid_answer")),
    "200, empty verifier": (answer(200, {"authorization_code": "c", "code_verifier": ""}), Ended("invalid_answer")),
    "200, half a character": (
        answer(200, {"authorization_code": "\ud800", "code_verifier": "v"}),
        Ended("invalid_answer"),
    ),
    "200, numbers": (answer(200, {"authorization_code": 1, "code_verifier": 2}), Ended("invalid_answer")),
    # pending
    "pending, as recorded": (answer(403, recorded("pending_403")), Pending()),
    "403, empty": (answer(403), Pending()),
    "403, html": (answer(403, HTML), Pending()),
    "404, empty": (answer(404), Pending()),
    "404, json": (answer(404, {"error": "not_found"}), Pending()),
    "400, as the RFC has it": (answer(400, {"error": "authorization_pending"}), Pending()),
    "400, the issuer's own word": (answer(400, {"error": {"code": "deviceauth_authorization_pending"}}), Pending()),
    "slow down": (answer(400, {"error": "slow_down"}), Pending(SLOW_DOWN)),
    "slow down, nested": (answer(429, {"error": {"code": "slow_down"}}, retry_after="9"), Pending(SLOW_DOWN)),
    # no answer
    "not sent": (NotSent("ConnectError"), Unreachable()),
    "timeout": (NoAnswer("ReadTimeout"), Unreachable()),
    "rate limit": (answer(429), Unreachable()),
    "rate limit with a time": (answer(429, retry_after="30"), Unreachable(30.0)),
    "rate limit with nonsense": (answer(429, retry_after="soon"), Unreachable(0.0)),
    "500": (answer(500, HTML), Unreachable()),
    "502": (answer(502, {"error": "bad_gateway"}), Unreachable()),
    "503 with a date": (answer(503, retry_after="Fri, 15 Jan 2027 08:01:00 GMT"), Unreachable(60.0)),
    # over
    "denied": (answer(403, {"error": "access_denied"}), Ended("access_denied")),
    "denied, nested": (answer(400, {"error": {"code": "access_denied"}}), Ended("access_denied")),
    "expired": (answer(400, {"error": "expired_token"}), Ended("expired_token")),
    "expired, with 404": (answer(404, {"code": "expired_token"}), Ended("expired_token")),
    "approved with another status": (answer(201, recorded("approved_200")), Ended("http_201")),
    "refused": (answer(400, {"error": "invalid_client"}), Ended("invalid_client")),
    "refused without a word": (answer(401, HTML), Ended("http_401")),
    "redirected": (answer(302, HTML), Ended("http_302")),
}


@pytest.mark.parametrize("row", POLLS)
def test_poll(row: str) -> None:
    outcome, meaning = POLLS[row]
    assert read_poll(outcome, now=NOW) == meaning


def test_slow_down_is_five_seconds_as_rfc_8628_has_it() -> None:
    assert SLOW_DOWN == DEFAULT_INTERVAL == 5


# -- anything ----------------------------------------------------------------------------------------------------

names = ("device_auth_id", "user_code", "usercode", "interval", "authorization_code", "code_verifier", "error", "code")
bodies = (
    st.binary()
    | anything.map(json.dumps).map(str.encode)
    | st.fixed_dictionaries({}, optional=dict.fromkeys(names, anything)).map(json.dumps).map(str.encode)
)
answers = st.builds(
    Answer,
    st.sampled_from([200, 400, 403, 404, 429]) | st.integers(100, 599),
    bodies,
    st.dictionaries(st.just("retry-after"), st.text()),
)


@examples
@given(answers)
def test_no_answer_to_a_poll_is_too_strange_and_only_a_200_approves(some: Answer) -> None:
    meaning = read_poll(some, now=NOW)
    assert isinstance(meaning, get_args(Poll))
    assert some.status == 200 or not isinstance(meaning, Approved)


@examples
@given(answers)
def test_no_answer_with_a_user_code_is_too_strange(some: Answer) -> None:
    code = read_user_code(some)
    assert code is None or isinstance(code, NoDeviceLogin) or 1 <= code.interval <= 60
