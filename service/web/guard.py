"""Who may ask at all: the right Host, no web page of others, a body of ours, and an answer nobody stores.

Outermost, before routing, on every request. Decides on the transport and on `scope["path"]`, never on a URL built from
headers. Host is what stops a rebound name; Origin and Sec-Fetch-Site are what stops pages.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.domain.errors import Code
from service.web.problems import problem

access_log = logging.getLogger("service.access")

MAX_BODY: Final = 256 * 1024
"""Bytes of a request body: an auth.json is a few thousand."""

BODY_WITHIN: Final = 5.0
"""Seconds for the whole body: who sends half of one must not hold up the end of the service."""

NAVIGABLE: Final = frozenset({"/", "/login", "/callback", "/auth/callback"})
"""Where a link on another site may lead a person's browser."""

OPEN: Final = frozenset({"/callback", "/auth/callback", "/healthz", "/readyz"})
"""What needs no mark: the state of a login is its own proof, and health tells nothing."""

ALWAYS: Final = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""On every answer."""

NO_CONTENT_POLICY: Final = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
"""On every answer that does not bring a policy of its own."""

_PROBES: Final = frozenset({"/healthz", "/readyz"})
"""Asked every few seconds by machines: logged only when something is wrong."""

_JSON: Final = frozenset({b"application/json", b"application/json;charset=utf-8"})


@dataclass(frozen=True, slots=True)
class Asker:
    """What the headers say that this room decides on; `hosts` as often as it was sent."""

    hosts: tuple[bytes, ...]
    origin: bytes | None = None
    fetch_site: bytes | None = None
    fetch_mode: bytes | None = None
    fetch_dest: bytes | None = None
    purpose: bytes | None = None
    accept: str = ""
    has_body: bool = False


@dataclass(frozen=True, slots=True)
class Allowed:
    """Host values and origins that are ours, and the header that a caller must send, if any; in lower case."""

    hosts: frozenset[bytes]
    origins: frozenset[bytes] = field(default_factory=frozenset)
    required_header: bytes | None = None


def allowed_for(
    port: int, public_url: str, extra_hosts: tuple[str, ...], required_header: str | None = None
) -> Allowed:
    """Exact strings only: parsing addresses is how such lists are got round."""
    authority = public_url.partition("://")[2].partition("/")[0]
    names = [f"{name}:{port}" for name in ("localhost", "127.0.0.1", "[::1]")]
    if port == 80:
        names += ["localhost", "127.0.0.1", "[::1]"]
    origins = {*(f"http://{name}" for name in names), f"{public_url.partition('://')[0]}://{authority}"}
    hosts = {*names, authority, *extra_hosts}
    return Allowed(
        frozenset(h.lower().encode() for h in hosts),
        frozenset(o.lower().encode() for o in origins),
        required_header.lower().encode() if required_header else None,
    )


def refusal(asker: Asker, method: str, path: str, allowed: Allowed) -> tuple[Code, str] | None:
    """Why this request is not answered, or None."""
    if len(asker.hosts) != 1 or asker.hosts[0].lower() not in allowed.hosts:
        return "host_not_allowed", "This service does not go by that name."
    if asker.purpose is not None and path == "/login":
        return "cross_site", "A login starts when a person opens it, not when a browser looks ahead."
    foreign = asker.origin is not None and asker.origin.lower() not in allowed.origins
    if (foreign or asker.fetch_site in (b"cross-site", b"same-site")) and not _is_navigation(asker, method, path):
        return "cross_site", "A page of another site may not use this service."
    return None


def _is_navigation(asker: Asker, method: str, path: str) -> bool:
    """A person's browser was led here, whole window, now."""
    top_level = asker.fetch_mode == b"navigate" and asker.fetch_dest == b"document" and asker.purpose is None
    return method == "GET" and path in NAVIGABLE and top_level


