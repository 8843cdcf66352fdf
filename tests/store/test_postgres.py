"""What only PostgreSQL has: other machines, connections that die, a clock and settings of its own."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import OperationalError

from service.domain.errors import StoreUnavailable
from service.domain.secret import Secret
from service.settings import Settings, SettingsError
from service.store.address import chosen
from service.store.postgres import Postgres
from service.store.store import Store
from tests.kit.postgres import Server

from .samples import attempt, credential, open_store, query

pytestmark = pytest.mark.long


@pytest.fixture
def address(postgres: Server) -> str:
    """The address of an empty database."""
    return postgres.empty()


@pytest.fixture
async def store(address: str) -> AsyncIterator[Store]:
    """An empty store."""
    opened = open_store(address)
    yield opened
    await opened.close()


def kill_connections(address: str) -> int:
    """End every connection of the service, as an administrator or a fail-over does; how many there were."""
    return len(
        query(
            address,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pixir-auth'",
        )
    )


@contextmanager
def statements(store: Store) -> Iterator[list[tuple[str, Connection]]]:
    """What is said to the database."""
    seen: list[tuple[str, Connection]] = []

    def note(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append((statement, connection))

    event.listen(store._backend.engine, "before_cursor_execute", note)
    yield seen
    event.remove(store._backend.engine, "before_cursor_execute", note)


async def test_every_write_is_on_disk_when_it_ends_whatever_the_server_says(store: Store, address: str) -> None:
    query(address, "ALTER DATABASE postgres SET synchronous_commit = off")
    query(address, "ALTER DATABASE postgres SET idle_in_transaction_session_timeout = '200ms'")
    kill_connections(address)  # so that new ones begin with the new defaults
    try:
        with store._backend.writing() as connection:
            shown = [
                connection.execute(text(f"SHOW {name}")).scalar_one()
                for name in ("synchronous_commit", "lock_timeout", "statement_timeout")
            ]
        assert shown == ["on", "8s", "10s"]
    finally:
        query(address, "ALTER DATABASE postgres RESET ALL")


@pytest.mark.parametrize("when", ["before a read", "before a claim", "before a settle"])
async def test_connections_that_died_while_idle_are_not_noticed(store: Store, address: str, when: str) -> None:
    seen = await store.install(credential())
    if when == "before a read":
        assert kill_connections(address) > 0
    assert await store.load("default") == seen
    if when == "before a claim":
        assert kill_connections(address) > 0
    claim = await store.claim(seen, attempt())
    assert claim is not None
    if when == "before a settle":
        assert kill_connections(address) > 0
    assert await store.settle(claim, replace(claim, generation=2, attempt=None, refresh_token=Secret("the next")))


async def test_a_connection_killed_inside_a_transaction_is_an_error_that_changed_nothing(
    store: Store, address: str
) -> None:
    seen = await store.install(credential())
    with pytest.raises(OperationalError), store._backend.writing() as connection:  # noqa: PT012 - it ends in the middle
        connection.execute(text("UPDATE credential SET failures = 7"))
        kill_connections(address)
    assert await store.load("default") == seen
    assert await store.claim(seen, attempt()) is not None


async def test_a_claim_whose_commit_was_not_confirmed_is_either_there_or_not(store: Store, address: str) -> None:
    """And the store says that it does not know, instead of guessing."""
    seen = await store.install(credential())

    def die(_: Connection) -> None:
        kill_connections(address)

    event.listen(store._backend.engine, "commit", die)
    with pytest.raises(StoreUnavailable):
        await store.claim(seen, attempt())
    event.remove(store._backend.engine, "commit", die)
    found = await store.load("default")
    assert found is not None
    assert found.attempt in (None, attempt())


async def test_a_commit_elsewhere_is_heard_of_without_asking(store: Store, address: str) -> None:
    await listening(store, address)
    with statements(store) as said:
        before = store.version()
        other = open_store(address)
        await other.install(credential())
        assert await store.changed(before, within=4)  # before the next heartbeat, which would wake it anyway
        await other.close()
    assert said == []


async def test_who_commits_reads_his_own_write(store: Store) -> None:
    before = store.version()
    await store.install(credential())
    assert store.version() != before


async def test_who_writes_nothing_tells_nobody(store: Store, address: str) -> None:
    with closing(psycopg.connect(address, autocommit=True)) as listener:
        listener.execute("LISTEN pixir_auth")
        await store.check()
        assert await store.forget("nobody") is None
        await store.install(credential())
        assert len(list(listener.notifies(timeout=0.5))) == 1


async def test_a_commit_is_heard_of_though_the_listener_was_killed(store: Store, address: str) -> None:
    await listening(store, address)
    kill_connections(address)
    before = store.version()
    other = open_store(address)
    await other.install(credential())
    assert await store.changed(before, within=4)
    await other.close()


async def listening(store: Store, address: str) -> None:
    """Wait until the store hears of notifications."""
    for _ in range(200):
        before = store.version()
        query(address, "NOTIFY pixir_auth")
        if await store.changed(before, within=0.1):
            return
    pytest.fail("nobody listens")


async def test_time_is_the_databases(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1.0)  # this machine's clock is fifty years behind
    store = open_store(address)
    theirs = float(query(address, "SELECT extract(epoch FROM clock_timestamp())")[0][0])
    assert abs(store._backend.now() - theirs) < 1
    await store.close()


async def test_nothing_stays_open_between_calls(store: Store, address: str) -> None:
    await store.install(credential())
    await asyncio.gather(*(store.load("default") for _ in range(8)))
    states = query(address, "SELECT DISTINCT state FROM pg_stat_activity WHERE application_name = 'pixir-auth'")
    assert states == [("idle",)]


async def test_a_lock_held_elsewhere_is_waited_for_and_then_given_up(
    store: Store, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = await store.install(credential())
    monkeypatch.setattr("service.store.postgres._SETTINGS", text("SELECT set_config('lock_timeout', '50ms', true)"))
    with closing(psycopg.connect(address)) as somebody:
        somebody.execute("SELECT * FROM credential FOR UPDATE")
        with pytest.raises(StoreUnavailable):
            await store.claim(seen, attempt())
        assert await store.load("default") == seen  # reading goes on
    assert await store.claim(seen, attempt()) is not None


def settings(folder: Path, url: str) -> Settings:
    """Settings with that address."""
    return Settings(data_dir=folder, database_url=url)  # type: ignore[arg-type]


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_an_address_chooses_the_database(tmp_path: Path, scheme: str) -> None:
    backend, folder = chosen(settings(tmp_path, f"{scheme}://who:secret@host.test/name"))
    assert (backend.name, backend.reaches_other_machines, folder) == ("PostgreSQL", True, tmp_path)


def test_a_wrong_address_is_refused_without_repeating_it(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        chosen(settings(tmp_path, "postgresql://who:secret@host:not-a-port/name"))
    assert "secret" not in str(refused.value)


def test_a_server_that_is_not_there_is_a_clear_error_without_secrets() -> None:
    with pytest.raises(StoreUnavailable, match=r"PostgreSQL cannot be used as the database\.$") as refused:
        open_store("postgresql://who:hunter2@127.0.0.1:1/name")
    assert "hunter2" not in f"{refused.value!r} {refused.value.__cause__!r}"


def test_tables_of_another_program_are_not_taken_over_and_the_code_says_so(address: str) -> None:
    query(address, "CREATE TABLE login (name TEXT)")
    with pytest.raises(StoreUnavailable, match=r"PostgreSQL cannot be used as the database: 42P07\.$"):
        open_store(address)


async def test_an_address_may_say_what_libpq_knows(address: str) -> None:
    store = open_store(f"{address}&connect_timeout=3&application_name=ours&keepalives_idle=7")
    await listening(store, address)
    assert store._backend._listener.is_alive()  # type: ignore[attr-defined]
    names = query(address, "SELECT DISTINCT application_name FROM pg_stat_activity WHERE application_name = 'ours'")
    assert names == [("ours",)]
    await store.close()


async def test_a_listener_survives_what_nobody_expected(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def broken(_self: Postgres) -> None:
        loop.call_soon_threadsafe(failed.set)
        raise TypeError

    await listening(store, store._backend._url.render_as_string(False).replace("+psycopg", ""))  # type: ignore[attr-defined]
    monkeypatch.setattr(Postgres, "_listen_once", broken)
    kill_connections(store._backend._url.render_as_string(False).replace("+psycopg", ""))  # type: ignore[attr-defined]
    await asyncio.wait_for(failed.wait(), 10)
    before = store.version()
    assert store._backend._listener.is_alive()  # type: ignore[attr-defined]
    assert await store.changed(before, within=10)  # nothing in memory is trusted for long


async def test_pages_of_accounts_are_in_the_order_of_code_points(store: Store) -> None:
    names = ["a1", "a_b", "a-b", "a.b", "ab"]
    for name in names:
        await store.install(credential(name))
    paged: list[str] = []
    while page := await store.accounts(paged[-1] if paged else "", 1):
        paged += [each.account for each in page]
    assert paged == sorted(names)


def test_an_address_with_odd_characters_in_its_password_is_taken(tmp_path: Path) -> None:
    backend, _ = chosen(settings(tmp_path, "postgresql://u:hun[ter2@h/db"))
    assert backend.name == "PostgreSQL"


def test_an_address_that_cannot_be_read_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        chosen(settings(tmp_path, "postgresql://u:hun\u2100ter2@h:not-a-port/db"))
    assert "ter2" not in f"{refused.value} {refused.value.__cause__}"
