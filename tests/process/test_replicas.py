"""Three services on one PostgreSQL database, as on three machines: each with a folder of its own, and one key."""

import asyncio
import base64
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.kit.postgres import Server
from tests.kit.processes import Machine, Process, machine

from .test_death import _in_flight, _refresh_of, _requests
from .test_many_processes import _ask, _clients, _state

pytestmark = pytest.mark.long
CALLERS = 150


class Replicas:
    """Services of different machines, as far as they can tell."""

    def __init__(self, m: Machine, url: str) -> None:
        self.url = url
        self._machine = m
        self._key = m.folder / "key"
        self._key.touch(mode=0o600)
        self._key.write_bytes(base64.b64encode(secrets.token_bytes(32)))
        self._number = 0

    def start(self, issuer: Process, **settings: Any) -> Process:
        """One more."""
        self._number += 1
        folder = self._machine.folder / f"machine-{self._number}"
        given = {"data_dir": folder, "database_url": self.url, "encryption_key_file": self._key, "refresh_floor": 0}
        return self._machine.service(issuer, **{**given, **settings})

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the database, beside the services."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []


@pytest.fixture
def m(tmp_path: Path) -> Iterator[Machine]:
    """The one machine on which all of it really runs."""
    with machine(tmp_path) as made:
        yield made


@pytest.fixture
def replicas(m: Machine, postgres: Server) -> Replicas:
    """None yet, on an empty database."""
    return Replicas(m, postgres.empty())


@contextmanager
def watched(replicas: Replicas) -> Iterator[set[str]]:
    """What the sessions of the service are seen doing between two statements, sampled all the time."""
    seen: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        ask = b"SELECT state, xact_start < clock_timestamp() - interval '0.25 s' FROM pg_stat_activity"
        with psycopg.connect(replicas.url, autocommit=True) as connection:
            while not over.is_set():
                found = connection.execute(ask + b" WHERE application_name = 'pixir-auth'").fetchall()
                seen.update(state for state, long in found if state and (state == "idle" or long))

    watcher = threading.Thread(target=watch)
    watcher.start()
    yield seen
    over.set()
    watcher.join()


async def test_a_storm_on_three_replicas_refreshes_once_a_generation(m: Machine, replicas: Replicas) -> None:
    issuer = m.issuer()
    services = [replicas.start(issuer) for _ in range(3)]
    m.install(services[0], issuer)
    clients = _clients(services)
    newest = 1
    while newest <= 20:
        answers = await _ask(clients, CALLERS, newer_than=newest)
        newest = max(answer["generation"] for answer in answers)
    for client in clients:
        await client.aclose()
    state = _state(issuer)
    assert (state["refresh_count"], state["reuse_count"]) == (newest - 1, 0)
    assert state["families"][0]["generation"] == newest
    assert replicas.query("SELECT generation FROM credential") == [(newest,)]


def test_no_transaction_is_open_while_the_issuer_is_asked(m: Machine, replicas: Replicas) -> None:
    issuer = m.issuer(latency=2)
    replicas.query("ALTER DATABASE postgres SET idle_in_transaction_session_timeout = '200ms'")
    service = replicas.start(issuer)
    m.install(service, issuer)
    with watched(replicas) as seen:
        assert service.client.get("/token", params={"newer_than": 1}).json()["generation"] == 2
    replicas.query("ALTER DATABASE postgres RESET ALL")
    assert seen == {"idle"}


def test_every_connection_killed_during_a_refresh_costs_nothing(m: Machine, replicas: Replicas) -> None:
    issuer = m.issuer(latency=2)
    service = replicas.start(issuer)
    m.install(service, issuer)
    caller = _in_flight(m, issuer, service, newer_than=1)
    killed = replicas.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pixir-auth'"
    )
    assert killed
    caller.join()
    assert _refresh_of(service)["generation"] == 2
    assert (_state(issuer)["refresh_count"], _state(issuer)["reuse_count"]) == (1, 0)


def test_who_waits_on_another_replica_hears_of_the_new_token_at_once(m: Machine, replicas: Replicas) -> None:
    issuer = m.issuer(latency=2)
    first, second = replicas.start(issuer), replicas.start(issuer)
    m.install(first, issuer)
    caller = _in_flight(m, issuer, first, newer_than=1)
    assert second.client.get("/token", params={"newer_than": 1}).json()["generation"] == 2
    caller.join()
    assert _state(issuer)["refresh_count"] == 1


def test_a_stopped_replica_keeps_its_claim_and_its_late_success_is_stored(m: Machine, replicas: Replicas) -> None:
    """Even after the others have called it uncertain: they cannot know, and they do not send."""
    issuer = m.issuer(latency=1)
    first = replicas.start(issuer, issuer_timeout=3)
    second = replicas.start(issuer, issuer_timeout=3)
    m.install(first, issuer)
    caller = _in_flight(m, issuer, first, newer_than=1)
    first.signal(signal.SIGSTOP)
    sent = _requests(issuer)
    deadline = time.monotonic() + 60
    while _refresh_of(second)["state"] != "uncertain":
        assert time.monotonic() < deadline
        second.client.get("/token", params={"newer_than": 1, "min_ttl": 0})
    assert _refresh_of(second)["last_error"] == "owner_silent"
    assert _requests(issuer) == sent
    first.signal(signal.SIGCONT)
    caller.join()
    while _refresh_of(second)["generation"] == 1:
        assert time.monotonic() < deadline
    assert second.client.get("/token", params={"newer_than": 1, "min_ttl": 0}).json()["generation"] == 2
    assert (_state(issuer)["refresh_count"], _state(issuer)["reuse_count"]) == (1, 0)


def test_a_replica_killed_during_a_refresh_leaves_it_uncertain_and_nothing_is_sent(
    m: Machine, replicas: Replicas
) -> None:
    issuer = m.issuer(latency=1)
    first = replicas.start(issuer, issuer_timeout=3)
    second = replicas.start(issuer, issuer_timeout=3)
    m.install(first, issuer)
    caller = _in_flight(m, issuer, first, newer_than=1)
    first.kill()
    caller.join()
    sent = _requests(issuer)
    deadline = time.monotonic() + 60
    while _refresh_of(second)["state"] != "uncertain":
        assert time.monotonic() < deadline
        assert second.client.get("/token", params={"newer_than": 1, "min_ttl": 0}).json()["generation"] == 1
    assert _requests(issuer) == sent


async def test_a_logout_on_one_replica_ends_it_on_the_others(m: Machine, replicas: Replicas) -> None:
    issuer = m.issuer()
    services = [replicas.start(issuer) for _ in range(3)]
    m.install(services[0], issuer)
    for service in services:
        assert service.client.get("/token").status_code == 200
    assert services[0].client.post("/logout").json()["revoked"] is True
    async with asyncio.timeout(5):
        for service in services:
            async with httpx.AsyncClient(base_url=service.url, trust_env=False) as client:
                while (await client.get("/token")).status_code == 200:  # noqa: ASYNC110 - only asking tells
                    await asyncio.sleep(0.01)


@pytest.mark.usefixtures("callback_ports")
def test_a_login_begun_on_one_replica_ends_on_another(m: Machine, replicas: Replicas) -> None:
    issuer = m.issuer()
    first, second = replicas.start(issuer), replicas.start(issuer)
    started = first.client.post("/login", json={"flow": "browser"}).json()
    returned = httpx.get(started["authorize_url"], trust_env=False).headers["location"]
    ended = second.client.post(f"/login/{started['id']}/callback", json={"url": returned}).json()
    assert ended["state"] == "complete"
    assert first.client.get("/token").json()["generation"] == 1
