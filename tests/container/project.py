"""compose.yaml as a project of these tests alone."""

import os
import random
import shutil
import socket
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPHandler, ProxyHandler, Request, build_opener

from .engine import HARDENED, ROOT, TAG, Service, docker

COMMANDS = {"v2": ("docker", "compose"), "1.29": ("docker-compose",)}
"""Docker Compose, by what is promised of it."""


def there_is(version: str) -> bool:
    """Whether this machine has it. A `docker-compose` that is v2 by another name is no 1.29."""
    program, *arguments = COMMANDS[version]
    if not shutil.which(program):
        return False
    asked = subprocess.run([program, *arguments, "version", "--short"], capture_output=True, text=True, check=False)
    is_old = asked.stdout.lstrip("v").startswith("1.")
    return asked.returncode == 0 and is_old == (version == "1.29")


def _somewhere() -> str:
    """A loopback address of our own: 1455 of the usual one may be taken, and the issuer redirects to no other port."""
    return f"127.{random.randint(1, 254)}.{random.randint(1, 254)}.{random.randint(2, 254)}"


@dataclass(frozen=True)
class Project:
    """One project; `options`: its files and profiles; `published_at`: what is localhost to its callers here."""

    version: str
    options: tuple[str, ...] = ("-f", "compose.yaml")
    environment: Mapping[str, str] = field(default_factory=dict)
    name: str = field(default_factory=lambda: f"pixirauthtest{uuid.uuid4().hex[:8]}")
    published_at: str = field(default_factory=_somewhere)

    def compose(self, *arguments: str) -> str:
        """Standard output of one command. Raises AssertionError with what it said when it fails."""
        done = subprocess.run(
            [*COMMANDS[self.version], "-p", self.name, *self.options, *arguments],
            cwd=ROOT,
            env={**os.environ, "PIXIR_AUTH_IMAGE": TAG, "PIXIR_AUTH_PUBLISH_AT": self.published_at, **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout.strip()

    def containers(self, service: str = "") -> list[str]:
        """Of one service or of all, those that have ended too."""
        label = [f"label=com.docker.compose.service={service}"] if service else []
        filters = [f"label=com.docker.compose.project={self.name}", *label]
        return docker("ps", "-aq", *(word for one in filters for word in ("--filter", one))).split()

    def service(self, name: str = "pixir-auth") -> Service:
        """The one container of a service."""
        (container,) = self.containers(name)
        return Service(container)

    def fetch(self, url: str, key: str | None = None, **headers: str) -> tuple[int, str]:
        """Status and body of what this machine is answered at a URL of localhost, or wherever that leads."""
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        request = Request(url, headers=told | ({"Authorization": f"Bearer {key}"} if key else {}))
        try:
            with build_opener(ProxyHandler({}), _Localhost(self.published_at)).open(request, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()

    def python(self, program: str, *options: str) -> str:
        """What a program prints that runs in a container with a place in this project's network and its client key."""
        if "--network" not in options:
            options = ("--network", f"{self.name}_default", *options)
        key = ("-v", f"{self.name}_client-key:/run/secrets/client:ro")
        return docker("run", "--rm", *HARDENED, *key, *options, "--entrypoint", "python", TAG, "-c", program)

    def secrets(self) -> list[str]:
        """Every secret that the project has made."""
        volumes = ("client-key", "sealing-key", "database-password")
        mounts = [word for volume in volumes for word in ("-v", f"{self.name}_{volume}:/keys/{volume}:ro")]
        found = docker("run", "--rm", "--user", "root", *mounts, "--entrypoint", "sh", TAG, "-c", "cat /keys/*/*")
        return sorted(set(found.replace("postgres:*:*:*:", "").split()))


class _Localhost(HTTPHandler):
    """Goes to localhost at another address than everybody."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address = address

    def http_open(self, req: Request) -> HTTPResponse:
        address = self._address

        class There(HTTPConnection):
            def connect(self) -> None:
                assert self.host == "localhost"
                self.sock = socket.create_connection((address, self.port), 20)

        connection: Any = There
        return self.do_open(connection, req)
