"""The only wiring: settings in, an ASGI application out."""

import asyncio
import logging
import os
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from service.broker.background import Background
from service.broker.broker import Broker
from service.broker.keys import Keys
from service.broker.logins import Door, Logins
from service.broker.refresher import Refresher
from service.broker.releases import Releases
from service.broker.seams import Seams
from service.broker.stand_ins import StandIns
from service.broker.trail import Trail
from service.domain.caller import RIGHTS, ClientKey, Peer, digest_of
from service.domain.credential import Credential
from service.domain.decide import LOOK_AGAIN, Policy, due_at
from service.domain.secret import Secret
from service.issuer import Issuer, Transport
from service.oauth.answers import is_sendable
from service.oauth.provider import Provider, codex
from service.settings import Settings, SettingsError
from service.store.address import chosen
from service.store.backend import Backend
from service.store.files import read_private
from service.store.generations import open_record
from service.store.keys import DOCKER_SECRETS, key_source
from service.store.owner import Owners
from service.store.rescue import Rescue
from service.store.store import Store
from service.web.api import CALLBACK_PATH, build_api
from service.web.callers import Callers, told_by_server
from service.web.document import document
from service.web.ends import Ends
from service.web.guard import Guard, allowed_for
from service.web.metrics import Metrics
from service.web.problems import problem
from service.web.services import Services
from service.web.warm import Warm

log = logging.getLogger(__name__)

_SPREAD = 0.1
"""Part of the margin by which some logins are refreshed later than others."""

_CLIENT_KEY = re.compile(r"[!-~]{22,}")
"""What can be sent as a client key and holds 128 random bits, as base64 writes them."""

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
    callers: Callers
    services: Services
    refresher: Refresher
    background: Background
    close: Callable[[], Coroutine[Any, Any, None]]
    has_client_key: bool
    """Whether somebody on another machine could ever be let in, as it was at the start."""

    def stop(self) -> None:
        """The end is near: begin nothing new, and tell who waits for a person how it stands."""
        self.background.stop()
        self.services.logins.stop_waiting()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        await self.asgi(scope, receive, send)

    def callback_only(self, port: int) -> ASGIApp:
        """The same service for a port that browsers only come back to: it knows no other path."""
        allowed, asked = allowed_for(port, self.services.public_url, ()), self.services.metrics.asked
        callback = Guard(self.api, allowed, self.callers, asked=asked)
        nothing_here = Guard(problem("not_found", "There is nothing here."), allowed, self.callers, asked=asked)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await (callback if scope["path"] == CALLBACK_PATH else nothing_here)(scope, receive, send)

        return app


