"""The only wiring: settings in, an ASGI application out."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from service.broker.background import Background
from service.broker.broker import Broker
from service.broker.logins import Door, Logins
from service.broker.refresher import Refresher
from service.broker.seams import Seams
from service.domain.credential import Credential
from service.domain.decide import LOOK_AGAIN, Policy, due_at
from service.domain.secret import Secret
from service.issuer import Issuer, Transport
from service.oauth.answers import is_sendable
from service.oauth.provider import Provider, codex
from service.settings import Settings, SettingsError
from service.store.address import chosen
from service.store.generations import open_record
from service.store.keys import load_vault
from service.store.owner import Owners
from service.store.rescue import Rescue
from service.store.store import Store
from service.web.api import CALLBACK_PATH, Services, build_api
from service.web.document import document
from service.web.guard import Guard, allowed_for
from service.web.problems import problem
from service.web.warm import Warm

log = logging.getLogger(__name__)

_SPREAD = 0.1
"""Part of the margin by which some logins are refreshed later than others."""

_PATIENCE = 5.0
"""Seconds that a caller waits longer than the issuer may take."""


class OwnPort:
    """A door for an application that has one port only and cannot open another."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def open_one(self, ports: tuple[int, ...]) -> int | None:
        """Our port, if it is one of those the issuer redirects to."""
        return self._port if self._port in ports else None

    async def keep(self, ports: set[int]) -> None:
        """Nothing to open or shut."""

    async def close(self) -> None:
        """Nothing to shut."""


@dataclass(frozen=True, slots=True)
class Application:
    """The ASGI application, and the parts that its owner may want to look at.

    Its lifespan runs the background and closes everything; whoever runs it without one calls `close`.
    """

    asgi: Guard
    api: FastAPI
    services: Services
    refresher: Refresher
    background: Background
    close: Callable[[], Awaitable[None]]

    def stop(self) -> None:
        """The end is near: begin nothing new, and tell who waits for a person how it stands."""
        self.background.stop()
        self.services.logins.stop_waiting()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        await self.asgi(scope, receive, send)

    def callback_only(self, port: int) -> ASGIApp:
        """The same service for a port that browsers only come back to: it knows no other path."""
        allowed = allowed_for(port, self.services.public_url, ())
        guarded, nothing_here = Guard(self.api, allowed), Guard(problem("not_found", "There is nothing here."), allowed)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await (guarded if scope["path"] == CALLBACK_PATH else nothing_here)(scope, receive, send)

        return app


def create_app(
    settings: Settings,
    *,
    port: int | None = None,
    door: Door | None = None,
    providers: Mapping[str, Provider] | None = None,
    transport: Transport | None = None,
    seams: Seams | None = None,
) -> Application:
    """The application on its store. Raises SettingsError, KeyUnusable, UnsafePath, NewerSchema, StoreUnavailable.

    port: where it really listens, if not at the port of the settings. door: opens callback ports. providers,
    transport, seams: others than the real ones, for tests and the sandbox.
    """
    port = settings.port if port is None else port
    providers = providers or {"codex": codex(settings.codex_issuer)}
    policies = {
        name: Policy(
            settings.refresh_margin, settings.refresh_floor, provider.retry_within, provider.keep_alive, _SPREAD
        )
        for name, provider in providers.items()
    }
    api_key = _api_key(settings)
    backend, folder = chosen(settings)
    if seams is None:
        seams = Seams(now=backend.now)

    clock = seams.now

    def due(credential: Credential) -> float | None:
        policy = policies.get(credential.provider)
        return due_at(credential, clock(), policy) if policy else clock() + LOOK_AGAIN

    rescue = Rescue(folder, settings.key_folder)
    store = Store(
        backend,
        lambda is_new: load_vault(settings, may_create=is_new),
        due,
        generations=open_record(settings.key_folder, folder),
        rescue=rescue,
    )
    rescue.lay_ballast()
    owners = Owners(folder / "owners", all_here=not backend.reaches_other_machines)
    issuer = Issuer(timeout=settings.issuer_timeout, transport=transport, boot=seams.boot)
    refresher = Refresher(store, issuer, owners, providers, seams, call_limit=settings.issuer_timeout)
    broker = Broker(
        store, issuer, refresher, policies, seams, api_key=api_key, patience=settings.issuer_timeout + _PATIENCE
    )
    door = door or OwnPort(port)
    logins = Logins(store, issuer, refresher, providers, door, seams, poll_lease=settings.issuer_timeout + _PATIENCE)
    public_url = settings.public_url or f"http://{_name(settings.host)}:{port}"
    services = Services(broker, logins, store, policies, seams, public_url)
    background = Background(store, broker, logins, seams)

    async def close() -> None:
        await door.close()
        await logins.drain()
        await broker.drain()
        await refresher.drain()  # what was sent is stored before the store is closed
        await issuer.close()
        await store.close()
        owners.close()

    @asynccontextmanager
    async def lifespan(_api: FastAPI) -> AsyncIterator[None]:
        try:
            await store.recover()
        except Exception as exc:
            log.error("rescue files, if there are any, have to wait", exc_info=exc)  # noqa: TRY400
        task = asyncio.create_task(background.run(), name="background")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})
            await close()

    api = build_api(services, lifespan)
    allowed = allowed_for(port, public_url, settings.allowed_hosts, settings.require_header)
    return Application(Guard(api, allowed, Warm(broker, seams.now)), api, services, refresher, background, close)


def openapi_document() -> dict[str, Any]:
    """The OpenAPI document; needs neither settings nor a store."""
    return document(build_api())


def _name(host: str) -> str:
    """What people call the address that is listened on."""
    if host in ("localhost", "127.0.0.1", "::1", "[::1]"):
        return "localhost"
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _api_key(settings: Settings) -> Secret | None:
    if settings.openai_api_key is None:
        return None
    key = Secret(settings.openai_api_key.get_secret_value().strip())
    if not is_sendable(key):
        raise SettingsError("OPENAI_API_KEY holds characters that cannot be sent")
    return key
