"""Credentials made elsewhere: each known shape is read, and whatever is wrong is said without repeating it."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.credential import Identity, Tokens
from service.domain.errors import InvalidCredential
from service.domain.secret import Secret
from service.oauth.imports import ApiKey, read_credential
from tests.oauth.values import AUTH, NOW, REFRESH_TOKEN, anything, document, examples, jwt

OWN = {"kind": "subscription", "access_token": "a", "refresh_token": "r"}
CODEX_FILE = {"tokens": {"access_token": "a", "refresh_token": "r"}}


def read(members: dict[str, Any]) -> Tokens:
    """A subscription."""
    tokens = read_credential(members)
    assert isinstance(tokens, Tokens)
    return tokens


# -- the shapes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["codex_0.145", "codex_0.169"])
def test_auth_json_of_codex(name: str) -> None:
    tokens, file = read(document(name)), document(name)["tokens"]
    assert tokens.access_token == Secret(file["access_token"])
    assert tokens.refresh_token == Secret(REFRESH_TOKEN)
    assert tokens.id_token == Secret(file["id_token"])
    assert tokens.identity == Identity("acct-0001", "alice@example.org", "pro")
    assert tokens.expires_at == NOW + 864_000  # from the access token's own exp


def test_auth_json_of_codex_with_an_api_key() -> None:
    assert read_credential(document("codex_apikey")) == ApiKey(Secret("sk-not-a-key-0001"))


def test_auth_json_of_pixir_counts_in_milliseconds() -> None:
    tokens = read(document("pixir"))
    assert (tokens.expires_at, tokens.refresh_token) == (NOW + 7200, Secret(REFRESH_TOKEN))
    assert (tokens.id_token, tokens.identity.account_id) == (None, "acct-0001")


def test_our_own_shape() -> None:
    tokens = read(document("own"))
    assert (tokens.expires_at, tokens.access_token) == (NOW + 7200, Secret("an-opaque-access-token"))
    assert tokens.identity == Identity("acct-0001", "alice@example.org", "pro")


def test_an_api_key_in_our_own_shape() -> None:
    assert read_credential({"kind": "api_key", "api_key": "sk-1"}) == ApiKey(Secret("sk-1"))


def test_unknown_members_are_ignored() -> None:
    assert read({**OWN, "auth_mode": "chatgpt", "OPENAI_API_KEY": "sk-1", "x": {"y": []}}) == read(OWN)


def test_a_subscription_comes_before_the_api_key_beside_it() -> None:
    assert read({**CODEX_FILE, "OPENAI_API_KEY": "sk-1"}).access_token == Secret("a")


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"kind": "corrupt"},
        {"kind": None},
        {"kind": ["subscription"]},
        {"tokens": None},
        {"tokens": []},
        {"tokens": "a"},
        {"OPENAI_API_KEY": None},
        {"auth_mode": "apikey", "OPENAI_API_KEY": None, "tokens": None},
        {"access_token": "a", "refresh_token": "r"},
        {"personal_access_token": "at-1"},
    ],
)
def test_any_other_shape_is_refused(members: dict[str, Any]) -> None:
    with pytest.raises(InvalidCredential, match=r"neither a credential nor an auth\.json"):
        read_credential(members)


def test_an_account_in_the_document_is_not_overlooked() -> None:
    for shape in (OWN, CODEX_FILE, {"kind": "api_key", "api_key": "sk-1"}):
        with pytest.raises(InvalidCredential, match="account belongs in the query"):
            read_credential({**shape, "account": "canary"})


# -- whose it is -------------------------------------------------------------------------------------------------


def test_the_account_id_of_the_file_comes_before_the_claims() -> None:
    claiming = jwt({AUTH: {"chatgpt_account_id": "acct-claimed"}}).reveal()
    assert read({**OWN, "access_token": claiming, "account_id": "acct-file"}).identity.account_id == "acct-file"
    assert read({**OWN, "access_token": claiming}).identity.account_id == "acct-claimed"


def test_the_id_token_may_say_whose_it_is() -> None:
    claiming = jwt({AUTH: {"chatgpt_account_id": "acct-claimed"}}).reveal()
    assert read({**OWN, "id_token": claiming}).identity.account_id == "acct-claimed"


# -- when it ends ------------------------------------------------------------------------------------------------

MS = int(NOW) * 1000

LATEST = 253_402_300_799


@pytest.mark.parametrize(
    ("expires_at", "end"),
    [
        ("2027-01-15T10:00:00Z", NOW + 7200),
        ("2027-01-15T12:00:00+02:00", NOW + 7200),
        ("2027-01-15T10:00:00.5Z", NOW + 7200.5),
        ("2027-01-15T07:00:00Z", NOW - 3600),
        ("0001-01-01T00:00:00Z", 0),
        ("0001-01-01T00:00:00+23:59", 0),
        ("9999-12-31T23:59:59Z", LATEST),
        ("9999-12-31T23:59:59-23:59", LATEST),
        ("2028-02-29T00:00:00Z", 1_835_395_200),
        (MS + 7_200_000, NOW + 7200),
        (MS + 500, NOW + 0.5),
        (MS, NOW),
        (int(NOW), NOW),  # seconds
        (10**11 - 1, 10**11 - 1),
        (10**11, 10**8),
        (0, 0),
        (-1, 0),
        (10**18, LATEST),
    ],
)
def test_the_end_is_read(expires_at: object, end: float) -> None:
    tokens = read({**OWN, "expires_at": expires_at})
    assert (tokens.expires_at, tokens.lifetime) == (end, None)


@pytest.mark.parametrize(
    "expires_at",
    [
        *("2027-01-15T10:00:00", "2027-01-15", "10:00:00Z", "2027-02-29T00:00:00Z", "2027-01-15T24:00:01Z"),
        *("2027-01-15T10:00:00+24:00", "canary", "", "1800000000", "\x00"),
        *(1.8e12, math.nan, math.inf, 10**400, -(10**400), True, False, [], {}, ["2027-01-15T10:00:00Z"]),
    ],
)
def test_an_end_that_cannot_be_read_is_refused(expires_at: object) -> None:
    with pytest.raises(InvalidCredential, match=r"^expires_at must be an RFC 3339 instant"):
        read_credential({**OWN, "expires_at": expires_at})


@pytest.mark.parametrize(
    "members", [OWN, {**OWN, "expires_at": None}, CODEX_FILE, {**CODEX_FILE, "expires_at": MS * 2}]
)
def test_an_end_may_be_unknown(members: dict[str, Any]) -> None:
    assert read(members).expires_at is None


@pytest.mark.parametrize("shape", [OWN, CODEX_FILE])
def test_without_an_end_the_token_itself_is_asked(shape: dict[str, Any]) -> None:
    lasting = jwt({"exp": NOW + 1800}).reveal()
    members = (
        {"tokens": {**shape["tokens"], "access_token": lasting}}
        if "tokens" in shape
        else {**shape, "access_token": lasting}
    )
    assert read(members).expires_at == NOW + 1800


@examples
@given(st.datetimes(timezones=st.just(UTC)), st.integers(-23 * 60, 23 * 60))
def test_an_end_means_the_same_in_every_time_zone(instant: datetime, minutes: int) -> None:
    sign, hours, rest = "-" if minutes < 0 else "+", *divmod(abs(minutes), 60)
    wall = f"{instant:%Y-%m-%dT%H:%M:%S}".rjust(19, "0")
    there = read({**OWN, "expires_at": f"{wall}{sign}{hours:02}:{rest:02}"}).expires_at
    utc = read({**OWN, "expires_at": f"{wall}Z"}).expires_at
    assert there is not None
    assert utc is not None
    if 0 < there < LATEST and 0 < utc < LATEST:
        assert there == utc - minutes * 60


# -- what is wrong with it ---------------------------------------------------------------------------------------

REQUIRED = [
    ("access_token", OWN),
    ("refresh_token", OWN),
    ("api_key", {"kind": "api_key", "api_key": "sk-1"}),
    ("OPENAI_API_KEY", {"OPENAI_API_KEY": "sk-1"}),
]


@pytest.mark.parametrize(("name", "members"), REQUIRED)
def test_a_missing_or_empty_member_is_named(name: str, members: dict[str, Any]) -> None:
    without = {key: value for key, value in members.items() if key != name}
    assert members != without
    with pytest.raises(InvalidCredential, match=f"^{name} is missing or empty"):
        read_credential({**members, name: ""})
    if name != "OPENAI_API_KEY":
        with pytest.raises(InvalidCredential, match=f"^{name} is missing or empty"):
            read_credential(without)


def test_an_auth_json_that_only_holds_an_access_token_is_refused() -> None:
    file = document("codex_0.169")
    file["tokens"]["refresh_token"] = ""
    with pytest.raises(InvalidCredential, match=r"^refresh_token is missing or empty"):
        read_credential(file)


UNSENDABLE = [
    "canary canary",
    "canary\r\nSet-Cookie: x",
    "canary\x00",
    "\tcanary",
    "canaryé",
    "canary\u2028",
    "canary\ud800",
]


@pytest.mark.parametrize("name", ["access_token", "refresh_token", "id_token", "account_id"])
@pytest.mark.parametrize("value", [*UNSENDABLE, 42, True, ["canary"], {"canary": 1}], ids=ascii)
def test_a_member_that_could_not_be_sent_is_named_and_not_repeated(name: str, value: object) -> None:
    for members in ({**OWN, name: value}, {"tokens": {**CODEX_FILE["tokens"], name: value}}):
        with pytest.raises(InvalidCredential) as refused:
            read_credential(members)
        assert refused.value.detail == f"{name} must be text without spaces or control characters."


@pytest.mark.parametrize("value", [*UNSENDABLE, 42, ["canary"]], ids=ascii)
def test_an_api_key_that_could_not_be_sent_is_refused(value: object) -> None:
    for members in ({"kind": "api_key", "api_key": value}, {"OPENAI_API_KEY": value}):
        with pytest.raises(InvalidCredential, match="must be text without spaces"):
            read_credential(members)


# -- anything ----------------------------------------------------------------------------------------------------

canaries = st.text().map("canary{}".format)
values = anything | canaries | st.lists(canaries) | st.dictionaries(canaries, canaries)
token_members = dict.fromkeys(("access_token", "refresh_token", "id_token", "account_id", "expires_at"), values)
documents = st.fixed_dictionaries(
    {},
    optional={
        **token_members,
        "kind": st.sampled_from(["subscription", "subscription", "api_key"]) | values,
        "tokens": st.fixed_dictionaries({}, optional=token_members) | values,
        "OPENAI_API_KEY": values,
        "api_key": values,
        "auth_mode": values,
    },
) | st.dictionaries(st.text(), anything)


@examples
@given(documents)
def test_any_document_is_read_or_refused_without_repeating_it(members: dict[str, Any]) -> None:
    try:
        credential = read_credential(members)
    except InvalidCredential as error:
        told = (str(error), error.detail, error.args, error.next_actions, error.__cause__, error.__context__)
        assert "canary" not in repr(told)
        return
    assert "canary" not in repr(credential) or "canary" in repr(getattr(credential, "identity", None))
    if isinstance(credential, Tokens):
        assert credential.access_token
        assert credential.refresh_token
        assert 0 <= (credential.expires_at or 0) <= LATEST
