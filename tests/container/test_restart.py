"""An application that shares the service's network namespace, across a restart that makes a new one."""

from collections.abc import Iterator

import pytest

from .engine import ENDED, LOGIN, docker, until
from .project import Project

pytestmark = pytest.mark.docker


@pytest.fixture
def project(image: str, version: str) -> Iterator[Project]:
    """Nothing of it is there yet."""
    running = Project(version)
    yield running
    running.compose("down", "-v", "-t", "5")


@pytest.mark.parametrize("version", ["v2"], indirect=True)  # it takes a minute, and it is the engine's doing
def test_application_beside_the_service_follows_it_into_a_new_namespace(project: Project) -> None:
    project.compose("up", "-d", "--no-build", "example")
    service = project.service()
    example = project.service("example")
    service.wait_healthy()
    until(lambda: "nobody is logged in yet" in docker("logs", example.name), "the application has asked")
    project.compose("restart", "pixir-auth")
    service.wait_healthy()
    assert service.ask("PUT", "/credential", LOGIN)[0] == 200
    # It is patient, so that it cannot come too early.
    until(lambda: example.inspect(ENDED) == "exited 0", "the application has its token", within=120)
    assert "got a token" in docker("logs", example.name)
    assert LOGIN["access_token"] not in docker("logs", example.name)
