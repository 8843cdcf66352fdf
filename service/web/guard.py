"""Who may ask at all: the right Host, no web page of others, somebody we know, a body of ours; an answer nobody stores.

Outermost, before routing, on every request. Decides on the transport and on `scope["path"]`, never on a URL built from
headers. Host is what stops a rebound name; Origin and Sec-Fetch-Site are what stops pages.
"""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from secrets import token_hex
from typing import Final, NamedTuple

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.domain.caller import Caller, Peer
from service.domain.errors import AuthError, Code
from service.domain.secret import Secret
from service.logs import request_id
from service.web import oauth
from service.web.callers import OPEN, Callers, call_of, is_route, name_of, permit
from service.web.metrics import Asking
from service.web.problems import problem, problem_of
from service.web.proxies import FORWARD_AUTH, for_a_proxy

access_log = logging.getLogger("service.access")

MAX_BODY: Final = 256 * 1024
"""Bytes of a request body: an auth.json is a few thousand."""

BODY_WITHIN: Final = 5.0
"""Seconds for the whole body: who sends half of one must not hold up the end of the service."""

NAVIGABLE: Final = frozenset({"/", "/login", "/callback", "/auth/callback"})
"""Where a link on another site may lead a person's browser."""

ALWAYS: Final = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
"""On every answer."""

NO_CONTENT_POLICY: Final = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
"""On every answer that does not bring a policy of its own."""

_PROBES: Final = frozenset({"GET /healthz", "GET /readyz"})
"""Asked every few seconds by machines: logged only when something is wrong with the service."""

_NOTHING: Final = problem("not_found", "There is nothing here.")

_JSON: Final = frozenset({b"application/json", b"application/json;charset=utf-8"})

_JSON_OR_FORM: Final = _JSON | {
    b"application/x-www-form-urlencoded",
    b"application/x-www-form-urlencoded;charset=utf-8",
}
"""What OAuth clients send to their token endpoint, and to no other place."""


class Asker(NamedTuple):
    """What the headers say that this room decides on, `hosts` as often as it was sent. Made for every request."""

    hosts: tuple[bytes, ...]
    origin: bytes | None = None
    fetch_site: bytes | None = None
    fetch_mode: bytes | None = None
    fetch_dest: bytes | None = None
    purpose: bytes | None = None
    accept: str = ""
    authorization: tuple[bytes, ...] = ()
    is_forwarded: bool = False
    has_body: bool = False


@dataclass(frozen=True, slots=True)
class Allowed:
    """Host values and origins that are ours, and the header that a caller must send, if any; in lower case."""

    hosts: frozenset[bytes]
    origins: frozenset[bytes]
    required_header: bytes | None


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


def refusal(
    asker: Asker, method: str, path: str, allowed: Allowed, *, is_unix: bool = False
) -> tuple[Code, str] | None:
    """Why nobody at all is answered this, or None."""
    if len(asker.hosts) != 1 or not _is_ours(asker.hosts[0].lower(), allowed, is_unix=is_unix):
        return "host_not_allowed", "This service does not go by that name."
    if asker.purpose is not None and path == "/login":
        return "cross_site", "A login starts when a person opens it, not when a browser looks ahead."
    foreign = asker.origin is not None and asker.origin.lower() not in allowed.origins
    if (foreign or asker.fetch_site in (b"cross-site", b"same-site")) and not _is_navigation(asker, method, path):
        return "cross_site", "A page of another site may not use this service."
    return None


def _is_ours(host: bytes, allowed: Allowed, *, is_unix: bool) -> bool:
    return host in allowed.hosts or (is_unix and host == b"localhost")  # no name leads to a unix socket


def _is_navigation(asker: Asker, method: str, path: str) -> bool:
    """A person's browser was led here, whole window, now."""
    top_level = asker.fetch_mode == b"navigate" and asker.fetch_dest == b"document" and asker.purpose is None
    return method == "GET" and path in NAVIGABLE and top_level


