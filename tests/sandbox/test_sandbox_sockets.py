"""The same issuer behind uvicorn, where connections can break, and as a process of its own."""

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import uvicorn

from service.sandbox import CODEX_CLIENT_ID, Sandbox, __main__, faults

pytestmark = pytest.mark.long


class Threaded(uvicorn.Server):
    """A server that can be waited for and stopped from another thread."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@contextmanager
def serving(sandbox: Sandbox, http: str) -> Iterator[None]:
    listener = socket.create_server(("127.0.0.1", 0))
    sandbox.issuer = f"http://127.0.0.1:{listener.getsockname()[1]}"
    config = uvicorn.Config(sandbox.app, log_level="error", lifespan="off", http=http, timeout_graceful_shutdown=1)
    server = Threaded(config)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    server.ready.wait(5)
    yield
    server.should_exit = True
    thread.join(5)


@pytest.fixture(params=["httptools", "h11"], scope="module")
def served(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    sandbox = Sandbox()
    with serving(sandbox, request.param):
        yield sandbox


@pytest.fixture
def client(served: Sandbox) -> Iterator[httpx.Client]:
    served.clear_faults()
    with httpx.Client(base_url=served.issuer, timeout=5) as client:
        yield client


def refresh(client: httpx.Client, token: str, **options: float) -> httpx.Response:
    body = {"grant_type": "refresh_token", "client_id": CODEX_CLIENT_ID, "refresh_token": token}
    return client.post("/oauth/token", json=body, **options)


def test_refresh_over_a_socket(served: Sandbox, client: httpx.Client) -> None:
    assert refresh(client, served.issue()["refresh_token"]).status_code == 200


@pytest.mark.parametrize("after", [False, True])
def test_drop_closes_before_a_byte(
    served: Sandbox, client: httpx.Client, after: bool, caplog: pytest.LogCaptureFixture
) -> None:
    token = served.issue()["refresh_token"]
    served.fail_next(faults.drop(after_processing=after))
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        refresh(client, token)
    assert served.family(token).generation == (2 if after else 1)
    assert caplog.records == []


def test_truncation_closes_before_the_end(
    served: Sandbox, client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    token = served.issue()["refresh_token"]
    served.fail_next(faults.truncated(10))
    with pytest.raises(httpx.RemoteProtocolError, match="received 10 bytes"):
        refresh(client, token)
    assert served.family(token).generation == 2
    assert caplog.records == []


def test_hang_lasts_until_the_client_leaves(served: Sandbox, client: httpx.Client) -> None:
    token = served.issue()["refresh_token"]
    served.fail_next(faults.hang())
    with pytest.raises(httpx.ReadTimeout):
        refresh(client, token, timeout=0.05)
    assert refresh(client, token).status_code == 200


# as a process


@pytest.fixture(scope="module")
def process() -> Iterator[tuple[subprocess.Popen[str], str]]:
    options = ["--port", "0", "--access-lifetime", "7", "--any-redirect-port", "--no-revoke-family"]
    command = [sys.executable, "-m", "service.sandbox", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started:
        try:
            yield started, started.stdout.readline().strip()
        finally:
            started.kill()


def test_process_says_its_url_and_obeys_its_options(process: tuple[subprocess.Popen[str], str]) -> None:
    _, url = process
    state = httpx.get(f"{url}/_sandbox/state").json()
    assert state["issuer"] == url
    assert state["knobs"]["access_lifetime"] == 7
    assert state["knobs"]["redirect_ports"] is None
    assert state["knobs"]["revoke_family"] is False


def test_process_ends_when_told(process: tuple[subprocess.Popen[str], str]) -> None:
    started, _ = process
    started.send_signal(signal.SIGINT)
    assert started.wait(5) == 0


def test_bind_beyond_loopback_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        __main__.main(["--host", "0.0.0.0"])
    assert "invalid choice" in capsys.readouterr().err


def test_taken_port_is_said_plainly() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with pytest.raises(SystemExit, match=f"cannot listen on 127.0.0.1:{port}"):
            __main__.main(["--port", port])
