"""How far each login had come, kept apart from the database: so that a restored copy is seen for what it is (I9).

A copy of the database holds a refresh token that has been spent since; to send it looks like theft. This record is a
second, tiny database in another folder, by the random name of each login. It is only ever a lower bound: what it misses
is what nobody could have known.
"""

import logging
import time
from pathlib import Path
from typing import Final

from sqlalchemy import event, text
from sqlalchemy.exc import SQLAlchemyError

from service.store.files import UnsafePath
from service.store.sqlite import WRITE, open_engine

log = logging.getLogger(__name__)

_KEEP: Final = 400 * 86400.0
"""Seconds that a login is remembered after its last refresh."""


def open_record(*folders: Path) -> "Generations | None":
    """The record in the first folder that takes it: apart from the data, so that both are not restored together."""
    for folder in folders:
        try:
            return Generations(folder / "generations.db")
        except (OSError, UnsafePath, SQLAlchemyError) as exc:
            log.warning("no record of generations can be kept in %s (%s)", folder, type(exc).__name__)
    return None


class Generations:
    """The highest generation seen, by login. Trouble with it is told and stops nothing.

    No note waits for the disk: a slow one must not slow down those who read. A power cut may cost the last notes.
    """

    def __init__(self, path: Path) -> None:
        """Open or make the record. Raises UnsafePath, OSError, SQLAlchemyError."""
        self._engine = open_engine(path, connections=2)
        event.listen(self._engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = NORMAL"))
        with self._engine.connect().execution_options(**WRITE) as connection, connection.begin():
            connection.execute(
                text(
                    "CREATE TABLE IF NOT EXISTS seen"
                    " (login_id TEXT PRIMARY KEY, generation INTEGER NOT NULL, seen_at REAL NOT NULL) WITHOUT ROWID"
                )
            )
            connection.execute(text("DELETE FROM seen WHERE seen_at < :before"), {"before": time.time() - _KEEP})

    def highest(self, login_id: str) -> int:
        """The highest generation noted; 0 if there is none or the record cannot be read."""
        try:
            with self._engine.connect() as connection:
                found = connection.execute(
                    text("SELECT generation FROM seen WHERE login_id = :login_id"), {"login_id": login_id}
                ).scalar()
        except SQLAlchemyError as exc:
            log.warning("the record of generations cannot be read", exc_info=exc)
            return 0
        return int(found or 0)

    def note(self, login_id: str, generation: int) -> None:
        """A login has come this far."""
        try:
            with self._engine.connect().execution_options(**WRITE) as connection, connection.begin():
                connection.execute(
                    text(
                        "INSERT INTO seen VALUES (:login_id, :generation, :now) ON CONFLICT (login_id) DO UPDATE"
                        " SET generation = max(generation, excluded.generation), seen_at = excluded.seen_at"
                    ),
                    {"login_id": login_id, "generation": generation, "now": time.time()},
                )
        except SQLAlchemyError as exc:
            log.warning("the record of generations cannot be written", exc_info=exc)

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()
