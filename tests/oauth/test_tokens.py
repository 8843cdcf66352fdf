"""Token answers are read tolerantly: what can be used is kept, what cannot is None, and nothing raises."""

import json
import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.credential import Identity, Tokens, claimed, rotated
from service.domain.decide import Policy, Refresh, Wish, decide, due_at
from service.domain.secret import Secret
from service.oauth.answers import MAX_LIFETIME, Granted, Unknown, classify, is_sendable, lifetime, read_tokens
from tests.domain.values import ATTEMPT, credential
from tests.oauth.values import NOW, REFRESH_TOKEN, answer, anything, document, examples, jwt, recorded

OPAQUE = Secret("opaque")
TEN_DAYS = 864_000.0


def granted(members: object) -> Tokens:
    """The tokens of a 200."""
    verdict = classify(answer(200, members), now=NOW)
    assert isinstance(verdict, Granted)
    return verdict.tokens


def whole(**members: Any) -> dict[str, Any]:
    """A good answer with some members changed; `...` takes one out."""
    changed = {"access_token": "a", "refresh_token": "r", "expires_in": 60, "token_type": "Bearer", **members}
    return {name: value for name, value in changed.items() if value is not ...}


# -- a real answer -----------------------------------------------------------------------------------------------


def test_a_recorded_answer() -> None:
    tokens, sent = granted(recorded("token_200")), document("token_200")
    assert tokens.access_token == Secret(sent["access_token"])
    assert tokens.refresh_token == Secret(REFRESH_TOKEN)
    assert tokens.id_token == Secret(sent["id_token"])
    assert (tokens.lifetime, tokens.fault) == (TEN_DAYS, None)
    assert tokens.identity == Identity("acct-0001", "alice@example.org", "pro")


def test_unknown_members_and_nesting_are_ignored() -> None:
    assert granted(whole(a={"b": [{"refresh_token": "no"}]}, ünï="cödé")) == granted(whole())


def test_tokens_of_64_kib_are_taken() -> None:
    long = "x" * 65536
    tokens = granted(whole(access_token=long, refresh_token=long, id_token=long))
    assert (tokens.access_token, tokens.refresh_token, tokens.id_token) == (Secret(long),) * 3
    assert tokens.fault is None


@pytest.mark.parametrize("name", ["access_token", "refresh_token", "id_token"])
@pytest.mark.parametrize("value", [..., None, "", 0, 42, True, [], {}, ["a"]])
def test_a_token_that_is_no_text_is_none(name: str, value: object) -> None:
    assert (
        getattr(granted(whole(id_token="i") | {name: value} if value is not ... else whole(**{name: ...})), name)
        is None
    )


def test_an_answer_without_a_refresh_token_is_still_one() -> None:
    tokens = granted(whole(refresh_token=...))
    assert (tokens.access_token, tokens.refresh_token) == (Secret("a"), None)


def test_an_answer_without_an_access_token_is_still_one() -> None:
    tokens = granted(whole(access_token=...))
    assert (tokens.access_token, tokens.refresh_token) == (None, Secret("r"))


# -- what may be served ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token_type", [..., "Bearer", "bearer", "BEARER"])
def test_a_bearer_token_may_be_served(token_type: object) -> None:
    assert granted(whole(token_type=token_type)).fault is None


@pytest.mark.parametrize("token_type", ["mac", "DPoP", "", " bearer", "bearer\n", 1, True, [], {"Bearer": 1}])
def test_a_token_of_another_type_is_kept_and_not_served(token_type: object) -> None:
    tokens = granted(whole(token_type=token_type))
    assert tokens.fault == "unsupported_token_type"
    assert tokens.refresh_token == Secret("r")


@pytest.mark.parametrize("character", [*"\r\n\0\t \x1b\x7f\x80é€\u2028\u202e", "\r\nSet-Cookie: x=y"])
@pytest.mark.parametrize("place", ["{}aa", "a{}a", "aa{}"])
def test_a_token_that_would_break_a_header_line_is_kept_and_not_served(character: str, place: str) -> None:
    tokens = granted(whole(access_token=place.format(character)))
    assert tokens.fault == "unsendable_token"
    assert tokens.refresh_token == Secret("r")


@pytest.mark.parametrize("text", ["a\r\nb", "a\0", "\x1b[2J", "a\x7f", "é", "\u202e", "\ud800", "a\n"], ids=ascii)
@pytest.mark.parametrize("name", ["access_token", "refresh_token", "id_token"])
def test_a_token_that_could_not_be_stored_harms_no_other(name: str, text: str) -> None:
    tokens = granted(whole(**{"id_token": "i", name: text}))
    kept = {other: getattr(tokens, other) for other in ("access_token", "refresh_token", "id_token")}
    assert kept == {"access_token": Secret("a"), "refresh_token": Secret("r"), "id_token": Secret("i"), name: None}


