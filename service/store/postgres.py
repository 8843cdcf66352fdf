"""PostgreSQL as this product needs it: for several machines on one database.

Nothing is kept in a session, so that a connection may die at any moment and poolers do no harm: settings are local to
the transaction that needs them, statements are not prepared, locks end with their transaction. Time is the database's.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from service.clock import boot

log = logging.getLogger(__name__)

_CHANNEL: Final = "pixir_auth"

_EXCLUSIVE: Final = 0x70697869
"""The advisory lock of whoever reads before it writes: one at a time, as with SQLite's BEGIN IMMEDIATE."""

_SETTINGS: Final = text(
    "SELECT set_config('synchronous_commit', 'on', true), set_config('lock_timeout', '8s', true),"
    " set_config('statement_timeout', '10s', true), set_config('idle_in_transaction_session_timeout', '10s', true)"
)

_TELL: Final = text(f"SELECT pg_notify('{_CHANNEL}', '') WHERE pg_current_xact_id_if_assigned() IS NOT NULL")
"""Tells the listeners when the transaction commits, if it has written anything."""

_CONNECT: Final[dict[str, Any]] = {
    "prepare_threshold": None,  # a prepared statement belongs to a session, and poolers hand those around
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "application_name": "pixir-auth",
}

_HEARTBEAT: Final = 5.0
"""Seconds between two looks at the database's clock. Then the version changes anyway, so that nothing in memory is
trusted for longer, even if a notification is lost (a pooler that shares sessions loses them all)."""

_RECONNECT: Final = 1.0
"""Seconds between two tries to listen again."""

_A_GLANCE: Final = 1.0
"""Seconds that a look at the database's clock may take: a slower one tells a time that is long past."""

_LOOK_UP: Final = 0.5
"""Seconds after which the listener looks whether it is to end."""


class Postgres:
    """One database, shared with any number of processes on any number of machines."""

    name = "PostgreSQL"
    by_code_point = "C"
    reaches_other_machines = True

    def __init__(self, url: str) -> None:
        """url: `postgresql://user:password@host/name`, with the parameters that libpq knows. Raises ValueError."""
        self._url = _parsed(url)
        self._changes = 0
        self._offset = time.time() - boot()
        self._closing = threading.Event()
        self._listener = threading.Thread(target=self._listen, name="store-listener", daemon=True)

    def open(self, connections: int) -> None:
        """Make the engine; connections are made when they are needed."""
        self.engine = create_engine(
            self._url,
            connect_args=_connect_args(self._url),
            hide_parameters=True,  # else an error shows every value
            pool_size=connections,
            max_overflow=0,
            pool_pre_ping=True,  # a connection that died while idle is replaced before it is used
        )

    def watch(self) -> None:
        """Begin to listen; the clock is known before this returns."""
        with self.reading() as connection:
            self._set_clock(lambda query: float(connection.execute(text(query)).scalar_one()))
        self._listener.start()

    def now(self) -> float:
        """The database's clock, as it stood at the last look, moved on by ours that nobody can set."""
        return boot() + self._offset

    def version(self) -> int:
        """A number that differs after every commit of anybody that this process has heard of, and now and then."""
        return self._changes + int(boot() // _HEARTBEAT)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection without a transaction: each statement sees what is committed by then."""
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A transaction that sees what was committed when it began."""
        one_state = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with self.engine.connect().execution_options(**one_state) as connection, connection.begin():
            connection.execute(_SETTINGS)
            yield connection

    @contextmanager
    def writing(self, *, exclusive: bool = False) -> Iterator[Connection]:
        """A transaction that is on disk when it ends, whatever the server's default."""
        told = True
        try:
            with self.engine.connect() as connection, connection.begin():
                connection.execute(_SETTINGS)
                if exclusive:
                    connection.execute(text(f"SELECT pg_advisory_xact_lock({_EXCLUSIVE})"))
                yield connection
                told = connection.execute(_TELL).first() is not None
        finally:
            self._changes += told  # our own notification comes a little later, or never

    def probe(self) -> None:
        """The server's disk cannot be seen from here."""

    def erase(self) -> None:
        """Nothing to do from here: old row versions go with the next VACUUM."""

    def close(self) -> None:
        """Stop listening and give the connections back."""
        self._closing.set()
        self.engine.dispose()
        if self._listener.is_alive():
            self._listener.join(_HEARTBEAT)

    def _listen(self) -> None:
        while not self._closing.is_set():
            try:
                self._listen_once()
            except Exception as exc:  # noqa: BLE001 - a thread that ends here would never be missed
                log.warning("the database cannot be listened to just now (%s)", type(exc).__name__)
            self._changes += 1  # while nobody listens, anything may have changed
            self._closing.wait(_RECONNECT)

    def _listen_once(self) -> None:
        with psycopg.connect(**_connect_args(self._url), **_libpq(self._url), autocommit=True) as connection:
            connection.execute(f"LISTEN {_CHANNEL}")
            self._changes += 1  # what was missed before
            while not self._closing.is_set():
                self._set_clock(lambda query: float(connection.execute(query).fetchone()[0]))  # type: ignore[index]
                self._wait(connection)

    def _wait(self, connection: psycopg.Connection[Any]) -> None:
        """Hear of commits until the next heartbeat or the end."""
        until = time.monotonic() + _HEARTBEAT
        while not self._closing.is_set() and (left := until - time.monotonic()) > 0:
            for _ in connection.notifies(timeout=min(left, _LOOK_UP), stop_after=1):
                self._changes += 1

    def _set_clock(self, ask: Callable[[str], float]) -> None:
        before = boot()
        theirs = ask("SELECT extract(epoch FROM clock_timestamp())")
        after = boot()
        if after - before < _A_GLANCE or not self._listener.is_alive():
            self._offset = theirs - (before + after) / 2


def _parsed(url: str) -> URL:
    try:
        return make_url(url).set(drivername="postgresql+psycopg")
    except ArgumentError:
        raise ValueError("not the address of a PostgreSQL database") from None  # the cause would quote it


def _connect_args(url: URL) -> dict[str, Any]:
    """Our way to connect, but for what the address says itself."""
    return {name: value for name, value in _CONNECT.items() if name not in url.query}


def _libpq(url: URL) -> dict[str, Any]:
    """The address as libpq takes it."""
    dialect = url.get_dialect()()
    _, named = dialect.create_connect_args(url)
    return dict(named)
