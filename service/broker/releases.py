"""A login that is given away: first it is not ours any more, then somebody else gets the pair.

Promises that nobody here refreshes it after that, that the pair is the newest and unspent, and that it may be fetched
again until it is confirmed: no lost answer loses a login.
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import NoReturn

from service.broker.broker import Broker
from service.broker.refresher import Refresher
from service.broker.seams import Seams
from service.domain.credential import Credential, is_released, is_unspent
from service.domain.errors import (
    CredentialUnreadable,
    InvalidRequest,
    IssuerUnavailable,
    LoginRequired,
    StoreUnavailable,
)
from service.store.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Release:
    """What was given away. again: it had been before, and may be spent by now."""

    credential: Credential
    again: bool


class Releases:
    """Gives logins away."""

    def __init__(self, store: Store, broker: Broker, refresher: Refresher, seams: Seams, *, patience: float) -> None:
        """patience: seconds that a caller waits for the end of a refresh."""
        self._store = store
        self._broker = broker
        self._refresher = refresher
        self._seams = seams
        self._patience = patience

    async def release(self, account: str) -> Release:
        """Give up a login. A refresh that is under way ends before.

        Raises UnknownAccount, LoginRequired, CredentialUnreadable, StoreUnavailable, IssuerUnavailable; InvalidRequest
        where there is nothing to give, or what there is may be spent; InvalidCredential if another account holds it.
        """
        deadline = self._seams.boot() + self._patience
        found = await self._store.release(account)
        while found is not None and found.state == "active" and found.attempt is not None:
            await self._landed(found, deadline)
            found = await self._store.release(account)
        if found is None or not (is_unspent(found) or is_released(found)):
            await self._refuse(account, found)
        self._broker.let_go(account)
        log.info("the login of %s was given away", account)
        return Release(found, again=is_released(found))

    async def confirm(self, account: str, generation: int) -> None:
        """It has arrived: forget it here."""
        await self._store.forget_released(account, generation)

    async def _landed(self, credential: Credential, deadline: float) -> None:
        """Wait for the end of the attempt that is in the row, whoever's it is."""
        left = deadline - self._seams.boot()
        if left > 0:
            flight = self._refresher.flight(credential)
            await asyncio.wait({flight}, timeout=left)  # not awaited: it must not end with us
        elif credential.account in self._refresher.unsaved:
            raise StoreUnavailable("The newest token pair is served from memory: the database does not take it yet.")
        else:
            raise IssuerUnavailable("A refresh is under way and takes long.", retry_after=_COME_BACK)

    async def _refuse(self, account: str, found: Credential | None) -> NoReturn:
        if found is not None and found.state == "unreadable":
            raise CredentialUnreadable
        if found is not None and found.state == "dead":
            raise LoginRequired(account, found.reason or "outcome_unknown")
        if found is not None and found.state != "logged_out":
            raise InvalidRequest(
                "Nobody knows whether the refresh token of this login is spent, so it is not given away.",
                next_actions=("See pixir-auth status: wait until the refresh is tried once more, or log in again.",),
            )
        standing = await self._broker.standing(account)
        if standing.has_api_key:
            raise InvalidRequest("An API key serves this account: there is no login to give away.")
        raise LoginRequired(account, "logged_out" if found else "never_logged_in")


_COME_BACK = 5
"""Seconds after which a caller whose patience ran out may ask again."""
