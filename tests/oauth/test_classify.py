"""The table of outcome classes, row by row."""

import json
import re
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import LoginReason
from service.domain.secret import Secret
from service.oauth.answers import (
    DEAD,
    Granted,
    Later,
    Misconfigured,
    Refused,
    Unknown,
    Verdict,
    classify,
    error_code,
)
from service.oauth.wire import Answer, NoAnswer, NotSent, Outcome
from tests.oauth.values import NOW, answer, anything, examples, recorded

HTML = b"<!doctype html><html><body><h1>502 Bad Gateway</h1><hr>nginx</body></html>"
WORKING = {"access_token": "a", "refresh_token": "r", "expires_in": 60, "token_type": "Bearer"}

TABLE: dict[str, tuple[Outcome, Verdict]] = {
    # never sent
    "connect error": (NotSent("ConnectError"), Later("ConnectError")),
    "connect timeout": (NotSent("ConnectTimeout"), Later("ConnectTimeout")),
    "pool timeout": (NotSent("PoolTimeout"), Later("PoolTimeout")),
    # sent, and no whole answer
    "read timeout": (NoAnswer("ReadTimeout"), Unknown("ReadTimeout")),
    "reset after send": (NoAnswer("ReadError"), Unknown("ReadError")),
    "garbage": (NoAnswer("RemoteProtocolError"), Unknown("RemoteProtocolError")),
    # refused
    "reused, as recorded": (
        answer(401, recorded("reused_401")),
        Refused("refresh_token_reused", "refresh_token_reused"),
    ),
    "reused, with the other status": (
        answer(400, recorded("reused_401")),
        Refused("refresh_token_reused", "refresh_token_reused"),
    ),
    "invalidated, as recorded": (
        answer(401, recorded("invalidated_401")),
        Refused("refresh_token_revoked", "refresh_token_invalidated"),
    ),
    "flat invalid_grant": (
        answer(400, {"error": "invalid_grant", "error_description": "no"}),
        Refused("refresh_token_revoked", "invalid_grant"),
    ),
    "nested invalid_grant": (
        answer(400, {"error": {"code": "invalid_grant", "message": "no"}}),
        Refused("refresh_token_revoked", "invalid_grant"),
    ),
    "invalid_grant as a top-level code": (
        answer(400, {"code": "invalid_grant", "detail": "no"}),
        Refused("refresh_token_revoked", "invalid_grant"),
    ),
    "invalid_grant in capitals": (
        answer(400, {"error": "INVALID_GRANT"}),
        Refused("refresh_token_revoked", "invalid_grant"),
    ),
    # not consumed
    "empty refresh token, as recorded": (answer(400, recorded("empty_token_400")), Misconfigured("empty_string")),
    "access_denied": (answer(403, {"error": "access_denied"}), Misconfigured("access_denied")),
    "a code nobody knows": (answer(400, {"error": "teapot"}), Misconfigured("teapot")),
    "a description is not a code": (answer(400, {"error_description": "invalid_grant"}), Misconfigured("http_400")),
    "a message is not a code": (answer(401, {"error": {"message": "invalid_grant"}}), Misconfigured("http_401")),
    "plain text is not a code": (answer(401, b"invalid_grant"), Misconfigured("http_401")),
    "a dead code of another place": (answer(404, {"error": "invalid_grant"}), Misconfigured("invalid_grant")),
    "a redirect": (answer(302, HTML, location="https://portal.example/"), Misconfigured("http_302")),
    # asked to come back
    "rate limit": (answer(429, {"error": "rate_limit_exceeded"}), Later("rate_limit_exceeded")),
    "rate limit with a time": (answer(429, b"", retry_after="120"), Later("http_429", 120.0)),
    "unavailable with a time": (answer(503, HTML, retry_after="7"), Later("http_503", 7.0)),
    "unavailable with a date": (
        answer(503, HTML, retry_after="Fri, 15 Jan 2027 08:02:00 GMT"),
        Later("http_503", 120.0),
    ),
    "rate limit with a dead code": (answer(429, {"error": "invalid_grant"}), Later("invalid_grant")),
    "temporarily unavailable": (answer(400, {"error": "temporarily_unavailable"}), Later("temporarily_unavailable")),
    "temporarily unavailable, in the issuer's words": (
        answer(500, {"error": {"code": "temporarily_unavailable"}}, retry_after="3"),
        Later("temporarily_unavailable", 3.0),
    ),
    "rate limit with another status": (
        answer(400, {"error": {"code": "rate_limit_exceeded"}}, retry_after="4"),
        Later("rate_limit_exceeded", 4.0),
    ),
    "slow down": (answer(400, {"error": "slow_down"}), Later("slow_down")),
    # unknown
    "a server error with a dead code": (answer(500, {"error": "invalid_grant"}), Unknown("http_500")),
    "a gateway that gave up": (answer(504, HTML), Unknown("http_504")),
    # answered, and not to be understood
    "empty 200": (answer(200, b""), Unknown("unreadable_answer")),
    "portal": (answer(200, HTML), Unknown("unreadable_answer")),
    "200 without members": (answer(200, {}), Unknown("empty_answer")),
    "200 with an error": (answer(200, {"error": "invalid_grant"}), Unknown("empty_answer")),
    "200 with empty tokens": (
        answer(200, {"access_token": "", "refresh_token": None, "id_token": "i"}),
        Unknown("empty_answer"),
    ),
    "200 list": (answer(200, [1, 2]), Unknown("unreadable_answer")),
}


@pytest.mark.parametrize("row", TABLE)
def test_outcome(row: str) -> None:
    outcome, verdict = TABLE[row]
    assert classify(outcome, now=NOW) == verdict


