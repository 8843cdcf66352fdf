"""SQLite as it is opened here: durable before anybody hears of it, one writer at a time, no surprises from a driver."""

import asyncio
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from service.domain.credential import Identity
from service.domain.errors import AccountMismatch, StoreUnavailable
from service.domain.secret import Secret
from service.store.sqlite import Watch
from service.store.store import Store

from .crowd import Crowds, installs
from .samples import NOW, ROOT, another_login, attempt, browser_login, credential, open_store, path_of, query

pytestmark = pytest.mark.long

SETTINGS = {
    "journal_mode": "wal",
    "synchronous": 2,  # FULL
    "foreign_keys": 1,
    "busy_timeout": 8000,
    "trusted_schema": 0,
    "cell_size_check": 1,
    "secure_delete": 1,
    "wal_autocheckpoint": 200,
}


@pytest.fixture
def address(tmp_path: Path) -> str:
    """The address of an empty database file: all here is about SQLite."""
    return f"sqlite:{tmp_path / 'data' / 'pixir-auth.db'}"


@pytest.fixture
def path(address: str) -> Path:
    """The database file."""
    return path_of(address)


def settings_of(store: Store) -> list[dict[str, Any]]:
    """The settings of every pooled connection, each held while the next is opened."""
    with ExitStack() as stack:
        pooled = [stack.enter_context(store._backend.engine.connect()) for _ in range(4)]
        return [{name: each.exec_driver_sql(f"PRAGMA {name}").scalar() for name in SETTINGS} for each in pooled]


def drivers(store: Store) -> list[sqlite3.Connection]:
    """The driver's side of every pooled connection."""
    with ExitStack() as stack:
        pooled = [stack.enter_context(store._backend.engine.connect()) for _ in range(4)]
        return [each.connection.dbapi_connection for each in pooled]  # type: ignore[misc]


