"""The service at its unix socket: a real process beside its ports, from its start to any end of it."""

import os
import re
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from tests.kit.processes import ROOT, Machine, Process, machine

pytestmark = pytest.mark.long

OPEN_UMASK = ("sh", "-c", 'umask 000; exec "$@"', "sh")


@pytest.fixture(scope="module")
def m(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with machine(tmp_path_factory.mktemp("machine")) as made:
        yield made


@pytest.fixture(scope="module")
def issuer(m: Machine) -> Process:
    return m.issuer()


def path_of(m: Machine, name: str) -> Path:
    return m.folder / "run" / f"{name}.sock"


def started(m: Machine, issuer: Process, name: str, under: Sequence[str] = ()) -> Process:
    """A service with a socket of that name."""
    return m.service(issuer, under=under, unix_socket=path_of(m, name), allowed_hosts="localhost")


@pytest.fixture(scope="module")
def service(m: Machine, issuer: Process) -> Process:
    running = started(m, issuer, "auth", OPEN_UMASK)
    m.install(running, issuer)
    return running


def through(path: Path) -> httpx.Client:
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://localhost", timeout=60)


def command(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of a person whose settings name the socket and no port that answers."""
    environ = {**os.environ, "PIXIR_AUTH_UNIX_SOCKET": str(path), "PIXIR_AUTH_PORT": "1"}
    ran = [sys.executable, "-m", "service", *arguments]
    return subprocess.run(ran, env=environ, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def mode(path: Path) -> str:
    return stat.filemode(path.lstat().st_mode)


# while it runs


def test_it_serves_at_the_port_and_at_the_socket(m: Machine, service: Process) -> None:
    with through(path_of(m, "auth")) as client:
        at_socket = client.get("/token").json()
    assert at_socket["access_token"] == service.client.get("/token").json()["access_token"]


def test_the_file_is_ours_alone_though_the_umask_forbids_nothing(m: Machine, service: Process) -> None:
    """uvicorn would make it 0666 itself (`uds=`)."""
    assert mode(path_of(m, "auth")) == "srw-------"
    assert mode(m.folder / "run") == "drwx------"
    assert [each.name for each in (m.folder / "run").glob(".*")] == []


def test_commands_find_the_service_there(m: Machine, service: Process) -> None:
    token = command(path_of(m, "auth"), "token")
    assert (token.returncode, token.stderr) == (0, "")
    assert token.stdout.strip() == service.client.get("/token").json()["access_token"]
    assert command(path_of(m, "auth"), "status", "--json").returncode == 0
    assert token.stdout.strip() in command(path_of(m, "auth"), "headers").stdout


def test_a_second_service_leaves_it_alone(m: Machine, issuer: Process, service: Process) -> None:
    before = path_of(m, "auth").lstat().st_ino
    with pytest.raises(RuntimeError, match="ended with 1: ") as ended:
        started(m, issuer, "auth")
    assert f"PIXIR_AUTH_UNIX_SOCKET: cannot listen at {path_of(m, 'auth')}: in use by another process" in str(
        ended.value
    )
    assert path_of(m, "auth").lstat().st_ino == before
    with through(path_of(m, "auth")) as client:
        assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("trap", ["link", "pipe"])
def test_what_is_no_socket_keeps_it_from_starting(m: Machine, issuer: Process, service: Process, trap: str) -> None:
    """It is refused before anything is opened: a pipe is not waited for."""
    path, target = path_of(m, trap), m.folder / "precious"
    target.write_bytes(b"precious")
    if trap == "link":
        path.symlink_to(target)
    else:
        os.mkfifo(path)
    with pytest.raises(RuntimeError, match=f"ended with 1: .*not started: PIXIR_AUTH_UNIX_SOCKET: {path} is something"):
        started(m, issuer, trap)
    assert target.read_bytes() == b"precious"
    assert mode(path)[0] == {"link": "l", "pipe": "p"}[trap]


# how it ends


def test_who_waits_there_is_answered_when_it_ends(m: Machine, issuer: Process) -> None:
    ending = started(m, issuer, "ending")
    answers: list[httpx.Response] = []
    with through(path_of(m, "ending")) as client:
        login = client.post("/login", json={"flow": "device"}).json()
        began = threading.Event()

        def wait() -> None:
            began.set()
            answers.append(client.get(f"/login/{login['id']}", params={"wait": 60}))

        waiting = threading.Thread(target=wait)
        waiting.start()
        began.wait()
        ending.said(r"(POST /login 201)")
        ending.signal(signal.SIGTERM)
        waiting.join(30)
    assert [(each.status_code, each.json()["state"]) for each in answers] == [(200, "pending")]
    assert ending.ended() == 0
    assert not path_of(m, "ending").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_no_file_is_left_whatever_ends_it_in_good_order(m: Machine, issuer: Process, number: signal.Signals) -> None:
    ending = started(m, issuer, "ending")
    ending.signal(number)
    assert ending.ended() == 0
    assert not path_of(m, "ending").exists()


def test_no_file_is_left_when_it_cannot_start(m: Machine, issuer: Process) -> None:
    with pytest.raises(RuntimeError, match="not started: PIXIR_AUTH_DATABASE_URL"):
        m.service(issuer, unix_socket=path_of(m, "vain"), database_url="mysql://db/x")
    assert not path_of(m, "vain").exists()


def test_what_a_killed_one_leaves_is_replaced(m: Machine, issuer: Process) -> None:
    killed = started(m, issuer, "killed")
    killed.kill()
    left = path_of(m, "killed").lstat()
    assert stat.S_ISSOCK(left.st_mode)
    assert "connection refused" in command(path_of(m, "killed"), "token").stderr
    started(m, issuer, "killed")
    with through(path_of(m, "killed")) as client:
        assert client.get("/healthz").status_code == 200
    assert (path_of(m, "killed").lstat().st_ino, path_of(m, "killed").lstat().st_ctime_ns) != (
        left.st_ino,
        left.st_ctime_ns,
    )


def test_a_file_that_is_not_ours_any_more_stays(m: Machine, issuer: Process) -> None:
    ending = started(m, issuer, "replaced")
    path_of(m, "replaced").unlink()
    path_of(m, "replaced").write_bytes(b"precious")
    ending.signal(signal.SIGTERM)
    assert ending.ended() == 0
    assert path_of(m, "replaced").read_bytes() == b"precious"


# what a stranger could have foreseen


@pytest.mark.strace
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can look into the service while it runs")
def test_a_whole_life_touches_no_foreseeable_name_among_the_temporary_files(
    m: Machine, issuer: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = m.folder / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    monkeypatch.setenv("TMPDIR", str(shared))
    lives = []
    for life in ("one", "two"):
        record = m.folder / f"{life}.strace"
        traced = ("strace", "-D", "-f", "-s", "4096", "-o", str(record), "-e", "trace=%file,bind")
        running = started(m, issuer, life, traced)
        m.install(running, issuer, life)
        assert running.client.get("/token", params={"account": life}).status_code == 200
        running.signal(signal.SIGTERM)
        assert running.ended() == 0
        names = re.findall(rf'"{shared}/([^"/]+)', record.read_text())
        assert str(path_of(m, life)) in record.read_text()
        lives.append(set(names))
    assert lives[0] & lives[1] == set()
