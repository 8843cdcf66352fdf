"""The audit trail on its way into the store: counted, bounded, and never lost for want of a moment."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import event

from service.broker.trail import Trail
from service.domain.caller import RIGHTS, ClientKey, digest_of
from service.domain.errors import StoreUnavailable
from service.domain.secret import Secret
from service.sandbox import faults
from service.store.store import Store
from tests.kit import House, house


@pytest.fixture
async def h(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        yield made


@pytest.fixture
def trail(h: House) -> Trail:
    return h.app.services.trail


async def deeds(trail: Trail) -> list[tuple[str, str, int]]:
    """What is told, oldest first."""
    return [(each.deed, each.outcome, each.times) for each in reversed(await trail.events(None, 1000))]


def version(h: House) -> int:
    store = h.app.services.store
    assert isinstance(store, Store)
    return store.version()


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Another process writes to the database all the while."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def test_what_was_noted_is_told_at_once(trail: Trail) -> None:
    trail.note("logout", "uid 1000", account="work")
    (event,) = await trail.events(None, 10)
    assert (event.deed, event.who, event.outcome, event.account) == ("logout", "uid 1000", "done", "work")


async def test_the_same_refusal_is_one_entry_that_counts(h: House, trail: Trail) -> None:
    for _ in range(1000):
        trail.note("refused", "uid 1001", "wrong_user", detail="GET /token")
    trail.note("refused", "uid 1001", "wrong_user", detail="GET /headers")
    assert sorted(await deeds(trail)) == [("refused", "wrong_user", 1), ("refused", "wrong_user", 1000)]


async def test_nothing_is_written_by_noting(h: House, trail: Trail) -> None:
    before = version(h)
    trail.note("refused", "unknown", "key_required", detail="GET /token")
    assert version(h) == before


async def test_a_flood_of_different_refusals_is_bounded(trail: Trail) -> None:
    for number in range(5000):
        trail.note("refused", f"uid {number}", "wrong_user", detail="GET /token")
    assert len(await trail.events(None, 5000)) == 512


async def test_a_flood_of_refusals_pushes_out_no_deed(trail: Trail) -> None:
    trail.note("logout", "uid 1000", account="work")
    for number in range(5000):
        trail.note("refused", f"uid {number}", "wrong_user", detail="GET /token")
    assert ("logout", "done", 1) in await deeds(trail)


async def test_what_the_database_does_not_take_waits(h: House, trail: Trail, tmp_path: Path) -> None:
    path = tmp_path / "data" / "pixir-auth.db"
    trail.note("refused", "unknown", "key_required")
    trail.note("login", "browser", account="work")
    path.rename(path.with_suffix(".away"))
    await trail.write()
    with pytest.raises(StoreUnavailable):
        await trail.events(None, 10)
    trail.note("refused", "unknown", "key_required")
    path.with_suffix(".away").rename(path)
    assert sorted(await deeds(trail)) == [("login", "done", 1), ("refused", "key_required", 2)]


async def test_a_deed_that_waits_again_is_not_pushed_out_by_refusals(trail: Trail, tmp_path: Path) -> None:
    path = tmp_path / "data" / "pixir-auth.db"
    trail.note("logout", "uid 1000", account="work")
    path.rename(path.with_suffix(".away"))
    writing = asyncio.create_task(trail.write())
    for _ in range(5):  # it has been taken by now
        await asyncio.sleep(0)
    for number in range(5000):
        trail.note("refused", f"uid {number}", "wrong_user", detail="GET /token")
    await writing
    path.with_suffix(".away").rename(path)
    assert ("logout", "done", 1) in await deeds(trail)


async def test_who_is_cancelled_while_he_writes_loses_nothing(h: House, trail: Trail, tmp_path: Path) -> None:
    with held(tmp_path / "data" / "pixir-auth.db"):
        waiting = [asyncio.create_task(h.app.services.keys.revoke("x")) for _ in range(4)]  # every thread of the store
        await asyncio.sleep(0)
        trail.note("logout", "uid 1000", account="work")
        writing = asyncio.create_task(trail.write())
        for _ in range(5):
            await asyncio.sleep(0)
        writing.cancel()
        await asyncio.wait({writing})
    await asyncio.gather(*waiting, return_exceptions=True)
    assert await deeds(trail) == [("logout", "done", 1)]


async def test_it_is_written_soon_by_itself(tmp_path: Path) -> None:
    async with house(tmp_path, background=True) as h:
        store = h.app.services.store
        assert isinstance(store, Store)
        h.app.services.trail.note("logout", "uid 1000")
        async with asyncio.timeout(5):
            seen = store.version()
            while not await store.events(None, 1):
                await store.changed(seen, within=5)
                seen = store.version()


async def test_what_was_noted_last_is_written_at_the_end(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.app.services.trail.note("refused", "unknown", "key_required")
    async with house(tmp_path) as h:
        assert await deeds(h.app.services.trail) == [("refused", "key_required", 1)]


async def test_a_key_that_was_used_once_is_written_down_once(h: House) -> None:
    """Every ten seconds is a look at what is to be written: it must not find the same for ever."""
    secret = Secret("k" * 43)
    store, keys = h.app.services.store, h.app.services.keys
    assert isinstance(store, Store)
    await keys.add(ClientKey("ci", digest_of(secret), frozenset(RIGHTS), None, created_at=0.0))
    assert await keys.holder(secret)
    begun: list[str] = []
    event.listen(store._backend.engine, "before_cursor_execute", lambda *said: begun.append(said[2]))
    for _ in range(3):
        await keys.write()
    assert [each.split()[0] for each in begun] == ["BEGIN", "UPDATE"]
    (key,) = await keys.all()
    assert key.last_used_at is not None


# what the service notes


async def test_a_login_a_refresh_and_a_logout(h: House, trail: Trail) -> None:
    await h.log_in("work")
    h.clock.now += 3601
    await h.token(account="work")
    await h.client.post("/logout", params={"account": "work"})
    assert await deeds(trail) == [
        ("login_started", "done", 1),
        ("login", "done", 1),
        ("refresh", "done", 1),
        ("logout", "done", 1),
    ]
    assert {each.account for each in await trail.events(None, 10)} == {"work"}
    who = [each.who for each in reversed(await trail.events(None, 10))]
    assert who == [f"uid {os.geteuid()}", "browser", "service", f"uid {os.geteuid()}"]


async def test_a_refresh_that_did_not_work(h: House, trail: Trail) -> None:
    await h.log_in()
    h.sandbox.fail_next(faults.server_error(503))
    h.clock.now += 3601
    await h.token()
    (refresh,) = [each for each in await trail.events(None, 10) if each.deed == "refresh"]
    assert (refresh.who, refresh.outcome, refresh.detail) == ("service", "http_503", "generation 1")


async def test_a_login_that_failed(h: House, trail: Trail) -> None:
    started = (await h.client.post("/login")).json()
    state = parse_qs(urlsplit(started["authorize_url"]).query)["state"][0]
    await h.client.get(f"/auth/callback?error=access_denied&state={state}")
    await h.client.get(f"/auth/callback?error=access_denied&state={state}")
    assert (await deeds(trail))[1:] == [("login", "login_denied", 1), ("refused", "login_mismatch", 1)]


async def test_a_cancelled_login(h: House, trail: Trail) -> None:
    started = (await h.client.post("/login")).json()
    for _ in range(2):
        await h.client.delete(f"/login/{started['id']}")
    assert (await deeds(trail))[1:] == [("login", "login_cancelled", 1)]


async def test_an_import_that_was_refused(h: House, trail: Trail) -> None:
    await h.client.put("/credential", json={"kind": "subscription", "access_token": "", "refresh_token": ""})
    assert await deeds(trail) == [("import", "invalid_credential", 1)]


async def test_no_entry_holds_what_was_sent(h: House, trail: Trail) -> None:
    canary = "CANARY-51d0"
    await h.client.get(f"/{canary}", headers={"Host": "evil.example"})
    await h.client.get(f"/{canary}?{canary}={canary}", headers={"Authorization": f"Bearer {canary}"})
    await h.client.get(f"/callback?state={canary}&code={canary}")
    await h.client.put(f"/keys/{canary.lower()}", json={"digest": canary})
    await h.client.get("/status", params={"account": canary.lower()}, headers={"Origin": canary})
    told = str(await trail.events(None, 100))
    assert "host_not_allowed" in told
    assert "key_required" in told
    assert canary.lower() not in told.lower()
