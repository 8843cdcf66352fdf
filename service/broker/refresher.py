"""One refresh token, spent once: claim the row, re-check, send, and store whatever became of it.

However many callers, processes and accidents there are, a refresh token is sent by whoever wrote the intent into the
row, and by nobody else while he lives. One task per account does that here; callers wait for it and may leave, it goes
on. docs/refresh.md has the rules I1 to I9 that the comments name.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import inf
from typing import Final, assert_never

from service.broker.seams import Seams
from service.domain.audit import DONE
from service.domain.backoff import CONFIGURATION, backoff
from service.domain.credential import (
    Attempt,
    Credential,
    claimed,
    given_back,
    left_uncertain,
    put_off,
    refused,
    rotated,
)
from service.domain.decide import REFUSED, UNSAVED
from service.domain.errors import AuthError, IssuerRefused
from service.domain.secret import Secret
from service.issuer import Issuer
from service.oauth import requests
from service.oauth.answers import Granted, Later, Misconfigured, Refused, Unknown, Verdict, classify
from service.oauth.provider import Provider
from service.store.owner import Owners
from service.store.store import Store

log = logging.getLogger(__name__)

CLAIM_FRESH: Final = 2.0
"""Seconds (counting sleep) that a claim may be old when it is acted upon (I3): an owner that was stopped asks again."""

CLAIM_SLOW: Final = 20.0
"""Seconds that claiming may have taken when it is acted upon: owners elsewhere wait for as long."""

QUARANTINE: Final = 10.0
"""Seconds after which a request with an unknown outcome is surely over: the kernel drops its bytes by then."""

_LOOK_AGAIN: Final = 1.0
"""Seconds between two looks whether the owner of somebody else's attempt still lives."""

_WAIT_FOR_OWNER: Final = 5.0
"""Seconds that one flight waits for somebody else's attempt; whoever still wants to know begins another."""

_SAVE_AGAIN: Final = 1.0
"""Seconds between two tries to store a token pair that exists nowhere else."""

_SAVE_PATIENCE: Final = 12.0
"""Seconds after which a database that does not answer counts as one that does not take the pair."""

_LAST_TRIES: Final = 20.0
"""Seconds that the end of the process waits for the database to take a pair that is safe in a rescue file."""