def asker_of(scope: Scope) -> Asker:
    """What the headers say."""
    hosts: list[bytes] = []
    origin = site = mode = dest = purpose = accept = None
    has_body = False
    for name, value in scope["headers"]:
        if name == b"host":
            hosts.append(value)
        elif name == b"accept":
            accept = value if accept is None else accept
        elif name in (b"content-length", b"transfer-encoding"):
            has_body = True
        elif name == b"origin":
            origin = value if origin is None else b"null"  # two origins are none of ours
        elif name.startswith(b"sec-"):
            if name == b"sec-fetch-site":
                site = value
            elif name == b"sec-fetch-mode":
                mode = value
            elif name == b"sec-fetch-dest":
                dest = value
            elif name == b"sec-purpose":
                purpose = value
    return Asker(tuple(hosts), origin, site, mode, dest, purpose, (accept or b"").decode("latin-1"), has_body)


class Guard:
    """The ASGI layer. `warm` may answer a request that passed, before anything slower is woken."""

    def __init__(
        self, app: ASGIApp, allowed: Allowed, warm: Callable[[Scope, Asker, Send], Awaitable[bool]] | None = None
    ) -> None:
        self._app = app
        self._allowed = allowed
        self._warm = warm

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, answer from memory, or pass on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})  # no WebSocket here, for nobody
        else:
            await self._asked(asker_of(scope), scope, receive, send)

    async def _asked(self, asker: Asker, scope: Scope, receive: Receive, send: Send) -> None:
        if no := refusal(asker, scope["method"], scope["path"], self._allowed):
            await self._passed(problem(*no), scope, receive, send)
        elif not self._is_marked(scope):
            await self._passed(problem("header_required", "This call lacks something."), scope, receive, send)
        elif asker.has_body:
            await self._with_body(scope, receive, send)
        elif self._warm is None or not await self._warm(scope, asker, send):
            await self._passed(self._app, scope, receive, send)

    def _is_marked(self, scope: Scope) -> bool:
        """Whether the call carries the header that forms, images and naive forwarders cannot send."""
        required = self._allowed.required_header
        return required is None or scope["path"] in OPEN or any(name == required for name, _ in scope["headers"])

    async def _with_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(BODY_WITHIN):
                body = await _read(receive)
        except ClientDisconnect:
            return  # half a request is none, and nobody is there to answer
        except TimeoutError:
            late = problem("invalid_request", "The body did not come in time.", headers={"Connection": "close"})
            await self._passed(late, scope, receive, send)
            return
        if body is None:
            await self._passed(problem("payload_too_large", f"At most {MAX_BODY} bytes."), scope, receive, send)
        elif body and _content_type(scope) not in _JSON:
            await self._passed(problem("unsupported_media_type", "The body is not JSON."), scope, receive, send)
        else:
            await self._passed(self._app, scope, _replay(body, receive), send)

    async def _passed(self, app: ASGIApp | Response, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        status = 0

        async def dressed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = dress(message.get("headers", ()))
            await send(message)

        try:
            await app(scope, receive, dressed)
        finally:
            took = (time.perf_counter() - began) * 1000
            route = getattr(scope.get("route"), "path", "-")  # never the path as sent: it may hold a token
            level = logging.DEBUG if status == 200 and route in _PROBES else logging.INFO
            access_log.log(level, "%s %s %d %.1fms", scope["method"], route, status, took)


def dress(headers: "list[tuple[bytes, bytes]] | tuple[()]") -> list[tuple[bytes, bytes]]:
    """The headers of an answer with those that every answer has."""
    names = {name.lower() for name, _ in headers}
    policy = () if NO_CONTENT_POLICY[0] in names else (NO_CONTENT_POLICY,)
    return [*headers, *ALWAYS, *policy]


async def _read(receive: Receive) -> bytes | None:
    """The whole body, counted as it comes; None if it is too large. Raises ClientDisconnect."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body once more and then goes on with what really comes."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _content_type(scope: Scope) -> bytes:
    values = [value for name, value in scope["headers"] if name == b"content-type"]
    return values[0].lower().replace(b" ", b"").replace(b'"', b"") if len(values) == 1 else b""
