"""Whose connection it is, with real users, real sockets and the real kernel: the owner is served, others are not."""

import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.kit.lacking import lacking
from tests.kit.processes import ROOT, Machine, Process, machine
from tests.web.expect import problem

pytestmark = pytest.mark.long

OTHER = 65534
"""A user whom every system has."""


@pytest.fixture
def as_another_user() -> None:
    """Skips where nobody else can be made to ask; in CI somebody has to be."""
    if os.geteuid() != 0:
        lacking("only root can ask as another user")


@pytest.fixture(scope="module")
def m(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with machine(tmp_path_factory.mktemp("machine")) as made:
        yield made


@pytest.fixture(scope="module")
def issuer(m: Machine) -> Process:
    return m.issuer()


@pytest.fixture(scope="module")
def service(m: Machine, issuer: Process) -> Process:
    service = m.service(issuer)
    m.install(service, issuer)
    return service


def by(uid: int, service: Process, path: str, **headers: str) -> tuple[int, str]:
    """What curl gets when that user runs it: status and body."""
    given = [f"-H{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    done = subprocess.run(
        ["curl", "-sS", "-o", "-", "-w", "\n%{http_code}", *given, f"{service.url}{path}"],
        user=uid,
        group=uid,
        extra_groups=[],
        env={"PATH": os.environ["PATH"]},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def run(m: Machine, service: Process, *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A command of ours that asks this service."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PIXIR_AUTH_", "XDG_"))}
    environment = {
        **plain,
        "XDG_CONFIG_HOME": str(m.folder / "config"),
        "PIXIR_AUTH_PUBLIC_URL": service.url,
        **settings,
    }
    asked = [sys.executable, "-m", "service", *command]
    return subprocess.run(asked, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def audited(service: Process, **members: Any) -> int:
    """How often something is in the audit trail that looks like this."""
    entries = service.client.get("/audit", params={"limit": 1000}).json()["entries"]
    return sum(each["times"] for each in entries if members.items() <= each.items())


def test_plain_curl_works_for_the_owner(service: Process) -> None:
    for name in ("localhost", "127.0.0.1", "[::1]"):
        url = f"http://{name}:{urlsplit(service.url).port}/token?format=text"
        done = subprocess.run(["curl", "-fsS", url], capture_output=True, text=True, check=True)
        assert len(done.stdout) > 100


@pytest.mark.usefixtures("as_another_user")
def test_another_user_gets_nothing(service: Process) -> None:
    for path in ("/token", "/headers", "/status", "/accounts", "/login", "/keys", "/audit", "/nowhere"):
        status, body = by(OTHER, service, path)
        assert (status, '"wrong_user"' in body) == (403, True)
    for forged in ({"X_Forwarded_For": "127.0.0.1"}, {"Forwarded": "for=127.0.0.1"}, {"Via": "1.1 x"}):
        assert by(OTHER, service, "/token", **forged)[0] == 401
    assert by(OTHER, service, "/healthz")[0] == 200
    assert audited(service, who=f"uid {OTHER}", outcome="wrong_user", detail="GET /token") == 1


@pytest.mark.usefixtures("as_another_user")
def test_another_user_with_a_key_gets_what_it_is_for(m: Machine, service: Process) -> None:
    made = run(m, service, "keys", "add", "theirs", "--scope", "token")
    assert made.returncode == 0, made.stderr
    key = {"Authorization": f"Bearer {made.stdout.strip()}"}
    status, body = by(OTHER, service, "/token", **key)
    assert (status, "access_token" in body) == (200, True)
    assert by(OTHER, service, "/status", **key)[0] == 403
    assert run(m, service, "keys", "revoke", "theirs").returncode == 0
    assert by(OTHER, service, "/token", **key)[0] == 401
    assert "theirs" in run(m, service, "audit").stdout


_FIRE_AND_FORGET = """
import encodings.idna, os, socket, struct, sys
os.setuid(int(sys.argv[3]))
for number in range(int(sys.argv[2])):
    there = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    if number % 2:
        there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    there.sendall(b"POST /logout HTTP/1.1\\r\\nHost: localhost:%b\\r\\n\\r\\n" % sys.argv[1].encode())
    there.close()
"""


@pytest.mark.usefixtures("as_another_user")
def test_who_asks_and_leaves_at_once_is_not_taken_for_root(service: Process) -> None:
    """A socket that was closed has no user in the kernel's table: it reads as 0 (SECURITY F13)."""
    port = str(urlsplit(service.url).port)
    subprocess.run([sys.executable, "-c", _FIRE_AND_FORGET, port, "200", str(OTHER)], check=True)
    refused = 0
    deadline = time.monotonic() + 10
    while refused < 50 and time.monotonic() < deadline:  # a reset connection may not even come to be asked for
        refused = audited(service, deed="refused", detail="POST /logout")
    assert refused >= 50
    assert audited(service, deed="logout") == 0
    assert service.client.get("/token").status_code == 200


def test_one_process_revokes_and_the_other_refuses(m: Machine, issuer: Process, service: Process) -> None:
    other = m.service(issuer)
    key = run(m, service, "keys", "add", "both").stdout.strip()
    sent = {"Authorization": f"Bearer {key}"}
    assert other.client.get("/token", headers=sent).status_code == 200
    assert run(m, service, "keys", "revoke", "both").returncode == 0
    problem(other.client.get("/token", headers=sent), 401, "key_required")
    other.close()


def test_the_first_key_comes_from_a_file_and_the_commands_send_it(m: Machine, issuer: Process) -> None:
    path = m.folder / "client.key"
    path.touch(0o600)
    path.write_text("first-" + "k" * 40 + "\n")
    service = m.service(issuer, client_key_file=path)
    forwarded = {"X-Forwarded-For": "10.0.0.1", "Authorization": f"Bearer {path.read_text().strip()}"}
    assert httpx.get(f"{service.url}/token", headers=forwarded, trust_env=False).status_code == 200
    listed = run(m, service, "keys", "list", PIXIR_AUTH_CLIENT_KEY_FILE=str(path))
    assert "first" in listed.stdout
    assert audited(service, who="key first", outcome="done") == 0
    assert run(m, service, "keys", "add", "x", PIXIR_AUTH_CLIENT_KEY_FILE=str(path)).returncode == 0
    assert audited(service, who="key first", deed="key_added") == 1
    service.close()


def test_the_first_key_is_good_until_the_end_whatever_becomes_of_the_file(
    m: Machine, issuer: Process, tmp_path: Path
) -> None:
    path = tmp_path / "client.key"
    path.touch(0o600)
    path.write_text("first-" + "k" * 40)
    service = m.service(issuer, client_key_file=path)
    forwarded = {"X-Forwarded-For": "10.0.0.1", "Authorization": f"Bearer {path.read_text()}"}
    path.write_text("other-" + "k" * 40)
    assert run(m, service, "keys", "revoke", "first").returncode == 1
    path.unlink()
    assert httpx.get(f"{service.url}/token", headers=forwarded, trust_env=False).status_code == 200
    service.close()
    again = m.service(issuer)
    assert httpx.get(f"{again.url}/token", headers=forwarded, trust_env=False).status_code == 401
    again.close()


@pytest.mark.parametrize(
    ("content", "mode"), [("short", 0o600), ("", 0o600), ("a b" + "c" * 30, 0o600), ("k" * 40, 0o644)]
)
def test_a_key_file_that_cannot_be_keeps_it_from_starting(
    m: Machine, issuer: Process, tmp_path: Path, content: str, mode: int
) -> None:
    path = tmp_path / "client.key"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(RuntimeError, match="ended with 1: ") as ended:
        m.service(issuer, client_key_file=path)
    assert str(path) in str(ended.value)
    assert not content or content not in str(ended.value).replace(str(path), "")


def test_beyond_loopback_only_with_a_key(m: Machine, issuer: Process, tmp_path: Path) -> None:
    with machine(tmp_path) as bare:
        with pytest.raises(RuntimeError, match="ended with 1: ") as ended:
            bare.service(issuer, host="0.0.0.0")
        assert "PIXIR_AUTH_HOST" in str(ended.value)
        path = tmp_path / "client.key"
        path.touch(0o600)
        path.write_text("k" * 40)
        service = bare.service(issuer, host="0.0.0.0", client_key_file=path)
        assert service.url.startswith("http://localhost:")
        port = urlsplit(service.url).port
        with socket.create_connection(("127.0.0.1", port or 0)) as there:
            there.sendall(b"GET /status HTTP/1.1\r\nHost: 0.0.0.0:%d\r\nConnection: close\r\n\r\n" % (port or 0))
            assert b" 421 " in there.recv(100)
        assert service.client.get("/status").status_code == 200
        assert run(bare, service, "keys", "add", "kept").returncode == 0
        service.close()
        assert bare.service(issuer, host="0.0.0.0").client.get("/status").status_code == 200


def test_linger_is_what_it_says() -> None:
    """The program above is text: that its numbers are a `struct linger` is looked at here."""
    assert struct.pack("ii", 1, 0) == b"\x01\0\0\0\0\0\0\0"
