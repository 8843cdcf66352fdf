"""POST /export: a login leaves once it is not ours any more, sealed, unspent, and is not lost with an answer."""

import asyncio
import base64
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.sandbox import faults
from service.sealing import Opener
from service.store.store import Store
from tests.kit import House
from tests.web.expect import problem
from tests.web.home import client_key, home, install, refreshes

pytestmark = pytest.mark.asyncio(loop_scope="module")

EXPIRED = 3601.0
CODEX = "app_EMoamEEZ73f0CkXaXp7hrann"


async def asked(h: House, account: str = "default") -> tuple[httpx.Response, Opener]:
    """The answer, and what opens it."""
    opener = Opener()
    body = {"public_key": opener.public_key}
    return await h.client.post("/export", params={"account": account}, json=body), opener


async def exported(h: House, account: str = "default") -> dict[str, Any]:
    """The login that was given away, and what the answer said of it."""
    answer, opener = await asked(h, account)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert set(told) == {"account", "generation", "again", "sealed"}
    login: dict[str, Any] = json.loads(opener.open(told.pop("sealed"), account).reveal())
    return {**told, **login}


async def confirm(h: House, generation: int, account: str = "default") -> int:
    body = {"generation": generation}
    return (await h.client.post("/export/confirm", params={"account": account}, json=body)).status_code


async def refreshed_elsewhere(h: House, refresh_token: str) -> httpx.Response:
    """What the issuer says to whoever was given the login."""
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": CODEX}
    return await h.browser.post(f"{h.sandbox.issuer}/oauth/token", data=form)


# what leaves


async def test_the_newest_pair_leaves_as_it_could_be_installed(h: House, account: str) -> None:
    tokens = await install(h, account)
    login = await exported(h, account)
    assert {name: login[name] for name in ("access_token", "refresh_token", "id_token")} == {
        name: tokens[name] for name in ("access_token", "refresh_token", "id_token")
    }
    assert (login["kind"], login["account"], login["generation"], login["again"]) == ("subscription", account, 1, False)
    body = {name: login[name] for name in login if name not in ("account", "generation", "again")}
    assert (await h.client.put("/credential", params={"account": account}, json=body)).status_code == 200
    assert (await h.token(account=account))["generation"] == 2


async def test_only_the_key_and_the_account_that_it_was_asked_for_with_open_it(h: House, account: str) -> None:
    tokens = await install(h, account)
    answer, opener = await asked(h, account)
    sealed = answer.json()["sealed"]
    for stranger, name in ((Opener(), account), (opener, "other")):
        with pytest.raises(ValueError, match="does not open"):
            stranger.open(sealed, name)
    hidden = base64.b64decode(sealed)
    assert not [token for token in tokens.values() if isinstance(token, str) and token.encode() in hidden]
    assert tokens["refresh_token"] not in answer.text


async def test_it_works_at_the_issuer_and_was_not_revoked(h: House, account: str) -> None:
    await h.log_in(account)
    before = len(h.sandbox.requests)
    login = await exported(h, account)
    assert len(h.sandbox.requests) == before
    assert h.sandbox.families[-1].ended is None
    assert (await refreshed_elsewhere(h, login["refresh_token"])).status_code == 200


# what stays


