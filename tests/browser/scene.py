"""What a hostile page is up against: a service with a login, its issuer, and all by which a change would show."""

import itertools
import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.browser.web import TREASURE, Evil, Open, page, serving
from tests.kit.processes import Process, machine

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

_ANSWERED = re.compile(r"\b[A-Z]+ (\S+) (\d{3}) (?:from memory|[\d.]+ms)")
"""A line of the access log: the route (`-` if there is none) and the status."""

_PATIENCE = 20_000
"""Milliseconds after which an attack has read nothing."""

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Where:
    """Where an attacking page comes from. how: `page`; or `sandboxed`, `data`, `file`, whose origin is `null`."""

    host: str
    how: str = "page"

    def __str__(self) -> str:
        return self.host if self.how == "page" else f"null-{self.how}"


EVERYWHERE = [
    *map(Where, ("evil.test", "127.0.0.1", "localhost", "evil.localhost", "0.0.0.0")),
    *(Where("evil.test", how) for how in ("sandboxed", "data", "file")),
]


@dataclass(slots=True)
class Scene:
    """One machine, one attacker."""

    service: Process
    issuer: Process
    evil: Evil
    open: Open
    folder: Path
    secrets: tuple[str, ...] = field(repr=False)

    @property
    def port(self) -> int:
        """Where the service listens."""
        return urlsplit(self.service.url).port or 80

    def state(self) -> dict[str, Any]:
        """All that an attack could have changed."""
        accounts = self.service.client.get("/accounts").raise_for_status().json()["accounts"]
        (store,) = (self.folder / "data").glob("*.db")
        with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as database:
            rows = [row for row in database.iterdump() if not row.startswith('INSERT INTO "audit"')]  # who was refused
        lasting = [{name: value for name, value in one.items() if not name.endswith("_in")} for one in accounts]
        return {"accounts": lasting, "rows": rows, "issuer": self.asked()}

    def asked(self, path: str = "") -> list[dict[str, Any]]:
        """What the issuer received, at this path."""
        received: list[dict[str, Any]] = self.issuer.client.get("/_sandbox/requests").raise_for_status().json()
        return [one for one in received if one["path"].startswith(path) and one["path"] != "/favicon.ico"]

    def answered(self) -> list[tuple[str, int]]:
        """What the service answered, but to `state`: route and status of each."""
        found = _ANSWERED.findall(self.service.log.read_text(encoding="utf-8"))
        return [(route, int(status)) for route, status in found if (route, status) != ("/accounts", "200")]

    def told(self, target: str, **more: Any) -> dict[str, Any]:
        """What a page is told.

        target: an origin; `{}` in it stands for the name of the attack. more: `calls` instead of the attacks, or
        `only` some of them.
        """
        home = f"http://evil.test:{self.evil.port}"
        return {"id": f"run-{next(_numbers)}", "home": home, "target": target, "patience": _PATIENCE, **more}

    def report(self, context: "BrowserContext", url: str, run: dict[str, Any]) -> dict[str, str]:
        """Open a page that attacks: what each attack could read."""
        context.new_page().goto(url, wait_until="commit")
        until(context, lambda: run["id"] in self.evil.reports, 2 * _PATIENCE)
        return self.evil.reports.pop(run["id"])

    def attack(self, context: "BrowserContext", where: Where, target: str, **more: Any) -> dict[str, str]:
        """The same with a page of the attacker's. The arguments are those of `told`."""
        run = self.told(target, **more)
        url = self.evil.at(where.host, where.how, json.dumps(run))
        if where.how == "file":
            (self.folder / "kittens.html").write_text(page(run), encoding="utf-8")
            url = (self.folder / "kittens.html").as_uri()
        return self.report(context, url, run)

    def no_secret_in(self, text: str) -> None:
        """Neither token is in it."""
        assert not [secret for secret in self.secrets if secret in text]

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Whatever happens meanwhile changes nothing, here or at the issuer."""
        before = self.state()
        yield
        after = self.state()
        for name, was in before.items():
            assert after[name] == was, (
                f"{name}: no longer {_without(was, after[name])}; new {_without(after[name], was)}"
            )


def _without(these: list[Any], those: list[Any]) -> list[Any]:
    return [one for one in these if one not in those]


def shown(context: "BrowserContext") -> str:
    """Everything that is in any window or frame."""
    frames = [frame for one in context.pages for frame in one.frames if not frame.is_detached()]
    return "\n".join(frame.locator(":root").inner_html(timeout=_PATIENCE) for frame in frames)


def until(context: "BrowserContext", holds: Callable[[], bool], patience: int = _PATIENCE) -> None:
    """Let the browser go on until something holds. Raises TimeoutError after `patience` milliseconds."""
    for _ in range(patience // 20):
        if holds():
            return
        context.pages[0].wait_for_timeout(20)
    raise TimeoutError


def readers(got: dict[str, str]) -> set[str]:
    """The attacks that read the treasure."""
    return {name for name, seen in got.items() if TREASURE in seen}


@contextmanager
def scene(folder: Path, port: int = 0, **knobs: Any) -> Iterator[Scene]:
    """A service that is logged in."""
    evil, opened = Evil(), Open()
    with ExitStack() as stack:
        stack.enter_context(serving(evil))
        stack.enter_context(serving(opened))
        here = stack.enter_context(machine(folder))
        issuer = here.issuer(**knobs)
        service = here.service(issuer, port, log_level="debug")
        here.install(service, issuer)
        (family,) = issuer.client.get("/_sandbox/state").raise_for_status().json()["families"]
        yield Scene(service, issuer, evil, opened, folder, (family["access_token"], family["refresh_token"]))
