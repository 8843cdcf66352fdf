"""Tokens for clients that hold a client key in the place of a refresh token, and cannot say which token they have.

Promises that whoever comes back with the token that he was given is never given that one for good: it was rejected, or
is too short for him. He gets a newer one, or is told that there is none, and goes on with his own.
"""

from dataclasses import dataclass
from typing import Final

from service.broker.broker import Broker, Grant
from service.broker.seams import Seams
from service.domain.decide import Wish
from service.domain.errors import IssuerUnavailable, LoginRequired

LONG: Final = 600.0
"""Seconds for which a token should be good: with less than 300 left Codex asks again at once, and again."""

SHORT: Final = 300.0

BREATH: Final = 5.0
"""Seconds in which whoever asks again is another process with the same key, and not somebody who was rejected."""

_KEPT: Final = 1024
"""Keys, each with an account, whose last token is remembered."""


@dataclass(frozen=True, slots=True)
class _Given:
    generation: int
    expires_at: float | None
    at: float  # by the clock that counts sleep


class StandIns:
    """Who was given which token last, in this process. Who is not known is given what there is, and known then."""

    def __init__(self, broker: Broker, seams: Seams) -> None:
        self._broker = broker
        self._seams = seams
        self._given: dict[tuple[str, str], _Given] = {}

    async def token(self, holder: str, account: str) -> Grant:
        """A token for whoever holds this key, another than he has. Raises what Broker.token raises."""
        last = self._given.get((holder, account))
        rejected = last.generation if last is not None and self._is_rejected(last) else None
        grant = await self._broker.token(account, Wish(min_ttl=LONG, newer_than=rejected))
        if grant.kind == "subscription" and grant.generation == rejected:
            await self._refuse(grant)
        if last is None or grant.generation != last.generation:
            self._remember(holder, grant)
        return grant

    def _is_rejected(self, last: _Given) -> bool:
        """Whether somebody who has been given that token says by coming back that it does not do."""
        is_short = last.expires_at is not None and last.expires_at - self._seams.now() < SHORT
        return is_short or self._seams.boot() - last.at >= BREATH

    async def _refuse(self, grant: Grant) -> None:
        """There is no newer one than he has."""
        if grant.warning == "login_required":
            stored = (await self._broker.standing(grant.account)).credential
            raise LoginRequired(grant.account, (stored and stored.reason) or "outcome_unknown")
        raise IssuerUnavailable("There is no newer token now than the one that this key was given.")

    def _remember(self, holder: str, grant: Grant) -> None:
        if len(self._given) >= _KEPT:
            del self._given[next(iter(self._given))]
        self._given[holder, grant.account] = _Given(grant.generation, grant.expires_at, self._seams.boot())