def create_app(
    settings: Settings,
    *,
    port: int | None = None,
    door: Door | None = None,
    providers: Mapping[str, Provider] | None = None,
    transport: Transport | None = None,
    seams: Seams | None = None,
    peer_of: Callable[[Scope], Peer] = told_by_server,
) -> Application:
    """The application on its store. Raises SettingsError, KeyUnusable, UnsafePath, NewerSchema, StoreUnavailable.

    port: where it really listens, if not at the port of the settings. door: opens callback ports. providers,
    transport, seams, peer_of: others than the real ones, for tests and the sandbox.
    """
    port = settings.port if port is None else port
    providers = providers or {"codex": codex(settings.codex_issuer)}
    policies = _policies(settings, providers)
    api_key = _api_key(settings)
    backend, folder = chosen(settings)
    seams = seams or Seams(now=backend.now)
    first_key = _first_key(settings, seams.now)
    store = _store(settings, backend, folder, policies, seams.now)
    owners = Owners(folder / "owners", all_here=not backend.reaches_other_machines)
    issuer = Issuer(timeout=settings.issuer_timeout, transport=transport, boot=seams.boot)
    keys = Keys(store, seams.now, first_key)
    metrics = Metrics()
    trail = Trail(store, keys, seams.now, metrics.happened)
    refresher = Refresher(
        store, issuer, owners, providers, seams, call_limit=settings.issuer_timeout, note=trail.note_refresh
    )
    patience = settings.issuer_timeout + _PATIENCE
    broker = Broker(store, issuer, refresher, policies, seams, api_key=api_key, patience=patience)
    releases = Releases(store, broker, refresher, seams, patience=patience)
    door = door or OwnPort(port)
    logins = Logins(store, issuer, refresher, providers, door, seams, trail.note)
    public_url = settings.public_url or f"http://{_name(settings.host)}:{port}"
    stand_ins = StandIns(broker, seams)
    ends = Ends(seams.now)
    services = Services(
        broker, stand_ins, logins, releases, keys, trail, store, policies, seams, metrics, ends, public_url
    )
    background = Background(store, broker, logins, seams)

    async def close() -> None:
        await door.close()
        await logins.drain()
        await broker.drain()
        await refresher.drain()  # what was sent is stored before the store is closed
        await issuer.close()
        await trail.write()
        await store.close()
        owners.close()

    @asynccontextmanager
    async def lifespan(_api: FastAPI) -> AsyncIterator[None]:
        try:
            await store.recover()
        except Exception as exc:
            log.error("rescue files, if there are any, have to wait", exc_info=exc)  # noqa: TRY400
        tasks = {asyncio.create_task(each.run()) for each in (background, trail)}
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await close()

    api = build_api(services, lifespan)
    callers = Callers(keys, os.geteuid(), trail.note, peer_of=peer_of)
    allowed = allowed_for(port, public_url, settings.allowed_hosts, settings.require_header)
    return Application(
        asgi=Guard(api, allowed, callers, Warm(broker, seams.now), metrics.asked),
        api=api,
        callers=callers,
        services=services,
        refresher=refresher,
        background=background,
        close=close,
        has_client_key=first_key is not None or store.has_client_key(seams.now()),
    )


def openapi_document() -> dict[str, Any]:
    """The OpenAPI document; needs neither settings nor a store."""
    return document(build_api())


def _name(host: str) -> str:
    """What people call the address that is listened on. Browsers take 0.0.0.0 for this machine: no name of ours."""
    if host.strip("[]") in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "::", ""):  # nosec B104  # noqa: S104 - not bound here
        return "localhost"
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _policies(settings: Settings, providers: Mapping[str, Provider]) -> dict[str, Policy]:
    return {
        name: Policy(
            settings.refresh_margin, settings.refresh_floor, provider.retry_within, provider.keep_alive, _SPREAD
        )
        for name, provider in providers.items()
    }


def _store(
    settings: Settings, backend: Backend, folder: Path, policies: Mapping[str, Policy], now: Callable[[], float]
) -> Store:
    def due(credential: Credential) -> float | None:
        policy = policies.get(credential.provider)
        return due_at(credential, now(), policy) if policy else now() + LOOK_AGAIN

    rescue = Rescue(folder, settings.key_folder)
    store = Store(
        backend,
        lambda is_new: key_source(settings, may_create=is_new),
        due,
        generations=open_record(settings.key_folder, folder),
        rescue=rescue,
    )
    rescue.lay_ballast()
    return store


def _first_key(settings: Settings, now: Callable[[], float]) -> ClientKey | None:
    """The client key that a file holds: it may do everything, so that the others can be made with it."""
    path = settings.client_key_file
    if path is None:
        return None
    try:
        text = read_private(path, strict=not path.is_relative_to(DOCKER_SECRETS)).decode().strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(f"PIXIR_AUTH_CLIENT_KEY_FILE: {path} cannot be read ({type(exc).__name__})") from None
    if not _CLIENT_KEY.fullmatch(text):
        raise SettingsError(f"PIXIR_AUTH_CLIENT_KEY_FILE: {path} holds no line of 22 or more visible characters")
    key = Secret(text)
    return ClientKey("first", digest_of(key), frozenset(RIGHTS), None, created_at=now())


def _api_key(settings: Settings) -> Secret | None:
    if settings.openai_api_key is None:
        return None
    key = Secret(settings.openai_api_key.get_secret_value().strip())
    if not is_sendable(key):
        raise SettingsError("OPENAI_API_KEY holds characters that cannot be sent")
    return key