@pytest.mark.parametrize("name", ["refresh_token", "id_token"])
def test_a_token_that_is_never_sent_in_a_header_may_hold_a_space(name: str) -> None:
    assert getattr(granted(whole(**{name: "a b"})), name) == Secret("a b")


def test_an_absent_access_token_is_not_a_fault_of_its_own() -> None:
    assert granted(whole(access_token=None)).fault is None


@examples
@given(st.text())
def test_what_is_sendable_fits_into_one_header_line(text: str) -> None:
    visible = bool(text) and all("\x21" <= character <= "\x7e" for character in text)
    assert is_sendable(Secret(text)) is visible


# -- how long it lives -------------------------------------------------------------------------------------------

UNUSABLE: list[object] = [
    *(None, 0, -1, 0.5, True, False, math.nan, math.inf, -math.inf, 1e18, 10**400, MAX_LIFETIME + 1),
    *("", "abc", "0", "-1", "nan", "inf", "1e18", "9" * 5000, "3600s", "\x00", "½"),
    *([], {}, [3600], {"seconds": 3600}),
]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (3600, 3600),
        ("3600", 3600),
        (3599.7, 3599.7),
        (" 60 ", 60),
        (1, 1),
        (MAX_LIFETIME, MAX_LIFETIME),
        (864000, TEN_DAYS),
    ],
)
def test_expires_in_is_read(value: object, seconds: float) -> None:
    assert lifetime(value, jwt({"exp": NOW + 5}), now=NOW) == seconds


@pytest.mark.parametrize("value", UNUSABLE, ids=lambda value: repr(value)[:20])
def test_without_a_usable_expires_in_the_token_itself_is_asked(value: object) -> None:
    assert lifetime(value, jwt({"exp": NOW + 1800}), now=NOW) == 1800


@pytest.mark.parametrize("left", [1, 1.5, 1800, MAX_LIFETIME])
def test_the_token_itself_says_how_much_is_left(left: float) -> None:
    assert lifetime(None, jwt({"exp": NOW + left}), now=NOW) == left


@pytest.mark.parametrize("value", UNUSABLE, ids=lambda value: repr(value)[:20])
def test_without_any_hint_the_lifetime_is_unknown(value: object) -> None:
    assert lifetime(value, OPAQUE, now=NOW) is None
    assert lifetime(value, None, now=NOW) is None


@pytest.mark.parametrize(
    "exp",
    [
        None,
        True,
        "1800000060",
        NOW,
        NOW + 0.9,
        NOW - 60,
        NOW + MAX_LIFETIME + 1,
        0,
        -1,
        1e11,
        1e300,
        math.nan,
        math.inf,
        [],
        {},
    ],
)
def test_an_unusable_exp_is_no_hint(exp: object) -> None:
    assert lifetime(None, jwt({"exp": exp}), now=NOW) is None


@examples
@given(anything, anything)
def test_a_lifetime_is_unknown_or_within_bounds(value: object, exp: object) -> None:
    seconds = lifetime(value, jwt({"exp": exp}), now=NOW)
    assert seconds is None or 1 <= seconds <= MAX_LIFETIME


@pytest.mark.parametrize("expires_in", [..., None, 0, -1, "3600", 3599.7, 1e18, True, math.nan, "abc", "9" * 5000])
@pytest.mark.parametrize("wish", [Wish(), Wish(min_ttl=1e9), Wish(newer_than=1)], ids=["any", "long", "rejected"])
def test_however_odd_expires_in_refreshes_keep_to_the_floor(expires_in: object, wish: Wish) -> None:
    present, sent, now = credential(expires_at=NOW, obtained_at=NOW - 60), [], NOW
    while now < NOW + 600:
        due = due_at(present, now, Policy())
        asked = [Wish(ahead=True)] if due is not None and due <= now else []
        for one in [*asked, Wish(wish.min_ttl, wish.newer_than and present.generation)]:
            if decide(present, one, now, Policy()) == Refresh():
                sent.append(now)
                tokens = granted(whole(expires_in=expires_in))
                present = rotated(claimed(present, ATTEMPT), tokens, sent_at=now, now=now, wait=60)
        now += 1
    assert all(later - earlier >= 5 for earlier, later in pairwise(sent))


# -- damaged answers ---------------------------------------------------------------------------------------------

