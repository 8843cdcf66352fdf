"""The audit trail, on its way into the store: noted at once, written a little later, never in anybody's way.

Promises that nothing waits for it and that a flood cannot grow it: what is refused again and again is one entry that
counts, and who is refused in many ways pushes out other refusals only.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from service.broker.keys import Keys
from service.domain.audit import DONE, Deed, Event
from service.domain.credential import Credential
from service.domain.errors import StoreUnavailable
from service.store.store import Store

log = logging.getLogger(__name__)

_WAITING: Final = 512
"""Events that wait to be written; each is a few hundred bytes."""

_SOON: Final = 0.5
"""Seconds until an event is written."""

_LATER: Final = 10.0
"""Seconds until refusals are written: whoever is refused in a loop must not make the database busy."""

Entry = tuple[Deed, str, str, str | None, str | None]


class Trail:
    """Who did what. One for the process; the background runs it."""

    def __init__(self, store: Store, keys: Keys, now: Callable[[], float]) -> None:
        self._store = store
        self._keys = keys
        self._now = now
        self._waiting: dict[Entry, Event] = {}
        self._stirred = asyncio.Event()
        self._writing = asyncio.Lock()

    def note(
        self, deed: Deed, who: str, outcome: str = DONE, *, account: str | None = None, detail: str | None = None
    ) -> None:
        """Something has happened. No input and no secret may be in it: `who` and `detail` are words of ours."""
        entry: Entry = (deed, who, outcome, account, detail)
        before = self._waiting.pop(entry, None)
        if before is None and len(self._waiting) >= _WAITING and not self._makes_room(deed):
            return
        at, times = (before.at, before.times) if before else (self._now(), 0)
        self._waiting[entry] = Event(at, deed, who, outcome, account, detail, times + 1)
        if deed != "refused":
            self._stirred.set()

    def note_refresh(self, credential: Credential, outcome: str) -> None:
        """What became of a refresh: `done` and the new generation, or a code and the one that stays."""
        detail = f"generation {credential.generation}"
        self.note("refresh", "service", outcome, account=credential.account, detail=detail)

    async def events(self, before: int | None, limit: int) -> list[Event]:
        """The newest events, newest first. Raises StoreUnavailable."""
        await self._write()
        return await self._store.events(before, limit)

    async def run(self) -> None:
        """Write what is noted, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(_LATER):
                    await self._stirred.wait()
                await asyncio.sleep(_SOON)
            except TimeoutError:
                pass  # only refusals, if anything
            await self.write()

    async def write(self) -> None:
        """Write what is noted, if the database takes it; what it does not take waits."""
        try:
            await self._write()
            await self._keys.write()
        except StoreUnavailable as exc:
            log.warning("the audit trail cannot be written just now", exc_info=exc)

    def _makes_room(self, deed: Deed) -> bool:
        """Let go of the oldest refusal; of what was done only for something else that was done."""
        refusals = (entry for entry in self._waiting if entry[0] == "refused")
        victim = next(refusals, None if deed == "refused" else next(iter(self._waiting)))
        if victim is None:
            return False
        del self._waiting[victim]
        return True

    async def _write(self) -> None:
        async with self._writing:
            self._stirred.clear()
            taken, self._waiting = self._waiting, {}
            if not taken:
                return
            try:
                await self._store.append(list(taken.values()))
            except StoreUnavailable:
                for entry, event in taken.items():
                    self._put_back(entry, event)
                raise
        for event in taken.values():
            if event.deed == "refused":
                log.info("refused %s, %d times: %s %s", event.who, event.times, event.outcome, event.detail)

    def _put_back(self, entry: Entry, event: Event) -> None:
        newer = self._waiting.get(entry)
        times = event.times + (newer.times if newer else 0)
        if newer is not None or len(self._waiting) < _WAITING:
            self._waiting[entry] = Event(event.at, *entry[:3], *entry[3:], times)
