"""The database, its threads and its watch: what every table of the store needs. Database errors are translated here."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, LargeBinary, exists, func, insert, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col

from service.domain.credential import Credential
from service.domain.errors import StoreUnavailable
from service.store.backend import Backend
from service.store.generations import Generations
from service.store.keys import KeySource, KeyUnusable
from service.store.migrations import migrate, schema_version
from service.store.rescue import Rescue
from service.store.rows import SEALED_COLUMNS
from service.store.schema import CredentialRow, LoginRow, SealedRow
from service.store.vault import HEAD_BYTES, Key, Place, Unopenable, Vault

log = logging.getLogger(__name__)

T = TypeVar("T")

_FAILURES: Final = (SQLAlchemyError, UnicodeDecodeError)
"""What the database throws; the second when SQLite quotes what is damaged and that is not text."""

FINGERPRINTS: Final = Place(SealedRow.__tablename__, "value", "fingerprints")
"""The key of the fingerprints. It outlives encryption keys, for a first_fingerprint can never be made again.

The encryption key that it is sealed with is the one that all new values are sealed with, by everybody (`_key`).
"""

IS_FINGERPRINTS: Final = col(SealedRow.name) == FINGERPRINTS.row

_THREADS: Final = 4
"""Threads and connections for the store: SQLite has one writer, the rest is for readers beside it."""

_POLL: Final = 0.02
"""Seconds between two looks at the watch by somebody who waits for a change: 4 microseconds each."""

_APART: Final = 0.05
"""Seconds between two proofs that writing works: each waits for the disk, and whoever may not do anything may ask."""


class Database:
    """One database, shared with any number of processes."""

    def __init__(
        self,
        backend: Backend,
        open_keys: Callable[[bool], KeySource],
        due: Callable[[Credential], float | None],
        *,
        generations: Generations | None = None,
        rescue: Rescue | None = None,
    ) -> None:
        """Open or make the database and bring its schema up to date.

        open_keys: gets whether a new key may be made, which is so only while nothing sealed is stored.
        due: when the background refresher must look at a credential again; kept beside it, indexed.
        generations, rescue: what is kept apart from the database, against its loss.
        Raises NewerSchema, UnsafePath, StoreUnavailable, KeyUnusable: then the database is as it was.
        """
        self._backend = backend
        self._due = due
        self._generations = generations
        self._rescue = rescue
        self._ends = False
        try:
            backend.open(_THREADS)
            self._open(open_keys)
        except _FAILURES as exc:
            raise unusable(backend, exc) from exc
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="store")
        self._checking: asyncio.Task[None] | None = None
        self._check_after = 0.0

    async def close(self) -> None:
        """Finish what is being written and let go of the database."""
        self._ends = True
        try:
            await self._run(self._backend.erase)
        finally:
            self._threads.shutdown(wait=True)
            self._backend.close()
            if self._generations is not None:
                self._generations.close()

    def version(self) -> int:
        """A number that differs after every commit of anybody. No thread, no SELECT. Raises StoreUnavailable."""
        return self._backend.version()

    async def changed(self, since: int, *, within: float, every: float = _POLL) -> bool:
        """Wait until somebody has committed after `since`; False when `within` seconds pass first.

        every: seconds between two looks. Raises StoreUnavailable.
        """
        deadline = asyncio.get_running_loop().time() + within
        while self.version() == since:
            if asyncio.get_running_loop().time() >= deadline:
                return False
            await asyncio.sleep(every)
        return True

    async def check(self) -> None:
        """Prove that reading and writing work, changing nothing; once for all who ask. Raises StoreUnavailable."""
        self._checking = self._checking or asyncio.create_task(self._checked())
        await asyncio.shield(self._checking)

    async def _checked(self) -> None:
        clock = asyncio.get_running_loop().time
        try:
            await asyncio.sleep(self._check_after - clock())
            await self._run(self._check)
        finally:
            self._checking = None
            self._check_after = clock() + _APART

    def _open(self, open_keys: Callable[[bool], KeySource]) -> None:
        try:
            with self._backend.writing(exclusive=True) as connection:
                migrate(connection)
                self._open_vault(connection, open_keys)
            self._backend.watch()
        except BaseException:
            self._backend.engine.dispose()  # nobody will close what he could not open
            raise

    def _open_vault(self, connection: Connection, open_keys: Callable[[bool], KeySource]) -> None:
        """Find the keys, and prove that the database is sealed with one of them. Raises KeyUnusable."""
        kept = connection.scalar(select(col(SealedRow.value)).where(IS_FINGERPRINTS))
        is_new = kept is None and connection.scalar(select(col(CredentialRow.account)).limit(1)) is None
        self._keys = open_keys(is_new)
        keys = self._keys.read()
        self._vault = vault = Vault(*keys, news=self._keys.news)
        if kept is None:
            key = self._first_key(connection, [Key(each) for each in keys])
            kept = key.seal(key.fingerprints, FINGERPRINTS)
            connection.execute(insert(SealedRow).values(name=FINGERPRINTS.row, value=kept))
        try:
            vault.name_with(vault.open(kept, FINGERPRINTS))
        except Unopenable:
            raise KeyUnusable(
                f"the key in {self._keys.name} is not the one this database is sealed with"
                f" ({kept[1:HEAD_BYTES].hex()}): put that one back, or, if it is lost, begin with a new database"
            ) from None

    def _first_key(self, connection: Connection, keys: list[Key]) -> Key:
        """The key that a database is sealed with which does not say so yet: it made the fingerprints too.

        A login that was begun with a key that is gone can be begun again: only accounts need theirs.
        """
        accounts, logins = (_heads(connection, table) for table in (CredentialRow, LoginRow))
        used = [key for key in keys if key.head in accounts]
        if len(used) < len(accounts):
            raise KeyUnusable(
                f"{len(accounts)} keys have sealed what is in the database, {len(used)} of them are in"
                f" {self._keys.name}: put the others back, as further lines below the one in use"
            )
        return (used or [key for key in keys if key.head in logins] or keys)[0]

    def _key(self, connection: Connection) -> Key:
        """The key to seal with in this transaction: it stays the right one until the transaction ends.

        For rekey waits for all who hold this lock (SQLite has one writer anyway), and whoever comes after it sees the
        new key. So nothing is ever sealed with the old one after that. A process that cannot get at the new key goes
        on with its own: what it holds may be the only copy.
        """
        query = select(col(SealedRow.value)).where(IS_FINGERPRINTS).with_for_update(read=True)
        key = self._vault.key_of(connection.scalar(query) or b"")
        if key is None:
            log.warning("the database is sealed with a key that is not in %s: put it there", self._keys.name)
        return key or self._vault.first

    def _check(self) -> None:
        try:
            self._backend.probe()
        except OSError as exc:
            raise StoreUnavailable("There is no room to write beside the database, or no leave.") from exc
        with self._backend.writing() as connection:
            schema_version(connection)
            connection.execute(update(CredentialRow).where(CredentialRow.account == "").values(sends=0))  # type: ignore[arg-type]

    async def _run(self, work: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Do it in a thread of the store; the loop goes on. Database errors become StoreUnavailable."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, lambda: work(*arguments, **named))
        except _FAILURES as exc:
            raise StoreUnavailable("The database cannot be read or written just now.") from exc


def unusable(backend: Backend, exc: Exception) -> StoreUnavailable:
    """Why a service does not start: with the error's code, which is one of a list; its text may hold anything."""
    origin = getattr(exc, "orig", exc)
    code = getattr(origin, "sqlite_errorname", None) or getattr(origin, "sqlstate", None)
    return StoreUnavailable(f"{backend.name} cannot be used as the database{f': {code}' if code else ''}.")


def _heads(connection: Connection, table: type[Any]) -> set[bytes]:
    """How the sealed values of a table begin: with which keys they are sealed."""
    found = set[bytes]()
    if not connection.scalar(select(exists().select_from(table))):  # a new database: the rest is not even compiled
        return found
    for column in (getattr(table, name) for name in SEALED_COLUMNS[table]):
        head = func.substr(column, 1, HEAD_BYTES, type_=LargeBinary)
        heads = connection.scalars(select(head).where(column.is_not(None)).distinct())
        found.update(each for each in heads if len(each) == HEAD_BYTES)
    return found
