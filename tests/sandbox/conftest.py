from collections.abc import AsyncIterator

import httpx
import pytest

from service.sandbox import Sandbox

from .driver import Clock, Driver


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sandbox(clock: Clock) -> Sandbox:
    return Sandbox(issuer="http://localhost:8123", now=clock)


@pytest.fixture
async def driver(sandbox: Sandbox) -> AsyncIterator[Driver]:
    transport = httpx.ASGITransport(sandbox.app)
    async with httpx.AsyncClient(transport=transport, base_url=sandbox.issuer, trust_env=False) as client:
        yield Driver(sandbox, client)
