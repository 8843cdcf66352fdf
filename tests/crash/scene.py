"""One login at the sandbox issuer and in a database, and ways to look at both: from outside, and as the next process.

Knows nothing of files: what is true of one kind of database only is said by the `Database` that a scene is given.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

import httpx

from service.app import create_app
from service.broker.broker import Grant
from service.broker.seams import Seams
from service.domain.credential import Credential
from service.domain.decide import Wish
from service.oauth.provider import Provider, codex
from service.settings import Settings
from tests.kit.house import settings_in
from tests.kit.processes import Machine, Process

ISSUER_TIMEOUT: Final = 2.0
"""Seconds; another process then waits 7 for a stopped owner, longer than any limit that the owner itself has."""

MUCH_LATER: Final = 7200.0
"""Seconds after which the access token has ended and no pause is left."""

REJECTED: Final = Wish(min_ttl=0, newer_than=1)
"""What a caller asks for whose first token was rejected."""


class Database(Protocol):
    """Where the services of a scene keep what they know."""

    def settings(self, folder: Path) -> dict[str, str]:
        """What the settings of a service on it are, beside those that every service has."""

    def is_sound(self, folder: Path) -> bool:
        """Whether the database itself finds nothing wrong with what it holds."""


class Sqlite:
    """A file of the scene's own."""

    def settings(self, folder: Path) -> dict[str, str]:
        return {"database_url": f"sqlite:///{folder / 'data' / 'pixir-auth.db'}"}

    def is_sound(self, folder: Path) -> bool:
        connection = sqlite3.connect(folder / "data" / "pixir-auth.db")
        try:
            return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        finally:
            connection.close()


@dataclass(frozen=True)
class Scene:
    """A login of generation 1, whose refresh token was never sent.

    machine: starts processes. issuer: knows other logins too, so only questions about this one are answered here.
    """

    machine: Machine
    issuer: Process
    database: Database
    refresh_token: str
    family_id: str

    @property
    def values(self) -> dict[str, Any]:
        """The settings that every process of this scene has."""
        return _values(self.machine, self.issuer, self.database)

    def service(self, *program: str, **more: Any) -> Process:
        """Start a service, or what stands in for it."""
        return self.machine.service(self.issuer, program=program or ("service",), **(self.values | more))

    @property
    def family(self) -> dict[str, Any]:
        """The login as the issuer knows it."""
        found = self.issuer.client.get("/_sandbox/state").json()["families"]
        return next(one for one in found if one["id"] == self.family_id)

    def sent(self) -> list[float]:
        """When the issuer got the first refresh token."""
        found = self.issuer.client.get("/_sandbox/requests").json()
        return [one["at"] for one in found if one["form"].get("refresh_token") == self.refresh_token]

    def successor(self, *, ahead: float = 0.0, retry_within: float | None = None) -> "Successor":
        """The next process. retry_within: what its provider promises."""
        provider = replace(codex(self.issuer.url), retry_within=retry_within)
        return Successor(Settings(**self.values), provider, ahead)

    async def token(self, **successor: Any) -> Grant:
        """What the next process answers to somebody whose first token was rejected. Raises AuthError."""
        async with self.successor(**successor) as heir:
            return await heir.token()

    async def row(self) -> Credential:
        """What is stored."""
        async with self.successor() as heir:
            return await heir.row()

    async def is_alive(self) -> bool:
        """Whether the issuer goes on with what is stored."""
        return self.is_current(await self.row())

    def is_current(self, row: Credential) -> bool:
        """Whether the issuer goes on with what is in this row."""
        family = self.family
        assert row.refresh_token is not None
        return bool(family["alive"]) and row.refresh_token.reveal() == family["refresh_token"]

    @property
    def is_sound(self) -> bool:
        """Whether the database is whole."""
        return self.database.is_sound(self.machine.folder)


class Successor:
    """A service in this process, which is another than all that were started. Nothing happens in it unasked."""

    def __init__(self, settings: Settings, provider: Provider, ahead: float) -> None:
        """`ahead`: seconds by which its clock is in the future; may be changed."""
        self.ahead = ahead
        seams = Seams(now=lambda: time.time() + self.ahead)
        self._app = create_app(settings, port=1455, providers={"codex": provider}, seams=seams)
        self.broker = self._app.services.broker

    async def __aenter__(self) -> "Successor":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._app.close()

    async def token(self) -> Grant:
        """As `Scene.token`."""
        return await self.broker.token("default", REJECTED)

    async def row(self) -> Credential:
        """As `Scene.row`."""
        credential = (await self.broker.standing("default")).credential
        assert credential is not None
        return credential

    async def install(self, login: Mapping[str, str], account: str = "default") -> None:
        """A login that the issuer has given."""
        document = {name: login[name] for name in ("access_token", "refresh_token", "id_token")}
        await self.broker.install(account, {"kind": "subscription", **document}, "codex")


async def scene(machine: Machine, issuer: Process, database: Database, **knobs: Any) -> Scene:
    """A fresh login, stored by a process that has let go of it. knobs: of the issuer, while it gives this login."""
    settings_in(machine.folder)  # makes the key
    usual = {name: issuer.client.get("/_sandbox/state").json()["knobs"][name] for name in knobs}
    turn(issuer, **knobs)
    login = issue(issuer)
    turn(issuer, **usual)
    settings = Settings(**_values(machine, issuer, database))
    async with Successor(settings, codex(issuer.url), 0.0) as first:
        await first.install(login)
    families = issuer.client.get("/_sandbox/state").json()["families"]
    family_id = next(one["id"] for one in families if one["refresh_token"] == login["refresh_token"])
    return Scene(machine, issuer, database, login["refresh_token"], family_id)


def issue(issuer: Process) -> dict[str, str]:
    """The tokens of a new login."""
    tokens: dict[str, str] = issuer.client.post("/_sandbox/issue", json={}).raise_for_status().json()
    return tokens


def turn(issuer: Process, **knobs: Any) -> None:
    """Change knobs of the issuer."""
    issuer.client.post("/_sandbox/knobs", json=knobs).raise_for_status()


def refresh_of(service: Process) -> dict[str, Any]:
    """The refresh as /status tells it."""
    found: dict[str, Any] = service.client.get("/status").json()["refresh"]
    return found


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for what another process does. Raises TimeoutError."""
    async with asyncio.timeout(30):
        while not is_so():  # noqa: ASYNC110 - it sets no event of ours
            await asyncio.sleep(0.02)


def ask(service: Process, **query: Any) -> "asyncio.Task[dict[str, Any] | None]":
    """Somebody whose token of generation 1 was rejected; None if he is cut off without an answer."""

    async def asked() -> dict[str, Any] | None:
        async with httpx.AsyncClient(base_url=service.url, timeout=60, trust_env=False) as client:
            try:
                answer = await client.get("/token", params={"newer_than": 1, "min_ttl": 0, **query})
            except httpx.TransportError:
                return None
            return {"status": answer.status_code, **answer.json()}

    return asyncio.create_task(asked())


def _values(machine: Machine, issuer: Process, database: Database) -> dict[str, Any]:
    return {
        "data_dir": machine.folder / "data",
        "encryption_key_file": machine.folder / "encryption.key",
        "codex_issuer": issuer.url,
        "issuer_timeout": ISSUER_TIMEOUT,
        "refresh_floor": 0,
        **database.settings(machine.folder),
    }