def asker_of(scope: Scope) -> Asker:
    """What the headers say."""
    hosts: tuple[bytes, ...] = ()
    authorization: tuple[bytes, ...] = ()
    origin = accept = None
    has_body = is_forwarded = False
    fetch: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name == b"host":
            hosts += (value,)
        elif name == b"accept":
            accept = value if accept is None else accept
        elif name in (b"content-length", b"transfer-encoding"):
            has_body = True
        elif name == b"origin":
            origin = value if origin is None else b"null"  # two origins are none of ours
        elif name == b"authorization":
            authorization += (value,)
        elif name in _FETCH:
            fetch[name] = value
        elif name[:1] in b"fvx" and _FORWARDING.match(name):
            is_forwarded = True
    site, mode, dest, purpose = map(fetch.get, _FETCH)
    told = (accept or b"").decode("latin-1")
    return Asker(hosts, origin, site, mode, dest, purpose, told, authorization, is_forwarded, has_body)


_FETCH: Final = (b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest", b"sec-purpose")
"""What browsers say of how a request came about, and no page can change."""

_FORWARDING: Final = re.compile(rb"(forwarded|via|x[-_]forwarded([-_].*)?)\Z", re.DOTALL)
"""Names of headers that say that somebody asks for somebody else; some servers take `_` for `-`."""


class _Refused(Exception):
    """Somebody is not let in; what he is answered."""

    def __init__(self, code: Code, who: str, answer: Response) -> None:
        self.code = code
        self.who = who
        self.answer = answer


class _Unread(Exception):
    """What somebody sends cannot be used; what he is answered."""

    def __init__(self, answer: Response) -> None:
        self.answer = answer


class Guard:
    """The ASGI layer. `warm` may answer a request that passed, before anything slower is woken."""

    def __init__(
        self,
        app: ASGIApp,
        allowed: Allowed,
        callers: Callers,
        warm: Callable[[Scope, Asker, Caller, Send], Awaitable[bool]] | None = None,
        asked: Callable[[str, int, Asking], None] = lambda _call, _status, _asking: None,
    ) -> None:
        """`asked` is told of every request: the call, the status of the answer, and who it was."""
        self._app = app
        self._allowed = allowed
        self._callers = callers
        self._warm = warm
        self._told = asked

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, answer from memory, or pass on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})  # no WebSocket here, for nobody
        else:
            await self._asked(asker_of(scope), self._callers.peer_of(scope), scope, receive, send)

    async def _asked(self, asker: Asker, peer: Peer, scope: Scope, receive: Receive, send: Send) -> None:
        asking: Asking = "anybody"
        stand_in = None
        try:
            self._see(asker, peer, scope)
            if _is_token_request(scope):
                stand_in, asker = await _stand_in(scope, receive), asker._replace(has_body=False)  # it has been read
            caller = await self._admitted(asker, peer, scope, stand_in)
            asking = "anybody" if caller is None else "key" if caller.is_key else "owner"
            if asker.has_body:
                most = 0 if caller is None else MAX_BODY  # what is open to all takes no body, and keeps none in memory
                receive = _replay(await _body(scope, receive, most, _JSON), receive)
        except ClientDisconnect:
            return  # half a request is none, and nobody is there to answer
        except _Unread as no:
            await self._passed(no.answer, scope, receive, send, asking)
            return
        except _Refused as no:
            self._callers.note("refused", no.who, no.code, detail=call_of(scope))
            if no.code in ("key_required", "wrong_user"):
                no.answer.headers["Connection"] = "close"  # a stranger is not kept: he would ask ten thousand times
            await self._passed(no.answer, scope, receive, send, "refused")
            return
        warm = None if asker.has_body else self._warm
        if caller is not None and warm is not None and await warm(scope, asker, caller, send):
            self._told(f"GET {scope['path']}", 200, asking)
        else:
            app = self._app if is_route(scope["path"]) else _NOTHING  # what has no rule never gets to a route
            await self._passed(app, scope, receive, send, asking)

    def _see(self, asker: Asker, peer: Peer, scope: Scope) -> None:
        """Whoever it is. Raises _Refused."""
        if no := refusal(asker, scope["method"], scope["path"], self._allowed, is_unix=peer.is_unix):
            raise _Refused(no[0], name_of(peer), problem(*no))

    async def _admitted(self, asker: Asker, peer: Peer, scope: Scope, stand_in: Secret | None) -> Caller | None:
        """Who asks, also for the routes; None where nobody is asked who he is. Raises _Refused."""
        if scope["path"] in OPEN:
            return None
        caller = None
        try:
            if stand_in is None:
                caller = await self._callers.recognise(peer, asker.authorization, is_forwarded=asker.is_forwarded)
            else:
                caller = await self._callers.holder(stand_in)
            permit(caller, scope["method"], scope["path"])
        except AuthError as exc:
            raise _Refused(exc.code, caller.name if caller else name_of(peer), problem_of(exc, "")) from exc
        if not self._is_marked(scope):
            raise _Refused("header_required", caller.name, problem("header_required", "This call lacks something."))
        scope.setdefault("state", {}).update(caller=caller, stand_in=stand_in)
        return caller

    def _is_marked(self, scope: Scope) -> bool:
        """Whether the call carries the header that forms, images and naive forwarders cannot send."""
        required = self._allowed.required_header
        return required is None or any(name == required for name, _ in scope["headers"])

    async def _passed(
        self, app: ASGIApp | Response, scope: Scope, receive: Receive, send: Send, asking: Asking
    ) -> None:
        request_id.set(token_hex(4))  # every request has a context of its own; what memory answers needs none
        began = time.perf_counter()
        status = 0

        async def dressed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = dress(message.get("headers", ()))
            await send(message)

        try:
            await app(scope, receive, _spoken_to(scope, dressed))
        finally:
            took = (time.perf_counter() - began) * 1000
            call = call_of(scope)  # never the path as sent: it may hold a token
            self._told(call, status, asking)
            is_quiet = asking == "refused" or _is_idle(asking, call, status)  # the trail counts who is refused
            access_log.log(logging.DEBUG if is_quiet else logging.INFO, "%s %d %.1fms", call, status, took)


