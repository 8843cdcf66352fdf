"""Logging in: started by anybody, finished by a browser, a pasted URL or a device code, never blocking anything else.

A pending login lives in the store: a restart, or another process on the same store, can finish it. What finishes it
happens once: the state is taken atomically before the code is exchanged.
"""

import asyncio
import hmac
import logging
from collections.abc import Coroutine, Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from service.broker.refresher import Refresher
from service.broker.seams import Seams
from service.domain.audit import DONE, Deed
from service.domain.credential import Credential, Tokens, logged_in
from service.domain.errors import (
    AccountMismatch,
    AuthError,
    CallbackPortUnavailable,
    DeviceLoginUnavailable,
    InvalidAnswer,
    IssuerRefused,
    IssuerUnavailable,
    LoginDenied,
    LoginExpired,
    LoginMismatch,
    LoginOver,
    UnknownLogin,
    UnknownProvider,
)
from service.domain.login import Login, LoginState, state_at
from service.domain.secret import Secret
from service.issuer import Issuer
from service.oauth import device, requests
from service.oauth.answers import Granted, Later, Misconfigured, Refused, Verdict, classify
from service.oauth.callback import Callback
from service.oauth.pkce import VERIFIER_BYTES, b64url, verifier
from service.oauth.provider import Provider
from service.oauth.wire import Answer, NoAnswer, Outcome
from service.store.store import Store

log = logging.getLogger(__name__)

_LOOK_AGAIN: Final = 1.0
"""Seconds at most between two looks at a login by somebody who waits: it may run out of time, or the service end."""

_BY_ITSELF: Final = "service"
"""Who finishes a device login: nobody has asked."""

_LEASE_BEYOND: Final = 5.0
"""Seconds beyond the longest poll after which another process may poll: whoever began has died."""

_RETRY_POLL: Final = 2.0
"""By what the pause grows after a poll without an answer (RFC 8628 section 3.5: exponential backoff)."""


class Door(Protocol):
    """Where browsers come back to: `service.server` opens it."""

    async def open_one(self, ports: tuple[int, ...]) -> int | None:
        """Make sure that one of these ports leads to us, the first that can be had; None if none can."""

    async def keep(self, ports: set[int]) -> None:
        """Have these ports lead to us, as far as they can be had, and no others."""

    async def close(self) -> None:
        """Shut what was opened; who is being answered gets his answer."""


class Note(Protocol):
    """Keeps in mind that a login ended: who brought that about, and how."""

    def __call__(self, deed: Deed, who: str, outcome: str = DONE, /, *, account: str, detail: str) -> None:
        """`detail`: the login's id."""


