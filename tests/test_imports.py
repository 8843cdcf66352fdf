"""The table of the house, kept by reading the imports: they point inward only, and each dirty library has one room."""

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

INWARD = ("cli", "web", "broker", "store", "issuer", "oauth", "sealing", "domain")
"""A room may import the rooms to its right, never one to its left, and never the wiring."""

WIRING = ("service.__main__", "service.app", "service.server", "service.doctor")

OWNED = {
    "prometheus_client": "service.web.metrics",
    "httpx": "service.issuer",  # so that a successor of httpx is one file's change
    "sqlmodel": "service.store",  # rows never travel
    "sqlalchemy": "service.store",
    "psycopg": "service.store",
}
"""Library -> the one room that knows it."""

IMPURE = frozenset(
    {
        *("os", "pathlib", "shutil", "tempfile", "sqlite3", "subprocess", "multiprocessing", "signal", "logging"),
        *("socket", "socketserver", "ssl", "select", "selectors", "http.client", "http.server", "urllib.request"),
        *("asyncio", "threading", "concurrent", "time", "random", "secrets", "uuid"),
    }
)
"""I/O, clocks and chance of the standard library: what oauth and domain are given, they never fetch."""


@dataclass(frozen=True)
class Rule:
    """What a room must not import, beside what INWARD and OWNED say. `stdlib_only`: no library, no other room."""

    never: frozenset[str] = frozenset()
    stdlib_only: tuple[str, ...] | None = None  # the rooms that may be imported all the same


WEB_LIBRARIES = frozenset({"fastapi", "starlette", "uvicorn"})

RULES = {
    "service.domain": Rule(IMPURE, stdlib_only=("service.domain",)),
    "service.oauth": Rule(IMPURE, stdlib_only=("service.domain", "service.oauth")),
    "service.issuer": Rule(WEB_LIBRARIES),
    "service.sealing": Rule(IMPURE),
    "service.store": Rule(WEB_LIBRARIES | {"service.oauth", "service.issuer"}),
    "service.broker": Rule(WEB_LIBRARIES),
    "service.web": Rule(frozenset({"service.store", "service.issuer"})),
    "service.cli": Rule(frozenset({"service.store", "service.broker", "service.web"})),
}

NO_CLIENTS = ("service.cli.serve", "service.cli.demo", "service.cli.doctor", "service.cli.openapi")
"""The commands that are not clients of a running service: they may import the wiring."""


def within(module: str, rooms: Iterable[str]) -> bool:
    """Whether a module is one of the rooms or inside one."""
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


def imports(source: str, module: str, *, is_package: bool = False) -> Iterator[tuple[int, str]]:
    """Line and full name of everything a module imports, in functions and under TYPE_CHECKING too."""
    parts = module.split(".")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = parts[: len(parts) + is_package - node.level] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)


def objection(module: str, name: str) -> str | None:
    """Why a module must not import a name; None if it may."""
    for library, owner in OWNED.items():
        if within(name, (library,)) and not within(module, (owner,)):
            return f"{library} belongs to {owner} alone"
    if within(module, ("service.sandbox",)):
        foreign = within(name, ("service",)) and not within(name, ("service.sandbox",))
        return "the sandbox knows nothing of the service" if foreign else None
    room = next((room for room in INWARD if within(module, (f"service.{room}",))), None)
    if room is None:
        return None
    outward = tuple(f"service.{left}" for left in INWARD[: INWARD.index(room)])
    if within(name, outward):
        return f"{room} must not look outward"
    if within(name, WIRING) and not within(module, NO_CLIENTS):
        return "only a command that is no client knows the wiring"
    rule = RULES[f"service.{room}"]
    if within(name, rule.never):
        return f"{room} must never import it"
    if rule.stdlib_only is None or within(name, rule.stdlib_only):
        return None
    return None if name.split(".", maxsplit=1)[0] in sys.stdlib_module_names else f"{room} is pure"


def breaches(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """One line per forbidden import of a module."""
    found = [(line, name, objection(module, name)) for line, name in imports(source, module, is_package=is_package)]
    return [f"{module}:{line} imports {name}: {why}" for line, name, why in found if why]


def modules() -> dict[Path, str]:
    """Every file of the service and its module name."""
    files = sorted((ROOT / "service").rglob("*.py"))
    return {file: ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files}


def test_imports_point_inward() -> None:
    wrong = [
        breach
        for file, module in modules().items()
        for breach in breaches(file.read_text(), module, is_package=file.name == "__init__.py")
    ]
    assert not wrong, "\n".join(wrong)


def test_every_room_is_there() -> None:
    assert {f"service.{room}" for room in INWARD} == set(RULES)
    assert set(RULES) <= set(modules().values()), "a rule for a room that is not there guards nothing"


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("service.domain.decide", "import time"),
        ("service.domain.decide", "from service.oauth import pkce"),
        ("service.domain.decide", "import pydantic"),
        ("service.domain.decide", "from service import settings"),
        ("service.oauth.pkce", "import secrets"),
        ("service.oauth.pkce", "from urllib.request import urlopen"),
        ("service.oauth.pkce", "from urllib import request"),
        ("service.oauth.pkce", "from ..issuer import Issuer"),
        ("service.issuer", "from fastapi import HTTPException"),
        ("service.issuer", "from service.store import Store"),
        ("service.store.rows", "import httpx"),
        ("service.store.rows", "from service.oauth.wire import Answer"),
        ("service.broker.refresh", "from sqlalchemy.exc import IntegrityError"),
        ("service.broker.refresh", "def late():\n    from starlette.requests import Request"),
        ("service.web.routes", "from service.store.store import Store"),
        ("service.web.routes", "from service import store"),
        ("service.web.routes", "if TYPE_CHECKING:\n    import sqlmodel"),
        ("service.web.routes", "from service.app import create_app"),
        ("service.cli.token", "import service.broker.refresh"),
        ("service.cli.token", "from service.app import create_app"),
        ("service.cli.token", "from service.doctor import doctor"),
        ("service.cli.serve", "from service.store import Store"),
        ("service.app", "import httpx"),
        ("service.sandbox.oauth", "from ..domain.secret import Secret"),
    ],
)
def test_forbidden_import_is_reported(module: str, source: str) -> None:
    assert len(breaches(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("service.domain.decide", "from service.domain.credential import Credential\nimport math"),
        ("service.oauth.wire", "from urllib.parse import urlencode\nfrom .pkce import challenge"),
        ("service.issuer", "import httpx\nfrom service.oauth.wire import Answer"),
        ("service.store.rows", "from sqlmodel import SQLModel"),
        ("service.web.routes", "from service.broker import Broker\nimport fastapi"),
        ("service.cli.serve", "from service.app import create_app"),
        ("service.cli.doctor", "from service.doctor import doctor"),
        ("service.app", "from service.store import Store\nfrom service.web import routes"),
        ("service.broker.refresh", "import domain_of_others\nfrom service import domain"),
    ],
)
def test_lawful_import_is_not_reported(module: str, source: str) -> None:
    assert breaches(source, module) == []


def test_relative_import_in_a_package_file() -> None:
    assert breaches("from .rows import Row", "service.store", is_package=True) == []
    assert len(breaches("from ..web import routes", "service.store", is_package=True)) == 1
