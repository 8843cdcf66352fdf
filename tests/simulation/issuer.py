"""An issuer that rotates, and what lies between it and a process.

A spent refresh token ends its family (RFC 9700 section 4.14.2); a lenient issuer answers one that was spent a moment
ago once more. `Wire` is `service.issuer.Issuer` with everything but the network: its slots, time limit and last look
are the real ones, so that what a stopped process does on waking is what the product does.
"""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import httpx

from service.issuer import Issuer
from service.oauth.wire import Request
from tests.simulation.loop import Loop
from tests.simulation.plan import CallFate

_CONNECT_LIMIT: Final = 10.0
"""Seconds after which httpx gives up connecting."""

_UNCLEAR: Final = frozenset({"error", "error_spent", "lost", "reset", "silent"})
"""From none of these can a client tell whether the token was spent."""

_NOT_LOOKED_AT: Final = {"busy": (429, b'{"error":"slow_down"}'), "misconfigured": (403, b"<html>portal</html>")}


@dataclass
class Family:
    """All tokens of one login."""

    current: str
    alive: bool = True
    before: str | None = None  # the token before the current one, and when it was spent
    spent_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back over the wire."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


class FakeIssuer:
    """The token endpoint. `window`: seconds in which a spent token is answered again; None: never (strict)."""

    def __init__(self, *, lifetime: float, window: float | None) -> None:
        self.lifetime = lifetime
        self.window = window
        self.family_of: dict[str, Family] = {}
        self.looks: Counter[str] = Counter()
        self.too_late: set[str] = set()
        self._minted = 0

    def log_in(self) -> tuple[str, str]:
        """A new family: access token and refresh token."""
        access, refresh = self._mint()
        self.family_of[refresh] = Family(refresh)
        return access, refresh

    def refresh(self, token: str, now: float) -> Reply:
        """RFC 6749 section 6, with rotation."""
        family = self.family_of[token]
        if not family.alive:
            return Reply(400, b'{"error":"invalid_grant"}')
        if token == family.current:
            return self._rotate(family, token, now)
        if self.window is not None and token == family.before:
            if now - family.spent_at <= self.window:
                return self._granted(self._mint()[0], family.current)
            self.too_late.add(token)
        family.alive = False
        return Reply(400, b'{"error":"refresh_token_reused"}')

    def revoke(self, token: str) -> Reply:
        """RFC 7009: ends the family."""
        if token in self.family_of:
            self.family_of[token].alive = False
        return Reply(200, b"{}")

    def _rotate(self, family: Family, token: str, now: float) -> Reply:
        access, refresh = self._mint()
        family.before, family.spent_at, family.current = token, now, refresh
        self.family_of[refresh] = family
        return self._granted(access, refresh)

    def _granted(self, access: str, refresh: str) -> Reply:
        answer = {"access_token": access, "refresh_token": refresh, "token_type": "Bearer", "expires_in": self.lifetime}
        return Reply(200, json.dumps(answer).encode())

    def _mint(self) -> tuple[str, str]:
        self._minted += 1
        return f"at{self._minted}", f"rt{self._minted}"


class Host(Protocol):
    """The process that calls, as far as the way has to know it."""

    name: str
    is_dead: bool

    async def moment(self, what: str) -> None:
        """A step of its work: it may be stopped or killed here."""

    def call_fate(self) -> CallFate:
        """What comes of the next call."""

    def unclear(self, token: str) -> None:
        """This process cannot know whether the token was spent."""

    def broke(self, law: str, what: str) -> None:
        """A law of the house was broken."""

    def trace(self, what: str) -> None:
        """What happens, for who replays it."""