class Logins:
    """All started logins."""

    def __init__(
        self,
        store: Store,
        issuer: Issuer,
        refresher: Refresher,
        providers: Mapping[str, Provider],
        door: Door,
        seams: Seams,
        note: Note,
    ) -> None:
        """`note`: keeps in mind how logins ended."""
        self._store = store
        self._issuer = issuer
        self._refresher = refresher
        self._providers = providers
        self._door = door
        self._seams = seams
        self._note = note
        self._tasks: set[asyncio.Task[Any]] = set()
        self._polling: set[str] = set()
        self._closing = False
        self._door_lock = asyncio.Lock()

    # -- start and end -------------------------------------------------------------------------------------------

    async def start(
        self, account: str, provider: str, flow: str, *, replace: bool, binding: Secret | None = None
    ) -> Login:
        """Start a login; it takes the place of the one pending for the account. `flow`: auto, browser or device.

        Raises UnknownProvider, CallbackPortUnavailable, DeviceLoginUnavailable, IssuerUnavailable, IssuerRefused.
        """
        issuer = self._providers.get(provider)
        if issuer is None:
            raise UnknownProvider("There is no such provider.")
        if flow == "device":
            return await self._start_device(issuer, account, replace=replace, fallback=None)
        async with self._door_lock:  # else the door could be shut between opening it and noting why it is open
            port = await self._door.open_one(issuer.callback_ports)
            if port is not None:
                return await self._start_browser(issuer, account, port, replace=replace, binding=binding)
        if flow == "browser":
            raise CallbackPortUnavailable("The ports that the issuer sends browsers back to are taken.")
        return await self._start_device(issuer, account, replace=replace, fallback="callback_port_unavailable")

    def authorize_url(self, login: Login) -> str | None:
        """Where the person's browser goes; None unless it is a browser login that waits for it."""
        if login.provider not in self._providers:
            return None
        if (
            login.taken_at is not None
            or login.redirect_uri is None
            or login.oauth_state is None
            or login.verifier is None
        ):
            return None
        return requests.authorization_url(
            self._providers[login.provider],
            redirect_uri=login.redirect_uri,
            state=login.oauth_state,
            verifier=login.verifier,
        )

    async def get(self, login_id: str, wait: float = 0.0) -> Login:
        """How a login stands; waits up to `wait` seconds for it to end. Raises UnknownLogin."""
        deadline = self._seams.boot() + wait
        while True:
            version = self._store.version()
            login = await self._store.login(login_id)
            if login is None:
                raise UnknownLogin
            left = deadline - self._seams.boot()
            if state_at(login, self._seams.now()) != "pending" or left <= 0 or self._closing:
                return login
            await self._store.changed(version, within=min(left, _LOOK_AGAIN))

    def stop_waiting(self) -> None:
        """The service is about to end: whoever waits for a login is told how it stands."""
        self._closing = True

    async def cancel(self, login_id: str, *, by: str) -> None:
        """End a pending login; nothing happens to one that has ended. Raises UnknownLogin."""
        login = await self.get(login_id)
        if await self._store.end_login(login_id, "cancelled", "login_cancelled", None):
            self._note("login", by, "login_cancelled", account=login.account, detail=login.id)

    # -- the browser comes back ----------------------------------------------------------------------------------

    async def finish(
        self,
        callback: Callback | None,
        *,
        bindings: Mapping[str, Secret] = MappingProxyType({}),
        login_id: str | None = None,
        by: str = "browser",
    ) -> Login:
        """What the browser brought: exchange it, once.

        bindings: what this browser was given when it started logins, by their id. login_id: pasted by somebody who
        may, for this login only. by: who, for the audit trail.

        Raises LoginMismatch (the real pending login goes on), LoginDenied, AccountMismatch, IssuerUnavailable,
        IssuerRefused, InvalidAnswer, LoginOver.
        """
        now = self._seams.now()
        waiting = await self._store.waiting_login(callback.state, now) if callback else None
        if callback is None or waiting is None or not self._belongs(callback, waiting, login_id):
            raise LoginMismatch
        taken = await self._store.take_login(callback.state, bindings.get(waiting.id), now, bound=login_id is None)
        if taken is None or taken.verifier is None or taken.redirect_uri is None:
            raise LoginMismatch
        if callback.code is None:
            denied = LoginDenied("The login was refused at the issuer.")
            await self._fail(taken, denied, by)
            raise denied
        work = self._exchange(taken, callback.code, taken.redirect_uri, taken.verifier, by)
        await asyncio.shield(self._track(work))  # a browser that leaves must not waste the code
        return await self.get(taken.id)

    def _belongs(self, callback: Callback, login: Login, login_id: str | None) -> bool:
        """RFC 9207 section 2.4: an `iss`, if there is one, is the issuer that the request went to."""
        provider = self._providers.get(login.provider)
        if provider is None:
            return False
        issuer = provider.issuer
        foreign = callback.iss is not None and not hmac.compare_digest(callback.iss.encode(), issuer.encode())
        return not foreign and login_id in (None, login.id)

    async def _exchange(
        self, login: Login, code: Secret, redirect_uri: str, code_verifier: Secret, by: str = _BY_ITSELF
    ) -> None:
        """Turn a code into a login, or end the login with what was wrong. Raises the same."""
        request = requests.exchange(
            self._providers[login.provider], code=code, redirect_uri=redirect_uri, verifier=code_verifier
        )
        try:
            async with self._issuer.slot():
                sent_at = self._seams.now()
                outcome = await self._issuer.send(request)
            tokens = _tokens(classify(outcome, now=self._seams.now()))
            await self._complete(login, tokens, sent_at)
            self._note("login", by, account=login.account, detail=login.id)
        except AuthError as exc:
            log.warning("login of %s failed: %s", login.account, exc.code)
            await self._fail(login, exc, by)
            raise

    async def _complete(self, login: Login, tokens: Tokens, sent_at: float) -> None:
        credential = self._credential(login, tokens, sent_at)
        try:
            stored = await self._store.complete_login(login, credential)
        except (LoginOver, AccountMismatch):
            if tokens.refresh_token is not None:  # nobody will ever use it: end it at the issuer
                self._track(self._revoke(login.provider, tokens.refresh_token))
            raise
        log.info("logged in %s: generation %d", stored.account, stored.generation)

    def _credential(self, login: Login, tokens: Tokens, sent_at: float) -> Credential:
        name = self._seams.token_bytes(16).hex()
        return logged_in(tokens, account=login.account, provider=login.provider, login_id=name, now=sent_at)

    async def _fail(self, login: Login, error: AuthError, by: str = _BY_ITSELF) -> None:
        self._note("login", by, error.code, account=login.account, detail=login.id)
        state: LoginState = "expired" if isinstance(error, LoginExpired) else "failed"
        await self._store.end_login(login.id, state, error.code, error.detail)

    async def _revoke(self, provider: str, refresh_token: Secret) -> None:
        async with self._issuer.slot():
            await self._refresher.revoke(provider, refresh_token)

    # -- device codes --------------------------------------------------------------------------------------------

    async def poll(self, login_id: str) -> None:
        """Ask once whether the person has typed the code, if nobody else is asking, and act on the answer."""
        async with self._issuer.slot():
            now = self._seams.now()
            login = await self._store.claim_poll(login_id, now, until=now + self._issuer.timeout + _LEASE_BEYOND)
            known = login is not None and login.provider in self._providers
            if login is None or not known or login.device_auth_id is None or login.user_code is None:
                return
            request = requests.device_poll(
                self._providers[login.provider], device_auth_id=login.device_auth_id, user_code=login.user_code
            )
            outcome = await self._issuer.send(request)
        interval = login.interval or device.DEFAULT_INTERVAL
        match device.read_poll(outcome, now=self._seams.now()):
            case device.Approved(code, code_verifier):
                redirect_uri = self._providers[login.provider].device_redirect_uri
                if await self._store.take_approved(login.id, self._seams.now()):
                    await self._exchange(login, code, redirect_uri, code_verifier)
            case device.Pending(slower):
                await self._poll_again(login, interval + slower)
            case device.Unreachable(retry_after):
                await self._poll_again(login, max(min(interval * _RETRY_POLL, 60.0), retry_after))
            case device.Ended(code) if await self._store.take_approved(login.id, self._seams.now()):
                await self._fail(login, _ended(code))

    async def _poll_again(self, login: Login, interval: float) -> None:
        await self._store.poll_again(login.id, interval, self._seams.now() + interval)

    # -- the background's part -----------------------------------------------------------------------------------

    async def tend(self) -> float | None:
        """Start due polls and keep the right doors open. When to come again (epoch seconds), if anything is pending."""
        now = self._seams.now()
        due, later = await self._store.due_polls(now)
        for login_id in set(due) - self._polling:
            self._polling.add(login_id)
            self._track(self._polled(login_id))
        async with self._door_lock:
            uris = await self._store.redirect_uris(now)
            await self._door.keep({port for uri in uris if (port := urlsplit(uri).port)})
        return later

    async def _polled(self, login_id: str) -> None:
        try:
            await self.poll(login_id)
        finally:
            self._polling.discard(login_id)

    async def drain(self) -> None:
        """Wait until what was begun is finished: a code that was exchanged is stored before the process may end."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _track(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, AuthError):  # those were told to whoever asked
            log.error("a login ended by an error in this program", exc_info=error)

    # ------------------------------------------------------------------------------------------------------------

    async def _start_browser(
        self, provider: Provider, account: str, port: int, *, replace: bool, binding: Secret | None
    ) -> Login:
        login = Login(
            flow="browser",
            redirect_uri=provider.redirect_uri(port),
            oauth_state=Secret(b64url(self._seams.token_bytes(32))),
            verifier=Secret(verifier(self._seams.token_bytes(VERIFIER_BYTES))),
            binding=binding,
            **self._common(provider, account, replace=replace),
        )
        await self._store.add_login(login)
        return login

    async def _start_device(self, provider: Provider, account: str, *, replace: bool, fallback: str | None) -> Login:
        outcome: Outcome
        try:
            async with asyncio.timeout(_START_PATIENCE), self._issuer.slot():
                outcome = await self._issuer.send(requests.user_code(provider))
        except TimeoutError:
            outcome = NoAnswer("timeout")
        if not isinstance(outcome, Answer) or outcome.status >= 500 or outcome.status == 429:
            raise IssuerUnavailable("The issuer gives no device code just now.", retry_after=_COME_BACK)
        answer = device.read_user_code(outcome)
        if isinstance(answer, device.NoDeviceLogin):
            free_the_port = CallbackPortUnavailable.next_actions[1:] if fallback else ()
            raise DeviceLoginUnavailable("The issuer offers no device codes.", next_actions=free_the_port)
        if answer is None:
            raise IssuerRefused("The issuer refused to give a device code.")
        login = Login(
            flow="device",
            fallback=fallback,
            user_code=answer.user_code,
            device_auth_id=answer.device_auth_id,
            verification_uri=provider.verification_uri,
            interval=answer.interval,
            next_poll_at=self._seams.now() + answer.interval,
            **self._common(provider, account, replace=replace),
        )
        await self._store.add_login(login)
        return login

    def _common(self, provider: Provider, account: str, *, replace: bool) -> dict[str, Any]:
        now = self._seams.now()
        return {
            "id": b64url(self._seams.token_bytes(16)),
            "account": account,
            "provider": provider.name,
            "created_at": now,
            "expires_at": now + provider.login_lifetime,
            "replace": replace,
        }


_START_PATIENCE: Final = 10.0
"""Seconds that starting a device login may take: whoever starts one is waiting for the code."""

_COME_BACK: Final = 5
"""Seconds after which a login may be started again when the issuer gave nothing."""


def _tokens(verdict: Verdict) -> Tokens:
    """The tokens of a finished login, whole: without a refresh token it would not last."""
    match verdict:
        case Granted(tokens) if tokens.access_token and tokens.refresh_token and tokens.fault is None:
            return tokens
        case Granted():
            raise InvalidAnswer("The issuer's answer lacks a usable access token or the refresh token.")
        case Refused() | Misconfigured():
            raise IssuerRefused("The issuer refused to complete the login.")
        case Later(_, retry_after):
            raise IssuerUnavailable("The issuer cannot be reached just now.", retry_after=round(retry_after) or None)
    raise IssuerUnavailable("The issuer gave no readable answer; the login has to be started again.")


def _ended(code: str) -> AuthError:
    if code == "access_denied":
        return LoginDenied("The login was refused at the issuer.")
    if code == "expired_token":
        return LoginExpired("The device code has expired.")
    return IssuerRefused("The issuer ended the device login.")
