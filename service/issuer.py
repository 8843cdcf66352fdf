"""Sends one request to an issuer and says what became of it. The only file that knows httpx.

Promises to tell "surely not sent" from "perhaps acted upon": a refresh token may be spent in the second case. Fresh
connection each time (a kept one may be half dead), HTTP/1.1, certificates verified, no redirects, no proxy or netrc
from the environment, answers capped in size, everything over within the time limit.
"""

import asyncio
import logging
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final

import certifi
import httpx

from service import __version__, clock
from service.oauth.wire import Answer, NoAnswer, NotSent, Outcome, Request

log = logging.getLogger(__name__)

Transport = httpx.AsyncBaseTransport
"""A way out: the network, or something else in a test."""

_CALLS: Final = 32
"""Calls at a time: a burst of accounts must not stall the loop or look like an attack, nor a few that hang delay it."""

_MAX_BODY: Final = 1024 * 1024
"""Bytes of an answer that are read: a thousand times a token answer."""

_LINGER_MS: Final = 10_000
"""Milliseconds that the kernel may hold unacknowledged bytes: after that a dead owner's request is dead too."""

_LAST_LOOK: Final = 0.5
"""Seconds beyond the time limit in which an answer that has arrived is still read; a process that is late already gets
as many again as it is late, up to the limit itself."""

_NEVER_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
_MAYBE_SENT: Final = (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError, httpx.DecodingError)


class Issuer:
    """The way out. One for the life of the process: one TLS context, one limit on calls."""

    def __init__(
        self, *, timeout: float, transport: Transport | None = None, boot: Callable[[], float] = clock.boot
    ) -> None:
        """`timeout`: seconds one call may take in all. `transport`: another way out than the network, for tests.

        boot: seconds that only grow, also while the process is stopped.
        """
        self.timeout: Final = timeout
        self._boot = boot
        self._slots = asyncio.Semaphore(_CALLS)
        self._client = httpx.AsyncClient(
            transport=transport or _transport(),
            timeout=httpx.Timeout(None, connect=min(timeout, 10.0)),  # `_within_time` has the rest
            follow_redirects=False,
            trust_env=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # one account's would go along with the next's
            headers={"User-Agent": f"pixir-auth/{__version__}", "Accept": "application/json"},
        )

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """The right to make one call. Wait for it *before* claiming anything: a claim must be fresh when it is used."""
        async with self._slots:
            yield

    async def send(self, request: Request) -> Outcome:
        """What became of the request. Never raises for what the network or the issuer does. Needs a slot."""
        call = _Call(self._boot, self._boot() + self.timeout)
        work = asyncio.create_task(self._exchange(request, call))
        try:
            await self._within_time(work, call.deadline)
        finally:
            work.cancel()  # nothing may be sent any more when this returns
            await asyncio.wait({work})
        outcome = _outcome(work, call)
        log.debug("%s: %s", request.kind, outcome)
        return outcome

    async def _within_time(self, work: asyncio.Task[None], deadline: float) -> None:
        """Wait for the end or the time limit.

        A process that was stopped finds its time over and its answer arrived, and the timer comes first: it gets a
        moment to read what is there, the longer the later it is, because an answer unread is a refresh token lost. If
        it was stopped just before its first byte, that answer is still to come.
        """
        done, _ = await asyncio.wait({work}, timeout=self.timeout)
        if not done:
            await asyncio.wait({work}, timeout=_LAST_LOOK + min(max(0.0, self._boot() - deadline), self.timeout))

    async def close(self) -> None:
        """Give the connections back."""
        await self._client.aclose()

    async def _exchange(self, request: Request, call: "_Call") -> None:
        async with self._client.stream(
            "POST",
            request.url,
            content=request.body,
            headers={"Content-Type": request.content_type, "Accept-Encoding": "gzip"},
            extensions={"trace": call.note},
        ) as response:
            call.status = response.status_code
            call.headers = {name: response.headers[name] for name in ("retry-after",) if name in response.headers}
            unpacked = _unpacker(response.headers.get("content-encoding", ""))
            async for chunk in response.aiter_raw():
                call.body += unpacked(chunk)
                if len(call.body) > _MAX_BODY:
                    raise httpx.ReadError("answer too large")


class _Call:
    """How far a call has come, and until when it may begin to send, by the clock that counts sleep."""

    def __init__(self, boot: Callable[[], float], deadline: float) -> None:
        self._boot = boot
        self.deadline = deadline
        self.sent = False
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = bytearray()

    async def note(self, event: str, _info: dict[str, Any]) -> None:
        """httpcore tells each step before it takes it."""
        if event.endswith(("send_request_headers.started", "send_request_body.started")):
            if self._boot() > self.deadline:  # it was stopped until now: others may have given this attempt up
                raise httpx.ConnectTimeout("the time is over before the first byte")
            self.sent = True

    def answer(self) -> Answer:
        """What has been read so far."""
        return Answer(self.status, bytes(self.body), self.headers)

    def broken_off(self, error: str) -> Outcome:
        """What an error means at this point. Half a success may still hold the one copy of a new refresh token."""
        if self.status == 200 and self.body:
            return self.answer()
        return NoAnswer(error) if self.sent or self.status else NotSent(error)


def _outcome(work: asyncio.Task[None], call: _Call) -> Outcome:
    if work.cancelled():
        return call.broken_off("timeout")
    error = work.exception()
    if error is None:
        return call.answer()
    if isinstance(error, _NEVER_SENT):
        return NotSent(_name(error))
    if not isinstance(error, httpx.HTTPError | httpx.InvalidURL | httpx.StreamError):
        log.error("an error that nobody expected on the way to the issuer", exc_info=error)
    call.sent = call.sent or isinstance(error, _MAYBE_SENT)
    return call.broken_off(_name(error))


def _unpacker(encoding: str) -> Callable[[bytes], bytes]:
    """What is in a piece of the body, but never more than is read of a body: a small piece can unpack to gigabytes."""
    if encoding.strip().lower() not in ("gzip", "deflate"):
        return bytes
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # both, told apart by their heads

    def unpacked(piece: bytes) -> bytes:
        try:
            return inflater.decompress(piece, _MAX_BODY + 1)
        except zlib.error as exc:
            raise httpx.DecodingError("the answer cannot be unpacked") from exc

    return unpacked


def trusted() -> ssl.SSLContext:
    """Whom an issuer has to be verified by, whatever the environment says."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # not create_default_context: it obeys SSLKEYLOGFILE
    context.load_verify_locations(certifi.where())
    return context


def _transport() -> httpx.AsyncHTTPTransport:
    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        options.append((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _LINGER_MS))
    return httpx.AsyncHTTPTransport(
        verify=trusted(),
        trust_env=False,
        limits=httpx.Limits(max_keepalive_connections=0),
        socket_options=options,
    )


def _name(exc: BaseException) -> str:
    """`ReadTimeout` becomes `read_timeout`. Never the message: it may hold the URL or a piece of the answer."""
    name = type(exc).__name__
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
