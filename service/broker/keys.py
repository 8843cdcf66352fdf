"""Client keys: who holds one, and when it was last used.

All keys are in memory, as they were at a version of the database: a wrong key costs a hash and no SELECT, and a revoked
one is gone with the commit that revoked it. While the database cannot be read, no key is good: nobody could say whether
it was revoked.
"""

import asyncio
import hmac
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from service.domain.caller import Caller, ClientKey, digest_of
from service.domain.errors import KeyExists, StoreUnavailable, UnknownKey
from service.domain.secret import Secret
from service.store.store import Store

log = logging.getLogger(__name__)

_READ_PATIENCE: Final = 10.0
"""Seconds that a caller waits for the database: longer than for another writer."""

_NEWS: Final = 60.0
"""Seconds by which the last use must have moved to be written: each commit costs everybody a look at the database."""


class Keys:
    """The keys of the database, and the first one, which a file holds."""

    def __init__(self, store: Store, now: Callable[[], float], first: ClientKey | None = None) -> None:
        """`first`: good for as long as this process lives, whatever the database says."""
        self._store = store
        self._now = now
        self._first = first
        self._known: tuple[int, dict[str, ClientKey]] = (-1, {})
        self._loading: tuple[int, asyncio.Task[list[ClientKey]]] | None = None
        self._used: dict[str, float] = {}

    async def holder(self, key: Secret) -> Caller | None:
        """Who holds this key; None if it is none of ours, or expired, or revoked. Raises StoreUnavailable."""
        digest, now = digest_of(key), self._now()
        if self._first is not None and hmac.compare_digest(digest, self._first.digest):
            found: ClientKey | None = self._first
        else:
            found = (await self._current()).get(digest)  # what the time of a look-up tells of a digest helps nobody
        caller = found.caller(now) if found else None
        if found is not None and caller is not None:
            self._used[found.name] = now
        return caller

    async def all(self) -> list[ClientKey]:
        """Every key, by name; the first one before them. Raises StoreUnavailable."""
        stored = await self._store.client_keys()
        first = [self._first] if self._first else []
        return [replace(key, last_used_at=self._last_used(key)) for key in (*first, *stored)]

    def is_first(self, key: ClientKey) -> bool:
        """Whether it is the one that a file holds."""
        return self._is_named_first(key.name)

    async def add(self, key: ClientKey) -> None:
        """Keep a key. Raises KeyExists, StoreUnavailable."""
        if self.is_first(key) or not await self._store.add_client_key(key):
            raise KeyExists

    async def revoke(self, name: str) -> None:
        """No request that comes from now on is served for it. Raises UnknownKey, StoreUnavailable."""
        if not await self._store.revoke_client_key(name):
            raise UnknownKey
        self._used.pop(name, None)

    async def write(self) -> None:
        """Write down when keys were last used, as far as that is news. Raises StoreUnavailable."""
        known = {key.name: key.last_used_at or 0.0 for key in self._known[1].values()}
        news = {name: at for name, at in self._used.items() if name in known and at - known[name] >= _NEWS}
        if news:
            await self._store.note_key_use(news)
        self._used = {
            name: at
            for name, at in self._used.items()
            if news.get(name) != at and (name in known or self._is_named_first(name))
        }

    def _last_used(self, key: ClientKey) -> float | None:
        return max((at for at in (key.last_used_at, self._used.get(key.name)) if at is not None), default=None)

    async def _current(self) -> dict[str, ClientKey]:
        """The keys of the database as it is now, read once however many ask."""
        while True:
            version = self._store.version()  # before the read: a commit in between makes it stale, never wrong
            if self._known[0] == version:
                return self._known[1]
            begun, loading = self._loading or self._begun(version)
            done, _ = await asyncio.wait({loading}, timeout=_READ_PATIENCE)
            if not done:
                raise StoreUnavailable("The database does not answer.")
            keys = {key.digest: key for key in loading.result()}
            self._known = begun, keys
            if begun == version:
                return keys

    def _begun(self, version: int) -> tuple[int, asyncio.Task[list[ClientKey]]]:
        self._loading = version, asyncio.create_task(self._store.client_keys())
        self._loading[1].add_done_callback(self._loaded)
        return self._loading

    def _loaded(self, loading: asyncio.Task[list[ClientKey]]) -> None:
        self._loading = None
        if not loading.cancelled():
            loading.exception()  # seen, also when nobody waits for it any more

    def _is_named_first(self, name: str) -> bool:
        return self._first is not None and name == self._first.name
