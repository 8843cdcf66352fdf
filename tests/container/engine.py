"""What these tests say to a Docker engine: building the image, one container of the service, and waiting."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service import __version__

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

ROOT = Path(__file__).parents[2]
TAG = "pixir-auth:test"  # stays, so that the next build finds its layers
PYTHON_IMAGE = "python:3.13-slim"
LOGIN = {
    "kind": "subscription",
    "access_token": "access-of-the-container-test",
    "refresh_token": "refresh-of-the-container-test",
    "expires_at": "2099-01-01T00:00:00Z",
    "account_id": "container-test",
}
ENDED = "{{.State.Status}} {{.State.ExitCode}}"
"""Asks an engine whether a container has ended, and how: `exited 0`."""

HARDENED = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]


@cache
def engine() -> "DockerClient":
    """The engine as an object, for what is done to containers while others ask them."""
    import docker as sdk  # noqa: PLC0415 - these modules are collected where it is missing, too

    return sdk.from_env()


def docker(
    *arguments: str, given: str | None = None, within: float = 60, check: bool = True, buildkit: bool = False
) -> str:
    """Standard output of one docker command. Raises AssertionError with what it said when it fails."""
    done = subprocess.run(
        ["docker", *arguments],
        input=given or "",
        env=os.environ | {"DOCKER_BUILDKIT": str(int(buildkit))},
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
    )
    assert not check or done.returncode == 0, f"docker {arguments[0]}: {done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout.strip()


def until(holds: Callable[[], bool], what: str, within: float = 60) -> None:
    """Wait for something to become true; fail, saying what did not."""
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {within} s"
        time.sleep(0.2)


@dataclass(frozen=True)
class Service:
    """One running container of the service."""

    name: str

    @property
    def container(self) -> "Container":
        """As it stands now."""
        return engine().containers.get(self.name)

    def inspect(self, template: str) -> str:
        return docker("inspect", "--format", template, self.name)

    def wait_healthy(self) -> None:
        def healthy() -> bool:
            found = self.container
            assert found.status == "running", self.logs()
            return found.health == "healthy"

        until(healthy, f"{self.name} healthy")

    def execute(self, *command: str) -> str:
        return docker("exec", self.name, *command)

    def logs(self) -> str:
        """What it has said, on stdout and stderr."""
        return self.container.logs().decode()

    def ask(self, method: str, path: str, body: object = None, port: int = 1455) -> tuple[int, Any]:
        """One request from a second container that shares the network namespace, as an application beside it would."""
        program = (
            "import http.client, json, sys\n"
            "method, path, body, port = json.load(sys.stdin)\n"
            "c = http.client.HTTPConnection('localhost', port, timeout=20)\n"
            "told = {} if body is None else {'Content-Type': 'application/json'}\n"
            "c.request(method, path, None if body is None else json.dumps(body), told)\n"
            "a = c.getresponse()\n"
            "print(json.dumps([a.status, a.read().decode()]))\n"
        )
        beside = ["run", "--rm", "-i", "--network", f"container:{self.name}", *HARDENED]
        given = json.dumps([method, path, body, port])
        answer = docker(*beside, "--entrypoint", "python", TAG, "-c", program, given=given)
        status, text = json.loads(answer)
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text


def build(folder: Path, tag: str = TAG, *, buildkit: bool = False) -> None:
    """The image of this tree. Host network: pip in the build then reaches what pip on this machine reaches."""
    arguments = (f"BUILD_IMAGE={build_image(folder)}", f"VERSION={__version__}", "REVISION=of-the-test")
    told = [word for argument in arguments for word in ("--build-arg", argument)]
    docker("build", "-t", tag, "--network", "host", *told, str(ROOT), within=900, buildkit=buildkit)


def has_buildkit() -> bool:
    """Whether this docker command can build with it: since 23 it needs the plugin buildx."""
    command = ["docker", "build", "--help"]
    told = os.environ | {"DOCKER_BUILDKIT": "1"}
    return subprocess.run(command, env=told, capture_output=True, timeout=60, check=False).returncode == 0


def stand_in(name: str, folder: Path) -> str:
    """Tag of an image that stands in for one that cannot be pulled here. It stays, as the service's own does."""
    tag = f"pixir-auth-{name}:test"
    base = f"BUILD_IMAGE={build_image(folder)}"
    docker(
        "build", "-t", tag, "--network", "host", "--build-arg", base, str(ROOT / "tests/container" / name), within=300
    )
    return tag


def build_image(folder: Path) -> str:
    """The base of the build stage: the stock one, with this machine's certificate authorities if pip needs them."""
    certificates = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
    if not certificates:
        return PYTHON_IMAGE
    (folder / "ca.crt").write_bytes(Path(certificates).read_bytes())
    (folder / "Dockerfile").write_text(f"FROM {PYTHON_IMAGE}\nCOPY ca.crt /ca.crt\nENV PIP_CERT=/ca.crt\n")
    docker("build", "-t", "pixir-auth-build-base:test", str(folder))
    return "pixir-auth-build-base:test"
