"""The audit trail, on its way into the store: noted at once, written a little later, never in anybody's way.

Promises that nothing waits for it and that a flood cannot grow it: what is refused again and again is one entry that
counts, and who is refused in many ways pushes out other refusals only.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

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


class Watch(Protocol):
    """Is told of everything that is noted."""

    def __call__(self, deed: Deed, outcome: str, seconds: float | None, /) -> None:
        """`seconds`: how long it took, where that is known."""


def _unwatched(_deed: Deed, _outcome: str, _seconds: float | None, /) -> None:
    pass


Entry = tuple[Deed, str, str, str | None, str | None]


class Trail:
    """Who did what. One for the process; the background runs it."""

    def __init__(self, store: Store, keys: Keys, now: Callable[[], float], watch: Watch = _unwatched) -> None:
        self._store = store
        self._keys = keys
        self._now = now
        self._watch = watch
        self._waiting: dict[Entry, Event] = {}
        self._stirred = asyncio.Event()
        self._writing = asyncio.Lock()

    def note(
        self,
        deed: Deed,
        who: str,
        outcome: str = DONE,
        *,
        account: str | None = None,
        detail: str | None = None,
        took: float | None = None,
    ) -> None:
        """Something has happened. No input and no secret may be in it: `who` and `detail` are words of ours."""
        self._watch(deed, outcome, took)
        self._keep(Event(self._now(), deed, who, outcome, account, detail))
        if deed != "refused":
            self._stirred.set()

    def note_refresh(self, credential: Credential, outcome: str, took: float) -> None:
        """What became of a refresh: `done` and the new generation, or a code and the one that stays; in how long."""
        detail = f"generation {credential.generation}"
        self.note("refresh", "service", outcome, account=credential.account, detail=detail, took=took)

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
            try:
                await self.write()
            except Exception as exc:
                log.error("the audit trail cannot be written", exc_info=exc)  # noqa: TRY400

    async def write(self) -> None:
        """Write what is noted, if the database takes it; what it does not take waits."""
        try:
            await self._write()
            await self._keys.write()
        except StoreUnavailable as exc:
            log.warning("the audit trail cannot be written just now", exc_info=exc)

    def _keep(self, event: Event) -> None:
        """Have it wait, as one with what happened just so."""
        entry: Entry = (event.deed, event.who, event.outcome, event.account, event.detail)
        same = self._waiting.pop(entry, None)
        if same is None and len(self._waiting) >= _WAITING and not self._makes_room(event.deed):
            return
        if same is not None:
            event = replace(event, at=min(event.at, same.at), times=event.times + same.times)
        self._waiting[entry] = event

    def _makes_room(self, deed: Deed) -> bool:
        """Let go of the oldest refusal; of what was done only for something else that was done."""
        refusals = (entry for entry in self._waiting if entry[0] == "refused")
        victim = next(refusals, None if deed == "refused" else next(iter(self._waiting)))
        if victim is None:
            return False
        del self._waiting[victim]
        return True

    async def _write(self) -> None:
        """All that waits. Who waits for it may be cancelled: what has been taken is written, or waits again."""
        await asyncio.shield(self._written())

    async def _written(self) -> None:
        async with self._writing:
            self._stirred.clear()
            taken, self._waiting = list(self._waiting.values()), {}
            if not taken:
                return
            try:
                await self._store.append(taken)
            except Exception:
                for event in taken:
                    self._keep(event)
                raise
        for event in taken:
            if event.deed == "refused":
                log.info("refused %s, %d times: %s %s", event.who, event.times, event.outcome, event.detail)
