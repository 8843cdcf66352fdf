"""The proxy does to a refresh what it says, and knows whether the new refresh token can have been read."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.soak.history import History, Sent, hashed
from tests.soak.proxy import Link, Proxy

pytestmark = pytest.mark.long

BODY = json.dumps({"grant_type": "refresh_token", "refresh_token": "rt-0"})
ANSWER = json.dumps({"access_token": "at-1", "refresh_token": "rt-1"})


def http(first_line: str, body: str) -> bytes:
    return f"{first_line}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


GRANT = http("HTTP/1.1 200 OK", ANSWER)


async def grant(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An issuer that always says yes."""
    await reader.readuntil(BODY.encode())
    writer.write(GRANT)
    await writer.drain()
    writer.close()


@asynccontextmanager
async def link(rates: dict[str, float], seed: int = 0) -> AsyncIterator[tuple[Link, History]]:
    history = History()
    issuer = await asyncio.start_server(grant, "127.0.0.1", 0)
    port = issuer.sockets[0].getsockname()[1]
    proxy = Proxy(f"http://127.0.0.1:{port}", history, rates, seed)
    proxy.know("a.1", "rt-0")
    made = Link(proxy, 0)
    made.open()
    try:
        yield made, history
    finally:
        made.close()
        await proxy.stop()
        issuer.close()


async def refreshed(to: Link) -> bytes:
    """What a service reads until the end; nothing where the connection was reset."""
    reader, writer = await asyncio.open_connection("127.0.0.1", to.port)
    writer.write(http("POST /oauth/token HTTP/1.1", BODY))
    try:
        return await reader.read()
    except ConnectionResetError:
        return b"reset"
    finally:
        writer.close()


def outcome(history: History) -> tuple[bool, str | None]:
    (sent,) = history.sent
    assert isinstance(sent, Sent)
    return sent.destroyed, sent.granted


@pytest.mark.parametrize("fault", ["", "delay", "slice"])
async def test_what_only_takes_long_arrives_whole(fault: str) -> None:
    async with link({fault: 1.0}) as (to, history):
        assert await refreshed(to) == GRANT
        assert outcome(history) == (False, hashed("at-1"))


async def test_a_reset_request_never_reaches_the_issuer() -> None:
    async with link({"reset": 1.0}) as (to, history):
        assert await refreshed(to) == b"reset"
        assert outcome(history) == (True, None)


async def test_a_dropped_answer_was_granted() -> None:
    async with link({"drop": 1.0}) as (to, history):
        assert await refreshed(to) == b"reset"
        assert outcome(history) == (True, hashed("at-1"))


async def test_a_swallowed_request_is_answered_by_nothing_and_granted_by_nobody() -> None:
    async with link({"swallow": 1.0}) as (to, history):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(refreshed(to), 0.2)
        assert outcome(history) == (True, None)


@pytest.mark.parametrize("seed", range(20))
async def test_a_cut_answer_is_destroyed_unless_the_refresh_token_was_whole(seed: int) -> None:
    async with link({"cut": 1.0}, seed) as (to, history):
        read = await refreshed(to)
        assert GRANT.startswith(read)
        assert len(read) < len(GRANT)
        assert outcome(history) == (b'"rt-1"' not in read, hashed("at-1"))


async def test_a_link_that_refuses_keeps_its_port() -> None:
    async with link({}) as (to, _):
        to.refuse()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", to.port)
        to.open()
        assert await refreshed(to) == GRANT