class Network:
    """What is under way between all processes and the issuer."""

    def __init__(self, issuer: FakeIssuer, loop: Loop) -> None:
        self.issuer = issuer
        self.loop = loop
        self.calls: list[float] = []
        self._context = loop.context_of(loop.world)
        self._under_way: Counter[str] = Counter()
        self._calling: defaultdict[str, list[Host]] = defaultdict(list)

    def write(self, host: Host, kind: str, token: str, fate: CallFate) -> asyncio.Future[Reply]:
        """The bytes leave the process, and nothing takes them back."""
        answer: asyncio.Future[Reply] = self.loop.create_future()
        if kind == "refresh":
            self.calls.append(self.loop.time())
            self._begin(host, token)
            if fate.kind in _UNCLEAR:
                host.unclear(token)
        self.loop.call_later(fate.arrive, self._arrive, host, kind, token, fate, answer, context=self._context)
        if fate.kind == "reset":  # the connection breaks, and the bytes may still be on their way
            self.loop.call_later(fate.answer, _fail, answer, context=self._context)
        return answer

    @contextmanager
    def call(self, host: Host, token: str) -> Iterator[None]:
        """Somebody is waiting for what becomes of a token: never two."""
        if any(not other.is_dead for other in self._calling[token]):
            host.broke("spent twice", f"two ask for the successor of {token}")
        self._calling[token].append(host)
        try:
            yield
        finally:
            self._calling[token].remove(host)

    def _begin(self, host: Host, token: str) -> None:
        self._under_way[token] += 1
        if self._under_way[token] > 1 and self.issuer.window is None:  # a lenient one is asked again at once
            host.broke("spent twice", f"{token} is under way twice")

    def _arrive(self, host: Host, kind: str, token: str, fate: CallFate, answer: asyncio.Future[Reply]) -> None:
        if kind == "refresh":
            self._under_way[token] -= 1
        reply = self._reply(kind, token, fate)
        host.trace(f"the issuer has {kind} {token} of {host.name}: {fate.kind}, {reply.status if reply else 'nothing'}")
        if reply is None:
            self.loop.call_later(fate.answer, _fail, answer, context=self._context)
        elif fate.kind not in ("silent", "reset"):
            self.loop.call_later(fate.answer, _give, answer, reply, context=self._context)

    def _reply(self, kind: str, token: str, fate: CallFate) -> Reply | None:
        if kind == "revoke":
            return self.issuer.revoke(token)
        if fate.kind in _NOT_LOOKED_AT:
            status, body = _NOT_LOOKED_AT[fate.kind]
            return Reply(status, body, {"retry-after": "7"})
        if fate.kind == "lost":
            return None
        self.issuer.looks[token] += 1
        if fate.kind == "error":
            return Reply(500, b"oops")
        reply = self.issuer.refresh(token, self.loop.time())
        if fate.kind == "error_spent":
            return Reply(502, b"oops")
        return Reply(200, reply.body[:-4]) if fate.kind == "torn" and reply.status == 200 else reply


class Wire(Issuer):
    """The real way out of one process, on a simulated network."""

    def __init__(self, network: Network, host: Host, *, timeout: float) -> None:
        super().__init__(timeout=timeout, transport=httpx.MockTransport(_nowhere), boot=network.loop.time)
        self._network = network
        self._host = host

    async def _exchange(self, request: Request, call: Any) -> None:
        members = json.loads(request.body)
        token = members.get("refresh_token") or members["token"]
        fate = self._host.call_fate()
        await self._connect(fate)
        await call.note("http11.send_request_headers.started", {})
        await self._host.moment("before the first byte")
        self._host.trace(f"{self._host.name} sends {request.kind} {token}")
        with self._network.call(self._host, token) if request.kind == "refresh" else nullcontext():
            reply = await self._answer(request.kind, token, fate, call.deadline)
        await self._host.moment("answer read")
        call.status, call.headers = reply.status, reply.headers
        call.body += reply.body

    async def _answer(self, kind: str, token: str, fate: CallFate, deadline: float) -> Reply:
        answer = self._network.write(self._host, kind, token, fate)
        try:
            return await answer
        except asyncio.CancelledError:
            is_late = answer.cancelled() and self._network.loop.time() >= deadline
            if kind == "refresh" and is_late:  # it had not come when the time was over
                self._host.unclear(token)
            raise

    async def _connect(self, fate: CallFate) -> None:
        began = self._network.loop.time()
        await self._host.moment("connecting")
        await asyncio.sleep(fate.connect)
        if fate.kind == "refused":
            raise httpx.ConnectError("refused")
        if self._network.loop.time() - began > _CONNECT_LIMIT:  # it was stopped meanwhile: its timer comes first
            raise httpx.ConnectTimeout("late")


def _nowhere(_request: httpx.Request) -> httpx.Response:
    raise AssertionError("nothing leaves a simulation")


def _give(answer: asyncio.Future[Reply], reply: Reply) -> None:
    if not answer.done():
        answer.set_result(reply)


def _fail(answer: asyncio.Future[Reply]) -> None:
    if not answer.done():
        answer.set_exception(httpx.ReadError("reset"))
