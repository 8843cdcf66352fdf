"""Tokens for clients that hold a client key in the place of a refresh token, and cannot say which token they have.

Whoever comes back with the token that he was given wants another: it was rejected, or is too short for him. He gets a
newer one if there is one to be had, else the same while it is valid; but who takes that for a reason to ask without end
is told to go on with his own.
"""

from dataclasses import dataclass, replace
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

OFTEN: Final = 3
"""Times that a short token is given again without a breath between them."""

_KEPT: Final = 1024
"""Keys, each with an account, whose last token is remembered."""


@dataclass(frozen=True, slots=True)
class _Given:
    """What a key has. Instants by the clock that counts sleep. `asked`: the last time; `again`: times without rest."""

    generation: int
    expires_at: float | None
    at: float
    asked: float
    again: int = 0


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
        given = self._giving(last, grant)
        if self._is_short(given) and given.again > OFTEN:
            await self._refuse(grant)
        self._remember(holder, account, given)
        return grant

    def _is_rejected(self, last: _Given) -> bool:
        """Whether somebody who has been given that token says by coming back that it does not do."""
        return self._is_short(last) or self._seams.boot() - last.at >= BREATH

    def _is_short(self, given: _Given) -> bool:
        return given.expires_at is not None and given.expires_at - self._seams.now() < SHORT

    def _giving(self, last: _Given | None, grant: Grant) -> _Given:
        now = self._seams.boot()
        if last is None or last.generation != grant.generation:
            return _Given(grant.generation, grant.expires_at, at=now, asked=now)
        return replace(last, asked=now, again=last.again + 1 if now - last.asked < BREATH else 0)

    async def _refuse(self, grant: Grant) -> None:
        """There is no newer one than he has, and it is no use to him."""
        if grant.warning == "login_required":
            stored = (await self._broker.standing(grant.account)).credential
            raise LoginRequired(grant.account, (stored and stored.reason) or "outcome_unknown")
        raise IssuerUnavailable("There is no newer token now than the one that this key was given.")

    def _remember(self, holder: str, account: str, given: _Given) -> None:
        if len(self._given) >= _KEPT and (holder, account) not in self._given:
            del self._given[next(iter(self._given))]
        self._given[holder, account] = given