class Refresher:
    """Moves credentials on, one task an account."""

    def __init__(
        self,
        store: Store,
        issuer: Issuer,
        owners: Owners,
        providers: Mapping[str, Provider],
        seams: Seams,
        *,
        call_limit: float,
        note: Callable[[Credential, str, float], None] = lambda _credential, _outcome, _took: None,
    ) -> None:
        """`call_limit`: seconds that one call to the issuer may take. note: keeps in mind what became
        of a refresh, and in how many seconds.
        """
        self._store = store
        self._issuer = issuer
        self._owners = owners
        self._providers = providers
        self._seams = seams
        self._call_limit = call_limit
        self._note = note
        self._flights: dict[str, asyncio.Task[None]] = {}
        self._attempts: set[str] = set()
        self._unwritten: dict[str, tuple[Attempt, Credential]] = {}
        """What has to be written about the last attempt of ours, by account, if nothing more is heard of it."""
        self.unsaved: dict[str, Credential] = {}
        """Token pairs that the issuer gave and the database has not taken yet, by account."""
        self._superseded: dict[str, Secret | None] = {}
        """The last access token of ours that the row did not want any more, by account: nobody may be served it."""
        self._saving: dict[str, asyncio.Task[bool]] = {}
        self._give_up_at = inf
        """When a pair in a rescue file is left to whoever starts next, by the clock that counts sleep."""

    def flight(self, credential: Credential) -> asyncio.Task[None]:
        """The task that moves this account on from `credential`: the running one, else a new one (I5: never cancelled).

        Done when the row may have changed: then load and decide again. Fails with StoreUnavailable, IssuerRefused.
        """
        account = credential.account
        task = self._flights.get(account)
        if task is None:
            task = asyncio.create_task(self._advance(credential), name=f"refresh {account}")
            self._flights[account] = task
            task.add_done_callback(lambda done: self._landed(account, done))
        return task

    def is_superseded(self, credential: Credential) -> bool:
        """Whether this is a pair that was never stored: by the time it came another login was there, or none."""
        superseded = self._superseded.get(credential.account)
        return superseded is not None and superseded is credential.access_token

    @property
    def in_flight(self) -> int:
        """Accounts that are being moved on."""
        return len(self._flights)

    async def drain(self) -> None:
        """Wait until every flight has landed: what was sent is stored before the process may end."""
        self._give_up_at = self._seams.boot() + _LAST_TRIES
        while self._flights:
            await asyncio.wait(self._flights.values())

    def _landed(self, account: str, task: asyncio.Task[None]) -> None:
        del self._flights[account]
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, AuthError):
            log.error("refresh of %s ended by an error in this program", account, exc_info=error)

    async def _advance(self, credential: Credential) -> None:
        if credential.attempt is None:
            await self._refresh(credential)
        else:
            await self._await_owner(credential.account, credential.attempt)

    async def _await_owner(self, account: str, attempt: Attempt) -> None:
        """Somebody else's attempt: wait until it is over, or until its owner is proven dead (I8).

        Not for ever: a stop of this process must not wait for another's.
        """
        until = self._seams.boot() + _WAIT_FOR_OWNER
        while self._seams.boot() < until:
            version = self._store.version()
            credential = await self._store.load(account)
            if credential is None or credential.attempt != attempt:
                return
            after = self._after_owner(credential, attempt)
            if after is not None and not await self._recovered():
                await self._store.settle(credential, after)
                self._unwritten.pop(account, None)
                return
            await self._store.changed(version, within=_LOOK_AGAIN)

    async def _recovered(self) -> int:
        """Pairs that were stored from rescue files; trouble with those must not keep an intent in the row for ever."""
        try:
            return await self._store.recover()
        except Exception as exc:
            log.error("rescue files, if there are any, have to wait", exc_info=exc)  # noqa: TRY400
            return 0

    def _after_owner(self, credential: Credential, attempt: Attempt) -> Credential | None:
        """What has to be written about an attempt that nobody is working on any more; None while somebody may be."""
        now = self._seams.now()
        over = max(now, attempt.started_at + CLAIM_FRESH + self._call_limit) + QUARANTINE
        if self._owners.is_me(attempt.owner):
            return None if attempt.attempt_id in self._attempts else self._own_end(credential, attempt, over)
        match self._owners.fate(attempt.owner):
            case "dead":
                log.warning("who was refreshing %s has died; what became of it is unknown", credential.account)
                return left_uncertain(credential, "owner_died", now=now, until=over)
            case "unknown" if now >= attempt.started_at + CLAIM_SLOW + self._call_limit:
                log.warning("who was refreshing %s has not been heard of since", credential.account)
                late = max(now, credential.expires_at) + QUARANTINE  # he may live: wait till there is nothing to lose
                return left_uncertain(credential, "owner_silent", now=now, until=late)
        return None

    def _own_end(self, credential: Credential, attempt: Attempt, over: float) -> Credential:
        """How an attempt of ours ended that the database did not let us write down."""
        ours, after = self._unwritten.get(credential.account, (None, credential))
        if ours == attempt:
            return after
        return left_uncertain(credential, "interrupted", now=self._seams.now(), until=over)

    async def _refresh(self, credential: Credential) -> None:
        if credential.provider not in self._providers:
            raise IssuerRefused("This login is of a provider that this version does not know.")
        async with self._issuer.slot():
            attempt = Attempt(self._seams.token_bytes(16).hex(), self._owners.present(), self._seams.now())
            self._attempts.add(attempt.attempt_id)
            try:
                await self._attempt(credential, attempt)
            finally:
                self._attempts.discard(attempt.attempt_id)

    async def _attempt(self, credential: Credential, attempt: Attempt) -> None:
        account = credential.account
        self._unwritten[account] = attempt, given_back(claimed(credential, attempt))
        begun = self._seams.boot()
        claim = await self._store.claim(credential, attempt)  # I2: durable before the first byte
        if claim is not None:
            await self._exchange(claim, attempt, begun, self._seams.boot())
        del self._unwritten[account]

    async def _exchange(self, claim: Credential, attempt: Attempt, begun: float, claimed_at: float) -> None:
        held = await self._store.load(claim.account)
        now = self._seams.boot()
        stale = now - claimed_at > CLAIM_FRESH or now - begun > CLAIM_SLOW
        if held is None or held.attempt != attempt or claim.refresh_token is None or stale:  # I3
            await self._store.settle(claim, given_back(claim))
            return
        sent_at = self._seams.now()
        interrupted = left_uncertain(claim, "interrupted", now=sent_at, until=sent_at + QUARANTINE)
        self._unwritten[claim.account] = attempt, interrupted
        outcome = await self._issuer.send(requests.refresh(self._providers[claim.provider], claim.refresh_token))
        after = self._after(claim, classify(outcome, now=self._seams.now()), sent_at)
        self._unwritten[claim.account] = attempt, after
        await self._conclude(claim, after)

    async def _conclude(self, claim: Credential, after: Credential) -> None:
        if after.generation != claim.generation:
            await self._commit(claim, after)
            return
        log.warning("refresh of %s: %s", claim.account, after.last_error)
        self._note(after, after.last_error or after.state, self._took(claim))
        if not await self._store.settle(claim, after):  # I7: the row has moved on, so this was not about its token
            log.info("refresh of %s: superseded, nothing changed", claim.account)

    def _took(self, claim: Credential) -> float:
        return self._seams.now() - claim.attempt.started_at if claim.attempt else 0.0

    def _after(self, claim: Credential, verdict: Verdict, sent_at: float) -> Credential:
        now = self._seams.now()
        match verdict:
            case Granted(tokens):
                return rotated(claim, tokens, sent_at=sent_at, now=now, wait=self._backoff(claim, CONFIGURATION))
            case Refused(reason):
                return refused(claim, reason)
            case Misconfigured(code):
                return put_off(claim, f"{REFUSED}: {code}", until=now + self._backoff(claim, CONFIGURATION))
            case Later(code, retry_after):
                return put_off(claim, code, until=now + self._backoff(claim, retry_after))
            case Unknown(code):
                # A retry-safe issuer is asked again at once; any other when the first request is surely over.
                safe = self._providers[claim.provider].retry_within is not None
                return left_uncertain(claim, code, now=now, until=now + (0 if safe else QUARANTINE))
        assert_never(verdict)

    def _backoff(self, claim: Credential, at_least: float) -> float:
        return backoff(claim.failures, self._seams.jitter(), at_least=at_least)

    async def _commit(self, claim: Credential, after: Credential) -> None:
        """I6: store the new pair where the row still holds the token that was exchanged, until it works."""
        is_safe = False
        while (stored := await self._try_to_store(claim, after)) is None:
            self.unsaved[claim.account] = replace(after, failures=1, last_error=UNSAVED)
            is_safe = is_safe or await self._store.rescue(after)
            if is_safe and self._seams.boot() > self._give_up_at:
                log.error("the new token pair of %s is left in a rescue file for the next start", claim.account)
                return
            await asyncio.sleep(_SAVE_AGAIN)
        if self.unsaved.pop(claim.account, None) is not None:
            await self._store.rescued(after)
        if stored:
            log.info("refreshed %s: generation %d", after.account, after.generation)
            self._note(after, DONE, self._took(claim))
        else:
            self._superseded[claim.account] = after.access_token
            await self._discard(claim, after)

    async def _try_to_store(self, claim: Credential, after: Credential) -> bool | None:
        """Stored, or superseded, or None: the database does not take it now."""
        saving = self._saving.pop(claim.account, None) or asyncio.create_task(self._store.settle(claim, after))
        done, _ = await asyncio.wait({saving}, timeout=_SAVE_PATIENCE)
        if not done:
            self._saving[claim.account] = saving  # a database that hangs is not asked twice
            log.error("the new token pair of %s cannot be stored yet: the database does not answer", claim.account)
            return None
        try:
            return saving.result()
        except Exception as exc:
            log.error("the new token pair of %s cannot be stored yet", claim.account, exc_info=exc)  # noqa: TRY400
            return None

    async def _discard(self, claim: Credential, after: Credential) -> None:
        """The row has another login by now, or none: end ours at the issuer. If the same login merely moved on, keep
        still: revoking one of its tokens could end it."""
        current = await self._store.load(claim.account)
        same_login = current is not None and current.login_id == claim.login_id and current.state != "logged_out"
        if not same_login and after.refresh_token is not None:
            await self.revoke(claim.provider, after.refresh_token)

    async def revoke(self, provider: str, refresh_token: Secret) -> bool:
        """RFC 7009, best effort: whether the issuer said yes. Needs a slot only when called from outside a flight."""
        known = self._providers.get(provider)
        if known is None:
            return False
        outcome = await self._issuer.send(requests.revoke(known, refresh_token))
        return getattr(outcome, "status", 0) in range(200, 300)
