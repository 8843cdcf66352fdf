"""Flights that break off, claims and pairs that somebody overtakes, owners that die, callers that leave."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from service.domain.credential import Attempt, Credential
from service.domain.decide import Wish
from service.sandbox import faults
from service.store.store import Store
from tests.kit import House, house

pytestmark = pytest.mark.long

EXPIRED = 3601.0
CALL_LIMIT = 30.0


def _sql(folder: Path, script: str) -> list[tuple[Any, ...]]:
    """Do or ask something in the database, as another process could."""
    with closing(sqlite3.connect(folder / "data" / "pixir-auth.db", timeout=10, isolation_level=None)) as connection:
        return connection.execute(script).fetchall()


def _store(h: House) -> Store:
    store = h.app.services.store
    assert isinstance(store, Store)
    return store


async def _row(h: House, account: str = "default") -> Credential:
    credential = await _store(h).load(account)
    assert credential is not None
    return credential


def _sent(h: House) -> int:
    return len(h.sandbox.token_requests("refresh_token"))


async def test_a_claim_that_somebody_has_cleared_meanwhile_is_not_sent(tmp_path: Path) -> None:
    """A trigger stands for the logout that comes between the claim and the sending."""
    async with house(tmp_path) as h:
        await h.log_in()
        h.clock.advance(EXPIRED)
        _sql(
            tmp_path,
            "CREATE TRIGGER faster AFTER UPDATE OF attempt_id ON credential WHEN NEW.attempt_id IS NOT NULL BEGIN"
            " UPDATE credential SET state = 'logged_out', attempt_id = NULL; END",
        )
        assert (await h.client.get("/token")).json()["reason"] == "logged_out"
        assert _sent(h) == 0


async def test_the_request_of_a_dead_owner_is_not_repeated_before_it_is_surely_over(tmp_path: Path) -> None:
    """His call may take its whole time, and then its bytes may linger."""
    async with house(tmp_path, issuer_timeout=CALL_LIMIT) as h:
        await h.log_in()
        h.clock.advance(EXPIRED)
        assert await _store(h).claim(await _row(h), Attempt("theirs", "nobody-of-that-name-lives", h.clock.now))
        assert (await h.client.get("/token")).status_code == 503
        h.clock.advance(CALL_LIMIT + 9)
        assert (await h.client.get("/token")).status_code == 503
        assert _sent(h) == 0
        h.clock.advance(4)
        assert (await h.token())["generation"] == 2


async def test_a_flight_that_breaks_off_after_sending_leaves_an_unknown_outcome(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.log_in()
        h.clock.advance(EXPIRED)
        h.gate.hold_after.clear()
        flight = h.app.refresher.flight(await _row(h))
        await h.gate.arrived.wait()
        flight.cancel()
        await asyncio.wait({flight})
        h.gate.hold_after.set()
        assert (await h.client.get("/token")).status_code == 503
        assert (await h.status())["refresh"]["state"] == "uncertain"
        assert _sent(h) == 1


async def test_a_pair_whose_login_has_moved_on_without_it_is_not_revoked(tmp_path: Path) -> None:
    """Revoking one token of a login may end all of it."""
    async with house(tmp_path) as h:
        await h.log_in()
        h.clock.advance(EXPIRED)
        h.gate.hold_after.clear()
        flight = h.app.refresher.flight(await _row(h))
        await h.gate.arrived.wait()
        _sql(tmp_path, "UPDATE credential SET generation = generation + 1, attempt_id = NULL")
        h.gate.hold_after.set()
        await flight
        assert h.sandbox.families[0].alive


async def test_a_caller_who_leaves_does_not_end_the_reading_for_others(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.log_in()
        broker = h.app.services.broker
        _sql(tmp_path, "UPDATE credential SET plan = 'another'")  # so that what is in memory is old
        first, second = (asyncio.create_task(broker.token("default", Wish())) for _ in range(2))
        await asyncio.sleep(0)
        assert broker._reading
        first.cancel()
        assert (await second).generation == 1


async def test_nothing_is_claimed_before_there_is_room_to_send_it(tmp_path: Path) -> None:
    """A claim must be fresh when it is used, so whoever has to wait for the issuer waits without one."""
    async with house(tmp_path) as h:
        accounts = [f"a{number}" for number in range(33)]
        for account in accounts:
            login = h.sandbox.issue()
            body = {"kind": "subscription", **{name: login[name] for name in ("access_token", "refresh_token")}}
            await h.client.put("/credential", params={"account": account}, json=body)
        _sql(tmp_path, "CREATE TABLE claims (account, at)")
        _sql(
            tmp_path,
            "CREATE TRIGGER claims AFTER UPDATE OF attempt_id ON credential WHEN NEW.attempt_id IS NOT NULL BEGIN"
            " INSERT INTO claims VALUES (NEW.account, NEW.attempt_started_at); END",
        )
        h.clock.advance(EXPIRED)
        h.gate.hold_before.clear()
        early = [h.app.refresher.flight(await _row(h, account)) for account in accounts[:32]]
        async with asyncio.timeout(20):
            while h.gate.at_once < 32:  # noqa: ASYNC110 - nothing tells of it but itself
                await asyncio.sleep(0)
        late = h.app.refresher.flight(await _row(h, accounts[32]))
        await asyncio.sleep(0)
        h.clock.advance(1)
        h.gate.hold_before.set()
        await asyncio.gather(*early, late)
        assert _sql(tmp_path, "SELECT at FROM claims WHERE account = 'a32'") == [(h.clock.now,)]
        assert (await _row(h, "a32")).generation == 2


async def test_an_unclear_outcome_is_not_tried_again_while_the_token_is_good(tmp_path: Path) -> None:
    """It may end the login, so it is tried when there is nothing left to lose."""
    async with house(tmp_path, refresh_floor=0) as h:
        await h.log_in()
        h.sandbox.fail_next(faults.lost_answer())
        assert (await h.token(newer_than=1))["warning"] == "refresh_uncertain"
        h.clock.advance(1000)
        assert (await h.token(newer_than=1))["warning"] == "refresh_uncertain"
        assert _sent(h) == 1


async def test_a_pair_that_the_database_does_not_take_counts_at_once(tmp_path: Path) -> None:
    """A trigger stands for a full disk."""
    async with house(tmp_path) as h:
        await h.log_in()
        h.clock.advance(EXPIRED)
        h.gate.hold_after.clear()
        flight = h.app.refresher.flight(await _row(h))
        await h.gate.arrived.wait()
        _sql(tmp_path, "CREATE TRIGGER full BEFORE UPDATE ON credential BEGIN SELECT RAISE(ABORT, 'full'); END")
        h.gate.hold_after.set()
        async with asyncio.timeout(20):
            while not h.app.refresher.unsaved:  # noqa: ASYNC110 - nothing tells of it but itself
                await asyncio.sleep(0)
        counted = (await h.status())["refresh"]["generation"]
        _sql(tmp_path, "DROP TRIGGER full")
        await flight
        assert counted == 2


async def test_a_stop_waits_for_what_was_sent(tmp_path: Path) -> None:
    """Also when nobody waits for the answer any more."""
    async with house(tmp_path) as h:
        await h.log_in()
        h.clock.advance(EXPIRED)
        h.gate.hold_after.clear()
        h.app.refresher.flight(await _row(h))
        await h.gate.arrived.wait()
        stop = asyncio.create_task(h.app.refresher.drain())
        await asyncio.sleep(0)
        assert not stop.done()
        h.gate.hold_after.set()
        await stop
        assert (await _row(h)).generation == 2


async def test_a_database_that_hangs_is_not_waited_for_and_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.broker.broker._READ_PATIENCE", 0.05)
    async with house(tmp_path) as h:
        await h.log_in()
        asked, go_on = [], asyncio.Event()

        async def hanging(account: str) -> Credential | None:
            asked.append(account)
            await go_on.wait()
            return None

        monkeypatch.setattr(_store(h), "load", hanging)
        _sql(tmp_path, "UPDATE credential SET plan = 'another'")  # so that what is in memory is old
        for _ in range(3):
            assert (await h.client.get("/token")).json()["warning"] == "store_unavailable"
            _sql(tmp_path, "UPDATE credential SET plan = plan || 'x'")
        assert asked == ["default"]
        go_on.set()
        monkeypatch.undo()


async def test_a_pair_goes_to_a_rescue_file_though_the_database_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.broker.refresher._SAVE_PATIENCE", 0.05)
    async with house(tmp_path) as h:
        await h.log_in()
        h.clock.advance(EXPIRED)
        settle, go_on = _store(h).settle, asyncio.Event()

        async def hanging(before: Credential, after: Credential) -> bool:
            await go_on.wait()
            return await settle(before, after)

        monkeypatch.setattr(_store(h), "settle", hanging)
        answer = await h.token()
        assert (answer["generation"], answer["warning"]) == (2, "store_unavailable")
        assert len(list((tmp_path / "data").glob("*.rescue"))) == 1
        go_on.set()
        await h.app.refresher.drain()
        assert "warning" not in await h.token()
        assert list((tmp_path / "data").glob("*.rescue")) == []