def _spoken_to(scope: Scope, send: Send) -> Send:
    """A `send` that tells refusals as they are understood by who asks there."""
    if scope["path"] == FORWARD_AUTH:
        return for_a_proxy(send)
    return oauth.for_a_client(send) if _is_token_request(scope) else send


def _is_token_request(scope: Scope) -> bool:
    """Whether a client key is the refresh token in the body."""
    return (scope["method"], scope["path"]) == ("POST", oauth.TOKEN_ENDPOINT)


def _is_idle(asking: Asking, call: str, status: int) -> bool:
    """Whether it says nothing of the service: a good probe, or what anybody can make it answer as often as he likes."""
    return (status == 200 and call in _PROBES) or (400 <= status < 500 and asking == "anybody")


def dress(headers: "list[tuple[bytes, bytes]] | tuple[()]") -> list[tuple[bytes, bytes]]:
    """The headers of an answer with those that every answer has."""
    names = {name.lower() for name, _ in headers}
    policy = () if NO_CONTENT_POLICY[0] in names else (NO_CONTENT_POLICY,)
    return [*headers, *ALWAYS, *policy]


async def _stand_in(scope: Scope, receive: Receive) -> Secret:
    """The client key of a token request, who has not been recognised yet. Raises _Unread, ClientDisconnect."""
    body = await _body(scope, receive, oauth.MAX_BODY, _JSON_OR_FORM)
    try:
        return oauth.refresh_token(_content_type(scope), body)
    except AuthError as exc:
        raise _Unread(problem_of(exc, "")) from exc


async def _body(scope: Scope, receive: Receive, most: int, kinds: frozenset[bytes]) -> bytes:
    """The whole body, of one of these types unless it is empty. Raises _Unread, ClientDisconnect."""
    try:
        async with asyncio.timeout(BODY_WITHIN):
            body = await _read(receive, most)
    except TimeoutError as exc:
        headers = {"Connection": "close"}
        raise _Unread(problem("invalid_request", "The body did not come in time.", headers=headers)) from exc
    if body != b"" and _content_type(scope) not in kinds:
        raise _Unread(problem("unsupported_media_type", "A body of this type is not read here."))
    if body is None:
        raise _Unread(problem("payload_too_large", f"At most {most} bytes."))
    return body


async def _read(receive: Receive, most: int) -> bytes | None:
    """The whole body, counted as it comes; None if it is larger. Raises ClientDisconnect."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > most:
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
