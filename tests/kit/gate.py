"""A way to the issuer that can be held shut, so that a test decides what happens in the meantime."""

import asyncio
from collections.abc import Callable

import httpx


class Gate(httpx.AsyncBaseTransport):
    """Passes requests on. While `hold_before` or `hold_after` is cleared, they wait before or after the issuer acts.

    `arrived` is set when a request waits; `fail`, if set, is raised in its place: before the issuer sees it.
    `lose`, if set, is raised after the issuer has acted.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner
        self.hold_before = asyncio.Event()
        self.hold_after = asyncio.Event()
        self.hold_before.set()
        self.hold_after.set()
        self.arrived = asyncio.Event()
        self.fail: Callable[[], Exception] | None = None
        self.lose: Callable[[], Exception] | None = None
        self.seen = 0
        self.at_once = 0
        self.most_at_once = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One request through the gate."""
        self.seen += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self._through(request)
        finally:
            self.at_once -= 1

    async def _through(self, request: httpx.Request) -> httpx.Response:
        if not self.hold_before.is_set():
            self.arrived.set()
            await self.hold_before.wait()
        if self.fail is not None:
            raise self.fail()
        answer = await self._inner.handle_async_request(request)
        body = await answer.aread()
        if not self.hold_after.is_set():
            self.arrived.set()
            await self.hold_after.wait()
        if self.lose is not None:
            raise self.lose()
        return httpx.Response(answer.status_code, headers=answer.headers, stream=httpx.ByteStream(body))
