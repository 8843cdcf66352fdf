"""The ways to the service: by TCP with what it wants to be sent, or through its unix socket."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.cli.address import client_key, the_service
from service.cli.client import Service
from service.cli.console import DONE, FAILED, UNREACHABLE
from service.domain.secret import Secret

from .conftest import ROOT, Run
from .fake import ACCESS, FakeService, problem, running

KEY = "client-key-5f0c"
COMMANDS = [
    ["token"],
    ["token", "--json", "--json"],  # left to typer
    ["headers"],
    ["status"],
    ["accounts"],
    ["export", "--format", "env"],
    ["logout"],
]


@pytest.fixture
def key_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file with a client key, as the settings name it."""
    path = tmp_path / "client.key"
    path.write_text(f"{KEY}\n")
    monkeypatch.setenv("PIXIR_AUTH_CLIENT_KEY_FILE", str(path))
    return path


@pytest.fixture
def unix_socket(tmp_path: Path) -> Path:
    return tmp_path / "auth.sock"


@pytest.fixture
def at_unix(monkeypatch: pytest.MonkeyPatch, unix_socket: Path) -> Iterator[FakeService]:
    """A stand-in that is to be had through the unix socket alone, as the settings say."""
    with running(FakeService(), unix_socket) as service:
        monkeypatch.setenv("PIXIR_AUTH_UNIX_SOCKET", str(unix_socket))
        yield service


# the unix socket


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_goes_through_the_unix_socket(
    at_unix: FakeService, run: Run, key_file: Path, command: list[str]
) -> None:
    assert run(*command).code == DONE
    assert at_unix.requests
    for asked in at_unix.requests:
        assert asked.headers["host"] == "localhost"
        assert "authorization" not in asked.headers  # the kernel says who we are


def test_the_settings_file_names_the_unix_socket(
    at_unix: FakeService, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unix_socket: Path
) -> None:
    monkeypatch.delenv("PIXIR_AUTH_UNIX_SOCKET")
    (tmp_path / "own.toml").write_text(f'unix_socket = "{unix_socket}"\nport = 1\n')
    monkeypatch.setenv("PIXIR_AUTH_CONFIG", str(tmp_path / "own.toml"))
    assert run("token").out == f"{ACCESS}\n"


