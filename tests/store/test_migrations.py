"""The schema: made whole or not at all, carried forward, never back."""

import asyncio
import base64
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, inspect
from sqlmodel import SQLModel

from service.domain.credential import Attempt
from service.domain.errors import StoreUnavailable
from service.domain.secret import Secret
from service.store import schema  # noqa: F401 - the tables of the metadata
from service.store.keys import KeyUnusable
from service.store.migrations import STEPS, NewerSchema, migrate, schema_version
from service.store.sqlite import WRITE, SQLite, open_engine
from service.store.store import Store

from .crowd import Crowds, dies_opening, installs, opens
from .fixtures import make_schema_1
from .samples import NOW, OTHER_KEY, credential, due, given, open_store, query

pytestmark = pytest.mark.long

FIXTURES = Path(make_schema_1.__file__).parent
TABLES = {"audit", "client_key", "credential", "login", "schema_version", "sealed"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database file that is not there yet."""
    return tmp_path / "data" / "x.db"


@pytest.fixture
def engine(path: Path) -> Iterator[Engine]:
    """An engine on it."""
    engine = open_engine(path, connections=2)
    yield engine
    engine.dispose()


def bring_up_to_date(engine: Engine) -> int:
    """Migrate as the store does; the version afterwards."""
    with engine.connect().execution_options(**WRITE) as connection, connection.begin():
        migrate(connection)
        return schema_version(connection)


def tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names())


def shape(engine: Engine) -> dict[str, Any]:
    """Columns and indexes as SQLite has them, in no order."""
    found: dict[str, Any] = {}
    with engine.connect() as connection:
        for table in sorted(tables(engine)):
            columns = connection.exec_driver_sql(f"PRAGMA table_info('{table}')").all()
            found[table] = {
                "columns": {
                    name: (kind.upper().split("(")[0], bool(not_null), bool(key))
                    for _, name, kind, not_null, _, key in columns
                },
                "indexes": {
                    (
                        tuple(row[2] for row in connection.exec_driver_sql(f"PRAGMA index_info('{name}')").all()),
                        bool(unique),
                        origin,
                        bool(partial),
                        _condition(connection.exec_driver_sql(_SQL, (name,)).scalar()),
                    )
                    for _, name, unique, origin, partial in connection.exec_driver_sql(
                        f"PRAGMA index_list('{table}')"
                    ).all()
                },
            }
    return found


_SQL = "SELECT sql FROM sqlite_master WHERE name = ?"


def _condition(sql: str | None) -> str | None:
    return sql.rpartition("WHERE ")[2] if sql and "WHERE " in sql else None


def test_a_new_database_is_brought_up_to_date(engine: Engine) -> None:
    with engine.connect() as connection:
        assert schema_version(connection) == 0
    assert bring_up_to_date(engine) == len(STEPS)
    assert tables(engine) == TABLES


def test_a_database_that_is_up_to_date_is_left_alone(engine: Engine) -> None:
    bring_up_to_date(engine)
    written: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *told: written.append(told[2]))
    assert bring_up_to_date(engine) == len(STEPS)
    assert [each for each in written if not each.startswith(("BEGIN", "PRAGMA", "SELECT"))] == []


def test_the_migrations_make_what_the_rows_expect(engine: Engine, tmp_path: Path) -> None:
    bring_up_to_date(engine)
    expected = create_engine(f"sqlite:///{tmp_path / 'expected.db'}")
    SQLModel.metadata.create_all(expected)
    assert shape(engine) == shape(expected)
    assert {
        index["name"]
        for table in tables(engine)
        for index in inspect(engine).get_indexes(table)
        if not index["name"].startswith("sqlite_")  # type: ignore[union-attr]
    } == {index["name"] for table in tables(expected) for index in inspect(expected).get_indexes(table)}
    expected.dispose()


# -- newer, foreign ------------------------------------------------------------------------------------------------


def test_a_newer_database_is_refused_and_not_touched(path: Path) -> None:
    address = f"sqlite:{path}"
    asyncio.run(open_store(address).close())
    query(address, "UPDATE schema_version SET version = 99")
    before = path.read_bytes()
    with pytest.raises(NewerSchema, match="schema 99, this version knows 3"):
        open_store(address)
    assert path.read_bytes() == before
    assert query(address, "SELECT version FROM schema_version") == [(99,)]


@pytest.mark.parametrize("versions", [[], [1, 2]], ids=["none", "two"])
def test_a_database_that_does_not_say_its_version_is_refused(path: Path, versions: list[int]) -> None:
    path.parent.mkdir(mode=0o700)
    address = f"sqlite:{path}"
    query(address, "CREATE TABLE schema_version (version INTEGER NOT NULL PRIMARY KEY)")
    for version in versions:
        query(address, "INSERT INTO schema_version VALUES (?)", [version])
    with pytest.raises(StoreUnavailable, match="cannot be used as the database"):
        open_store(address)
    assert query(address, "SELECT name FROM sqlite_master WHERE type = 'table'") == [("schema_version",)]


def test_tables_of_another_program_are_not_taken_over(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    address = f"sqlite:{path}"
    query(address, "CREATE TABLE login (name TEXT)")
    query(address, "INSERT INTO login VALUES ('theirs')")
    with pytest.raises(StoreUnavailable, match="cannot be used as the database"):
        open_store(address)
    assert query(address, "SELECT name FROM sqlite_master WHERE type = 'table'") == [("login",)]
    assert query(address, "SELECT name FROM login") == [("theirs",)]


# -- all or nothing ------------------------------------------------------------------------------------------------


class Accident(Exception):
    """Something that goes wrong in the middle."""


@contextmanager
def accident_before(engine: Engine, statement: int) -> Iterator[None]:
    """The n-th statement is not reached."""
    seen = 0

    def count(*_: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == statement:
            raise Accident

    event.listen(engine, "before_cursor_execute", count)
    yield
    event.remove(engine, "before_cursor_execute", count)


def test_an_error_at_any_statement_leaves_nothing(engine: Engine) -> None:
    for statement in range(1, 100):
        with accident_before(engine, statement):
            try:
                bring_up_to_date(engine)
                break
            except Accident:
                assert tables(engine) == set()
    assert statement > 8  # version, tables, indexes: there were that many to fail at
    assert tables(engine) == TABLES


def test_a_kill_at_any_statement_leaves_nothing_and_the_next_start_works(path: Path, crowd: Crowds) -> None:
    address = f"sqlite:{path}"
    for statement in range(1, 100):
        if crowd(dies_opening, 1, address, statement, may_die=True) == [True]:
            break
        assert query(address, "SELECT count(*) FROM sqlite_master") == [(0,)]
    assert statement > 8
    assert query(address, "SELECT version FROM schema_version") == [(len(STEPS),)]
    assert query(address, "PRAGMA integrity_check") == [("ok",)]


def test_a_first_start_waits_for_the_one_before_it(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    writer = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    writer.execute("BEGIN IMMEDIATE")  # a new file is not in WAL mode yet
    end = threading.Timer(0.2, writer.close)
    end.start()
    try:
        asyncio.run(open_store(f"sqlite:{path}").close())
    finally:
        end.join()


def test_processes_that_open_a_new_database_at_once_all_succeed(path: Path, crowd: Crowds) -> None:
    assert crowd(opens, 8, f"sqlite:{path}") == [True] * 8
    assert query(f"sqlite:{path}", "SELECT version FROM schema_version") == [(len(STEPS),)]


async def test_a_process_that_starts_changes_nothing_for_those_that_work(path: Path, crowd: Crowds) -> None:
    address = f"sqlite:{path}"
    store = open_store(address)
    stored = await store.install(credential())
    claim = await store.claim(stored, Attempt("attempt-1", "owner-1", NOW))
    assert await asyncio.to_thread(crowd, opens, 4, address) == [True] * 4
    assert await store.load("default") == claim
    await store.close()


def test_many_first_starts_at_once_all_succeed(tmp_path: Path, crowd: Crowds) -> None:
    for run in range(25):
        address = f"sqlite:{tmp_path / str(run) / 'x.db'}"
        assert sorted(crowd(installs, 8, address)) == list(range(1, 9))


# -- databases of the past -----------------------------------------------------------------------------------------


@pytest.fixture(params=range(1, len(STEPS)))
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the database that an old schema left."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    return Path(shutil.copy(FIXTURES / f"schema_{request.param}.db", folder / "x.db"))


async def test_a_database_of_the_past_opens_and_reads(old: Path) -> None:
    key = base64.b64decode((FIXTURES / "schema_1.key").read_bytes())  # all of them were made with it
    store = Store(SQLite(old), lambda is_new: pytest.fail("in use") if is_new else given(key), due)
    claimed, default, out = await store.accounts("", 10)
    assert default == make_schema_1.credential("default")
    assert claimed.attempt == Attempt("test-only-attempt", "test-only-owner", NOW + 30)
    assert claimed.refresh_token == Secret("test-only refresh token of claimed")
    assert (out.state, out.generation, out.refresh_token) == ("logged_out", 1, None)
    assert await store.pending_login("pending", NOW) == make_schema_1.LOGIN
    assert await store.claim(default, Attempt("attempt-1", "owner-1", NOW))
    assert await store.take_login(Secret("test-only state"), None, NOW, bound=True)
    await store.close()
    assert query(f"sqlite:{old}", "SELECT version FROM schema_version") == [(len(STEPS),)]


async def test_a_database_of_the_past_goes_over_to_a_new_key(old: Path) -> None:
    key = base64.b64decode((FIXTURES / "schema_1.key").read_bytes())
    store = Store(SQLite(old), lambda _is_new: given(OTHER_KEY, key), due)
    before = await store.accounts("", 10)
    assert await store.rekey() == 2 * 3 + 2 + 1
    await store.close()
    later = Store(SQLite(old), lambda _is_new: given(OTHER_KEY), due)
    _, default, _ = accounts = await later.accounts("", 10)
    assert accounts == before
    assert await later.claim(default, Attempt("attempt-1", "owner-1", NOW))
    assert await later.take_login(Secret("test-only state"), None, NOW, bound=True)
    assert await later.install(make_schema_1.credential("default")) == await later.load("default")
    await later.close()


async def test_a_database_of_the_past_is_not_touched_with_another_key(old: Path) -> None:
    before = old.read_bytes()
    with pytest.raises(KeyUnusable):
        Store(SQLite(old), lambda _is_new: given(OTHER_KEY), due)
    assert old.read_bytes() == before


def test_a_database_of_the_past_has_the_shape_of_a_new_one(old: Path, tmp_path: Path) -> None:
    carried, new = open_engine(old, connections=2), open_engine(tmp_path / "new" / "x.db", connections=2)
    for engine in (carried, new):
        bring_up_to_date(engine)
    assert shape(carried) == shape(new)
    for engine in (carried, new):
        engine.dispose()
