"""Looks at the database and changes nothing: no file is made, none is left behind, no schema is brought up to date.

SQLite makes files beside a database in WAL mode for a mere reader too. So how the file is opened depends on who has it:

    a process of ours lives    read-only beside it: what SQLite needs is there already
    nobody, no log             as a file that nobody changes (`immutable`)
    nobody, a log              a copy of both, in a folder for temporary files: the log is part of the database

In the last two cases what was seen counts only if the files are the same afterwards.
"""

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from sqlalchemy import Connection, NullPool, create_engine, select
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, col

from service.domain.credential import Credential
from service.domain.errors import StoreUnavailable
from service.domain.secret import Secret
from service.store.backend import Backend
from service.store.database import FINGERPRINTS, IS_FINGERPRINTS
from service.store.migrations import STEPS, schema_version
from service.store.owner import living
from service.store.rows import credential_of
from service.store.schema import CredentialRow, SealedRow
from service.store.sqlite import SQLite
from service.store.vault import HEAD_BYTES, KEY_BYTES, Unopenable, Vault

SCHEMA: Final = len(STEPS)
"""The schema that this version of the program brings a database to."""

_TRIES: Final = 3
"""Times to look at a file that somebody changes meanwhile."""

_LARGEST_COPY: Final = 256 * 1024 * 1024
"""Bytes that are copied: far more than thousands of accounts are."""

_CHECK_WITHIN: Final = 4.0
"""Seconds for SQLite to look through the whole file."""

_BUSY: Final = 2.0
"""Seconds to wait for whoever has locked it."""


@dataclass(frozen=True, slots=True)
class Examination:
    """What is in a database. `schema`: 0 for one that is still empty; of another than ours no more is known.

    is_sound: what SQLite says; None if nobody was asked or it took too long. wanted_key: the id of the key that it is
    sealed with, if none of ours. credentials: without tokens, and `unreadable` where those do not open.
    """

    schema: int = 0
    is_sound: bool | None = None
    is_new: bool = True
    wanted_key: str | None = None
    credentials: tuple[Credential, ...] = ()
    _vault: Vault | None = None
    _holders: Mapping[str, str] = field(default_factory=dict)

    def holder(self, refresh_token: Secret) -> str | None:
        """The account that has this refresh token, or began with it."""
        return self._holders.get(self._vault.fingerprint(refresh_token)) if self._vault else None


def examine(backend: Backend, owners: Path, keys: Sequence[bytes]) -> Examination:
    """What is in a database, as far as these keys open it; none are needed. `owners`: the folder of the owner locks.

    Raises StoreUnavailable, FileNotFoundError.
    """
    vault = Vault(*(keys or [os.urandom(KEY_BYTES)]))
    try:
        if isinstance(backend, SQLite):
            return _file(Path(backend.name), owners, vault)
        backend.open(1)
        try:
            with backend.snapshot() as connection:
                return _seen(connection, vault, is_sound=None)
        finally:
            backend.engine.dispose()
    except (SQLAlchemyError, sqlite3.Error, UnicodeDecodeError) as exc:
        raise StoreUnavailable(f"{backend.name} cannot be read as a database ({type(exc).__name__}).") from exc


def _file(path: Path, owners: Path, vault: Vault) -> Examination:
    for attempt in range(1, _TRIES + 1):
        is_owned = owners.exists() and living(owners) > 0
        before = _marks(path)
        try:
            with _opened(path, is_owned=is_owned) as connection:
                found = _seen(connection, vault, is_sound=_is_sound(connection))
        except (SQLAlchemyError, sqlite3.Error, UnicodeDecodeError, OSError):
            if is_owned or _marks(path) == before or attempt == _TRIES:
                raise
            continue
        if is_owned or _marks(path) == before:
            return found
    raise StoreUnavailable("Somebody else is writing into the database.")


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _marks(path: Path) -> list[tuple[int, ...] | None]:
    """Differs after every change of the file or of its log. Raises FileNotFoundError for the file."""
    log = _log_of(path)
    found = [path.stat(), log.stat() if log.exists() else None]
    return [each and (each.st_ino, each.st_size, each.st_mtime_ns, each.st_ctime_ns) for each in found]


@contextmanager
def _opened(path: Path, *, is_owned: bool) -> Iterator[Connection]:
    log = _log_of(path)
    with ExitStack() as left_behind:
        if is_owned:
            address = f"{path.absolute().as_uri()}?mode=ro"
        elif log.exists() and log.stat().st_size > 0:
            folder = Path(left_behind.enter_context(TemporaryDirectory(prefix="pixir-auth-doctor-")))
            address = _copy(path, log, folder).as_uri()
        else:
            address = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        engine = create_engine(
            "sqlite://",
            creator=lambda: sqlite3.connect(address, uri=True, timeout=_BUSY, isolation_level=None),
            poolclass=NullPool,
            hide_parameters=True,  # else an error shows every value
        )
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA trusted_schema = OFF")
            connection.exec_driver_sql("BEGIN")  # one state, whatever is committed meanwhile
            yield connection


def _copy(path: Path, log: Path, folder: Path) -> Path:
    if path.stat().st_size + log.stat().st_size > _LARGEST_COPY:
        raise StoreUnavailable("The log of a process that was killed is too large to be looked at: start the service.")
    for each in (path, log):
        shutil.copyfile(each, folder / each.name)
    return folder / path.name


def _is_sound(connection: Connection) -> bool | None:
    deadline = time.monotonic() + _CHECK_WITHIN
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        return None
    driver.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
    try:
        return bool(driver.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
    except sqlite3.OperationalError as exc:
        if exc.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        return None
    finally:
        driver.set_progress_handler(None, 0)


def _seen(connection: Connection, vault: Vault, *, is_sound: bool | None) -> Examination:
    version = schema_version(connection)
    if version != SCHEMA:
        return Examination(schema=version, is_sound=is_sound, is_new=version == 0)
    kept = connection.scalar(select(col(SealedRow.value)).where(IS_FINGERPRINTS))
    wanted = _opened_with(vault, kept) if kept else None
    holders: dict[str, str] = {}
    credentials = []
    with Session(connection) as session:
        for row in session.scalars(select(CredentialRow).order_by(col(CredentialRow.account))):
            credential = credential_of(row, vault)
            credentials.append(replace(credential, access_token=None, refresh_token=None, id_token=None))
            if row.state != "logged_out":
                names = (row.first_fingerprint, row.refresh_fingerprint)
                holders.update({name: row.account for name in names if name})
    is_new = kept is None and not credentials
    return Examination(version, is_sound, is_new, wanted, tuple(credentials), vault, holders)


def _opened_with(vault: Vault, kept: bytes) -> str | None:
    """Make fingerprints as the database does; the id of the key that is needed for that, if we do not have it."""
    try:
        vault.name_with(vault.open(kept, FINGERPRINTS))
    except Unopenable:
        return kept[1:HEAD_BYTES].hex()
    return None
