"""Claims are hints: taken from whichever token has them, never trusted to be well-formed."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.credential import Identity
from service.domain.secret import Secret
from service.oauth.claims import identity, instant, unverified_claims
from tests.oauth.values import AUTH, NOW, PROFILE, anything, document, encoded, examples, jwt

ALICE = {
    "email": "alice@example.org",
    AUTH: {"chatgpt_account_id": "acct-1", "chatgpt_plan_type": "pro"},
}


def test_recorded_tokens_say_the_same() -> None:
    recorded = document("token_200")
    for name in ("access_token", "id_token"):
        assert identity(Secret(recorded[name])) == Identity("acct-0001", "alice@example.org", "pro")


@pytest.mark.parametrize("tokens", [(jwt(ALICE), None), (None, jwt(ALICE)), (Secret("opaque"), jwt(ALICE))])
def test_either_token_will_do(tokens: tuple[Secret | None, ...]) -> None:
    assert identity(*tokens) == Identity("acct-1", "alice@example.org", "pro")


def test_each_claim_comes_from_the_first_token_that_has_it() -> None:
    access = jwt({AUTH: {"chatgpt_account_id": "acct-1"}, PROFILE: {"email": "profile@example.org"}})
    id_token = jwt({"email": "id@example.org", AUTH: {"chatgpt_account_id": "acct-2", "chatgpt_plan_type": "team"}})
    assert identity(access, id_token) == Identity("acct-1", "profile@example.org", "team")


def test_the_e_mail_claim_comes_before_the_profile() -> None:
    assert identity(jwt({"email": "a@example.org", PROFILE: {"email": "b@example.org"}})).email == "a@example.org"


def test_nothing_is_known_of_nobody() -> None:
    assert identity() == identity(None, None) == identity(jwt({})) == Identity()


@pytest.mark.parametrize(
    "value",
    ["", "x" * 321, "a\r\nb", "a\x00", "a\x1b[31m", "a\x7f", "ünï", "a\u202eb", 42, True, None, ["a"], {"a": "b"}],
)
def test_a_claim_that_cannot_be_shown_is_not_there(value: object) -> None:
    token = jwt({"email": value, AUTH: {"chatgpt_account_id": value, "chatgpt_plan_type": value}})
    assert identity(token) == Identity()


@pytest.mark.parametrize("length", [1, 320])
def test_the_shortest_and_the_longest_claim(length: int) -> None:
    assert identity(jwt({"email": "x" * length})).email == "x" * length


@pytest.mark.parametrize("container", ["text", 42, None, True, ["chatgpt_account_id"]])
def test_a_claim_in_the_wrong_container_is_not_there(container: object) -> None:
    assert identity(jwt({AUTH: container, PROFILE: container})) == Identity()


NO_TOKENS = {
    "nothing": "",
    "opaque": "opaque",
    "two parts": "e30.e30",
    "four parts": "e30.e30.e30.e30",
    "only dots": "..",
    "impossible length": "e30.abcde.c2ln",
    "not base64": "e30.!!!!.c2ln",
    "not ASCII": "e30.é€.c2ln",
    "lone surrogate": "e30.\ud800.c2ln",
    "not JSON": f"e30.{encoded(b'not json')}.c2ln",
    "not UTF-8": f"e30.{encoded(bytes(range(128, 256)))}.c2ln",
    "a list": f"e30.{encoded([1, 2])}.c2ln",
    "deep": f"e30.{encoded(b'[' * 100_000)}.c2ln",
}


@pytest.mark.parametrize("token", NO_TOKENS.values(), ids=list(NO_TOKENS))
def test_what_is_no_jwt_claims_nothing(token: str) -> None:
    assert unverified_claims(Secret(token)) == {}


def test_no_token_claims_nothing() -> None:
    assert unverified_claims(None) == {}


@pytest.mark.parametrize("claims", [{"a": 1}, {"a": 12}, {"a": 123}, {"a": 1234}])
def test_padding_is_not_needed(claims: dict[str, int]) -> None:
    assert unverified_claims(jwt(claims)) == claims


@pytest.mark.parametrize(("exp", "seconds"), [(NOW, NOW), (1_800_000_000, NOW), (NOW + 0.5, NOW + 0.5)])
def test_instant(exp: float, seconds: float) -> None:
    assert instant(jwt({"exp": exp}), "exp") == seconds


@pytest.mark.parametrize(
    "exp", [None, 0, -1, 1e11, 10**400, True, False, "1800000000", math.nan, math.inf, -math.inf, [], {}]
)
def test_an_instant_that_cannot_be_is_none(exp: object) -> None:
    assert instant(jwt({"exp": exp}), "exp") is None


def test_an_instant_that_is_not_claimed_is_none() -> None:
    assert instant(jwt({"iat": NOW}), "exp") is None
    assert instant(Secret("opaque"), "exp") is None
    assert instant(None, "exp") is None


@examples
@given(
    st.text()
    | anything.map(jwt).map(Secret.reveal)
    | st.builds("{}.{}.{}".format, st.text(), st.binary().map(encoded), st.text())
)
def test_no_token_is_too_strange(token: str) -> None:
    assert isinstance(unverified_claims(Secret(token)), dict)
    known = identity(Secret(token))
    for claim in (known.account_id, known.email, known.plan):
        assert claim is None or (claim.isascii() and claim.isprintable() and 0 < len(claim) <= 320)
