"""The warm path: tokens from memory, without a thread, a SELECT or a model.

A dictionary, one `PRAGMA data_version`, one pure decision, and bytes that are made once a second. Whatever is not plain
goes the long way through the routes, which give the same answer.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.types import Scope, Send

from service.broker.broker import Broker, Grant
from service.domain.caller import Caller
from service.domain.errors import StoreUnavailable
from service.web.answers import RENDERERS, Shape, plain_query, shape_of
from service.web.guard import Asker, access_log, dress
from service.web.schemas import seconds_until

_KEPT: Final = 1024
"""Answers kept: one for each account, path and shape that is in use."""


@dataclass(frozen=True, slots=True)
class _Ready:
    grant: Grant
    seconds_left: int
    start: dict[str, object]
    body: dict[str, object]


class Warm:
    """Answers what can be answered at once; says False to everything else."""

    def __init__(self, broker: Broker, now: Callable[[], float]) -> None:
        self._broker = broker
        self._now = now
        self._ready: dict[tuple[str, str, str], _Ready] = {}

    async def __call__(self, scope: Scope, asker: Asker, caller: Caller, send: Send) -> bool:
        """Whether the request has been answered. It has passed the guard, but for the account."""
        path = scope["path"]
        if path not in RENDERERS or scope["method"] != "GET":
            return False
        plain = plain_query(scope["query_string"])
        if plain is None or not caller.sees(plain[0].account):
            return False
        query, wish = plain
        try:
            grant = self._broker.warm_token(query.account, wish)
        except StoreUnavailable:
            return False  # the long way says what is wrong
        if grant is None:
            return False
        ready = self._rendered(path, grant, shape_of(query.format, asker.accept))
        await send(ready.start)
        await send(ready.body)
        if access_log.isEnabledFor(logging.DEBUG):
            access_log.debug("GET %s 200 from memory", path)
        return True

    def _rendered(self, path: str, grant: Grant, shape: Shape) -> _Ready:
        key, now = (path, grant.account, shape), self._now()
        left = 0 if grant.expires_at is None else seconds_until(grant.expires_at, now)
        ready = self._ready.get(key)
        if ready is None or ready.seconds_left != left or ready.grant != grant:
            told, body = RENDERERS[path](grant, now, shape)
            head = [(name.lower().encode(), value.encode()) for name, value in told.items()]
            head.append((b"content-length", str(len(body)).encode()))
            ready = _Ready(
                grant,
                left,
                {"type": "http.response.start", "status": 200, "headers": dress(head)},
                {"type": "http.response.body", "body": body},
            )
            if len(self._ready) >= _KEPT:
                self._ready.clear()
            self._ready[key] = ready
        return ready
