"""The database, its threads and its watch: what every table of the store needs. Database errors are translated here."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError

from service.domain.credential import Credential
from service.domain.errors import StoreUnavailable
from service.store.backend import Backend
from service.store.generations import Generations
from service.store.migrations import migrate, schema_version
from service.store.rescue import Rescue
from service.store.schema import CredentialRow
from service.store.vault import Vault

T = TypeVar("T")

_FAILURES: Final = (SQLAlchemyError, UnicodeDecodeError)
"""What the database throws; the second when SQLite quotes what is damaged and that is not text."""

_THREADS: Final = 4
"""Threads and connections for the store: SQLite has one writer, the rest is for readers beside it."""

_POLL: Final = 0.02
"""Seconds between two looks at the watch by somebody who waits for a change: 4 microseconds each."""


class Database:
    """One database, shared with any number of processes."""

    def __init__(
        self,
        backend: Backend,
        open_vault: Callable[[bool], Vault],
        due: Callable[[Credential], float | None],
        *,
        generations: Generations | None = None,
        rescue: Rescue | None = None,
    ) -> None:
        """Open or make the database and bring its schema up to date.

        open_vault: gets whether a new key may be made, which is so only while nothing sealed is stored.
        due: when the background refresher must look at a credential again; kept beside it, indexed.
        generations, rescue: what is kept apart from the database, against its loss.
        Raises NewerSchema, UnsafePath, StoreUnavailable, and what open_vault raises.
        """
        self._backend = backend
        self._due = due
        self._generations = generations
        self._rescue = rescue
        try:
            backend.open(_THREADS)
            with backend.writing(exclusive=True) as connection:
                migrate(connection)
                is_new = connection.execute(select(CredentialRow.account).limit(1)).first() is None  # type: ignore[call-overload]
            self._vault = open_vault(is_new)
            backend.watch()
        except _FAILURES as exc:
            raise StoreUnavailable(f"{backend.name} cannot be used as the database.") from exc
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="store")

    async def close(self) -> None:
        """Finish what is being written and let go of the database."""
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
        """Prove that reading and writing work, changing nothing. Raises StoreUnavailable."""
        await self._run(self._check)

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
