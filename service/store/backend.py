"""What a database has to do for the store; all else is the same SQL everywhere."""

from contextlib import AbstractContextManager
from typing import Protocol

from sqlalchemy import Connection, Engine


class Backend(Protocol):
    """`sqlite.SQLite` or `postgres.Postgres`. `name` may be shown to people. Used from the threads of the store."""

    name: str
    engine: Engine
    by_code_point: str
    """The collation that orders names as Python does."""
    reaches_other_machines: bool
    """Whether processes of other machines may be on the same database."""

    def open(self, connections: int) -> None:
        """Make the engine, with as many connections."""

    def watch(self) -> None:
        """Begin to notice commits; the schema is there by now."""

    def now(self) -> float:
        """Seconds since the epoch, by the one clock that all who share the database go by."""

    def version(self) -> int:
        """A number that differs after every commit of anybody. Microseconds; from the event loop. StoreUnavailable."""

    def reading(self) -> AbstractContextManager[Connection]:
        """A connection that will not write."""

    def snapshot(self) -> AbstractContextManager[Connection]:
        """A connection that sees one state of the database, whatever is committed meanwhile."""

    def writing(self, *, exclusive: bool = False) -> AbstractContextManager[Connection]:
        """A transaction, durable when it ends well. exclusive: what it reads cannot change before it writes."""

    def probe(self) -> None:
        """Prove that there is room to write, as far as that can be known without a change. Raises OSError."""

    def erase(self) -> None:
        """Remove traces of what was just erased, as far as this database can."""

    def close(self) -> None:
        """Let go of the database."""
