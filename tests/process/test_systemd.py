"""Started by a service manager: real processes that are passed sockets, and a socket that hears what they tell."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.kit.processes import ROOT, Machine, Process, machine
from tests.kit.stranger import NOBODY

pytestmark = pytest.mark.long

V4, V6 = socket.AF_INET, socket.AF_INET6

LAUNCH = """
import os, sys
count = int(sys.argv[1])
for at, given in enumerate(sys.argv[2 : 2 + count]):
    os.dup2(int(given), 100 + at)
for at in range(count):
    os.dup2(100 + at, 3 + at)
    os.close(100 + at)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count), LISTEN_FDNAMES="x")
os.execvp(sys.argv[2 + count], sys.argv[2 + count :])
"""
"""What systemd does between fork and exec."""


def launcher(passed: Sequence[socket.socket]) -> list[str]:
    """A command that runs another one in its own place, with these sockets passed to it."""
    return [sys.executable, "-c", LAUNCH, str(len(passed)), *(str(each.fileno()) for each in passed)]


@contextmanager
def pair() -> Iterator[list[socket.socket]]:
    """What deploy/systemd's socket unit listens at, but for the port."""
    with ExitStack() as stack:
        first = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        second = socket.create_server(("::1", first.getsockname()[1]), family=V6)
        yield [first, stack.enter_context(second)]


