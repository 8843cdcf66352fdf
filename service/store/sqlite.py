"""SQLite as this product needs it: every commit on the platter before anybody hears of it.

A lost "last commit" would put a spent refresh token back into the row; the next refresh would look like theft. So WAL
with synchronous=FULL on every connection, and BEGIN IMMEDIATE for whatever will write (a deferred transaction that read
first fails at once when somebody else has committed, whatever the busy timeout).
"""

import logging
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from service.domain.errors import StoreUnavailable
from service.store.files import private_file, private_folder, private_if_there

log = logging.getLogger(__name__)

WRITE = {"sqlite_begin": "IMMEDIATE"}
"""Execution options of a connection that is going to write."""

_BUSY_MS = 8000
"""Milliseconds to wait for another writer: far longer than our transactions, shorter than a caller's patience."""

_ASK_AGAIN: Final = 0.02
"""Seconds between two tries to switch a new file to WAL: for that SQLite does not wait for another writer itself."""

_ROOM: Final = 65536
"""Bytes that must fit on the disk: a refresh writes a few pages."""

_WAL = "journal_mode = WAL"

_PRAGMAS = (
    f"busy_timeout = {_BUSY_MS}",  # first: the others may have to wait
    _WAL,
    "synchronous = FULL",
    "foreign_keys = ON",
    "trusted_schema = OFF",
    "cell_size_check = ON",
    "secure_delete = ON",
    "wal_autocheckpoint = 200",
    *(("fullfsync = ON", "checkpoint_fullfsync = ON") if sys.platform == "darwin" else ()),
)


class SQLite:
    """One file, shared with any number of processes on this machine."""

    by_code_point = "BINARY"
    reaches_other_machines = False

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    def open(self, connections: int) -> None:
        """Open or make the file. Raises UnsafePath, OSError, SQLAlchemyError."""
        self.engine = open_engine(self._path, connections=connections)

    def watch(self) -> None:
        """Begin to notice the commits of others; the schema is there by now."""
        self._file = _identity(self._path)
        self._watch = Watch(self._path)

    def now(self) -> float:
        """Seconds since the epoch: whoever shares the file shares the clock."""
        return time.time()

    def version(self) -> int:
        """A number that differs after every commit of anybody. Raises StoreUnavailable."""
        return self._watch.version()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one state of the database."""
        with self.engine.connect() as connection:
            yield connection

    snapshot = reading

    @contextmanager
    def writing(self, *, exclusive: bool = False) -> Iterator[Connection]:  # noqa: ARG002 - see below
        """A transaction; there is one writer at a time, so that each is exclusive. Raises StoreUnavailable."""
        self._refuse_another_file()
        with self.engine.connect().execution_options(**WRITE) as connection, connection.begin():
            yield connection

    def probe(self) -> None:
        """Write a little beside the file: a transaction that changes nothing needs no room. Raises OSError."""
        with tempfile.TemporaryFile(dir=self._path.parent) as file:  # 0600, and nameless where that is possible
            file.write(bytes(_ROOM))
            file.flush()
            os.fsync(file.fileno())

    def erase(self) -> None:
        """Empty the write-ahead log, which may hold what was just erased; best effort."""
        try:
            with closing(self.engine.raw_connection()) as connection:  # outside any transaction, as it has to be
                busy, *_ = connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except (sqlite3.Error, SQLAlchemyError) as exc:
            log.warning("the write-ahead log could not be emptied", exc_info=exc)
        else:
            if busy:
                log.info("the write-ahead log could not be emptied yet: somebody is reading")

    def close(self) -> None:
        """Let go of the file."""
        self._watch.close()
        self.engine.dispose()

    def _refuse_another_file(self) -> None:
        """What is written into a file that has been moved away or replaced is lost to whoever opens the path next."""
        if hasattr(self, "_file") and _identity(self._path) != self._file:
            raise StoreUnavailable("The database file has been moved away or replaced: restart the service.")


def open_engine(path: Path, *, connections: int) -> Engine:
    """An engine on the file, made if it is not there; as many connections as threads, so that nobody waits for one."""
    private_folder(path.parent)
    private_file(path)
    for beside in ("-wal", "-shm", "-journal"):
        private_if_there(path.with_name(path.name + beside))
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        hide_parameters=True,  # else an error shows every value
        pool_size=connections,
        max_overflow=0,
    )
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # the driver must not begin transactions of its own
    for pragma in _PRAGMAS:
        if pragma == _WAL:
            _switch_to_wal(connection)
        else:
            connection.execute(f"PRAGMA {pragma}").close()


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    (patience_ms,) = connection.execute("PRAGMA busy_timeout").fetchone()
    deadline = time.monotonic() + patience_ms / 1000
    while True:
        try:
            connection.execute(f"PRAGMA {_WAL}").close()
        except sqlite3.OperationalError as exc:
            busy = exc.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(_ASK_AGAIN)
        else:
            return


def _begin(connection: Connection) -> None:
    options: dict[str, Any] = dict(connection.get_execution_options())
    connection.exec_driver_sql(f"BEGIN {options.get('sqlite_begin', 'DEFERRED')}")


def _identity(path: Path) -> tuple[int, int]:
    """Which file that is; found without opening it, which would drop SQLite's locks. Raises StoreUnavailable."""
    try:
        found = path.stat()
    except OSError as exc:
        raise StoreUnavailable("The database file cannot be found.") from exc
    return found.st_dev, found.st_ino


class Watch:
    """Has anybody committed? A few microseconds on a connection of its own, without a thread or a SELECT.

    `PRAGMA data_version` changes when any *other* connection to the file commits; this one never does, so it sees this
    process and all others alike. Belongs to one thread.
    """

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=0)
        self._connection.execute("PRAGMA trusted_schema = OFF").close()

    def version(self) -> int:
        """A number that differs after every commit. Raises StoreUnavailable."""
        try:
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error as exc:
            raise StoreUnavailable("The database cannot be read just now.") from exc
        return int(version)

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()
