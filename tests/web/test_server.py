"""Starting: what is listened on, and what keeps the service from starting, said in one line."""

import asyncio
import gc
import logging
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.server import CallbackDoor, listen, serve
from tests.kit import settings_in
from tests.kit.ports import free_port
from tests.web.home import home

pytestmark = pytest.mark.long


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """`serve` sets up the logging of its process: here it has to be put back."""
    root = logging.getLogger()
    loud = [logging.getLogger(name) for name in ("httpx", "httpcore", "uvicorn", "asyncio", "sqlalchemy", "hpack")]
    before = root.handlers[:], root.level, [one.level for one in loud]
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    for one, level in zip(loud, before[2], strict=True):
        one.setLevel(level)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody has on 127.0.0.1."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


leaves_sockets = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
"""In its own process the sockets end with it; here the collector closes them."""


def refused(capsys: pytest.CaptureFixture[str], folder: Path, **settings: Any) -> str:
    """The one line that says why the service does not start."""
    capsys.readouterr()
    assert serve(settings_in(folder, **settings)) == 1
    gc.collect()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "not started: " in lines[0]
    return lines[0]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]", "0", ""])
def test_beyond_loopback_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], host: str) -> None:
    port = free_port()
    assert "PIXIR_AUTH_HOST" in refused(capsys, tmp_path, host=host, port=port)
    socket.create_server(("127.0.0.1", port)).close()  # it has let go of the port


@pytest.mark.parametrize("host", ["192.0.2.1", "198.51.100.7", "nowhere.invalid"])
def test_an_address_of_others_cannot_be_listened_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], host: str
) -> None:
    assert f"cannot listen on {host}" in refused(capsys, tmp_path, host=host, port=free_port())


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_taken_port_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], host: str, taken: int) -> None:
    line = refused(capsys, tmp_path, host=host, port=taken)
    assert f"port {taken}" in line
    assert "Address already in use" in line
    assert not (tmp_path / "data").exists()


def test_a_port_that_is_taken_on_one_family_only_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        assert "Address already in use" in refused(capsys, tmp_path, port=other.getsockname()[1])


@leaves_sockets
@pytest.mark.parametrize("key", [b"", b"short", b"A" * 44, b"not base64 at all, is it?"])
def test_an_unusable_key_is_refused_and_not_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: bytes
) -> None:
    settings = settings_in(tmp_path)
    assert settings.encryption_key_file is not None
    settings.encryption_key_file.write_bytes(key)
    line = refused(capsys, tmp_path, port=free_port())
    assert "encryption.key" in line
    assert not key or key.decode() not in line


@leaves_sockets
def test_a_missing_key_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "cannot be read" in refused(capsys, tmp_path, port=free_port(), encryption_key_file=tmp_path / "gone")


@leaves_sockets
def test_another_database_is_refused_and_its_password_not_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(capsys, tmp_path, port=free_port(), database_url="mysql://user:hunter2@db.example/x")
    assert "PIXIR_AUTH_DATABASE_URL" in line
    assert "hunter2" not in line


@leaves_sockets
def test_a_database_of_a_newer_version_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    with closing(sqlite3.connect(tmp_path / "data" / "pixir-auth.db")) as database:
        database.execute("CREATE TABLE schema_version (version INTEGER NOT NULL PRIMARY KEY)")
        database.execute("INSERT INTO schema_version VALUES (99)")
        database.commit()
    assert "schema 99" in refused(capsys, tmp_path, port=free_port())


@leaves_sockets
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "pixir-auth.db").write_bytes(b"x" * 5000)
    assert "pixir-auth.db" in refused(capsys, tmp_path, port=free_port())


@leaves_sockets
def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert "cannot use" in refused(capsys, tmp_path, port=free_port(), data_dir=tmp_path / "file" / "data")


@leaves_sockets
def test_a_symbolic_link_in_the_place_of_the_database_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "target").write_bytes(b"mine")
    (tmp_path / "data" / "pixir-auth.db").symlink_to(tmp_path / "target")
    assert "pixir-auth.db" in refused(capsys, tmp_path, port=free_port())
    assert (tmp_path / "target").read_bytes() == b"mine"


@leaves_sockets
def test_a_key_that_cannot_be_sent_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, tmp_path, port=free_port(), OPENAI_API_KEY="sk secret")
    assert "OPENAI_API_KEY" in line
    assert "secret" not in line


# sockets


def names(sockets: list[socket.socket]) -> list[str]:
    found = [one.getsockname()[0] for one in sockets]
    for one in sockets:
        one.close()
    return found


def test_localhost_is_both_families() -> None:
    sockets = listen("localhost", 0)
    assert len({one.getsockname()[1] for one in sockets}) == 1
    assert names(sockets) == ["127.0.0.1", "::1"]


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("[::1]", "::1"), ("127.0.0.5", "127.0.0.5")],
)
def test_an_address_is_that_address(host: str, expected: str) -> None:
    assert names(listen(host, 0)) == [expected]


def test_nobody_else_may_share_the_port() -> None:
    sockets = listen("localhost", 0)
    try:
        for address, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)):
            with socket.socket(family) as other:
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                with pytest.raises(OSError, match="in use"):
                    other.bind((address, sockets[0].getsockname()[1]))
    finally:
        names(sockets)


# the door


async def test_a_door_without_a_service_opens_nothing() -> None:
    door = CallbackDoor(1)
    assert await door.open_one((free_port(),)) is None
    await door.close()


async def test_the_own_port_goes_before_all_others() -> None:
    assert await CallbackDoor(1457).open_one((1455, 1457)) == 1457


async def test_a_door_opens_the_first_that_can_be_had_and_shuts_it(tmp_path: Path, taken: int) -> None:
    port = free_port()
    async with home(tmp_path) as h:
        door = CallbackDoor(1)
        door.app = h.app
        assert await door.open_one((taken, port)) == port
        assert await door.open_one((taken, port)) == port, "it is open"
        async with httpx.AsyncClient(base_url=f"http://localhost:{port}", trust_env=False) as client:
            assert (await client.get("/auth/callback?state=x&code=y")).status_code == 400
            for path in ("/", "/token", "/status", "/login", "/callback", "/healthz", "/auth/callback/"):
                for method in ("GET", "POST"):
                    assert (await client.request(method, path)).status_code == 404
            assert (await client.post("/auth/callback")).status_code == 405
            assert (await client.get("/auth/callback", headers={"Host": "evil.example"})).status_code == 421
            assert (await client.get("/auth/callback", headers={"Host": "localhost:1"})).status_code == 421
        await door.keep({port, taken})
        await door.keep(set())
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        await door.close()


async def test_a_door_that_is_shut_at_once_is_shut(tmp_path: Path) -> None:
    port = free_port()
    async with home(tmp_path) as h:
        door = CallbackDoor(1)
        door.app = h.app
        await door.keep({port})
        await door.close()
        assert names(listen("localhost", port)) == ["127.0.0.1", "::1"]
