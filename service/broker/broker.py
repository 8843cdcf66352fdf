"""What callers want: a token that is good enough, how an account stands, to import or end a login.

Every answer comes from `decide`; this only loads, waits for the refresher, and asks again.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Final, Literal, NamedTuple, NoReturn

from service.broker.refresher import Refresher
from service.broker.seams import Seams
from service.domain.credential import Credential, imported, is_released
from service.domain.decide import (
    Decision,
    LoginNeeded,
    Policy,
    Refresh,
    Unavailable,
    Use,
    Wait,
    Warning_,
    Wish,
    decide,
    is_valid,
)
from service.domain.errors import (
    AuthError,
    CredentialUnreadable,
    IssuerRefused,
    IssuerUnavailable,
    LoginRequired,
    StoreUnavailable,
    UnknownAccount,
)
from service.domain.login import Login
from service.domain.secret import Secret
from service.issuer import Issuer
from service.oauth.imports import ApiKey, read_credential
from service.store.store import Store

log = logging.getLogger(__name__)

DEFAULT_ACCOUNT: Final = "default"

_GLANCE: Final = 1.0
"""Seconds between two looks of a waiting caller whether there is a pair that the database does not take."""

_READ_PATIENCE: Final = 10.0
"""Seconds that a caller waits for the database: longer than for another writer."""

_WARM: Final = 1024
"""Accounts whose rows are kept in memory."""

_REVOKE_PATIENCE: Final = 10.0
"""Seconds that a logout waits for the issuer: the login is forgotten here in any case."""


class Grant(NamedTuple):
    """A token to hand out. An API key has no expiry and no account id, and its generation is 0."""

    account: str
    kind: Literal["subscription", "api_key"]
    access_token: Secret
    generation: int = 0
    expires_at: float | None = None
    account_id: str | None = None
    id_token: Secret | None = None
    warning: Warning_ | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How an account stands; `credential` is None where an API key serves or nobody has logged in."""

    account: str
    credential: Credential | None
    has_api_key: bool
    login: Login | None


@dataclass(frozen=True, slots=True)
class _Kept:
    """A row as it was read at a version of the database, and when its pair was first seen, by both clocks."""

    version: int
    credential: Credential | None
    seen_at: float
    seen_boot: float


