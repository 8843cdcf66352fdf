"""What happens without anybody asking: refresh before expiry, poll device logins, keep callback ports open."""

import asyncio
import logging
from typing import Final

from service.broker.broker import Broker
from service.broker.logins import Logins
from service.broker.seams import Seams
from service.domain.errors import AuthError
from service.store.store import Store

log = logging.getLogger(__name__)

_BATCH: Final = 64
"""Accounts looked at in one round: bounds the time until the next round."""

_WORKING_SET: Final = 256
"""Accounts that may be refreshed, or wait for their turn, at once: bounds memory."""

_NOTICE: Final = 0.5
"""Seconds between two looks whether anybody has changed what is due; costs microseconds."""

_ROUND: Final = 30.0
"""Seconds at most between two rounds: timers do not count while the machine sleeps, and clocks are set."""

_TROUBLE: Final = 5.0
"""Seconds until the next round when the database cannot be read."""


class Background:
    """One loop for all accounts; each round only starts things and waits for none of them."""

    def __init__(self, store: Store, broker: Broker, logins: Logins, seams: Seams) -> None:
        self._store = store
        self._broker = broker
        self._logins = logins
        self._seams = seams
        self._stopped = False

    async def run(self) -> None:
        """Round after round, until stopped or cancelled."""
        while not self._stopped:
            try:
                version = self._store.version()
                await self._pause(version, await self.round())
            except Exception as exc:
                log.error("a round of refreshing ahead failed", exc_info=exc)  # noqa: TRY400
                await asyncio.sleep(_TROUBLE)

    def stop(self) -> None:
        """The service is about to end: begin nothing new."""
        self._stopped = True

    async def round(self) -> float:
        """Start whatever is due; gives the instant at which the next thing will be."""
        now = self._seams.now()
        busy = self._broker.in_flight  # these are due as well, and must not hide the others
        room = min(_BATCH, max(0, _WORKING_SET - busy))
        due, later = await self._store.due(now, busy + room)
        for account in due:
            if self._broker.in_flight >= _WORKING_SET:
                break
            await self._started(account)
        polls = await self._logins.tend()
        return min([now + _ROUND, *(at for at in (later, polls) if at is not None)])

    async def _started(self, account: str) -> None:
        """One account's trouble is not that of the next."""
        try:
            await self._broker.ahead(account)
        except AuthError as exc:
            log.warning("%s cannot be refreshed ahead: %s", account, exc.code)

    async def _pause(self, version: int, until: float) -> None:
        """Until the next thing is due or somebody commits, but never busily."""
        await asyncio.sleep(_NOTICE)
        left = until - self._seams.now()
        if left > 0:
            await self._store.changed(version, within=left, every=_NOTICE)
