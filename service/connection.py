"""One connection of a client: how long and how much it may send, and what is said of what cannot be read.

Around uvicorn's protocol. Promises that a client which dawdles, floods or talks nonsense costs a bounded time and a
bounded piece of memory, that each request is answered once and in order, and that an answer can be read even by who is
still sending. Sends back nothing of what was sent, and logs nothing of it. Decides nothing about what is asked.
"""

import asyncio
import functools
from collections.abc import Callable
from typing import Any, Final, NoReturn, cast

import httptools
from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from service.crowd import crowd
from service.domain.caller import Peer
from service.domain.errors import Code
from service.peer import peer_of
from service.web.guard import dress
from service.web.problems import problem
from service.web.proxies import FORWARD_AUTH, for_proxies

REQUEST_WITHIN: Final = 8.0
"""Seconds for a whole request, from when it is waited for. A few bytes now and then do not make them more."""

MAX_HEAD: Final = 32 * 1024
"""Bytes of request line and headers: a key and a few cookies are a tenth of it."""

MAX_HEADERS: Final = 100
"""Each costs many times its bytes."""

MAX_WAITING: Final = 32
"""Requests sent before the answer to the first: each costs kilobytes, and one packet may hold ten thousand."""

_NONE, _HEAD, _BODY = range(3)

_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
"""What says where a request ends."""

Fault = tuple[Code, str]

_UNREADABLE: Final[Fault] = "malformed_request", "The request is not HTTP/1.1, or not clearly so."
_TOO_LARGE: Final[Fault] = "headers_too_large", f"At most {MAX_HEAD} bytes of request line and headers."
_TOO_MANY: Final[Fault] = "malformed_request", "Too many requests before their answers."
_UPGRADE: Final[Fault] = "malformed_request", "A request with a body cannot ask for another protocol."


class _Refused(Exception):
    """Stops the parser; what is wrong is in `_fault`."""


class Outbox:
    """The transport, as answers see it. A head waits for the piece that follows it: each write would be a packet."""

    __slots__ = ("_held", "_way", "close", "is_closing")

    def __init__(self, way: asyncio.Transport, close: Callable[[], None]) -> None:
        """`close`: called to close after the last answer."""
        self._way = way
        self._held = b""
        self.close = close
        self.is_closing = way.is_closing

    def write(self, data: bytes) -> None:
        """A head, or a piece of a body; what only looks like a head is a little later, no more."""
        if not self._held and data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 1"):
            self._held = data
        else:
            held, self._held = self._held, b""
            self._way.write(held + data)

    def flush(self) -> None:
        """Have the head sent: nothing follows it."""
        if self._held:
            self.write(b"")