ORDERS = [
    ["access_token", "expires_in", "id_token", "refresh_token", "scope", "token_type"],
    ["refresh_token", "id_token", "access_token", "scope", "token_type", "expires_in"],
]
LAYOUTS: dict[str, Any] = {"compact": {"separators": (",", ":")}, "indented": {"indent": 2}}


@pytest.mark.parametrize("order", ORDERS, ids=["refresh token late", "refresh token first"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_answer_cut_off_anywhere_gives_whole_tokens_or_none(order: list[str], layout: str) -> None:
    sent = document("token_200")
    body = json.dumps({name: sent[name] for name in order}, **LAYOUTS[layout]).encode()
    complete = body.index(REFRESH_TOKEN.encode()) + len(REFRESH_TOKEN) + 1
    for length in range(len(body)):
        verdict = classify(answer(200, body[:length]), now=NOW)
        if length < complete:
            assert verdict == Unknown("unreadable_answer")
            continue
        assert isinstance(verdict, Granted)
        assert verdict.tokens.refresh_token == Secret(REFRESH_TOKEN)
        assert verdict.tokens.access_token in (None, Secret(sent["access_token"]))
        assert verdict.tokens.id_token in (None, Secret(sent["id_token"]))


def test_an_answer_cut_off_after_the_access_token_is_served_for_as_long_as_it_says() -> None:
    body = recorded("token_200")
    verdict = classify(answer(200, body[: body.index(b'"scope"')]), now=NOW)
    assert isinstance(verdict, Granted)
    assert (verdict.tokens.lifetime, verdict.tokens.identity.account_id) == (TEN_DAYS, "acct-0001")


@pytest.mark.parametrize(
    "body",
    [
        b'{"refresh_token": "rt-1", "access_token": "at-1", "note": "\xff"}',
        b'HTTP/1.1 200 OK\r\n\r\n{"refresh_token": "rt-1"}',
        b'{"refresh_token": "rt-1"}{"access_token": "at-1"}',
        b'{"refresh_token"\n:\t"rt-1", }',
        b'{\'a\': 1, "refresh_token":"rt-1"',
        b'{"expires_in": ' + b"9" * 5000 + b', "refresh_token": "rt-1"}',
        b'[{"refresh_token": "rt-1"}]',
    ],
    ids=["latin-1", "headers in the body", "two objects", "trailing comma", "not quite JSON", "endless number", "list"],
)
def test_a_whole_refresh_token_is_saved_from_a_damaged_answer(body: bytes) -> None:
    verdict = classify(answer(200, body), now=NOW)
    assert isinstance(verdict, Granted)
    assert verdict.tokens.refresh_token == Secret("rt-1")


@pytest.mark.parametrize(
    "body",
    [
        b'{"refresh_token": "rt-1',
        b'{"refresh_token": "rt-1\\',
        b'{"refresh_token": "rt-1\\", "access_token": "at-1"',
        b'{"refresh_token": "rt\\u002d1", "a',
        b'{"refresh_token": "", "a',
        b'{"refresh_token": null, "a',
        b'{"refresh_token": "rt 1", "a',
        b'{"refresh_token": "rt\xff1", "a',
        b'{"old_refresh_token": "rt-1", "a',
        b'{"message": "say \\"refresh_token\\":\\"rt-1\\" aloud", "a',
        b'{"access_token": "at-1", "id_token": "it-1", "a',
        b"refresh_token=rt-1&access_token=at-1",
    ],
)
def test_half_a_refresh_token_is_never_taken_for_a_whole_one(body: bytes) -> None:
    assert classify(answer(200, body), now=NOW) == Unknown("unreadable_answer")


@examples
@given(st.integers(0, 1700), st.integers(0, 255), st.integers(0, 40))
def test_a_damaged_answer_never_raises(at: int, byte: int, lost: int) -> None:
    body = bytearray(recorded("token_200"))
    body[at : at + lost] = bytes([byte])
    assert isinstance(classify(answer(200, bytes(body)), now=NOW), Granted | Unknown)


# -- any answer --------------------------------------------------------------------------------------------------


@examples
@given(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("access_token", "refresh_token", "id_token", "expires_in", "token_type"), anything)
    )
)
def test_no_member_is_too_strange(members: dict[str, Any]) -> None:
    tokens = read_tokens(members, now=NOW)
    for name in ("access_token", "refresh_token", "id_token"):
        token = getattr(tokens, name)
        assert token is None or token.reveal() == members[name] != ""
    assert tokens.lifetime is None or tokens.lifetime >= 1


def test_repr_of_a_verdict_shows_no_token() -> None:
    assert REFRESH_TOKEN not in repr(classify(answer(200, recorded("token_200")), now=NOW))