@pytest.fixture(scope="module")
def m(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with machine(tmp_path_factory.mktemp("machine")) as made:
        yield made


@pytest.fixture(scope="module")
def issuer(m: Machine) -> Process:
    return m.issuer()


def started(m: Machine, issuer: Process, passed: Sequence[socket.socket], *before: str, **settings: Any) -> Process:
    """A service that is passed these sockets. `before`: a command that runs the launcher."""
    under, descriptors = [*before, *launcher(passed)], [each.fileno() for each in passed]
    return m.service(issuer, under=under, descriptors=descriptors, **settings)


# the sockets


def test_passed_sockets_are_served_in_place_of_our_own(m: Machine, issuer: Process) -> None:
    with pair() as passed, socket.create_server(("127.0.0.1", 0)) as taken:
        port = passed[0].getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as early:
            early.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost:%d\r\nConnection: close\r\n\r\n" % port)
            service = started(m, issuer, passed, port=taken.getsockname()[1])  # where it could not listen itself
            assert service.url == f"http://localhost:{port}"
            early.settimeout(30)
            assert early.recv(100).startswith(b"HTTP/1.1 200 ")
        m.install(service, issuer)
        for host in ("127.0.0.1", "[::1]"):
            assert httpx.get(f"http://{host}:{port}/token", trust_env=False, timeout=60).status_code == 200
        if os.geteuid() == 0:
            for host in ("127.0.0.1", "[::1]"):
                assert asked_by_nobody(f"http://{host}:{port}/token") == "403"
        service.signal(signal.SIGTERM)
        assert service.ended() == 0
        with socket.create_connection(("127.0.0.1", port), 30):
            pass  # the manager's own still listens: who comes now waits for the next start


def asked_by_nobody(url: str) -> str:
    """The status that curl tells when another user runs it."""
    command = ["curl", "-sS", "-o", os.devnull, "-w", "%{http_code}", url]
    who: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": [], "env": {"PATH": os.environ["PATH"]}}
    return subprocess.run(command, **who, cwd="/", capture_output=True, text=True, check=True).stdout


def test_a_passed_unix_socket_is_served_and_left_to_who_made_it(m: Machine, issuer: Process) -> None:
    path = m.folder / "passed.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        service = started(m, issuer, [listener], unix_socket=path)
        assert service.said(r"at the unix socket (\S+)") == str(path)
        way = httpx.HTTPTransport(uds=str(path))
        with httpx.Client(transport=way, base_url=service.url) as client:
            assert client.get("/status").status_code == 200
        assert service.client.get("/status").status_code == 200, "its own ports are served as well"
        service.signal(signal.SIGTERM)
        assert service.ended() == 0
        assert path.is_socket()


def test_what_is_passed_beyond_loopback_needs_a_client_key(m: Machine, issuer: Process) -> None:
    with machine(m.folder / "bare") as bare, socket.create_server(("0.0.0.0", 0)) as everywhere:
        bare.folder.mkdir()
        with pytest.raises(RuntimeError, match=r"ended with 1: .*not started: PIXIR_AUTH_HOST, or a socket that was"):
            started(bare, issuer, [everywhere])
        key = bare.folder / "client.key"
        key.touch(0o600)
        key.write_text("k" * 40)
        service = started(bare, issuer, [everywhere], client_key_file=key)
        assert urlsplit(service.url).port == everywhere.getsockname()[1]


def test_a_socket_that_cannot_be_served_keeps_it_from_starting(m: Machine, issuer: Process) -> None:
    with (
        socket.socket(V4, socket.SOCK_DGRAM) as datagrams,
        pytest.raises(
            RuntimeError, match=r"ended with 1: .*not started: LISTEN_FDS: descriptor 3 is no listening stream"
        ),
    ):
        started(m, issuer, [datagrams])


LOOK = """
import json, os
from service.systemd import Manager, NotUsable, passed_sockets
Manager()
try:
    found = [[each.family, each.fileno(), each.get_inheritable()] for each in passed_sockets()]
except NotUsable as exc:
    found = str(exc)
print(json.dumps([found, sorted(name for name in os.environ if name.startswith(("LISTEN_", "NOTIFY_")))]), flush=True)
os._exit(0)
"""


def look(passed: Sequence[socket.socket], **environment: str) -> Any:
    """What a process finds that is passed these, and what its environment says of them afterwards."""
    ran = subprocess.run(
        [
            *launcher(passed),
            "env",
            *(f"{name}={value}" for name, value in environment.items()),
            sys.executable,
            "-c",
            LOOK,
        ],
        pass_fds=[each.fileno() for each in passed],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    return json.loads(ran.stdout)


def test_who_is_started_by_us_inherits_neither_the_sockets_nor_a_word_of_them() -> None:
    with pair() as passed:
        assert look(passed, NOTIFY_SOCKET="/nowhere") == [[[V4, 3, False], [V6, 4, False]], []]


def test_what_was_passed_to_another_process_is_not_ours() -> None:
    with pair() as passed:
        assert look(passed, LISTEN_PID="1") == [[], []]
        assert look(passed, LISTEN_PID="") == [[], []]


def test_what_cannot_be_served_is_named() -> None:
    with ExitStack() as stack:
        first, second = stack.enter_context(pair()), stack.enter_context(pair())
        silent = stack.enter_context(socket.socket())
        left, _ = (stack.enter_context(each) for each in socket.socketpair())
        packets = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        packets.bind("")  # a name of the kernel's choice
        packets.listen()
        assert look([*first, silent])[0] == "descriptor 5 is no listening stream socket"
        assert look([left])[0] == "descriptor 3 is no listening stream socket"
        assert look([packets])[0] == "descriptor 3 is no listening stream socket"
        assert look(first, LISTEN_FDS="3")[0] == "descriptor 5 is no socket (Bad file descriptor)"
        assert look(first, LISTEN_FDS="-1")[0] == "it is not a number"
        assert look([first[0], second[0]])[0] == "all sockets must listen at the same port"


# what the manager hears


@pytest.fixture(params=["path", "abstract"])
def hears(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """NOTIFY_SOCKET, and the manager's end."""
    if request.param == "abstract" and sys.platform != "linux":
        pytest.skip("only Linux has sockets without a file")
    name = str(tmp_path / "notify") if request.param == "path" else f"@pixir-auth-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name[1:]}" if name[0] == "@" else name)
        manager.settimeout(60)
        yield name, manager


def test_the_manager_hears_when_it_serves_and_when_it_ends(
    m: Machine, issuer: Process, hears: tuple[str, socket.socket]
) -> None:
    name, manager = hears
    service = m.service(issuer, under=["env", f"NOTIFY_SOCKET={name}"], issuer_timeout=100)
    assert manager.recv(4096).decode().splitlines() == ["READY=1", f"STATUS=serves {service.url}"]
    assert service.client.get("/healthz", timeout=5).status_code == 200
    service.signal(signal.SIGTERM)
    assert manager.recv(4096).decode().splitlines() == ["STOPPING=1", "STATUS=ends", "EXTEND_TIMEOUT_USEC=120000000"]
    assert service.ended() == 0
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(4096)


def test_nothing_is_heard_of_one_that_does_not_serve(
    m: Machine, issuer: Process, hears: tuple[str, socket.socket]
) -> None:
    name, manager = hears
    with pytest.raises(RuntimeError, match="not started: PIXIR_AUTH_DATABASE_URL"):
        m.service(issuer, under=["env", f"NOTIFY_SOCKET={name}"], database_url="mysql://db/x")
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(4096)


def test_a_manager_that_is_not_there_costs_a_line_in_the_log(m: Machine, issuer: Process) -> None:
    service = m.service(issuer, under=["env", f"NOTIFY_SOCKET={m.folder / 'nowhere'}"])
    assert service.said(r"the service manager does not hear us \((.+)\)") == "No such file or directory"
    assert service.client.get("/healthz").status_code == 200
