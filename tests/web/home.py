"""A house in which every answer to `client` is checked against the rules for every answer."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from service.domain.caller import digest_of
from service.domain.secret import Secret
from service.sandbox import Knobs, User
from tests.kit import House, house
from tests.web.expect import lawful

BOB = User(subject="user-bob", email="bob@example.com", plan="pro", account_id="b0b00000-0000-4000-8000-000000000002")
"""Somebody else than the sandbox's Ada."""


@asynccontextmanager
async def home(folder: Path, **options: Any) -> AsyncIterator[House]:
    """As `house`, with the rules enforced."""
    options.setdefault("knobs", sane())
    async with house(folder, **options) as made:
        made.client.event_hooks = {"response": [lawful]}
        yield made


def sane() -> Knobs:
    """An issuer in its right mind, whose dropped connections look like those of a network."""
    return Knobs(drop_error=lambda: httpx.ReadError("dropped"))


def calm(house: House) -> httpx.AsyncClient:
    """A client that gets a 500 as an answer, and not the exception behind it."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(house.app, raise_app_exceptions=False),
        base_url=house.client.base_url,
        event_hooks={"response": [lawful]},
    )


async def install(house: House, account: str = "default", user: User | None = None, **more: Any) -> dict[str, Any]:
    """A login made at the issuer directly and installed, with more in the body; the issuer's answer."""
    tokens = house.sandbox.issue(user)
    members = ("access_token", "refresh_token", "id_token")
    body = {"kind": "subscription", **{name: tokens[name] for name in members}, **more}
    answer = await house.client.put("/credential", params={"account": account}, json=body)
    assert answer.status_code == 200
    return tokens


async def client_key(house: House, name: str, **body: Any) -> str:
    """A client key that the owner makes; the body as of PUT /keys/{name}, without the digest."""
    key = f"test-{secrets.token_urlsafe(32)}"
    answer = await house.client.put(f"/keys/{name}", json={"digest": digest_of(Secret(key)), **body})
    assert answer.status_code == 201, answer.text
    return key


async def until(holds: Callable[[], bool]) -> None:
    """Give the others a turn until something holds; five seconds are for ever."""
    async with asyncio.timeout(5):
        for _ in iter(holds, True):
            await asyncio.sleep(0.005)


def sealed(folder: Path) -> bytes:
    """Every byte below a folder."""
    return b"".join(file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file())


def refreshes(house: House) -> int:
    """Refresh requests that reached the issuer, whatever it said."""
    return len(house.sandbox.token_requests("refresh_token"))