@contextmanager
def somebody_writing(path: Path) -> Iterator[sqlite3.Connection]:
    """Another writer in the middle of a transaction."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    yield connection
    connection.close()


async def still_waiting(task: asyncio.Task[Any]) -> bool:
    """Whether a task does not end within a moment."""
    done, _ = await asyncio.wait({task}, timeout=0.2)
    return not done


# -- connections ---------------------------------------------------------------------------------------------------


def test_every_pooled_connection_is_durable_and_careful(store: Store, path: Path) -> None:
    assert settings_of(store) == [SETTINGS] * 4


def test_there_are_as_many_connections_as_threads(store: Store, path: Path) -> None:
    assert store._backend.engine.pool.size() == store._threads._max_workers == 4  # type: ignore[attr-defined]
    assert store._backend.engine.pool._max_overflow == 0  # type: ignore[attr-defined]


async def test_the_settings_outlast_work(store: Store, path: Path) -> None:
    await asyncio.gather(*(store.install(credential(f"{n}")) for n in range(8)))
    await asyncio.gather(*(store.forget(f"{n}") for n in range(8)))
    assert settings_of(store) == [SETTINGS] * 4


def test_the_driver_begins_no_transactions_of_its_own(store: Store, path: Path) -> None:
    assert [each.isolation_level for each in drivers(store)] == [None] * 4


async def test_nor_does_it_after_a_logout(store: Store, path: Path) -> None:
    await store.install(credential())
    await store.forget("default")
    assert [each.isolation_level for each in drivers(store)] == [None] * 4


@pytest.mark.skipif(sys.platform != "linux", reason="strace is for Linux")
def test_every_commit_is_synced_before_it_is_told(tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    log, address = tmp_path / "strace", f"sqlite:{tmp_path / 'data' / 'x.db'}"
    command = [sys.executable, "-m", "tests.store.commits", address, str(tmp_path / "marks")]
    traced = subprocess.run(
        [strace, "-f", "-o", str(log), "-e", "trace=fsync,fdatasync,write", *command],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if traced.returncode != 0 and b"ptrace" in traced.stderr.lower():
        pytest.skip(f"strace does not work here: {traced.stderr[:200]!r}")
    assert traced.returncode == 0, traced.stderr
    for name in ("claim", "settle"):
        (during,) = re.findall(rf'"<{name}>"(.*)"</{name}>"', log.read_text(), re.DOTALL)
        assert re.search(r"\bf(data)?sync\(", during), name


# -- transactions --------------------------------------------------------------------------------------------------


async def statements(store: Store, work: Callable[[], Any]) -> list[str]:
    """What SQLite is told during some work."""
    told: list[str] = []
    for each in drivers(store):
        each.set_trace_callback(told.append)
    await work()
    for each in drivers(store):
        each.set_trace_callback(None)
    return [statement for statement in told if statement.startswith(("BEGIN", "COMMIT", "ROLLBACK"))]


WRITES: dict[str, Callable[[Store], Any]] = {
    "install": lambda store: store.install(credential("new")),
    "claim": lambda store: store.claim(credential(), attempt()),
    "settle": lambda store: store.settle(credential(), credential()),
    "add_login": lambda store: store.add_login(browser_login("new", "new")),
    "poll_again": lambda store: store.poll_again("login-1", 5, NOW),
    "end_login": lambda store: store.end_login("login-1", "failed", None, None),
    "note_due": lambda store: store.note_due(credential()),
    "complete_login": lambda store: store.complete_login(browser_login(), another_login()),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=list(WRITES))
async def test_a_write_locks_before_it_reads(store: Store, path: Path, write: Callable[[Store], Any]) -> None:
    await store.install(credential())
    await store.add_login(browser_login())
    assert await statements(store, lambda: write(store)) == ["BEGIN IMMEDIATE", "COMMIT"]


async def test_a_logout_locks_before_it_reads(store: Store, path: Path) -> None:
    await store.install(credential())
    told = await statements(store, lambda: store.forget("default"))
    assert told[:2] == ["BEGIN IMMEDIATE", "COMMIT"]
    assert "BEGIN IMMEDIATE" not in told[2:]


READS: dict[str, Callable[[Store], Any]] = {
    "load": lambda store: store.load("default"),
    "accounts": lambda store: store.accounts("", 10),
    "due": lambda store: store.due(NOW, 10),
    "login": lambda store: store.login("login-1"),
    "redirect_uris": lambda store: store.redirect_uris(NOW),
    "due_polls": lambda store: store.due_polls(NOW),
}


@pytest.mark.parametrize("read", READS.values(), ids=list(READS))
async def test_a_read_does_not_wait_for_a_writer(store: Store, path: Path, read: Callable[[Store], Any]) -> None:
    await store.install(credential())
    with somebody_writing(path) as writer:
        writer.execute("UPDATE credential SET failures = 7")
        assert "BEGIN IMMEDIATE" not in await statements(store, lambda: read(store))


@pytest.mark.parametrize("name", ["install", "claim", "complete_login"])
async def test_a_second_writer_waits_its_turn(store: Store, path: Path, name: str) -> None:
    """A deferred transaction that had read before the other's commit would fail at once, whatever the patience."""
    await store.install(credential())
    await store.add_login(browser_login())
    with somebody_writing(path) as writer:
        task = asyncio.create_task(WRITES[name](store))
        assert await still_waiting(task)
        writer.execute("UPDATE credential SET plan = 'changed'")
        writer.execute("COMMIT")
        assert await task is not None


async def test_a_logout_waits_its_turn(store: Store, path: Path) -> None:
    await store.install(credential())
    with somebody_writing(path) as writer:
        task = asyncio.create_task(store.forget("default"))
        assert await still_waiting(task)
        writer.execute("UPDATE credential SET plan = 'changed'")
        writer.execute("COMMIT")
        before = await task
    assert before is not None
    assert before.identity.plan == "changed"


# -- a session inside a transaction that is not its own ------------------------------------------------------------


async def test_reading_by_a_session_leaves_the_transaction_open_and_to_be_committed(store: Store, path: Path) -> None:
    await store.install(credential())
    with store._backend.writing() as connection:
        store._installed(connection, another_login(), replace_other=True)
        assert connection.in_transaction()
        assert query(f"sqlite:{path}", "SELECT generation FROM credential") == [(1,)]
    assert query(f"sqlite:{path}", "SELECT generation FROM credential") == [(2,)]


async def test_an_error_after_the_session_rolls_everything_back(store: Store, path: Path) -> None:
    stored = await store.install(credential())
    await store.add_login(browser_login())

    class Accident(Exception):
        pass

    def work() -> None:
        with store._backend.writing() as connection:
            connection.exec_driver_sql("UPDATE login SET state = 'complete'")
            store._installed(connection, another_login(), replace_other=True)
            raise Accident

    with pytest.raises(Accident):
        work()
    assert await store.load("default") == stored
    assert query(f"sqlite:{path}", "SELECT state FROM login") == [("pending",)]
    assert await store.install(credential())  # and the connection is as good as before