class Broker:
    """Accounts, as their users see them."""

    def __init__(
        self,
        store: Store,
        issuer: Issuer,
        refresher: Refresher,
        policies: Mapping[str, Policy],
        seams: Seams,
        *,
        api_key: Secret | None,
        patience: float,
    ) -> None:
        """policies: by provider. api_key: serves `default` when nobody is logged in.

        patience: seconds that a caller waits for a refresh.
        """
        self._store = store
        self._issuer = issuer
        self._refresher = refresher
        self._policies = policies
        self._seams = seams
        self._patience = patience
        self._environment_keys = {DEFAULT_ACCOUNT: api_key} if api_key else {}
        self._installed_keys: dict[str, Secret] = {}
        self._revocations: set[asyncio.Task[bool]] = set()
        self._reading: dict[str, tuple[int, asyncio.Task[Credential | None]]] = {}
        self._warm: dict[str, _Kept] = {}

    # -- tokens --------------------------------------------------------------------------------------------------

    def warm_token(self, account: str, wish: Wish) -> Grant | None:
        """What `token` would answer, if it is in memory and nobody has committed since. Microseconds, no thread."""
        kept = self._warm.get(account)
        if kept is None or account in self._refresher.unsaved or kept.version != self._store.version():
            return None
        return self._grant(account, kept.credential, self._decide(kept.credential, wish))

    async def token(self, account: str, wish: Wish) -> Grant:
        """A token that meets the wish, refreshed if need be, or the best there is, with a warning.

        Raises LoginRequired, UnknownAccount, IssuerUnavailable, IssuerRefused, CredentialUnreadable, StoreUnavailable.
        """
        deadline = self._seams.boot() + self._patience
        try:
            credential = await self._load(account)
        except StoreUnavailable as exc:
            return self._remembered(account, wish, exc)
        first = credential.generation if credential else None
        while True:
            if credential is not None and credential.generation != first:
                wish = Wish(min_ttl=0)  # it was refreshed for us: that is as good as it gets
            decision = self._decide(credential, wish)
            if credential is None or not isinstance(decision, Refresh | Wait):
                return self._grant(account, credential, decision) or self._refusal(account, decision)
            if credential.generation != first:
                raise IssuerUnavailable("The issuer's tokens are over when they arrive.", retry_after=_COME_BACK)
            hindrance = await self._moved_on(credential, deadline)
            if hindrance is not None:
                return self._despite(credential, hindrance)
            credential = await self._load(account)

    async def ahead(self, account: str) -> None:
        """Start whatever is due for an account, without waiting for it: the background refresher's part."""
        credential = await self._load(account)
        decision = self._decide(credential, Wish(ahead=True))
        if credential is None:
            return
        if isinstance(decision, Refresh | Wait) and credential.provider in self._policies:
            self._refresher.flight(credential)
        else:
            await self._store.note_due(credential)  # due by other settings, or nothing can be done about it

    def check(self) -> None:
        """Raises StoreUnavailable while a token pair exists in this process only."""
        if self._refresher.unsaved:
            raise StoreUnavailable("A new token pair is served from memory: the database does not take it yet.")

    @property
    def in_flight(self) -> int:
        """Accounts that are being refreshed, or wait for their turn."""
        return self._refresher.in_flight

    async def drain(self) -> None:
        """Wait until the issuer has heard of every logout."""
        while self._revocations:
            await asyncio.wait(self._revocations)

    # -- accounts ------------------------------------------------------------------------------------------------

    async def standing(self, account: str) -> Standing:
        """How one account stands. Raises UnknownAccount."""
        found = await self._standing(account)
        if account != DEFAULT_ACCOUNT and found.credential is None and found.login is None and not found.has_api_key:
            raise UnknownAccount
        return found

    async def standings(self, after: str, limit: int, among: frozenset[str] | None = None) -> list[Standing]:
        """A page of the accounts that hold, held or are served something, by name. among: of these only."""
        if among is not None:
            found = [await self._standing(name) for name in sorted(among) if name > after]
            return [one for one in found if one.credential is not None or one.has_api_key][:limit]
        names = {credential.account for credential in await self._store.accounts(after, limit)}
        names |= {name for name in (*self._environment_keys, *self._installed_keys) if name > after}
        return [await self._standing(name) for name in sorted(names)[:limit]]

    async def credentials(self, limit: int) -> list[Credential]:
        """What is stored, by name of account. Raises StoreUnavailable."""
        return await self._store.accounts("", limit)

    async def install(self, account: str, document: dict[str, Any], provider: str) -> bool:
        """Take over a credential made elsewhere; False for an API key, which is kept in memory only.

        Raises InvalidCredential.
        """
        credential = read_credential(document)
        if isinstance(credential, ApiKey):
            self._installed_keys[account] = credential.key
            return False
        login_id = self._seams.token_bytes(16).hex()
        now = self._seams.now()
        await self._store.install(imported(credential, account=account, provider=provider, login_id=login_id, now=now))
        log.info("a login was imported for %s", account)
        return True

    def let_go(self, account: str) -> None:
        """Serve nothing of what was read of this account before, whatever becomes of the database."""
        self._warm.pop(account, None)

    async def logout(self, account: str) -> tuple[bool | None, Standing]:
        """Forget the login here, then end it at the issuer: whether that worked, and what is left.

        None: there was nothing to end. Raises UnknownAccount.
        """
        await self.standing(account)
        self._installed_keys.pop(account, None)
        before = await self._store.forget(account)
        revoked = await self._revoked(before) if before and not is_released(before) else None
        return revoked, await self._standing(account)

    # ------------------------------------------------------------------------------------------------------------

    async def _standing(self, account: str) -> Standing:
        credential = await self._load(account)
        login = await self._store.pending_login(account, self._seams.now())
        return Standing(account, credential, self._api_key(account) is not None, login)

    async def _revoked(self, before: Credential) -> bool | None:
        """End a login at the issuer, within bounds; None if there is nothing to end."""
        log.info("logged out %s", before.account)
        if before.refresh_token is None:
            return None
        revocation = asyncio.create_task(self._revoke(before.provider, before.refresh_token))
        self._revocations.add(revocation)
        revocation.add_done_callback(self._revocations.discard)
        done, _ = await asyncio.wait({revocation}, timeout=_REVOKE_PATIENCE)
        return revocation.result() if done else False

    async def _load(self, account: str) -> Credential | None:
        unsaved = self._refresher.unsaved.get(account)
        try:
            credential = await self._stored(account)
        except StoreUnavailable:
            if unsaved is None or self._refresher.is_superseded(unsaved):  # while the database was waited for
                raise
            return unsaved
        if unsaved is None or not _is_successor(unsaved, credential):
            return credential
        self._keep(account, _NEVER, replace(unsaved, failures=0, last_error=None))
        return unsaved

    async def _stored(self, account: str) -> Credential | None:
        """The row, read once however many ask, and not at all while nobody has committed."""
        while True:
            version = self._store.version()  # before the row: a commit in between makes the entry stale, never wrong
            kept = self._warm.get(account)
            if kept is not None and kept.version == version:
                return kept.credential
            begun, reading = self._reading.get(account) or self._begun(account, version)
            done, _ = await asyncio.wait({reading}, timeout=_READ_PATIENCE)  # who leaves must not end it for the others
            if not done:
                raise StoreUnavailable("The database does not answer.")
            if begun == version:
                break  # else it was begun before the last commit
        credential = reading.result()
        if credential is not None or account in self._environment_keys:
            self._keep(account, version, credential)
        return credential

    def _begun(self, account: str, version: int) -> tuple[int, asyncio.Task[Credential | None]]:
        """A read of the row: one at a time for each account, or a database that hangs would collect them."""
        reading = asyncio.create_task(self._store.load(account))
        self._reading[account] = version, reading
        reading.add_done_callback(lambda done: self._ended(account, done))
        return version, reading

    def _ended(self, account: str, reading: asyncio.Task[Credential | None]) -> None:
        del self._reading[account]
        if not reading.cancelled():
            reading.exception()  # seen, also when nobody waits for it any more

    def _keep(self, account: str, version: int, credential: Credential | None) -> None:
        before = self._warm.get(account)
        if before is None and len(self._warm) >= _WARM:
            del self._warm[next(iter(self._warm))]
        if before is not None and _is_same_pair(before.credential, credential):
            self._warm[account] = replace(before, version=version, credential=credential)
        else:
            self._warm[account] = _Kept(version, credential, self._seams.now(), self._seams.boot())

    def _remembered(self, account: str, wish: Wish, error: StoreUnavailable) -> Grant:
        """While the database is out of reach, a valid token that was read before, if nobody has rejected it."""
        kept = self._warm.get(account)
        if kept is None or kept.credential is None or (wish.newer_than or 0) >= kept.credential.generation:
            raise error
        if self._refresher.is_superseded(kept.credential):  # served while it was still to be stored
            raise error
        return self._despite(kept.credential, error)

    def _decide(self, credential: Credential | None, wish: Wish) -> Decision:
        return decide(credential, wish, self._now(credential), self._policy(credential))

    def _now(self, credential: Credential | None) -> float:
        """The time to judge a token by: clocks are set back, but a token that was seen to age has aged."""
        now = self._seams.now()
        kept = self._warm.get(credential.account) if credential is not None else None
        if kept is None or credential is None or not _is_same_pair(kept.credential, credential):
            return now
        aged = kept.seen_at + self._seams.boot() - kept.seen_boot
        return aged if now < credential.expires_at <= aged else now

    def _policy(self, credential: Credential | None) -> Policy:
        return self._policies.get(credential.provider, _NO_POLICY) if credential else _NO_POLICY

    def _api_key(self, account: str) -> Secret | None:
        return self._installed_keys.get(account) or self._environment_keys.get(account)

    def _grant(self, account: str, credential: Credential | None, decision: Decision) -> Grant | None:
        """The token to hand out under this decision. A stored subscription wins over an API key, even a dead one."""
        match decision:
            case Use(warning) if credential is not None and credential.access_token is not None:
                return Grant(
                    account=account,
                    kind="subscription",
                    access_token=credential.access_token,
                    generation=credential.generation,
                    expires_at=credential.expires_at,
                    account_id=credential.identity.account_id,
                    id_token=credential.id_token,
                    warning=warning,
                )
            case LoginNeeded("never_logged_in" | "logged_out") if key := self._api_key(account):
                return Grant(account=account, kind="api_key", access_token=key)
        return None

    def _refusal(self, account: str, decision: Decision) -> NoReturn:
        match decision:
            case LoginNeeded("never_logged_in") if account != DEFAULT_ACCOUNT:
                raise UnknownAccount
            case LoginNeeded(reason):
                raise LoginRequired(account, reason)
            case Unavailable(until, "issuer_refused"):
                raise IssuerRefused(
                    "The issuer refuses how this service asks; the login itself is untouched.",
                    retry_after=self._seconds_until(until),
                )
            case Unavailable(until):
                raise IssuerUnavailable(
                    "The access token has expired and the issuer cannot be asked just now.",
                    retry_after=self._seconds_until(until),
                )
        raise CredentialUnreadable

    async def _moved_on(self, credential: Credential, deadline: float) -> AuthError | None:
        """Wait for the refresher; what kept it from moving the credential on, if anything did."""
        left = deadline - self._seams.boot()
        if left <= 0:
            return IssuerUnavailable("A refresh is under way and takes long.", retry_after=_COME_BACK)
        flight = self._refresher.flight(credential)
        clock = asyncio.get_running_loop().time
        until = clock() + left
        done: set[asyncio.Task[None]] = set()
        while not done and left > 0 and not self._is_in_memory(credential):  # not awaited: who leaves must not end it
            done, _ = await asyncio.wait({flight}, timeout=min(left, _GLANCE))
            left = until - clock()
        error = flight.exception() if done else None
        if error is not None and not isinstance(error, AuthError):
            raise error
        return error

    def _is_in_memory(self, credential: Credential) -> bool:
        """Whether a newer pair is there to be served, though the database does not take it."""
        unsaved = self._refresher.unsaved.get(credential.account)
        return unsaved is not None and _is_successor(unsaved, credential)

    def _despite(self, credential: Credential, error: AuthError) -> Grant:
        if not is_valid(credential, self._now(credential)):
            raise error
        warning: Warning_ = "store_unavailable" if isinstance(error, StoreUnavailable) else "issuer_unavailable"
        grant = self._grant(credential.account, credential, Use(warning))
        if grant is None:
            raise error
        return grant

    def _seconds_until(self, instant: float) -> int:
        return max(1, ceil(instant - self._seams.now()))

    async def _revoke(self, provider: str, refresh_token: Secret) -> bool:
        async with self._issuer.slot():
            return await self._refresher.revoke(provider, refresh_token)


def _is_same_pair(one: Credential | None, other: Credential | None) -> bool:
    if one is None or other is None:
        return one is other
    return (one.login_id, one.generation) == (other.login_id, other.generation)


def _is_successor(unsaved: Credential, stored: Credential | None) -> bool:
    """Whether the row still waits for this pair: nobody has logged out or in since."""
    if stored is None or stored.state == "logged_out" or stored.login_id != unsaved.login_id:
        return False
    return stored.generation == unsaved.generation - 1


_NO_POLICY: Final = Policy()
_NEVER: Final = -1
"""A version that the database never has."""
_COME_BACK: Final = 5
"""Seconds after which a caller whose patience ran out may ask again."""