async def test_nothing_of_it_is_served_or_refreshed_after_that(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        await h.log_in()
        await h.token()
        await exported(h)
        for seconds in (0.0, EXPIRED):
            h.clock.advance(seconds)
            for query in ({}, {"newer_than": 1}, {"min_ttl": 0}):
                body = await h.token(**query)
                assert (body["code"], body["reason"]) == ("login_required", "logged_out")
            await h.app.background.round()
            await h.app.refresher.drain()
        status = await h.status()
        assert (status["authenticated"], status["kind"], status["email"]) == (False, None, None)
        assert refreshes(h) == 0


async def test_the_api_key_serves_again(tmp_path: Path) -> None:
    async with home(tmp_path, OPENAI_API_KEY="sk-environment") as h:
        await install(h)
        assert (await h.token())["kind"] == "subscription"
        await exported(h)
        assert (await h.token())["access_token"] == "sk-environment"


async def test_memory_serves_nothing_of_it_when_the_database_is_gone(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        await install(h)
        await h.token()
        await exported(h)
        store = h.app.services.store
        assert isinstance(store, Store)
        store._backend._watch.close()  # type: ignore[attr-defined]  # as when the file cannot be read any more
        problem(await h.client.get("/token"), 503, "store_unavailable", "retry_after")


async def test_a_new_login_takes_its_place(h: House, account: str) -> None:
    await h.log_in(account)
    old = await exported(h, account)
    await h.log_in(account)
    assert (await h.token(account=account))["generation"] == 2
    assert await confirm(h, old["generation"], account) == 204
    assert (await h.token(account=account))["generation"] == 2
    assert (await refreshed_elsewhere(h, old["refresh_token"])).status_code == 200


# no lost answer loses it


async def test_it_is_given_again_until_it_is_confirmed(h: House, account: str) -> None:
    await h.log_in(account)
    first = await exported(h, account)
    second = await exported(h, account)
    assert second == {**first, "again": True}
    assert await confirm(h, first["generation"] + 1, account) == 204, "another one, which is not here"
    assert (await exported(h, account))["again"]
    assert [await confirm(h, first["generation"], account) for _ in range(2)] == [204, 204]
    answer, _ = await asked(h, account)
    assert problem(answer, 409, "login_required", "account", "login_url", "reason")["reason"] == "logged_out"


async def test_what_is_confirmed_is_gone_from_the_files(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        await install(h)
        path = tmp_path / "data" / "pixir-auth.db"
        with closing(sqlite3.connect(path)) as other:
            (sealed,) = other.execute("SELECT refresh_token_sealed FROM credential").fetchone()
        login = await exported(h)
        assert any(sealed in file.read_bytes() for file in path.parent.glob("pixir-auth.db*"))
        await confirm(h, login["generation"])
        assert not any(sealed in file.read_bytes() for file in path.parent.glob("pixir-auth.db*"))


async def test_a_logout_of_it_forgets_it_and_revokes_nothing(h: House, account: str) -> None:
    await h.log_in(account)
    login = await exported(h, account)
    assert (await h.client.post("/logout", params={"account": account})).json()["revoked"] is None
    assert (await asked(h, account))[0].status_code == 409
    assert (await refreshed_elsewhere(h, login["refresh_token"])).status_code == 200


async def test_two_accounts_are_never_given_one_login(h: House, account: str) -> None:
    tokens = await install(h, account)
    await exported(h, account)
    body = {"kind": "subscription", **{name: tokens[name] for name in ("access_token", "refresh_token")}}
    await h.client.put("/credential", params={"account": f"{account}-other"}, json=body)
    problem((await asked(h, account))[0], 422, "invalid_credential")


# never what may be spent


async def test_a_refresh_that_is_under_way_ends_before(h: House, account: str) -> None:
    await h.log_in(account)
    h.gate.arrived.clear()
    h.gate.hold_after.clear()
    refresh = asyncio.create_task(h.token(account=account, newer_than=1))
    await h.gate.arrived.wait()
    export = asyncio.create_task(exported(h, account))
    for _ in range(5):
        assert (await h.status(account))["refresh"]["state"] == "in_flight"
    assert not export.done()
    h.gate.hold_after.set()
    login = await export
    assert (login["generation"], login["refresh_token"]) == (2, h.sandbox.families[-1].refresh_token)
    assert (await refresh).get("generation", 2) == 2
    assert (await refreshed_elsewhere(h, login["refresh_token"])).status_code == 200


async def test_a_refresh_that_takes_long_is_not_waited_for_without_end(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        await install(h)
        h.gate.hold_before.clear()
        refresh = asyncio.create_task(h.token(newer_than=1))
        await h.gate.arrived.wait()
        h.app.services.releases._patience = 0.0
        problem((await asked(h))[0], 503, "issuer_unavailable", "retry_after")
        h.gate.hold_before.set()
        assert (await refresh)["generation"] == 2
        assert (await exported(h))["generation"] == 2


async def test_what_may_be_spent_is_refused_and_stays_as_it_is(h: House, account: str) -> None:
    await h.log_in(account)
    h.sandbox.fail_next(faults.lost_answer())
    assert (await h.token(account=account, newer_than=1))["warning"] == "refresh_uncertain"
    before = await h.status(account)
    assert "spent" in problem((await asked(h, account))[0], 422, "invalid_request")["detail"]
    assert await h.status(account) == before
    assert before["refresh"]["state"] == "uncertain"


async def test_a_dead_login_is_refused_with_its_reason(h: House, account: str) -> None:
    await h.log_in(account)
    h.sandbox.fail_next(faults.refresh_token_reused())
    await h.token(account=account, newer_than=1)
    answer, _ = await asked(h, account)
    told = problem(answer, 409, "login_required", "account", "login_url", "reason")
    assert told["reason"] == "refresh_token_reused"
    assert (await h.status(account))["refresh"]["state"] == "dead"


async def test_a_restored_copy_from_before_is_not_refreshed_here(tmp_path: Path) -> None:
    """The whole database put back as it was: somebody else owns that login."""
    path = tmp_path / "data" / "pixir-auth.db"
    async with home(tmp_path) as h:
        await install(h)
        with closing(sqlite3.connect(path)) as database:
            database.execute("VACUUM INTO ?", (str(tmp_path / "copy.db"),))
        await exported(h)
    for file in path.parent.glob("pixir-auth.db*"):
        file.unlink()
    (tmp_path / "copy.db").rename(path)
    path.chmod(0o600)
    async with home(tmp_path, sandbox=h.sandbox, clock=h.clock) as again:
        assert (await again.token(newer_than=1))["warning"] == "refresh_uncertain"
        assert refreshes(again) == 0
        problem((await asked(again))[0], 422, "invalid_request")


async def test_a_backup_does_not_bring_it_back(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        await install(h)
        await exported(h)
        lines = [json.loads(line) for line in (await h.client.get("/backup")).text.splitlines()]
        await install(h)
        rows = [{"row": each["row"], "mac": each["mac"]} for each in lines if each.get("kind") == "credential"]
        body = {"pixir_auth_backup": 1, "fingerprints": lines[0]["fingerprints"], "credentials": rows, "replace": True}
        assert (await h.client.post("/restore", json=body)).json()["credentials"] == ["here"]
        await h.client.post("/logout")
        with closing(sqlite3.connect(tmp_path / "data" / "pixir-auth.db")) as database, database:
            database.execute("DELETE FROM credential")
        assert (await h.client.post("/restore", json=body)).json()["credentials"] == ["ended"]
        assert (await asked(h))[0].json()["reason"] == "logged_out"


async def test_there_is_nothing_to_give(h: House, account: str, tmp_path: Path) -> None:
    problem((await asked(h, account))[0], 404, "unknown_account")
    answer, _ = await asked(h)
    told = problem(answer, 409, "login_required", "account", "login_url", "reason")
    assert told["reason"] == "never_logged_in"
    async with home(tmp_path, OPENAI_API_KEY="sk-environment") as other:
        assert "API key" in problem((await asked(other))[0], 422, "invalid_request")["detail"]
        assert (await other.token())["kind"] == "api_key"


@pytest.mark.parametrize("export_after", [0, 5, 10, 40, 120, 160])
async def test_export_in_a_storm_of_callers(tmp_path: Path, export_after: int) -> None:
    """Wherever it falls between 20 callers whose refresh is due: no token is spent twice, and the last one works."""
    async with home(tmp_path) as h:
        await install(h)
        h.clock.advance(EXPIRED)

        async def export() -> dict[str, Any]:
            for _ in range(export_after):
                await asyncio.sleep(0)  # a turn for each of the others, and what they have begun
            return await exported(h)

        callers = [asyncio.create_task(h.token()) for _ in range(20)]
        login = await export()
        bodies = await asyncio.gather(*callers)
        await h.app.refresher.drain()
        served = {body["generation"] for body in bodies if "generation" in body}
        assert served <= {login["generation"]}
        assert {body["reason"] for body in bodies if "code" in body} <= {"logged_out"}
        assert refreshes(h) == login["generation"] - 1
        assert login["refresh_token"] == h.sandbox.families[-1].refresh_token
        assert (await refreshed_elsewhere(h, login["refresh_token"])).status_code == 200
        assert h.sandbox.reuse_count == 0


# who may, and what is kept in mind


@pytest.mark.parametrize("key", ["", "x", "A" * 43, "A" * 44, "!" * 43 + "=", "A" * 43 + "=", "AQ" + "A" * 41 + "="])
async def test_a_key_that_keeps_nothing_secret_gives_nothing_up(h: House, account: str, key: str) -> None:
    await install(h, account)
    answer = await h.client.post("/export", params={"account": account}, json={"public_key": key})
    problem(answer, 422, "invalid_request")
    assert (await h.status(account))["authenticated"]


async def test_a_key_for_one_account_gives_no_other_away(h: House, account: str) -> None:
    await install(h, account)
    key = await client_key(h, account, scope=["admin"], accounts=[f"{account}-other"])
    as_client = {"Authorization": f"Bearer {key}"}
    for path, body in (("/export", {"public_key": Opener().public_key}), ("/export/confirm", {"generation": 1})):
        answer = await h.client.post(path, params={"account": account}, json=body, headers=as_client)
        problem(answer, 403, "scope")
    assert (await h.status(account))["authenticated"]


async def test_all_of_it_is_in_the_audit_trail(h: House, account: str) -> None:
    await install(h, account)
    for _ in range(2):
        await exported(h, account)
    await confirm(h, 1, account)
    await asked(h, account)
    entries = (await h.client.get("/audit", params={"limit": 1000})).json()["entries"]
    told = [(one["outcome"], one["detail"]) for one in reversed(entries) if one["account"] == account]
    assert told[-4:] == [("done", None), ("done", "again"), ("done", "confirmed"), ("login_required", None)]