@pytest.mark.parametrize("trigger", ["BEFORE UPDATE ON credential", "AFTER UPDATE ON credential"])
async def test_a_logout_that_fails_changes_nothing(store: Store, path: Path, trigger: str) -> None:
    stored = await store.install(credential())
    query(f"sqlite:{path}", f"CREATE TRIGGER refuse {trigger} BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(StoreUnavailable):
        await store.forget("default")
    assert await store.load("default") == stored
    query(f"sqlite:{path}", "DROP TRIGGER refuse")
    assert await store.forget("default") == stored


@pytest.mark.parametrize("known", [True, False], ids=["known account", "new account"])
async def test_a_login_whose_credential_cannot_be_kept_stays_pending(store: Store, path: Path, known: bool) -> None:
    before = await store.install(credential()) if known else None
    await store.add_login(browser_login())
    for change in ("INSERT", "UPDATE"):
        query(
            f"sqlite:{path}", f"CREATE TRIGGER {change}_ AFTER {change} ON credential BEGIN SELECT RAISE(ABORT,''); END"
        )
    with pytest.raises(StoreUnavailable):
        await store.complete_login(browser_login(), another_login())
    assert await store.load("default") == before
    pending = await store.pending_login("default", NOW)
    assert pending is not None
    assert pending.verifier == Secret("verifier of login-1")


async def test_a_refusal_in_the_middle_of_a_write_frees_the_lock(store: Store, path: Path) -> None:
    await store.install(credential())
    await store.add_login(browser_login())
    for _ in range(8):  # more often than there are connections
        with pytest.raises(AccountMismatch):
            await store.complete_login(browser_login(), another_login(identity=Identity("acc-2")))
    with somebody_writing(path):
        pass


# -- has anybody committed? ----------------------------------------------------------------------------------------


async def test_the_version_changes_with_every_commit_of_this_process(store: Store, path: Path) -> None:
    seen = [store.version()]
    for number in range(3):
        await store.install(another_login(number))
        seen.append(store.version())
    assert len(set(seen)) == 4


async def test_the_version_changes_with_a_commit_of_another_process(store: Store, path: Path, crowd: Crowds) -> None:
    before = store.version()
    await asyncio.to_thread(crowd, installs, 1, f"sqlite:{path}")
    assert store.version() != before


async def test_the_version_stays_while_nothing_is_committed(store: Store, path: Path) -> None:
    await store.install(credential())
    before = store.version()
    await store.accounts("", 10)
    await store.check()
    await store.claim(credential("nobody"), attempt())
    with somebody_writing(path) as writer:
        writer.execute("UPDATE credential SET failures = 7")
        assert store.version() == before
    assert store.version() == before


async def test_a_commit_wakes_who_waits_for_it(store: Store, path: Path) -> None:
    waiting = asyncio.create_task(store.changed(store.version(), within=60, every=0.001))
    await store.install(credential())
    assert await waiting


async def test_a_commit_that_was_missed_wakes_at_once(store: Store, path: Path) -> None:
    before = store.version()
    await store.install(credential())
    assert await store.changed(before, within=0)


async def test_waiting_for_nothing_ends_in_time(store: Store, path: Path) -> None:
    assert not await store.changed(store.version(), within=0.02, every=0.001)
    assert not await store.changed(store.version(), within=0)


async def test_looking_for_a_commit_takes_no_lock_and_no_thread(store: Store, path: Path) -> None:
    with somebody_writing(path) as writer:
        writer.execute("UPDATE credential SET failures = 7")
        assert store.version() == store.version()


def test_a_watch_that_cannot_look_says_so(store: Store, path: Path) -> None:
    watch = Watch(path)
    watch.close()
    with pytest.raises(StoreUnavailable):
        watch.version()


# -- the log -------------------------------------------------------------------------------------------------------


async def test_the_log_stays_small(store: Store, path: Path) -> None:
    """200 pages of 4 KiB before it is emptied, and what one commit adds."""
    for number in range(30):
        await store.install(another_login(number, access_token=Secret("x" * 80_000)))
    log = path.with_name("pixir-auth.db-wal")
    assert (await asyncio.to_thread(log.stat)).st_size < 300 * 4200


async def test_a_closed_store_leaves_one_file(tmp_path: Path) -> None:
    store = open_store(f"sqlite:{tmp_path / 'data' / 'x.db'}")
    await store.install(credential())
    await store.close()
    assert [each.name for each in (tmp_path / "data").glob("*")] == ["x.db"]
