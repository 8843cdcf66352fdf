"""What is measured: a sandbox issuer, the service logged in at it, and the bare server, each a process on loopback."""

import base64
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

PATHS = ("/token", "/headers", "/status")

Running = AbstractContextManager[tuple[int, float]]
"""A process that ends with the context: its id, and the seconds until its first answer."""


def free_port() -> int:
    """A port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def ask(port: int, method: str, path: str, body: Any = None) -> tuple[list[tuple[str, str]], str]:
    """Headers and body of an answer. Raises RuntimeError unless it is a success, OSError when nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        content = None if body is None else json.dumps(body)
        connection.request(method, path, content, {} if body is None else {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read().decode()
    finally:
        connection.close()
    if answer.status >= 300:
        raise RuntimeError(f"{method} {path}: {answer.status} {text}")
    return answer.getheaders(), text


@contextmanager
def running(port: int, ready: str, *arguments: str, **env: str) -> Iterator[tuple[int, float]]:
    """A Python module as a process that answers at a port."""
    inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith("PIXIR_AUTH_")}
    began, none = time.perf_counter(), subprocess.DEVNULL
    command = [sys.executable, "-m", *arguments]
    process = subprocess.Popen(command, env={**inherited, **env}, stdin=none, stdout=none, stderr=none)
    try:
        while True:
            try:
                ask(port, "GET", ready)
                break
            except (OSError, http.client.HTTPException):
                if process.poll() is not None or time.perf_counter() - began > 30:
                    raise RuntimeError(f"{' '.join(arguments)} does not answer") from None
                time.sleep(0.005)
        yield process.pid, time.perf_counter() - began
    finally:
        process.terminate()
        process.wait(60)


def service(folder: Path, port: int, issuer: int) -> Running:
    """The service as anybody starts it, on a store in a folder of its own."""
    (key := folder / "key").touch(mode=0o600)
    key.write_bytes(key.read_bytes() or base64.b64encode(os.urandom(32)))
    (config := folder / "pixir-auth.toml").touch()
    paths = {"DATA_DIR": folder / "data", "ENCRYPTION_KEY_FILE": key, "CONFIG": config}
    settings = {**paths, "PORT": port, "CODEX_ISSUER": f"http://127.0.0.1:{issuer}"}
    env = {f"PIXIR_AUTH_{name}": str(value) for name, value in settings.items()}
    return running(port, "/healthz", "service", "serve", **env)


def bare(port: int, answers: Path) -> Running:
    """The bare server with the answers that were recorded."""
    return running(port, PATHS[0], "benchmarks.bare", str(port), str(answers))


def sandbox(port: int) -> Running:
    """The issuer."""
    return running(port, "/_sandbox/state", "service.sandbox", "--port", str(port))


def record(port: int, file: Path) -> None:
    """Keep the service's answers, so that the bare server sends the same bytes and headers."""
    answers = {}
    for path in PATHS:
        headers, body = ask(port, "GET", path)
        answers[path] = [[pair for pair in headers if pair[0].lower() != "date"], body]
    file.write_text(json.dumps(answers))


def log_in(port: int, issuer: int, account: str, **members: Any) -> None:
    """A login made at the issuer and handed to the service. members: `expires_at`."""
    tokens = json.loads(ask(issuer, "POST", "/_sandbox/issue", {})[1])
    own = {name: tokens[name] for name in ("access_token", "refresh_token")}
    ask(port, "PUT", f"/credential?account={account}", {"kind": "subscription", **own, **members})


def refreshes(issuer: int) -> int:
    """How many refreshes the issuer has granted."""
    return int(json.loads(ask(issuer, "GET", "/_sandbox/state")[1])["refresh_count"])


def memory(pid: int) -> float:
    """Resident megabytes."""
    said = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], check=True, capture_output=True, text=True)
    return int(said.stdout) / 1024