CONFIGURATION = ["invalid_client", "unauthorized_client", "invalid_scope", "invalid_request", "unsupported_grant_type"]


@pytest.mark.parametrize("code", CONFIGURATION)
@pytest.mark.parametrize("status", [400, 401])
@pytest.mark.parametrize(
    "shape", [lambda code: {"error": code}, lambda code: {"error": {"code": code}}], ids=["flat", "nested"]
)
def test_a_refused_configuration_ends_no_login(status: int, code: str, shape: Any) -> None:
    assert classify(answer(status, shape(code)), now=NOW) == Misconfigured(code)


@pytest.mark.parametrize("code", DEAD)
@pytest.mark.parametrize("status", [400, 401, 403])
@pytest.mark.parametrize(
    "shape",
    [lambda code: {"error": code}, lambda code: {"error": {"code": code}}, lambda code: {"code": code}],
    ids=["flat", "nested", "top-level"],
)
def test_a_dead_code_ends_the_login(status: int, code: str, shape: Any) -> None:
    assert classify(answer(status, shape(code)), now=NOW) == Refused(DEAD[code], code)


def test_these_codes_end_a_login_and_no_others() -> None:
    assert DEAD == {
        "refresh_token_expired": "refresh_token_expired",
        "token_expired": "refresh_token_expired",
        "refresh_token_reused": "refresh_token_reused",
        "app_session_terminated": "refresh_token_revoked",
        "invalid_grant": "refresh_token_revoked",
        "invalid_refresh_token": "refresh_token_revoked",
        "refresh_token_invalidated": "refresh_token_revoked",
        "refresh_token_revoked": "refresh_token_revoked",
    }
    assert set(DEAD.values()) <= set(get_args(LoginReason))


BODIES = {"json": b'{"error": {"message": "no", "type": null}}', "html": HTML, "empty": b""}


def verdict_of(status: int) -> Verdict:
    """What a status alone means, when its body says nothing."""
    code = f"http_{status}"
    if status in (429, 503):
        return Later(code)
    return Unknown(code) if status == 408 or status >= 500 else Misconfigured(code)


@pytest.mark.parametrize("body", BODIES)
def test_every_status_has_its_class(body: str) -> None:
    for status in range(300, 600):
        assert classify(answer(status, BODIES[body]), now=NOW) == verdict_of(status)


@pytest.mark.parametrize("status", [500, 502, 504, 408, 599])
@pytest.mark.parametrize("error", ["server_error", "invalid_grant", "invalid_client"])
def test_no_code_makes_an_unknown_outcome_known(status: int, error: str) -> None:
    assert classify(answer(status, {"error": error}), now=NOW) == Unknown(f"http_{status}")


@pytest.mark.parametrize("status", [200, 201, 202, 203, 206, 226, 299])
def test_every_success_may_have_spent_the_token(status: int) -> None:
    verdict = classify(answer(status, WORKING), now=NOW)
    assert isinstance(verdict, Granted)
    assert verdict.tokens.refresh_token == Secret("r")
    assert classify(answer(status), now=NOW) == Unknown("unreadable_answer")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_never_an_answer_whatever_it_carries(status: int) -> None:
    assert classify(answer(status, WORKING, location="https://elsewhere.example"), now=NOW) == Misconfigured(
        f"http_{status}"
    )


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"error": "invalid_grant"}, "invalid_grant"),
        ({"error": {"code": "refresh_token_reused", "type": "invalid_request_error"}}, "refresh_token_reused"),
        ({"error": {"code": None, "type": "invalid_request_error"}}, "invalid_request_error"),
        ({"error": {"code": 42, "type": "server_error"}}, "server_error"),
        ({"code": "token_expired"}, "token_expired"),
        ({"error": None, "code": "token_expired"}, "token_expired"),
        ({"error": "Invalid_Grant"}, "invalid_grant"),
        ({"error": "a.b-c_9"}, "a.b-c_9"),
        ({"error": "two words"}, None),
        ({"error": "<script>"}, None),
        ({"error": "line\r\nbreak"}, None),
        ({"error": "newline\n"}, None),
        ({"error": "umlaut-ü"}, None),
        ({"error": ""}, None),
        ({"error": "x" * 64}, "x" * 64),
        ({"error": "x" * 65}, None),
        ({"error": ["invalid_grant"]}, None),
        ({"error": {}}, None),
        ({"error": True}, None),
        ({}, None),
        (b"", None),
        (HTML, None),
        (b"\xef\xbb\xbf" + b'{"error": "invalid_grant"}', "invalid_grant"),
    ],
)
def test_error_code(body: object, code: str | None) -> None:
    assert error_code(answer(400, body).body) == code


answers = st.builds(
    Answer,
    st.integers(100, 599),
    st.binary() | anything.map(json.dumps).map(str.encode),
    st.dictionaries(st.just("retry-after"), st.text()),
)
names = ("access_token", "refresh_token", "id_token", "expires_in", "token_type", "scope", "error", "code")
members = st.fixed_dictionaries({}, optional=dict.fromkeys(names, anything))


@examples
@given(answers | members.map(lambda some: answer(200, some)) | members.map(lambda some: answer(400, some)))
def test_every_answer_has_a_class_and_tokens_come_only_with_success(some: Answer) -> None:
    verdict = classify(some, now=NOW)
    assert isinstance(verdict, get_args(Verdict))
    assert 200 <= some.status < 300 or not isinstance(verdict, Granted)


@examples
@given(answers | members.map(lambda some: answer(400, some)))
def test_what_a_verdict_says_can_be_logged(some: Answer) -> None:
    verdict = classify(some, now=NOW)
    assert isinstance(verdict, Granted) or re.fullmatch(r"[a-z0-9_.-]{1,64}", verdict.code)
