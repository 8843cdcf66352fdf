"""What a person can set, call, run or be told is in the documentation."""

import re
from pathlib import Path
from typing import get_args

import pytest

from service.cli.commands import app as commands
from service.domain.decide import Warning_
from service.domain.errors import CODES, LoginReason
from service.settings import PREFIX, Settings
from tests.web.routes import TABLE

ROOT = Path(__file__).parent.parent
SETTINGS = sorted(
    str(field.validation_alias or f"{PREFIX}{name.upper()}") for name, field in Settings.model_fields.items()
)
ROUTES = sorted({(method, route.path) for route in TABLE for method in route.methods or ()})
COMMANDS = sorted(
    {command.name or command.callback.__name__ for command in commands.registered_commands if command.callback}
    | {group.name for group in commands.registered_groups if group.name}
)


@pytest.fixture(scope="module")
def pages() -> str:
    files = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return "\n".join(file.read_text() for file in files)


def is_told(word: str, pages: str) -> bool:
    """As a word of its own: `token` is not told by `access_token`."""
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", pages) is not None


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_documented(pages: str, name: str) -> None:
    assert is_told(name, pages)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_is_documented(pages: str, method: str, path: str) -> None:
    spelled = re.escape(path).replace(r"\{login_id\}", r"(\{[a-z_]+\}|<[A-Za-z_]+>|ID)")
    assert re.search(rf"{method}`?\s+`?{spelled}(?![\w/{{])", pages), f"{method} {path}"


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_is_documented(pages: str, code: str) -> None:
    assert is_told(code, pages)


@pytest.mark.parametrize("word", sorted({*get_args(LoginReason), *get_args(Warning_)}))
def test_every_reason_and_every_warning_is_documented(pages: str, word: str) -> None:
    assert is_told(word, pages)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_documented(pages: str, command: str) -> None:
    assert is_told(f"pixir-auth {command}", pages)


def test_no_setting_is_documented_that_there_is_not(pages: str) -> None:
    assert set(re.findall(rf"{PREFIX}[A-Z][A-Z_]*[A-Z]", pages)) <= set(SETTINGS)


def test_no_code_is_documented_that_there_is_not(pages: str) -> None:
    told = set(re.findall(r"urn:pixir-auth:problem:([a-z_]+)", pages))
    assert told <= CODES
