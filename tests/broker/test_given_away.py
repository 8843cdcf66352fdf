"""A login that one replica gives away: no other refreshes it, nor serves it from its memory. On both databases."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from service.sealing import Opener
from tests.kit import House, house
from tests.kit.postgres import Server

EXPIRED = 3601.0
CODEX = "app_EMoamEEZ73f0CkXaXp7hrann"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> list[dict[str, Any]]:
    """What differs between two services on one database."""
    if request.param == "sqlite":
        return [{}, {}]
    server: Server = request.getfixturevalue("postgres")
    url = server.empty()
    return [{"database_url": url, "data_dir": tmp_path / name} for name in ("one", "other")]


@asynccontextmanager
async def both(folder: Path, places: list[dict[str, Any]]) -> AsyncIterator[tuple[House, House]]:
    """Two services, one key, one database, one issuer."""
    async with house(folder, refresh_floor=0, **places[0]) as one:
        shared = {"sandbox": one.sandbox, "clock": one.clock}
        async with house(folder, refresh_floor=0, **shared, **places[1]) as other:
            await one.log_in()
            yield one, other


async def given_away(h: House) -> dict[str, Any]:
    """The login, by whoever asked for it."""
    opener = Opener()
    answer = await h.client.post("/export", json={"public_key": opener.public_key})
    assert answer.status_code == 200, answer.text
    login: dict[str, Any] = json.loads(opener.open(answer.json()["sealed"], "default").reveal())
    return login | {"generation": answer.json()["generation"]}


async def works(h: House, login: dict[str, Any]) -> bool:
    """Whether the issuer takes it, once more than it has so far, and has seen no token twice."""
    form = {"grant_type": "refresh_token", "refresh_token": login["refresh_token"], "client_id": CODEX}
    answer = await h.browser.post(f"{h.sandbox.issuer}/oauth/token", data=form)
    return answer.status_code == 200 and h.sandbox.reuse_count == 0


async def seen_by(h: House, reason: str) -> None:
    """Wait until a replica has heard of the commit: on PostgreSQL it is told."""
    async with asyncio.timeout(10):
        while (await h.token()).get("reason") != reason:  # noqa: ASYNC110 - nothing tells of it but itself
            await asyncio.sleep(0.005)


async def test_no_other_replica_serves_it_from_memory_or_refreshes_it(
    tmp_path: Path, places: list[dict[str, Any]]
) -> None:
    async with both(tmp_path, places) as (one, other):
        assert (await other.token())["generation"] == (await other.token())["generation"] == 1
        login = await given_away(one)
        await seen_by(other, "logged_out")
        one.clock.advance(EXPIRED)
        for h in (other, one):
            assert (await h.token(newer_than=1))["reason"] == "logged_out"
            await h.app.background.round()
            await h.app.refresher.drain()
        assert one.sandbox.token_requests("refresh_token") == []
        assert await works(one, login)


async def test_a_refresh_at_another_replica_ends_before(tmp_path: Path, places: list[dict[str, Any]]) -> None:
    async with both(tmp_path, places) as (one, other):
        other.gate.hold_after.clear()
        asking = asyncio.create_task(other.token(newer_than=1))
        await other.gate.arrived.wait()
        export = asyncio.create_task(given_away(one))
        for _ in range(3):
            assert (await one.status())["refresh"]["state"] == "in_flight"
        assert not export.done()
        other.gate.hold_after.set()
        login = await export
        assert (login["generation"], login["refresh_token"]) == (2, one.sandbox.families[-1].refresh_token)
        body = await asking
        assert body.get("generation", 2) == 2
        assert await works(one, login)


@pytest.mark.parametrize("turns", [0, 10, 60])
async def test_whoever_wins_no_token_is_spent_twice(tmp_path: Path, places: list[dict[str, Any]], turns: int) -> None:
    """Twenty callers at both, whose refresh is due, and an export at one."""
    async with both(tmp_path, places) as (one, other):
        one.clock.advance(EXPIRED)
        callers = [asyncio.create_task(h.token()) for h in (one, other) for _ in range(10)]
        for _ in range(turns):
            await asyncio.sleep(0)  # a turn for each of the others
        login = await given_away(one)
        bodies = await asyncio.gather(*callers)
        assert {body["generation"] for body in bodies if "generation" in body} <= {login["generation"]}
        assert {body["reason"] for body in bodies if "code" in body} <= {"logged_out"}
        assert login["refresh_token"] == one.sandbox.families[-1].refresh_token
        assert await works(one, login)
