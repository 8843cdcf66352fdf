"""POST /logout: ended at the issuer if it can be, forgotten here in any case."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from service.sandbox import Fault, faults
from tests.kit import House
from tests.web.expect import STATUS, problem
from tests.web.home import home, install, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

REVOKE = "/oauth/revoke"


async def test_revoked(h: House, account: str) -> None:
    await h.log_in(account)
    family = h.sandbox.families[-1]
    answer = await h.client.post("/logout", params={"account": account})
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == STATUS | {"revoked"}
    assert body["revoked"] is True
    sent = [one.form for one in h.sandbox.requests if one.path == REVOKE]
    assert sent[-1]["token"] == family.refresh_token
    assert h.sandbox.families[-1].ended == "revoked"


async def test_what_is_left_of_it(h: House, account: str) -> None:
    await h.log_in(account)
    body = (await h.client.post("/logout", params={"account": account})).json()
    left = {name: body[name] for name in ("authenticated", "kind", "account_id", "email", "plan", "expires_at")}
    assert left == {"authenticated": False, **dict.fromkeys(("kind", "account_id", "email", "plan", "expires_at"))}
    assert body["refresh"] == {
        "state": "idle",
        "generation": 1,
        "last_success_at": None,
        "next_attempt_at": None,
        "last_error": None,
    }


@pytest.mark.parametrize(
    "fault", [faults.server_error(503), faults.html(403), faults.drop(), faults.hang(), Fault(302), faults.html(500)]
)
async def test_not_revoked_and_forgotten_all_the_same(h: House, account: str, fault: Fault) -> None:
    await h.log_in(account)
    h.sandbox.fail_next(fault, path=REVOKE)
    body = (await h.client.post("/logout", params={"account": account})).json()
    assert body["revoked"] is False
    assert not body["authenticated"]
    answer = await h.client.get("/token", params={"account": account})
    problem(answer, 409, "login_required", "account", "login_url", "reason")


async def test_nothing_to_revoke(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        body = (await h.client.post("/logout")).json()
        assert body["revoked"] is None
        assert h.sandbox.requests == []


async def test_twice(h: House, account: str) -> None:
    await h.log_in(account)
    await h.client.post("/logout", params={"account": account})
    before = len(h.sandbox.requests)
    assert (await h.client.post("/logout", params={"account": account})).json()["revoked"] is None
    assert len(h.sandbox.requests) == before


async def test_an_unknown_account(h: House, account: str) -> None:
    problem(await h.client.post("/logout", params={"account": account}), 404, "unknown_account")


@pytest.mark.parametrize("body", [{"account": "x"}, ["x"], "x", 5])
async def test_an_account_in_the_wrong_place_is_not_overlooked(h: House, account: str, body: Any) -> None:
    await install(h, account)
    answer = await h.client.post("/logout", params={"account": account}, json=body)
    problem(answer, 422, "invalid_request")
    assert (await h.status(account))["authenticated"]


@pytest.mark.parametrize("content", [b"", b"{}", b"null"])
async def test_an_empty_body_is_none(h: House, account: str, content: bytes) -> None:
    await install(h, account)
    headers = {"Content-Type": "application/json"}
    answer = await h.client.post("/logout", params={"account": account}, content=content, headers=headers)
    assert answer.json()["revoked"] is True


async def test_others_stay(h: House, account: str) -> None:
    await h.log_in(account)
    await h.log_in(f"{account}-other")
    await h.client.post("/logout", params={"account": account})
    assert (await h.status(f"{account}-other"))["authenticated"]


async def test_the_next_login_has_the_next_generation(h: House, account: str) -> None:
    await h.log_in(account)
    await h.client.post("/logout", params={"account": account})
    await h.log_in(account)
    assert (await h.token(account=account))["generation"] == 2


async def test_a_dead_login_can_be_logged_out(h: House, account: str) -> None:
    await h.log_in(account)
    h.sandbox.fail_next(faults.refresh_token_reused())
    await h.token(account=account, newer_than=1)
    await h.client.post("/logout", params={"account": account})
    answer = await h.client.get("/token", params={"account": account})
    assert answer.json()["reason"] == "logged_out"


async def test_during_a_refresh_nothing_of_it_is_kept(h: House, account: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    await h.log_in(account)
    h.gate.arrived.clear()
    h.gate.hold_after.clear()
    refresh = asyncio.create_task(h.client.get("/token", params={"account": account, "newer_than": 1}))
    await h.gate.arrived.wait()
    logout = asyncio.create_task(h.client.post("/logout", params={"account": account}))
    await until(lambda: f"logged out {account}" in caplog.text)
    h.gate.hold_after.set()
    assert (await logout).status_code == 200
    assert (await refresh).json()["reason"] == "logged_out"
    await h.app.refresher.drain()
    assert h.sandbox.families[-1].ended == "revoked"
    assert not (await h.status(account))["authenticated"]


async def test_the_sealed_tokens_are_gone_from_the_files(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        await install(h)
        path = tmp_path / "data" / "pixir-auth.db"
        other = sqlite3.connect(path)
        (sealed,) = other.execute("SELECT refresh_token_sealed FROM credential").fetchone()
        other.close()
        await h.client.post("/logout")
        for file in path.parent.glob("pixir-auth.db*"):
            assert sealed not in file.read_bytes()
