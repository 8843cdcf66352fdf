"""A process that is stopped between its last look at the row and its first byte."""

import asyncio
import time

import httpx

from service.domain.secret import Secret
from service.issuer import Issuer
from service.oauth import requests
from service.oauth.provider import codex
from service.oauth.wire import NotSent

LIMIT = 0.3


class Stopped(httpx.AsyncHTTPTransport):
    """The process is stopped when all is checked and nothing is sent, until its time for the call is over."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        time.sleep(LIMIT + 0.1)  # noqa: ASYNC251 - nothing else runs meanwhile: that is what a stop is
        return await super().handle_async_request(request)


async def test_a_process_that_wakes_after_its_time_limit_does_not_begin_to_send() -> None:
    seen = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(1):
            seen.set()  # from here on the token may be spent
        await reader.read()
        writer.close()

    server = await asyncio.start_server(slow, "127.0.0.1", 0)
    provider = codex(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    issuer = Issuer(timeout=LIMIT, transport=Stopped())
    try:
        async with issuer.slot():
            outcome = await issuer.send(requests.refresh(provider, Secret("rt")))
        assert isinstance(outcome, NotSent)
        assert not seen.is_set()
    finally:
        await issuer.close()
        server.close()
