"""A whole life of a real process at DEBUG: no secret in its log, its files, its environment or its arguments, nor in
what a crash leaves behind."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.kit.processes import ROOT, Machine, Process, machine
from tests.web.seen import forms

FIRST = "first-client-key-" + "k" * 30
TYPED = "planted-5d2c90-typed-into-a-request"


@pytest.fixture
def m(tmp_path: Path) -> Iterator[Machine]:
    with machine(tmp_path) as made:
        yield made


def places(m: Machine, service: Process) -> dict[str, bytes]:
    """Where a secret might be seen, while the process lives; the files that hold keys by right left out."""
    own = {m.folder / "client.key", *(m.folder / "config").rglob("encryption.key*")}
    files = [path for path in m.folder.rglob("*") if path.is_file() and path not in own and path.name != "issuer.log"]
    proc = Path(f"/proc/{service.pid}")
    told = [proc / name for name in ("environ", "cmdline", "comm", "status")] if proc.exists() else []
    return {str(path): path.read_bytes() for path in (*files, *told)}


def hits(secrets: set[str], where: dict[str, bytes]) -> list[str]:
    return [
        f"{place}: {form[:16]!r}"
        for place, held in where.items()
        for each in secrets
        for form in forms(each)
        if form in held
    ]


def seen_by_the_issuer(issuer: Process) -> set[str]:
    """Every secret that was made or sent."""
    state = issuer.client.get("/_sandbox/state").json()
    secrets = {family[name] for family in state["families"] for name in ("refresh_token", "access_token")}
    for request in issuer.client.get("/_sandbox/requests").json():
        names = ("code", "code_verifier", "refresh_token", "token", "device_auth_id")
        secrets |= {request["form"][name] for name in names if request["form"].get(name)}
        secrets |= {request["query"]["state"]} if "state" in request["query"] else set()
    return secrets


def log_in(service: Process) -> set[str]:
    """By a browser, once refused and once pasted; what came back."""
    secrets = set()
    for account in ("work", "home"):
        login = service.client.post("/login", json={"account": account}).json()
        back = httpx.get(login["authorize_url"], trust_env=False).headers["location"]
        secrets |= {value for name in ("code", "state") for value in parse_qs(urlsplit(back).query)[name]}
        service.client.get(f"/auth/callback?state={TYPED}&code={TYPED}")
        service.client.post(f"/login/{login['id']}/callback", json={"url": back})
    return secrets


def ask_nonsense(service: Process, key: str) -> None:
    """All that may be quoted in an error."""
    port = urlsplit(service.url).port or 0
    for raw in (
        f"GET /{TYPED} HTTP/1.1\r\nHost: localhost:{port}\r\n{TYPED}\r\n\r\n",
        f"{TYPED} / HTTP/1.1\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: {TYPED}\r\nAuthorization: Bearer {key}\r\n\r\n",
        f"POST /login HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Length: 100\r\n\r\n{TYPED}",
    ):
        with socket.create_connection(("127.0.0.1", port)) as there:
            there.sendall(raw.encode())
    for headers in ({"Authorization": f"Bearer {TYPED}"}, {"Origin": TYPED}, {"X-Forwarded-For": TYPED}):
        service.client.get(f"/{TYPED}?{TYPED}={TYPED}", headers=headers)
    for body in (f'{{"{TYPED}":', f'{{"{TYPED}":1}}', f'"{TYPED}"'):
        service.client.put("/credential", content=body, headers={"Content-Type": "application/json"})
    service.client.put(f"/keys/{TYPED}", json={"digest": TYPED})


def refresh(service: Process, issuer: Process, account: str) -> set[str]:
    """Three times, and once in vain; every access token that there was."""
    tokens = set()
    for fault in (None, None, None, "server_error"):
        if fault:
            issuer.client.post("/_sandbox/fail", json={"name": fault}).raise_for_status()
        before = service.client.get("/token", params={"account": account}).json()
        after = service.client.get("/token", params={"account": account, "newer_than": before["generation"]}).json()
        tokens |= {before["access_token"], after["access_token"]}
    return tokens


def commands(m: Machine, service: Process, issuer: Process) -> set[str]:
    """A client key made and used on the command line, an argument that is a token, backups and their way back, a login
    given away."""
    own = {"XDG_CONFIG_HOME": str(m.folder / "config"), "PIXIR_AUTH_PUBLIC_URL": service.url}
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PIXIR_AUTH_", "XDG_"))}

    def ran(*command: str) -> subprocess.CompletedProcess[str]:
        asked = [sys.executable, "-m", "service", *command]
        return subprocess.run(asked, env={**plain, **own}, cwd=ROOT, capture_output=True, text=True, check=False)

    key = ran("keys", "add", "ci").stdout.strip()
    assert key
    told = ran("import", "sk-" + TYPED).stderr + ran("keys", "revoke", "ci").stderr + ran("audit").stdout
    file = str(m.folder / "logins.backup")
    for command in (("backup", file), ("backup", "-"), ("restore", file), ("restore", file, "--keys", "--replace")):
        done = ran(*command)
        assert done.returncode == 0, done.stderr
        told += done.stdout + done.stderr
    told += ran("restore", "--confirm-unspent", "work").stderr
    for _ in range(2):
        given = ran("export", "--format", "codex", "--with-refresh-token", "--account", "home")
        assert json.loads(given.stdout)["tokens"]["refresh_token"] in seen_by_the_issuer(issuer)
        told += given.stderr
    assert TYPED not in told
    assert key not in told
    assert not hits(seen_by_the_issuer(issuer), {"what the commands say": told.encode()})
    return {key}


@pytest.mark.long
@pytest.mark.usefixtures("callback_ports")
def test_a_whole_life_of_a_process(m: Machine) -> None:
    (m.folder / "client.key").touch(0o600)
    (m.folder / "client.key").write_text(FIRST)
    issuer = m.issuer()
    service = m.service(
        issuer,
        log_level="debug",
        refresh_floor=0,
        client_key_file=m.folder / "client.key",
        unix_socket=m.folder / "run" / "s",
    )
    m.install(service, issuer)
    secrets = {FIRST, TYPED} | log_in(service) | commands(m, service, issuer)
    ask_nonsense(service, FIRST)
    for account in ("default", "work"):
        secrets |= refresh(service, issuer, account)
    service.client.get("/token", headers={"Authorization": f"Bearer {FIRST}"})
    with closing(sqlite3.connect(m.folder / "data" / "pixir-auth.db")) as database:
        database.execute("VACUUM INTO ?", (str(m.folder / "backup.db"),))
    secrets |= seen_by_the_issuer(issuer)
    assert len(secrets) > 20
    assert hits(secrets, places(m, service)) == []
    assert "reused" not in json.dumps(service.client.get("/accounts").json())
    assert service.client.post("/rekey").json()["resealed"] > 5
    service.client.post("/logout", params={"account": "home"})
    assert hits(secrets, places(m, service)) == []
    service.signal(signal.SIGSEGV)
    assert service.ended() == -signal.SIGSEGV
    assert hits(secrets, places(m, service)) == []
    assert not [path for path in (*m.folder.rglob("core*"), *ROOT.glob("core*")) if path.is_file()]


@pytest.mark.long
def test_the_hunt_finds_what_is_there(m: Machine) -> None:
    service = m.service(m.issuer())
    assert hits({"planted-in-the-environment"}, places(m, service)) == []
    assert hits({str(m.folder)}, places(m, service)), "PIXIR_AUTH_DATA_DIR"
    assert hits({"pixir-auth 0."}, places(m, service)), "the log"
    (m.folder / "data" / "x").write_bytes(b"planted-here".hex().encode())
    assert hits({"planted-here"}, places(m, service))
