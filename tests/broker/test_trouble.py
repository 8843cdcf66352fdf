"""Imports that come twice, clocks that are set, rows that never move, and outcomes that could not be written."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.app import create_app
from service.domain.credential import Attempt, Credential, claimed
from service.domain.errors import StoreUnavailable
from service.oauth.provider import codex
from service.sandbox import Knobs, faults
from service.store.store import Store
from tests.kit import House, house
from tests.kit.house import ISSUER, owner_in_process, settings_in

pytestmark = pytest.mark.long

EXPIRED = 3601.0


def _store(h: House) -> Store:
    store = h.app.services.store
    assert isinstance(store, Store)
    return store


def _document(login: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "subscription", **{name: login[name] for name in ("access_token", "refresh_token")}}


async def _put(h: House, login: dict[str, Any], account: str = "default") -> httpx.Response:
    return await h.client.put("/credential", params={"account": account}, json=_document(login))


async def _rounds(h: House, number: int) -> int:
    """So many rounds of the background; how many commits they made."""
    store, before = _store(h), 0
    last = store.version()
    for _ in range(number):
        await h.app.background.round()
        await h.app.refresher.drain()
        before += store.version() != last
        last = store.version()
    return before


async def test_the_background_clears_up_after_a_dead_owner_though_the_token_is_good_for_long(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.log_in()
        credential = await _store(h).load("default")
        assert credential is not None
        assert await _store(h).claim(credential, Attempt("theirs", "nobody-of-that-name-lives", h.clock.now))
        assert (await h.status())["refresh"]["state"] == "in_flight"
        assert await _rounds(h, 20) == 1
        assert (await h.status())["refresh"]["state"] == "uncertain"
        assert (await h.token())["warning"] == "refresh_uncertain"


async def test_the_background_writes_nothing_while_nothing_happens(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.log_in()
        assert await _rounds(h, 20) == 0


async def test_rows_that_never_move_do_not_keep_others_from_being_refreshed(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        for number in range(70):
            await _put(h, h.sandbox.issue(), f"a{number}")
        await _put(h, h.sandbox.issue(), "z")
        database = sqlite3.connect(tmp_path / "data" / "pixir-auth.db")
        with database:
            database.execute("UPDATE credential SET access_token_sealed = x'00' WHERE account != 'z'")
        database.close()
        h.clock.advance(3500)
        await _rounds(h, 3)
        assert (await h.status("z"))["refresh"]["generation"] == 2


async def test_the_same_login_imported_again_while_it_is_being_refreshed_changes_nothing(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        login = h.sandbox.issue()
        await _put(h, login)
        h.clock.advance(EXPIRED)
        h.gate.hold_before.clear()
        caller = asyncio.create_task(h.token())
        await h.gate.arrived.wait()
        assert (await _put(h, login)).status_code == 200
        h.gate.hold_before.set()
        assert (await caller)["generation"] == 2
        assert (len(h.sandbox.token_requests("refresh_token")), h.sandbox.reuse_count) == (1, 0)


async def test_the_file_that_a_login_began_with_does_not_bring_back_its_spent_token(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        login = h.sandbox.issue()
        await _put(h, login)
        h.clock.advance(EXPIRED)
        newest = await h.token()
        assert (await _put(h, login)).json()["refresh"]["generation"] == 2
        assert (await h.token()) == newest


async def test_two_accounts_cannot_hold_one_login(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        login = h.sandbox.issue()
        await _put(h, login)
        answer = await _put(h, login, "second")
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_credential")
        assert (await h.client.get("/status", params={"account": "second"})).status_code == 404


async def test_a_clock_set_back_neither_pauses_nor_rests_an_account_for_long(tmp_path: Path) -> None:
    async with house(tmp_path, refresh_floor=0) as h:
        h.clock.now += 86400
        await h.log_in()
        h.gate.fail = lambda: httpx.ConnectError("refused")
        await h.token(newer_than=1)
        h.gate.fail = None
        h.clock.now -= 86400
        assert (await h.token(newer_than=1))["generation"] == 2


async def test_a_token_given_by_a_clock_that_was_ahead_is_refreshed_soon(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.clock.now += 86400
        await h.log_in()
        h.clock.now -= 86400
        database = sqlite3.connect(tmp_path / "data" / "pixir-auth.db")
        with database:  # the row's note of when it is due was made by the same clock
            database.execute("UPDATE credential SET due_at = 0")
        database.close()
        await _rounds(h, 2)
        assert (await h.status())["refresh"]["generation"] == 2


async def test_odd_characters_in_the_id_token_do_not_cost_the_login(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.log_in()
        h.clock.advance(EXPIRED)
        h.sandbox.knobs.override_fields = {"id_token": "\x00\u00e9"}
        assert (await h.token())["generation"] == 2
        assert h.sandbox.reuse_count == 0


async def test_an_outcome_that_could_not_be_written_is_written_later_as_what_it_was(tmp_path: Path) -> None:
    """The issuer could not be reached, and the database was locked when that had to be noted: nothing was sent."""
    async with house(tmp_path) as h:
        await h.log_in()
        h.clock.advance(EXPIRED)
        h.gate.fail = lambda: httpx.ConnectError("refused")
        h.gate.hold_before.clear()
        caller = asyncio.create_task(h.client.get("/token"))
        await h.gate.arrived.wait()
        database = sqlite3.connect(tmp_path / "data" / "pixir-auth.db")
        database.execute("CREATE TRIGGER full BEFORE UPDATE ON credential BEGIN SELECT RAISE(ABORT, 'full'); END")
        h.gate.hold_before.set()
        assert (await caller).status_code == 503
        database.execute("DROP TRIGGER full")
        database.close()
        h.gate.fail = None
        answer = await h.client.get("/token")
        assert answer.json()["code"] == "issuer_unavailable"
        assert (await h.status())["refresh"]["state"] == "backing_off"
        h.clock.advance(10)
        assert (await h.token())["generation"] == 2
        assert len(h.sandbox.token_requests("refresh_token")) == 1


async def test_a_logout_is_not_overruled_by_a_pair_that_could_not_be_stored(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.log_in()
        h.clock.advance(EXPIRED)
        h.gate.hold_after.clear()
        caller = asyncio.create_task(h.token())
        await h.gate.arrived.wait()
        database = sqlite3.connect(tmp_path / "data" / "pixir-auth.db")
        database.execute("CREATE TRIGGER full BEFORE UPDATE ON credential BEGIN SELECT RAISE(ABORT, 'full'); END")
        h.gate.hold_after.set()
        async with asyncio.timeout(20):
            while not h.app.refresher.unsaved:  # noqa: ASYNC110 - nothing tells of it but itself
                await asyncio.sleep(0)
        assert (await h.token())["warning"] == "store_unavailable"
        database.execute("DROP TRIGGER full")
        database.close()
        assert (await h.client.post("/logout")).json()["authenticated"] is False
        assert (await h.client.get("/token")).json()["reason"] == "logged_out"
        await caller
        await h.app.refresher.drain()
        assert not h.sandbox.families[0].alive


@asynccontextmanager
async def _overtaken(h: House, folder: Path) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """A new pair that the database does not take; what ends the login under it, and waits until that has been seen."""
    await h.log_in()
    h.clock.advance(EXPIRED)
    h.gate.hold_after.clear()
    caller = asyncio.create_task(h.client.get("/token"))
    await h.gate.arrived.wait()
    with closing(sqlite3.connect(folder / "data" / "pixir-auth.db", isolation_level=None)) as database:
        database.execute("CREATE TRIGGER full BEFORE UPDATE ON credential BEGIN SELECT RAISE(ABORT, 'full'); END")
        h.gate.hold_after.set()
        async with asyncio.timeout(20):
            while not h.app.refresher.unsaved:  # noqa: ASYNC110 - nothing tells of it but itself
                await asyncio.sleep(0)

        async def logged_out() -> None:
            database.execute("DROP TRIGGER full")
            assert await _store(h).forget("default")
            await h.app.refresher.drain()
            assert not h.app.refresher.unsaved

        yield logged_out
    await caller


async def test_a_pair_that_was_never_stored_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path) as h, _overtaken(h, tmp_path) as logged_out:
        assert (await h.token())["warning"] == "store_unavailable"

        async def gone(_account: str) -> Credential | None:
            raise StoreUnavailable("Gone.")

        monkeypatch.setattr(_store(h), "load", gone)
        await logged_out()
        answer = await h.client.get("/token")
        monkeypatch.undo()
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")


async def test_a_pair_that_is_superseded_while_a_caller_waits_for_the_database_is_not_his(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path) as h, _overtaken(h, tmp_path) as logged_out:
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def gone(_account: str) -> Credential | None:
            monkeypatch.undo()  # he alone waits
            asked.set()
            await go_on.wait()
            raise StoreUnavailable("Gone.")

        monkeypatch.setattr(_store(h), "load", gone)
        caller = asyncio.create_task(h.client.get("/token"))
        await asked.wait()
        await logged_out()
        go_on.set()
        answer = await caller
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")


async def test_a_claim_whose_answer_was_lost_is_given_back(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.log_in()
        h.clock.advance(EXPIRED)
        credential = await _store(h).load("default")
        assert credential is not None
        mine = Attempt("mine", h.app.refresher._owners.present(), h.clock.now)
        h.app.refresher._unwritten["default"] = mine, credential
        assert await _store(h).claim(credential, mine) == claimed(credential, mine)
        assert (await h.token())["generation"] == 2
        assert len(h.sandbox.token_requests("refresh_token")) == 1


async def test_a_retry_safe_issuer_is_asked_again_at_once_and_the_login_lives(tmp_path: Path) -> None:
    async with house(tmp_path, knobs=Knobs(retry_window=60)) as h:
        await h.log_in()
        h.clock.advance(EXPIRED)
        forgiving = {"codex": replace(codex(ISSUER), retry_within=60.0)}
        app = create_app(
            settings_in(tmp_path),
            providers=forgiving,
            transport=h.gate,
            seams=h.clock.seams(),
            peer_of=owner_in_process,
        )
        h.sandbox.fail_next(faults.lost_answer())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost:1455") as client:
            assert (await client.get("/token")).json()["generation"] == 2
        await app.close()
        assert h.sandbox.retry_count == 1
        assert h.sandbox.families[0].alive


async def test_rounds_that_find_nothing_to_do_commit_nothing_after_a_clock_was_set_back(tmp_path: Path) -> None:
    async with house(tmp_path, refresh_floor=0) as h:
        h.clock.now += 86400
        await h.log_in()
        h.sandbox.fail_next(faults.server_error(status=500))
        await h.token(newer_than=1)
        h.clock.now -= 86400
        await _rounds(h, 2)
        assert await _rounds(h, 20) == 0
