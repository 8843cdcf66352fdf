"""The service and the sandbox issuer as real processes on loopback, for what only processes can show."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]


class Process:
    """A child that says on a line of its output where it can be reached."""

    def __init__(
        self,
        arguments: list[str],
        environment: dict[str, str],
        address: str,
        log: Path,
        under: Sequence[str] = (),
        descriptors: Sequence[int] = (),
    ) -> None:
        """`arguments`: a module and what it is given. `under`: a command that runs another one in its own place.

        descriptors: what it inherits beside the usual three.
        """
        self.log = log
        with log.open("ab") as output:
            self._began = output.tell()
            self._child = subprocess.Popen(
                [*under, sys.executable, "-W", "error", "-m", *arguments],
                env={**_plain_environment(), **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                pass_fds=descriptors,
            )
        self.url = self.said(address)
        self.client = httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._child.send_signal(number)

    def ended(self, within: float = 30) -> int:
        """Wait for its end; the exit code."""
        return self._child.wait(within)

    def stopped(self) -> None:
        """Wait until it has stopped itself. Raises RuntimeError if it ends instead."""
        found = os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if found is None or found.si_code != os.CLD_STOPPED:
            raise RuntimeError(f"ended instead of stopping: {self.log.read_text()}")

    def kill(self) -> None:
        """kill -9, and wait."""
        self._child.kill()
        self._child.wait(30)

    def close(self) -> None:
        """Stop it in good order if it still runs."""
        self.client.close()
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGCONT)
            self._child.terminate()
            try:
                self._child.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()

    def said(self, pattern: str, within: float = 60) -> str:
        """Follow its output until the pattern is in it: what its group matched.

        Raises RuntimeError if it ends (or not even that in time: `ended with None`).
        """
        until = time.monotonic() + within
        with self.log.open("rb") as lines:
            lines.seek(self._began)
            seen = b""
            while True:
                seen += lines.read()
                if found := re.search(pattern.encode(), seen):
                    return found[1].decode()
                if self._child.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"ended with {self._child.returncode}: {seen.decode(errors='replace')}")
                try:
                    self._child.wait(0.02)
                except subprocess.TimeoutExpired:
                    continue


class Machine:
    """One user's machine: a folder, an issuer, and as many services on one database as a test starts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._processes: list[Process] = []

    def issuer(self, **knobs: Any) -> Process:
        """Start the sandbox issuer; knobs as its control route takes them."""
        process = Process(
            ["service.sandbox", "--port", "0", "--any-redirect-port"], {}, r"(http://\S+)", self.folder / "issuer.log"
        )
        self._processes.append(process)
        if knobs:
            process.client.post("/_sandbox/knobs", json=knobs).raise_for_status()
        return process

    def service(
        self,
        issuer: Process,
        port: int = 0,
        *,
        program: Sequence[str] = ("service",),
        under: Sequence[str] = (),
        descriptors: Sequence[int] = (),
        **settings: Any,
    ) -> Process:
        """Start a service; settings by their environment names without the prefix, in lower case.

        program: a module that serves as `service` does, and what it wants to be told. under, descriptors: as `Process`
        takes them.
        """
        name = f"service-{len(self._processes)}"
        environment = {
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "PIXIR_AUTH_DATA_DIR": str(self.folder / "data"),
            "PIXIR_AUTH_CODEX_ISSUER": issuer.url,
            "PIXIR_AUTH_PORT": str(port),
            **{f"PIXIR_AUTH_{key.upper()}": str(value) for key, value in settings.items()},
        }
        log = self.folder / f"{name}.log"
        process = Process([*program, "serve"], environment, r"serves (http://\S+)", log, under, descriptors)
        self._processes.append(process)
        return process

    def install(self, service: Process, issuer: Process, account: str = "default", **user: str) -> None:
        """Give the service a login that the issuer mints."""
        login = issuer.client.post("/_sandbox/issue", json=user).raise_for_status().json()
        body = {"kind": "subscription", **{name: login[name] for name in ("access_token", "refresh_token", "id_token")}}
        service.client.put("/credential", params={"account": account}, json=body).raise_for_status()

    def close(self) -> None:
        """Stop everything that was started."""
        for process in reversed(self._processes):
            process.close()


@contextmanager
def machine(folder: Path) -> Iterator[Machine]:
    """A machine whose processes end with the test."""
    made = Machine(folder)
    try:
        yield made
    finally:
        made.close()


def _plain_environment() -> dict[str, str]:
    """The environment without settings of whoever runs the tests."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PIXIR_AUTH_", "OPENAI_", "XDG_")) and "proxy" not in name.lower()
    }
