"""GET /status and GET /accounts: how accounts stand. They never ask the issuer and never tell a secret."""

import asyncio
import hashlib
from pathlib import Path

import pytest

from service import __version__
from service.sandbox import faults
from tests.kit import House
from tests.web.expect import REFRESH, STATUS, problem
from tests.web.home import home, install

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_nobody_has_logged_in(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        answer = await h.client.get("/status")
        assert answer.status_code == 200
        assert answer.json() == {
            **dict.fromkeys(STATUS),
            "authenticated": False,
            "account": "default",
            "refresh": {**dict.fromkeys(REFRESH), "state": "idle", "generation": 0},
            "version": __version__,
        }


async def test_a_subscription(h: House, account: str) -> None:
    await h.log_in(account)
    family = h.sandbox.families[-1]
    h.clock.advance(100)
    assert await h.status(account) == {
        "authenticated": True,
        "kind": "subscription",
        "account": account,
        "provider": "codex",
        "account_id": family.account_id,
        "email": family.user.email,
        "plan": family.user.plan,
        "expires_at": (await h.token(account=account))["expires_at"],
        "expires_in": 3500,
        "obtained_at": (await h.status(account))["obtained_at"],
        "refresh": {**dict.fromkeys(REFRESH), "state": "idle", "generation": 1},
        "login": None,
        "version": __version__,
    }


async def test_status_never_asks_the_issuer(h: House, account: str) -> None:
    await h.log_in(account)
    before = len(h.sandbox.requests)
    for seconds in (0, 3500, 100, 10**6):
        h.clock.advance(seconds)
        await h.status(account)
        await h.client.get("/accounts")
    assert len(h.sandbox.requests) == before


async def test_a_refresh_shows(h: House, account: str) -> None:
    await h.log_in(account)
    h.clock.advance(3600)
    await h.token(account=account)
    refresh = (await h.status(account))["refresh"]
    assert (refresh["state"], refresh["generation"]) == ("idle", 2)
    assert refresh["last_success_at"] is not None


async def test_refresh_state_due(h: House, account: str) -> None:
    await h.log_in(account)
    h.clock.advance(3600 - 359)
    assert (await h.status(account))["refresh"]["state"] == "due"


async def test_refresh_state_in_flight(h: House, account: str) -> None:
    await h.log_in(account)
    h.gate.arrived.clear()
    h.gate.hold_before.clear()
    task = asyncio.create_task(h.client.get("/token", params={"account": account, "newer_than": 1}))
    await h.gate.arrived.wait()
    assert (await h.status(account))["refresh"]["state"] == "in_flight"
    h.gate.hold_before.set()
    assert (await task).json()["generation"] == 2


async def test_refresh_state_backing_off(h: House, account: str) -> None:
    await h.log_in(account)
    h.sandbox.fail_next(faults.server_error())
    await h.token(account=account, newer_than=1)
    refresh = (await h.status(account))["refresh"]
    assert refresh["state"] == "backing_off"
    assert refresh["next_attempt_at"] is not None
    assert refresh["last_error"] == "http_503"


async def test_refresh_state_uncertain(h: House, account: str) -> None:
    await h.log_in(account)
    h.sandbox.fail_next(faults.lost_answer())
    await h.token(account=account, newer_than=1)
    assert (await h.status(account))["refresh"]["state"] == "uncertain"


async def test_refresh_state_dead(h: House, account: str) -> None:
    await h.log_in(account)
    h.sandbox.fail_next(faults.refresh_token_reused())
    await h.token(account=account, newer_than=1)
    status = await h.status(account)
    assert status["refresh"]["state"] == "dead"
    assert status["refresh"]["last_error"] == "refresh_token_reused"
    assert status["authenticated"], "its token is still valid"
    h.clock.advance(4000)
    assert not (await h.status(account))["authenticated"]
    assert (await h.status(account))["kind"] == "subscription"


async def test_a_pending_login_shows(h: House, account: str) -> None:
    login = (await h.client.post("/login", json={"account": account})).json()
    status = await h.status(account)
    assert not status["authenticated"]
    assert status["login"] == {name: login[name] for name in ("id", "flow", "state", "expires_at", "expires_in")}
    await h.client.delete(f"/login/{login['id']}")


async def test_a_login_that_ended_does_not_show(h: House, account: str) -> None:
    await h.log_in(account)
    assert (await h.status(account))["login"] is None


async def test_no_trace_of_a_secret(h: House, account: str) -> None:
    tokens = await install(h, account)
    told = (await h.client.get("/status", params={"account": account})).text
    told += (await h.client.get("/accounts")).text
    for name in ("access_token", "refresh_token", "id_token"):
        secret = tokens[name]
        hashes = {hashlib.new(kind, secret.encode()).hexdigest() for kind in ("sha256", "sha1", "md5")}
        for trace in {secret[:12], secret[-12:], secret.split(".")[-1][:12], *hashes} - {secret[:12]}:
            assert trace not in told
        assert secret[:40] not in told


# /accounts


async def test_accounts_have_exactly_their_members(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        assert (await h.client.get("/accounts")).json() == {"accounts": [], "next": None}
        await install(h)
        body = (await h.client.get("/accounts")).json()
        assert body == {"accounts": [await h.status()], "next": None}


async def test_accounts_are_paged_by_name(tmp_path: Path) -> None:
    names = ["a", "a-b", "a.b", "b", "default", "z9"]
    async with home(tmp_path) as h:
        for name in reversed(names):
            await install(h, name)
        for limit in range(1, 8):
            found, after = [], ""
            for _ in range(10):
                page = (await h.client.get("/accounts", params={"after": after, "limit": limit})).json()
                assert len(page["accounts"]) <= limit
                found += [one["account"] for one in page["accounts"]]
                if page["next"] is None:
                    break
                after = page["next"]
            assert found == sorted(names)


async def test_logged_out_and_key_accounts_are_listed(tmp_path: Path) -> None:
    async with home(tmp_path, OPENAI_API_KEY="sk-env") as h:
        await install(h, "work")
        await h.client.post("/logout?account=work")
        await h.client.put("/credential?account=key", json={"kind": "api_key", "api_key": "sk-x"})
        listed = (await h.client.get("/accounts")).json()["accounts"]
        assert [(one["account"], one["authenticated"], one["kind"]) for one in listed] == [
            ("default", True, "api_key"),
            ("key", True, "api_key"),
            ("work", False, None),
        ]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "limit=", "after=" + "a" * 64, "after=%00", "after=A", "offset=1"]
)
async def test_bad_pages_are_refused(h: House, query: str) -> None:
    problem(await h.client.get(f"/accounts?{query}"), 422, "invalid_request")
