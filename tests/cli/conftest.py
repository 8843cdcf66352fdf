"""No setting, no proxy and no display of the person who runs the tests reaches them."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.cli import main

from .fake import FakeService, running

ROOT = Path(__file__).parent.parent.parent

_FOREIGN = ("PIXIR_AUTH_", "XDG_", "SSH_", "OPENAI_", "CODEX_")
_ALSO_FOREIGN = {"DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "CREDENTIALS_DIRECTORY"}


@dataclass(frozen=True)
class Ran:
    """What became of a command."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty home."""
    for name in list(os.environ):
        if name.upper().startswith(_FOREIGN) or name in _ALSO_FOREIGN or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    return home


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeService]:
    """A running stand-in that the settings point to."""
    with running(FakeService()) as service:
        monkeypatch.setenv("PIXIR_AUTH_PUBLIC_URL", service.url)
        yield service


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process."""

    def run_it(*arguments: str) -> Ran:
        capsys.readouterr()
        code = main(arguments)
        said = capsys.readouterr()
        return Ran(code, said.out, said.err)

    return run_it


def in_process_of_its_own(*arguments: str, stdin: bytes = b"", within: float = 30) -> Ran:
    """The same as a program that somebody starts."""
    command = [sys.executable, "-m", "service", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, cwd=ROOT, check=False, timeout=within)
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())