def test_neither_an_unknown_port_nor_a_missing_key_matters_there(
    at_unix: FakeService, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIXIR_AUTH_PORT", "0")
    monkeypatch.setenv("PIXIR_AUTH_PUBLIC_URL", "https://auth.example/base")
    monkeypatch.setenv("PIXIR_AUTH_CLIENT_KEY_FILE", "/nowhere/at/all")
    assert run("token").out == f"{ACCESS}\n"
    assert [each.path for each in at_unix.requests] == ["/token"]


@pytest.mark.parametrize(
    ("left", "why"), [("nothing", "there is no such file"), ("dead", "connection refused"), ("file", "")]
)
def test_a_unix_socket_that_nobody_serves(
    run: Run, monkeypatch: pytest.MonkeyPatch, unix_socket: Path, left: str, why: str
) -> None:
    if left == "dead":
        with running(FakeService(), unix_socket):
            pass
    elif left == "file":
        unix_socket.touch()
    monkeypatch.setenv("PIXIR_AUTH_UNIX_SOCKET", str(unix_socket))
    ran = run("token")
    assert (ran.code, ran.out) == (UNREACHABLE, "")
    assert f"No service answers at the unix socket {unix_socket} ({why}" in ran.err


def test_a_path_that_no_unix_socket_can_have(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXIR_AUTH_UNIX_SOCKET", "/" + "x" * 200)
    assert run("status").code == UNREACHABLE


# what is sent along


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_client_key_and_the_required_header_are_sent(
    fake: FakeService, run: Run, key_file: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("PIXIR_AUTH_REQUIRE_HEADER", "X-Pixir")
    assert run(*command).code == DONE
    assert {(each.headers["authorization"], each.headers["x-pixir"]) for each in fake.requests} == {
        (f"Bearer {KEY}", "1")
    }


def test_the_required_header_is_sent_through_the_unix_socket_too(
    at_unix: FakeService, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIXIR_AUTH_REQUIRE_HEADER", "X-Pixir")
    assert run("token").code == DONE
    assert at_unix.requests[0].headers["x-pixir"] == "1"


def test_a_required_header_that_is_sent_anyway_keeps_its_value(fake: FakeService) -> None:
    Service(fake.url, key=Secret(KEY), mark="Authorization").get("/status")
    assert fake.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_nothing_is_sent_along_that_is_not_set(fake: FakeService, run: Run) -> None:
    run("token")
    assert set(fake.requests[0].headers) == {"host", "accept-encoding", "accept", "user-agent"}


@pytest.mark.parametrize(("status", "code"), [(401, "key_required"), (403, "wrong_user"), (403, "scope")])
def test_who_is_not_let_in_is_told_why(fake: FakeService, run: Run, key_file: Path, status: int, code: str) -> None:
    fake.replies["GET", "/token"] = problem(status, code, "You may not.", "Or with a key.")
    ran = run("token")
    assert (ran.code, ran.out) == (FAILED, "")
    assert ran.err == f"Refused: You may not. [{code}]\n  - Or with a key.\n"


def test_the_key_is_in_no_repr(fake: FakeService, key_file: Path) -> None:
    assert the_service() == Service(fake.url, key=Secret(KEY))
    assert KEY not in repr(the_service())


# the file of the key


@pytest.mark.parametrize("content", [KEY, f"{KEY}\n", f" {KEY}\r\n", "x" * 4096])
def test_a_key_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "key").write_text(content)
    assert client_key(tmp_path / "key") == Secret(content.strip())


BAD_KEYS = {
    "empty": b"",
    "blank": b" \n",
    "two lines": b"SECRET-1\nSECRET-2\n",
    "a space": b"SECRET 2",
    "not ASCII": "SECRET-ü".encode(),
    "a control character": b"SECRET\x1b[0m",
    "not text": b"SECRET\xff\xfe",
    "too large": b"SECRET" * 1000,
}


@pytest.mark.parametrize("bad", BAD_KEYS)
def test_what_is_no_key_is_not_sent_and_not_shown(fake: FakeService, run: Run, key_file: Path, bad: str) -> None:
    key_file.write_bytes(BAD_KEYS[bad])
    ran = run("token")
    assert (ran.code, ran.out) == (FAILED, "")
    assert f"PIXIR_AUTH_CLIENT_KEY_FILE: {key_file} " in ran.err
    assert "SECRET" not in ran.err
    assert not fake.requests


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "device"])
def test_a_key_file_that_cannot_be_read_is_named(fake: FakeService, run: Run, key_file: Path, kind: str) -> None:
    key_file.unlink()
    if kind == "folder":
        key_file.mkdir()
    elif kind == "pipe":
        os.mkfifo(key_file)
    elif kind == "device":
        key_file.symlink_to("/dev/zero")
    ran = run("status")
    assert (ran.code, ran.out) == (FAILED, "")
    assert f"PIXIR_AUTH_CLIENT_KEY_FILE: {key_file} " in ran.err
    assert not fake.requests


# the quick way

_QUICK = """
import sys
from service.cli import main
code = main(sys.argv[1:])
sys.exit(code or ", ".join(sorted({"pydantic", "typer", "service.settings"} & set(sys.modules))) or None)
"""


@pytest.mark.parametrize("command", ["token", "headers"])
@pytest.mark.parametrize("way", ["unix", "key"])
def test_token_and_headers_load_no_pydantic_for_it(
    at_unix: FakeService, key_file: Path, monkeypatch: pytest.MonkeyPatch, way: str, command: str
) -> None:
    monkeypatch.setenv("PIXIR_AUTH_REQUIRE_HEADER", "X-Pixir")
    with running(FakeService()) as by_tcp:
        if way == "key":
            monkeypatch.delenv("PIXIR_AUTH_UNIX_SOCKET")
            monkeypatch.setenv("PIXIR_AUTH_PUBLIC_URL", by_tcp.url)
        ran = subprocess.run([sys.executable, "-c", _QUICK, command], cwd=ROOT, capture_output=True, check=False)
        assert (ran.returncode, ran.stderr) == (DONE, b"")
        (asked,) = (by_tcp if way == "key" else at_unix).requests
        assert asked.headers["x-pixir"] == "1"
        assert asked.headers.get("authorization") == (f"Bearer {KEY}" if way == "key" else None)
