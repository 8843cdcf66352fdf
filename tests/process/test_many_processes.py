"""Several services on one database, as processes: one refresh token, spent once."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.kit.processes import Machine, Process, machine

pytestmark = pytest.mark.long

ROTATIONS = 20
CALLERS = 200


def _state(issuer: Process) -> dict[str, Any]:
    found: dict[str, Any] = issuer.client.get("/_sandbox/state").json()
    return found


def _sound(folder: Path) -> None:
    connection = sqlite3.connect(folder / "data" / "pixir-auth.db")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


async def _ask(clients: list[httpx.AsyncClient], callers: int, **query: Any) -> list[dict[str, Any]]:
    answers = await asyncio.gather(
        *(clients[number % len(clients)].get("/token", params=query) for number in range(callers))
    )
    assert {answer.status_code for answer in answers} == {200}
    return [answer.json() for answer in answers]


def _clients(services: list[Process]) -> list[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=100)
    return [httpx.AsyncClient(base_url=one.url, limits=limits, timeout=60, trust_env=False) for one in services]


async def _storm(m: Machine, issuer: Process, services: list[Process], rotations: int) -> None:
    clients = _clients(services)
    seen: dict[int, str] = {}
    newest = 1
    while newest <= rotations:
        for answer in await _ask(clients, CALLERS, newer_than=newest):
            token = seen.setdefault(answer["generation"], answer["access_token"])
            assert token == answer["access_token"], "two tokens of one generation"
        newest = max(seen)
    for client in clients:
        await client.aclose()
    state = _state(issuer)
    assert state["refresh_count"] == newest - 1
    assert state["reuse_count"] == 0
    assert [family["alive"] for family in state["families"]] == [True]
    assert state["families"][0]["generation"] == newest
    _sound(m.folder)


async def test_four_processes_and_200_callers_refresh_once_for_each_of_20_rejected_generations(tmp_path: Path) -> None:
    with machine(tmp_path) as m:
        issuer = m.issuer()
        services = [m.service(issuer, refresh_floor=0) for _ in range(4)]
        m.install(services[0], issuer)
        await _storm(m, issuer, services, ROTATIONS)


async def test_four_processes_keep_a_token_of_a_few_seconds_valid_for_20_rotations(tmp_path: Path) -> None:
    """Nobody reports anything: callers only ask, and every answer is a token that has not expired."""
    with machine(tmp_path) as m:
        issuer = m.issuer(access_lifetime=3)
        services = [m.service(issuer) for _ in range(4)]
        m.install(services[0], issuer)
        clients = _clients(services)
        newest = 1
        while newest <= ROTATIONS:
            answers = await _ask(clients, CALLERS)
            assert min(answer["expires_in"] for answer in answers) >= 0
            newest = max(answer["generation"] for answer in answers)
        for client in clients:
            await client.aclose()
        state = _state(issuer)
        stored = services[0].client.get("/status").json()["refresh"]["generation"]
        assert state["refresh_count"] in (stored - 1, stored)  # the background may have gone on meanwhile
        assert state["reuse_count"] == 0
        assert state["families"][0]["alive"]
        _sound(m.folder)


async def test_two_processes_on_one_expired_token_refresh_it_once(tmp_path: Path) -> None:
    with machine(tmp_path) as m:
        issuer = m.issuer(latency=0.3)
        services = [m.service(issuer, refresh_floor=0) for _ in range(2)]
        m.install(services[0], issuer)
        clients = _clients(services)
        answers = await _ask(clients, 50, newer_than=1)
        for client in clients:
            await client.aclose()
        assert {answer["generation"] for answer in answers} == {2}
        assert len({answer["access_token"] for answer in answers}) == 1
        assert (_state(issuer)["refresh_count"], _state(issuer)["reuse_count"]) == (1, 0)
