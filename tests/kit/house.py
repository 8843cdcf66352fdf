"""The whole service in one process: real files, real routes, and the sandbox issuer behind httpx's ASGI transport."""

import base64
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource
from starlette.types import Scope

from service.app import Application, create_app
from service.broker.seams import Seams
from service.domain.caller import Peer
from service.sandbox import Knobs, Sandbox
from service.settings import Settings
from tests.kit.clock import Clock
from tests.kit.database import lay
from tests.kit.gate import Gate

ISSUER = "https://issuer.test"
BASE = "http://localhost:1455"


def settings_in(folder: Path, **overrides: Any) -> Settings:
    """Settings that touch nothing outside a folder."""
    key_file = folder / "encryption.key"
    if not key_file.exists():
        key_file.touch(mode=0o600)
        key_file.write_bytes(base64.b64encode(secrets.token_bytes(32)))
    values: dict[str, Any] = {
        "data_dir": folder / "data",
        "encryption_key_file": key_file,
        "codex_issuer": ISSUER,
        "OPENAI_API_KEY": None,
        **overrides,
    }
    return _Given(**values)


class _Given(Settings):
    """Settings that are what they are given: nothing is looked for in the environment or in a file."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        **_: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given to the constructor."""
        return (init_settings,)


def owner_in_process(scope: Scope) -> Peer:
    """There is no connection: it is the owner who asks, if a test does not say otherwise."""
    peer = scope.get("state", {}).get("peer")
    return peer if isinstance(peer, Peer) else Peer(os.geteuid())


@dataclass
class House:
    """The service (`app`), somebody who asks it (`client`), the issuer (`sandbox`), the way there (`gate`)."""

    app: Application
    client: httpx.AsyncClient
    sandbox: Sandbox
    clock: Clock
    browser: httpx.AsyncClient
    gate: Gate

    async def log_in(self, account: str = "default", **body: Any) -> dict[str, Any]:
        """Log in as a browser does; the login as it ended."""
        started = (await self.client.post("/login", json={"account": account, **body})).json()
        returned = await self.authorize(started["authorize_url"])
        await self.client.get(returned)
        ended: dict[str, Any] = (await self.client.get(f"/login/{started['id']}")).json()
        return ended

    async def authorize(self, authorize_url: str) -> str:
        """Visit the issuer; where it sends the browser, as a path of ours."""
        answer = await self.browser.get(authorize_url)
        return answer.headers["location"].removeprefix(BASE)

    async def token(self, **query: Any) -> dict[str, Any]:
        """GET /token."""
        answer: dict[str, Any] = (await self.client.get("/token", params=query)).json()
        return answer

    async def status(self, account: str = "default") -> dict[str, Any]:
        """GET /status."""
        answer: dict[str, Any] = (await self.client.get("/status", params={"account": account})).json()
        return answer


@asynccontextmanager
async def house(
    folder: Path,
    *,
    clock: Clock | None = None,
    sandbox: Sandbox | None = None,
    knobs: Knobs | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    seams: Seams | None = None,
    background: bool = False,
    **settings: Any,
) -> AsyncIterator[House]:
    """A running service, on an empty database unless there is one already.

    background: with the background refresher; without it, `app.background.round()` is a round.
    """
    clock = clock or Clock()
    sandbox = sandbox or Sandbox(issuer=ISSUER, knobs=knobs or Knobs(), now=lambda: clock.now)
    sandbox.knobs.drop_error = lambda: httpx.ReadError("dropped")  # in process there is no connection to drop
    gate = Gate(transport or httpx.ASGITransport(sandbox.app))
    chosen = settings_in(folder, **settings)
    if chosen.database_url is None:
        lay(chosen.data_dir / "pixir-auth.db")
    app = create_app(chosen, transport=gate, seams=seams or clock.seams(), peer_of=owner_in_process)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE)
    browser = httpx.AsyncClient(transport=httpx.ASGITransport(sandbox.app))
    lifespan = app.api.router.lifespan_context(app.api)
    async with client, browser:
        if background:
            async with lifespan:
                yield House(app, client, sandbox, clock, browser, gate)
            return
        try:
            yield House(app, client, sandbox, clock, browser, gate)
        finally:
            await app.close()
