"""compose.yaml as it stands: the service, and an application beside it that ends up with a token."""

import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator

import pytest

from .engine import LOGIN, ROOT, Service, docker, until

pytestmark = pytest.mark.docker

Compose = Callable[..., str]


@pytest.fixture
def compose(image: str) -> Iterator[Compose]:
    """Runs Docker Compose v2, or docker-compose 1.29 where that is what there is, on a project of this test alone."""
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
    command = ["docker", "compose"] if plugin else [shutil.which("docker-compose") or "docker-compose"]
    project = f"pixirauthtest{uuid.uuid4().hex[:8]}"
    environment = os.environ | {"PIXIR_AUTH_IMAGE": image}

    def _compose(*arguments: str) -> str:
        done = subprocess.run(
            [*command, "-p", project, *arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout.strip()

    yield _compose
    _compose("down", "-v", "-t", "10")


def test_application_beside_the_service_gets_a_token(compose: Compose) -> None:
    compose("up", "-d", "--no-build")
    service = Service(compose("ps", "-q", "pixir-auth"))
    example = compose("ps", "-q", "example")
    service.wait_healthy()
    until(lambda: "nobody is logged in yet" in docker("logs", example), "the application has asked")

    compose("restart", "pixir-auth")  # into a new namespace: the application has to follow
    service.wait_healthy()
    assert service.ask("PUT", "/credential", LOGIN)[0] == 200

    def ended() -> bool:
        return docker("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", example) == "exited 0"

    until(ended, "the application has its token", within=120)  # it is patient, so that it cannot come too early
    assert "got a token" in docker("logs", example)
    assert LOGIN["access_token"] not in docker("logs", example)
