"""As much of the Python Database API (PEP 249) and of `sqlite3` as SQLAlchemy and the store use, over APSW and one VFS.

It takes the place of the module `sqlite3`; everything above the driver is the product's own.
"""

from collections.abc import Callable, Sequence
from typing import Any

import apsw


class Driver:
    """The module."""

    paramstyle = "qmark"
    sqlite_version_info = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    Error = apsw.Error
    Binary = bytes

    def __init__(self, vfs: str) -> None:
        self._vfs = vfs

    def connect(self, path: Any, *, timeout: float = 5.0, **_options: Any) -> "Connection":
        """A connection; isolation levels and threads are left to whoever uses it."""
        connection = apsw.Connection(str(path), vfs=self._vfs)
        connection.set_busy_timeout(round(timeout * 1000))
        return Connection(connection)


class Connection:
    """A connection that begins no transactions of its own."""

    isolation_level: str | None = None

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self.close = connection.close

    def cursor(self) -> "Cursor":
        """A new cursor."""
        return Cursor(self._connection)

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> "Cursor":
        """One statement, on a cursor of its own."""
        return self.cursor().execute(sql, parameters)

    def create_function(self, name: str, arguments: int, function: Callable[..., Any], **options: Any) -> None:
        """A function for SQL."""
        self._connection.create_scalar_function(name, function, arguments, **options)

    def commit(self) -> None:
        """End the transaction, if there is one."""
        if self._connection.in_transaction:
            self.execute("COMMIT")

    def rollback(self) -> None:
        """Undo the transaction, if there is one."""
        if self._connection.in_transaction:
            self.execute("ROLLBACK")


class Cursor:
    """The rows of one statement, fetched at once."""

    arraysize = 1

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._rows: list[Any] = []
        self.description: Any = None
        self.rowcount = -1

    @property
    def lastrowid(self) -> int:
        """Of the row that was inserted last."""
        return self._connection.last_insert_rowid()

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> "Cursor":
        """Run one statement to its end."""
        cursor = self._connection.cursor()
        cursor.exec_trace = self._described
        self._rows = list(cursor.execute(sql, tuple(parameters)))
        writes = sql.lstrip()[:6].upper() in {"INSERT", "UPDATE", "DELETE"}
        self.rowcount = self._connection.changes() if writes else -1
        return self

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> "Cursor":
        """Run one statement for each row of parameters."""
        for parameters in rows:
            self.execute(sql, parameters)
        return self

    def fetchone(self) -> Any:
        """The next row, or None."""
        return self._rows.pop(0) if self._rows else None

    def fetchmany(self, size: int = arraysize) -> list[Any]:
        """The next rows."""
        taken, self._rows = self._rows[:size], self._rows[size:]
        return taken

    def fetchall(self) -> list[Any]:
        """All rows that are left."""
        taken, self._rows = self._rows, []
        return taken

    def close(self) -> None:
        """Forget the rows."""
        self._rows = []

    def _described(self, cursor: apsw.Cursor, _sql: str, _bindings: Any) -> bool:
        self.description = [(*column[:2], *(None,) * 5) for column in cursor.get_description()] or None
        return True
