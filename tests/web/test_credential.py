"""PUT /credential: a login made elsewhere, in each shape that it may have."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.kit import House
from tests.web.expect import STATUS, problem
from tests.web.home import BOB, home, install, refreshes

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def put(h: House, account: str, body: Any) -> Any:
    return await h.client.put("/credential", params={"account": account}, json=body)


def subscription(tokens: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Our own shape."""
    return {
        "kind": "subscription",
        "access_token": tokens["access_token"],
        "refresh_token": tokens["refresh_token"],
        **more,
    }


def codex(tokens: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A Codex `auth.json`."""
    return {
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": None,
        "tokens": {
            "id_token": tokens["id_token"],
            "access_token": tokens["access_token"],
            "refresh_token": tokens["refresh_token"],
            "account_id": "7b1c9c1e-0000-4000-8000-000000000001",
            "oauth_provenance": {"issuer": "https://auth.openai.com", "client_id": "app_x"},
            "login_owner_id": "x" * 43,
        },
        "last_refresh": "2026-11-23T17:10:14.060750776Z",
        **more,
    }


def pixir(tokens: dict[str, Any], now: float) -> dict[str, Any]:
    """A Pixir `auth.json`."""
    return {
        "kind": "subscription",
        "access_token": tokens["access_token"],
        "refresh_token": tokens["refresh_token"],
        "expires_at": int((now + 1000) * 1000),
        "account_id": "7b1c9c1e-0000-4000-8000-000000000001",
        "obtained_at": "2026-11-23T17:10:14.060750Z",
    }


async def test_own_shape(h: House, account: str) -> None:
    tokens = h.sandbox.issue()
    answer = await put(h, account, subscription(tokens, id_token=tokens["id_token"]))
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == STATUS | {"persisted"}
    assert body["persisted"] is True
    del body["persisted"]
    assert body == await h.status(account)
    assert (body["authenticated"], body["kind"], body["email"]) == (True, "subscription", "ada@example.com")
    assert body["expires_in"] == 3600
    assert (await h.token(account=account))["access_token"] == tokens["access_token"]


async def test_the_least_is_two_tokens(h: House, account: str) -> None:
    tokens = h.sandbox.issue()
    answer = await put(h, account, subscription(tokens))
    assert answer.json()["account_id"] == "7b1c9c1e-0000-4000-8000-000000000001"


async def test_what_is_told_goes_before_the_claims(h: House, account: str) -> None:
    at = datetime.fromtimestamp(h.clock.now + 777, UTC).isoformat()
    answer = await put(h, account, subscription(h.sandbox.issue(), expires_at=at, account_id="acct-1"))
    assert (answer.json()["account_id"], answer.json()["expires_in"]) == ("acct-1", 777)
    sent = (await h.client.get("/headers", params={"account": account})).json()
    assert sent["ChatGPT-Account-ID"] == "acct-1"


@pytest.mark.parametrize("zone", ["Z", "+00:00", "-08:00", "+05:30"])
async def test_any_offset_will_do(h: House, account: str, zone: str) -> None:
    offset = {"Z": 0.0, "+00:00": 0.0, "-08:00": -8.0, "+05:30": 5.5}[zone]
    local = datetime.fromtimestamp(h.clock.now + 900 + offset * 3600, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    answer = await put(h, account, subscription(h.sandbox.issue(), expires_at=local + zone))
    assert answer.json()["expires_in"] in (899, 900)


async def test_codex_file(h: House, account: str) -> None:
    tokens = h.sandbox.issue()
    answer = await put(h, account, codex(tokens))
    assert answer.json()["persisted"] is True
    assert answer.json()["expires_in"] == 3600
    assert (await h.token(account=account))["access_token"] == tokens["access_token"]


async def test_pixir_file(h: House, account: str) -> None:
    tokens = h.sandbox.issue()
    answer = await put(h, account, pixir(tokens, h.clock.now))
    assert answer.json()["persisted"] is True
    assert answer.json()["expires_in"] in (999, 1000)


async def test_codex_file_with_a_key_only(h: House, account: str) -> None:
    answer = await put(h, account, {"auth_mode": "apikey", "OPENAI_API_KEY": "sk-codex", "tokens": None})
    assert (answer.json()["kind"], answer.json()["persisted"]) == ("api_key", False)
    assert (await h.token(account=account))["access_token"] == "sk-codex"


async def test_an_installed_login_is_refreshed_like_any_other(h: House, account: str) -> None:
    tokens = await install(h, account)
    h.clock.advance(3600)
    body = await h.token(account=account)
    assert body["generation"] == 2
    assert body["access_token"] != tokens["access_token"]


async def test_a_token_of_unknown_end_is_refreshed_before_it_is_served(h: House, account: str) -> None:
    tokens = h.sandbox.issue()
    answer = await put(h, account, subscription({**tokens, "access_token": "opaque"}))
    assert answer.json()["authenticated"]
    assert (await h.token(account=account))["generation"] == 2


async def test_an_expired_one_is_refreshed(h: House, account: str) -> None:
    await put(h, account, subscription(h.sandbox.issue(), expires_at="2001-01-01T00:00:00Z"))
    assert (await h.token(account=account))["generation"] == 2


async def test_it_takes_the_place_of_another_login_and_its_generation_goes_on(h: House, account: str) -> None:
    await h.log_in(account)
    tokens = await install(h, account, BOB)
    body = await h.token(account=account)
    assert (body["generation"], body["access_token"]) == (2, tokens["access_token"])
    assert (await h.status(account))["email"] == "bob@example.com"


async def test_installing_asks_the_issuer_nothing(h: House, account: str) -> None:
    before = len(h.sandbox.requests)
    await install(h, account)
    assert len(h.sandbox.requests) == before
    assert refreshes(h) == sum(1 for one in h.sandbox.requests if one.form.get("grant_type") == "refresh_token")


GOOD = {"kind": "subscription", "access_token": "a", "refresh_token": "b"}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"kind": "subscription"},
        {"kind": "subscription", "access_token": "a"},
        {"kind": "subscription", "refresh_token": "b"},
        {**GOOD, "access_token": ""},
        {**GOOD, "refresh_token": ""},
        {**GOOD, "refresh_token": None},
        {**GOOD, "access_token": "a b"},
        {**GOOD, "access_token": "a\r\nX: y"},
        {**GOOD, "access_token": "ä"},
        {**GOOD, "access_token": 5},
        {**GOOD, "access_token": ["a"]},
        {**GOOD, "expires_at": "tomorrow"},
        {**GOOD, "expires_at": "2027-01-01T00:00:00"},
        {**GOOD, "expires_at": "2027-01-01"},
        {**GOOD, "expires_at": 1.5},
        {**GOOD, "expires_at": True},
        {**GOOD, "expires_at": {}},
        {**GOOD, "account_id": "a\nb"},
        {**GOOD, "account_id": 7},
        {**GOOD, "id_token": 7},
        {"kind": "api_key"},
        {"kind": "api_key", "api_key": ""},
        {"kind": "api_key", "api_key": "sk 1"},
        {"kind": "api_key", "api_key": "sk\n1"},
        {**GOOD, "account": "work"},
        {"kind": "api_key", "api_key": "sk-1", "account": "work"},
        {"kind": "other", "access_token": "a", "refresh_token": "b"},
        {"tokens": None, "OPENAI_API_KEY": None},
        {"tokens": {}, "OPENAI_API_KEY": None},
        {"tokens": {"access_token": "a"}},
        {"tokens": {"access_token": "a", "refresh_token": ""}},
        {"OPENAI_API_KEY": ""},
        {"OPENAI_API_KEY": 5},
        {"tokens": []},
        {"tokens": "a"},
    ],
)
async def test_what_cannot_be_used_is_refused_and_changes_nothing(h: House, account: str, body: Any) -> None:
    await install(h, account)
    before = await h.status(account)
    answer = await put(h, account, body)
    assert answer.json()["code"] in ("invalid_credential", "invalid_request")
    problem(answer, 422, answer.json()["code"])
    assert await h.status(account) == before


@pytest.mark.parametrize(
    "content", [b"[]", b'"a"', b"null", b"5", b"{", b"", b"\xff\xfe{}", b"[" * 100_000, b'{"a":"\\ud800"}']
)
async def test_what_is_no_object_is_refused(h: House, account: str, content: bytes) -> None:
    answer = await h.client.put(
        "/credential", params={"account": account}, content=content, headers={"Content-Type": "application/json"}
    )
    problem(answer, 422, "invalid_credential" if content.startswith(b'{"') else "invalid_request")


@pytest.mark.parametrize("at", ["1", "0", "-1", "9" * 17, "1" + "0" * 400, "-1" + "0" * 400])
async def test_any_whole_number_is_an_instant_or_refused(h: House, account: str, at: str) -> None:
    body = json.dumps({**GOOD, "refresh_token": account})[:-1] + f', "expires_at": {at}}}'
    answer = await h.client.put(
        "/credential", params={"account": account}, content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in (200, 422)


@pytest.mark.parametrize("at", ["2001-02-03T04:05:06Z", "2031-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
async def test_the_end_that_was_told_comes_back(h: House, account: str, at: str) -> None:
    answer = await put(h, account, {**GOOD, "refresh_token": account, "expires_at": at})
    assert answer.json()["expires_at"] == at
    assert (await h.status(account))["expires_at"] == at


async def test_a_login_belongs_to_one_account(h: House, account: str) -> None:
    tokens = await install(h, account)
    problem(await put(h, f"{account}-b", subscription(tokens)), 422, "invalid_credential")
    problem(await h.client.get("/status", params={"account": f"{account}-b"}), 404, "unknown_account")
    assert (await put(h, account, subscription(tokens))).status_code == 200, "the same again is no other account"


async def test_accounts_do_not_mix(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        ada, bob = await install(h, "ada"), await install(h, "bob", BOB)
        assert (await h.token(account="ada"))["access_token"] == ada["access_token"]
        assert (await h.token(account="bob"))["access_token"] == bob["access_token"]
        assert (await h.client.get("/token")).status_code == 409
