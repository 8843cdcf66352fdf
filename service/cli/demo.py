"""`demo`: a sandbox issuer and a service on a throw-away store, logged in, with lines to try.

Promises to touch nothing of the person who runs it: no setting, no stored login and no issuer but its own; and to leave
nothing behind. The service is a process of its own, started as a service manager would start it: it is passed sockets
that listen since before it was there, so that whoever answers at its port is it and nobody else.
"""

import base64
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

import uvicorn

from service.cli.client import Service
from service.cli.console import DONE, Failure, out, say
from service.cli.visitor import finish_login, is_ready
from service.sandbox import Knobs, Sandbox
from service.server import listen

_PORT: Final = 1455
"""The port that the curl lines of the documentation name."""

_READY_WITHIN: Final = 30.0
"""Seconds that a slow machine may take to start the service."""

_STOP_WITHIN: Final = 10.0
"""Seconds that the service gets to end by itself."""

_TOKENS_LIVE: Final = 300.0
"""Seconds: short, so that refreshing can be watched."""

_TRIES: Final = 5
"""Free ports of 127.0.0.1 that are tried: one may be taken on ::1."""

_CONFIG: Final = "pixir-auth.toml"
_KEY: Final = "key"

_SERVE: Final = "import sys; sys.path.append(sys.argv.pop()); from service.cli import main; sys.exit(main())"
"""Not `-m service`: that would take a `service` that lies in the current folder for ours."""

_PASSED: Final = """
import os, sys
for place, given in enumerate(map(int, sys.argv.pop().split(",")), 3):
    if given != place:
        os.dup2(given, place)
        os.close(given)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(place - 2))
"""
"""What a service manager does before exec (sd_listen_fds(3)). The numbers rise, so that none is overwritten."""


class Stop:
    """Whether somebody asked for the end. Handlers only set it: what is under way is then left in good order."""

    def __init__(self) -> None:
        self._asked = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a shell's background job
                signal.signal(number, self._ask)

    def is_asked(self) -> bool:
        """Whether it is time to end."""
        return self._asked

    def _ask(self, _number: int, _frame: object) -> None:
        self._asked = True


def run() -> int:
    """Run the demo until it is told to stop."""
    stop = Stop()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pixir-auth-demo-")))  # 0700
        sockets = listening()
        for each in sockets:
            stack.enter_context(each)
        service = Service(f"http://localhost:{sockets[0].getsockname()[1]}")
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        issuer = f"http://127.0.0.1:{listener.getsockname()[1]}"
        say("Starting a sandbox issuer and a service of its own.")
        _furnish(folder)
        stack.enter_context(_sandbox(listener, issuer))
        try:
            _show(service, sockets, folder, issuer, stop)
        except Failure:
            if not stop.is_asked():  # Ctrl-C ends the service at the same moment
                raise
    return DONE


def listening() -> list[socket.socket]:
    """What the service is to listen at: port 1455 where it is free, else a free one. Raises Failure."""
    for port in (_PORT, *[0] * _TRIES):
        with suppress(OSError):
            return listen("localhost", port)
    raise Failure("No port is free for the service.")


def lines(service: str, issuer: str) -> list[str]:
    """What to paste into a shell, one after the other, with a word about each."""
    token, headers = f"{service}/token", f"'{service}/headers?format=text'"
    json = "-H 'Content-Type: application/json' -d"
    get, show = "curl -fsS", "curl -fsS -w '\\n'"
    return [
        "# Who is logged in:",
        f"{show} {service}/status",
        "# A valid token, as a script wants it:",
        f"{get} '{token}?format=text'",
        "# A call to the provider's API (here: the sandbox's), with the headers that it wants:",
        f"{get} {headers} | {show} -H @- {issuer}/backend-api/wham/accounts/check",
        "# The API rejected the token of generation 1: one refresh, however many callers say so:",
        f"{show} '{token}?newer_than=1'",
        "# A token good for four minutes at least, refreshed first if need be (the sandbox's live for five):",
        f"{show} '{token}?min_ttl=240'",
        "# A device login for a second account: start it, approve it as a person would in a browser, use it:",
        f'{show} {json} \'{{"account":"second","flow":"device"}}\' {service}/login',
        f"{show} {json} '{{}}' {issuer}/_sandbox/approve",
        f"curl -fs --retry 10 --retry-delay 1 --retry-all-errors '{token}?account=second&format=text'",
    ]


def environment(folder: Path, issuer: str) -> dict[str, str]:
    """What the service is started with: nothing of the person's own settings, and everything in the folder."""
    own = ("OPENAI_API_KEY", "CREDENTIALS_DIRECTORY")
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith("PIXIR_AUTH_") and name.upper() not in own
    }
    paths = {"CONFIG": _CONFIG, "ENCRYPTION_KEY_FILE": _KEY, "DATA_DIR": "data"}
    return {
        **inherited,
        "HOME": str(folder),  # the platform's folders follow it, or XDG_CONFIG_HOME
        "XDG_CONFIG_HOME": str(folder / "config"),
        **{f"PIXIR_AUTH_{name}": str(folder / path) for name, path in paths.items()},
        "PIXIR_AUTH_CODEX_ISSUER": issuer,
        "PIXIR_AUTH_LOG_LEVEL": "warning",
    }


def _show(service: Service, sockets: Sequence[socket.socket], folder: Path, issuer: str, stop: Stop) -> None:
    """Have a service of our own until somebody asks for the end."""
    with _service(sockets, folder, issuer) as process:
        if _until(lambda: is_ready(service), process, stop):
            finish_login(service)
            out("\n".join(lines(service.url, issuer)))
            say("", "Ctrl-C ends it, and nothing stays.")
        while not stop.is_asked():
            _check(process)
            time.sleep(0.2)


def _furnish(folder: Path) -> None:
    """An empty settings file, in the place of the person's own, and a key."""
    (folder / _CONFIG).touch(0o600)
    with os.fdopen(os.open(folder / _KEY, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as key:
        key.write(base64.b64encode(os.urandom(32)))


@contextmanager
def _service(sockets: Sequence[socket.socket], folder: Path, issuer: str) -> Iterator[subprocess.Popen[bytes]]:
    passed = sorted(each.fileno() for each in sockets)
    told = [str(Path(__file__).parents[2]), ",".join(map(str, passed))]
    process = subprocess.Popen(  # noqa: S603 - ourselves
        [sys.executable, "-P", "-c", _PASSED + _SERVE, "serve", *told],
        env=environment(folder, issuer),
        stdin=subprocess.DEVNULL,
        stdout=2,
        pass_fds=passed,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _sandbox(listener: socket.socket, issuer: str) -> Iterator[None]:
    app = Sandbox(issuer, Knobs(access_lifetime=_TOKENS_LIVE, device_interval="1")).app
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(_STOP_WITHIN)


def _until(ready: Callable[[], bool], process: subprocess.Popen[bytes], stop: Stop) -> bool:
    """Wait until it is ready; False when somebody asked for the end before."""
    give_up = time.monotonic() + _READY_WITHIN
    while not stop.is_asked():
        if ready():
            return True
        _check(process)
        if time.monotonic() > give_up:
            raise Failure(f"The service was not ready within {_READY_WITHIN:.0f} s.")
        time.sleep(0.05)
    return False


def _check(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        raise Failure(f"The service has ended by itself (exit code {process.returncode}).")