class Connection(HttpToolsProtocol):
    """The protocol; `scope["state"]["peer"]` of each request says who is at the other end.

    Waiting for a request, the deadline runs; while an answer to a whole one is owed it does not; idle between two, the
    keep-alive does. Once deaf, whatever comes is let go by; parting, the last answer has been written.
    """

    _peer: Peer | None = None
    _way: asyncio.Transport
    _outbox: Outbox
    _deadline: asyncio.TimerHandle | None = None
    _fault: Fault | None = None
    _owed = 0  # answers to requests whose head was whole
    url = b""  # until a request begins
    _is_deaf = _is_parting = _has_ended = _has_body = _has_advanced = False
    _part_read = 0  # _NONE, _HEAD or _BODY of a request
    _idle_bytes = 0  # pieces of which nothing has become

    # the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let it in, if there is room, and have the kernel say whose it is."""
        peer = peer_of(transport.get_extra_info("socket"))
        self._way = transport
        if not crowd().admits(peer):
            self._is_deaf = True
            transport.abort()
            return
        self._peer = peer
        self.app_state = {**self.app_state, "peer": peer}
        super().connection_made(transport)
        self._outbox = Outbox(transport, self._close_after_answer)
        self.transport = cast(asyncio.Transport, self._outbox)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it out, and stop the clocks."""
        self._is_deaf = True
        self._stop_deadline()
        if self._peer is None:  # never let in
            return
        crowd().loses(self._peer)
        self._outbox.close = self._way.close  # else the garbage collector would have to find every connection
        self.transport = self._way
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Who has sent all that he will may wait for the answers to it, unless the last request is not whole."""
        if self._is_parting or not self._owed or (self.cycle.more_body and not self._fault):
            return None
        self._is_deaf = self._has_ended = True
        if not self._fault:
            self.cycle.keep_alive = False
        return True

    def shutdown(self) -> None:
        """The service ends: who is owed an answer gets it."""
        if self._owed:
            super().shutdown()
        else:
            self._way.close()

    # what comes

    def data_received(self, data: bytes) -> None:
        """Have it parsed, in pieces that bound what may become of them before anybody looks."""
        if self._is_deaf:
            return
        self._unset_keepalive_if_required()
        if len(data) <= MAX_HEAD:
            self._feed(data)
        else:
            any(not self._feed(data[start : start + MAX_HEAD]) for start in range(0, len(data), MAX_HEAD))
        self._watch()

    def _feed(self, piece: bytes) -> bool:
        """Parse; whether more of it is of interest."""
        self._has_advanced = False
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:  # to a protocol that we do not speak: one answer, and the end
            self._is_deaf = True
            self.cycle.keep_alive = False
        except httptools.HttpParserError:
            self._refuse(self._fault or _UNREADABLE)
        else:
            self._idle_bytes = 0 if self._has_advanced else self._idle_bytes + len(piece)
            if self._idle_bytes >= MAX_HEAD:  # of a head, of trailers or between two requests
                self._refuse(_TOO_LARGE if self._part_read == _HEAD else _UNREADABLE)
        return not self._is_deaf

    # what the parser says

    def on_message_begin(self) -> None:
        """A request."""
        self._part_read = _HEAD
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is whole: begin the answer, unless it could be read in more ways than one (RFC 9112 section 6.3)."""
        self._part_read = _BODY
        self._has_advanced = True
        headers, version = self.headers, self.parser.get_http_version()
        if len(headers) > MAX_HEADERS or (self._idle_bytes and self._head_bytes() > MAX_HEAD):
            self._stop(_TOO_LARGE)
        framing = [header for header in headers if header[0] in _FRAMING]
        if (
            len(framing) > 1
            or (framing and framing[0][0] == b"transfer-encoding" and not _is_chunked(framing[0][1], version))
            or version not in ("1.1", "1.0")
            or not self.url.startswith(b"/")  # neither `*` nor a whole URL
            or b"#" in self.url
            or self.parser.get_method() == b"CONNECT"
        ):
            self._stop(_UNREADABLE)
        self._has_body = bool(framing) and framing[0][1] != b"0"
        if self._has_body and self.parser.should_upgrade():
            self._stop(_UPGRADE)  # the parser would take the body for the other protocol
        if len(self.pipeline) == MAX_WAITING:
            self._stop(_TOO_MANY)
        super().on_headers_complete()
        self._owed += 1
        self.headers = []  # for trailers: nobody has asked for any, and they must not look like headers

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._has_advanced = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._has_advanced = True
        self._part_read = _NONE
        super().on_message_complete()

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _stop(self, fault: Fault) -> NoReturn:
        self._fault = fault
        raise _Refused

    # answers

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        super()._start_asgi_task(cycle, _parting(app, cycle) if self._has_body and cycle.more_body else app)

    def on_response_complete(self) -> None:
        """Go on with the next request, if there is one."""
        self._outbox.flush()
        self._owed -= 1
        if self._is_parting or self._way.is_closing():
            self.server_state.total_requests += 1
        elif self._fault and not self._owed:
            self._say(self._fault)
        else:
            super().on_response_complete()
            if self._owed or self._part_read:
                self._unset_keepalive_if_required()
                self._watch()

    def _refuse(self, fault: Fault) -> None:
        """Say what is wrong after all that is owed for what came before."""
        self._is_deaf = True
        self._fault = fault
        if self._part_read == _BODY and self._owed and self.cycle.more_body:
            if self.pipeline:
                self.pipeline.popleft()  # not begun
            elif self.cycle.response_started:
                self.cycle.keep_alive = False
                return
            else:  # nobody may take half a body for a whole one, nor answer it
                self.cycle.disconnected = True
                self.cycle.message_event.set()
            self._owed -= 1
        if not self._owed:
            self._say(fault)

    def _say(self, fault: Fault) -> None:
        status, rest = _refusal(*fault, is_proxy=self.url.partition(b"?")[0] == FORWARD_AUTH.encode())
        date = b"".join(b"%b: %b\r\n" % pair for pair in self.server_state.default_headers)
        self._way.write(STATUS_LINE[status] + date + rest)
        self._part()

    def _close_after_answer(self) -> None:
        """Where uvicorn closes after the last answer. Closing on what has not been read would destroy the answer."""
        self._outbox.flush()
        if self._part_read or self._is_deaf:
            self._part()
        else:
            self._way.close()

    def _part(self) -> None:
        """Nothing more will be said; let what still comes go by, until the client closes too or its time is over."""
        self._is_deaf = self._is_parting = True
        self._unset_keepalive_if_required()
        if self._has_ended:
            self._way.close()
        elif not self._way.is_closing():
            self._way.write_eof()
            self.flow.resume_reading()
            self._watch()

    # the clock

    def _watch(self) -> None:
        """Have the deadline run while it is the client's turn."""
        is_ours = self._owed > 1 or (self._owed == 1 and not self.cycle.more_body)
        if is_ours and not self._is_parting:
            self._stop_deadline()
        elif self._deadline is None and not self._way.is_closing():
            self._deadline = self.loop.call_later(REQUEST_WITHIN, self._way.abort)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _is_chunked(coding: bytes, version: str) -> bool:
    return coding.lower() == b"chunked" and version == "1.1"


def _parting(app: Any, cycle: RequestResponseCycle) -> Any:
    """The application, whose answer says that it is the last if the request is not whole by then."""

    async def parting(scope: Any, receive: Any, send: Any) -> None:
        async def said(message: Any) -> None:
            if cycle.more_body:
                cycle.keep_alive = False
            await send(message)

        await app(scope, receive, said)

    return parting


@functools.cache
def _refusal(code: Code, detail: str, *, is_proxy: bool) -> tuple[int, bytes]:
    """Status and all that follows the headers of the day."""
    answer = problem(code, detail, headers={"Connection": "close"})
    start: Message = {"status": answer.status_code, "headers": answer.raw_headers}
    body = bytes(answer.body)
    if is_proxy:
        start, body = for_proxies(start, body)
    head = b"".join(b"%b: %b\r\n" % pair for pair in dress(start["headers"]))
    return int(start["status"]), head + b"\r\n" + body
