"""The outermost layer: records every request and lets scripted faults befall the answers.

Promises that what a test scripted happens whatever the endpoint would have said, and that each request is
in the log before its answer leaves. Must not know OAuth.

What a fault looks like to the client:

| fault | over a socket (uvicorn) | in-process (httpx.ASGITransport) |
|---|---|---|
| answer | that answer | the same |
| truncate | the connection closes before Content-Length bytes came | 200 with the body cut short |
| hang | silence until the client leaves | waits for ever: put the call under a timeout |
| drop | the connection closes before a byte came | `knobs.drop_error()` is raised out of the call |
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from . import wire
from .faults import TOKEN_PATH, Fault, Script
from .wire import Parameters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from .state import State

# A long soak keeps its newest requests; old ones go in slabs, so that it stays cheap.
LOG_LIMIT = 200_000
_SLAB = 10_000
# The API is sent whole conversations; only what is the size of a token request is kept.
_KEPT_BODY = 64 * 1024
CONTROL = "/_sandbox/"


@dataclass(frozen=True, slots=True)
class Received:
    """One request. `headers` by lower-case name, `status` None while (or for ever) unanswered."""

    at: float
    method: str
    path: str
    query: Mapping[str, Any]
    content_type: str
    headers: Mapping[str, str]
    form: Mapping[str, Any]
    status: int | None = None


@dataclass(slots=True)
class _Captured:
    """An answer that has not left yet."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message["headers"])
        else:
            self.body += message.get("body", b"")


class Layer:
    """An ASGI application around another one."""

    def __init__(self, inner: ASGIApp, state: State) -> None:
        self._inner = inner
        self._state = state
        self.script = Script()
        self.requests: list[Received] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        body = await _read(receive)
        if body is None:
            return
        scope["sandbox.parameters"] = _parameters(scope, body)
        if scope["path"].startswith(CONTROL):
            await self._inner(scope, receive, send)
            return
        record = self._record(scope)
        fault = self.script.take(record.path, record.form.get("grant_type"))
        answer = await self._prepared(fault, scope, receive)
        if record.path == TOKEN_PATH and self._state.knobs.latency:
            await asyncio.sleep(self._state.knobs.latency)
        if fault and fault.how in ("hang", "drop"):
            await self._withhold(fault, receive)
            return
        self._settle(record, answer.status)
        await _deliver(answer, fault, receive, send)

    async def _prepared(self, fault: Fault | None, scope: Scope, receive: Receive) -> _Captured:
        """What will be answered, after the endpoint did its part (or was kept from it)."""
        answer = _Captured()
        if fault is None or fault.after_processing or fault.how == "truncate":
            await self._inner(scope, receive, answer.send)
        return _broken(fault) if fault and fault.how == "answer" else answer

    async def _withhold(self, fault: Fault, receive: Receive) -> None:
        transport = _transport(receive)
        if fault.how == "drop":
            if transport is None:
                raise self._state.knobs.drop_error()
            transport.abort()
        await _gone(receive)

    def _record(self, scope: Scope) -> Received:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        record = Received(
            at=self._state.now(),
            method=scope["method"],
            path=scope["path"],
            query=wire.from_query(scope["query_string"].decode("latin-1")).values,
            content_type=headers.get("content-type", ""),
            headers=headers,
            form=scope["sandbox.parameters"].values,
        )
        self.requests.append(record)
        if len(self.requests) > LOG_LIMIT:
            del self.requests[:_SLAB]
        return record

    def _settle(self, record: Received, status: int) -> None:
        """Put the status into the log; its entry is near the end, or was cleared by the test."""
        for position in range(len(self.requests) - 1, -1, -1):
            if self.requests[position] is record:
                self.requests[position] = replace(record, status=status)
                return


async def _read(receive: Receive) -> bytes | None:
    """The whole body; None when the client left in the middle of it."""
    chunks: list[bytes] = []
    while (message := await receive())["type"] == "http.request":
        chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(chunks)
    return None


def _parameters(scope: Scope, body: bytes) -> Parameters:
    headers = dict(scope["headers"])
    if len(body) > _KEPT_BODY or b"content-encoding" in headers:
        return Parameters({}, "The body is too large or encoded.")
    return wire.decoded(headers.get(b"content-type", b"").decode("latin-1"), body)


def _broken(fault: Fault) -> _Captured:
    raw = fault.body if isinstance(fault.body, bytes) else json.dumps(fault.body).encode()
    headers = {
        "content-type": fault.content_type,
        "content-length": str(len(raw)),
        **{name.lower(): value for name, value in fault.headers.items()},
    }
    pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    return _Captured(fault.status, pairs, raw)


async def _deliver(answer: _Captured, fault: Fault | None, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    if fault is None or fault.how != "truncate":
        await send({"type": "http.response.body", "body": answer.body})
        return
    cut = answer.body[: fault.at_byte]
    transport = _transport(receive)
    await send({"type": "http.response.body", "body": cut, "more_body": transport is not None})
    if transport is not None:
        transport.close()
        await _gone(receive)


def _transport(receive: Receive) -> asyncio.Transport | None:
    """uvicorn passes a bound method of the object that owns the connection; nothing else does."""
    transport: asyncio.Transport | None = getattr(getattr(receive, "__self__", None), "transport", None)
    return transport


async def _gone(receive: Receive) -> None:
    """The body was read, so all that can still arrive is the news that the client left."""
    await receive()
