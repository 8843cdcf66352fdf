"""The profile `replicas` of compose.yaml: three of them on one real PostgreSQL, behind one name."""

import json
from collections.abc import Iterator

import pytest

from .engine import LOGIN, Service
from .project import Project

pytestmark = pytest.mark.docker


@pytest.fixture
def project(image: str, version: str, postgres_image: str) -> Iterator[Project]:
    """PostgreSQL and the replicas, from nothing."""
    environment = {"POSTGRES_IMAGE": postgres_image}
    running = Project(version, options=("-f", "compose.yaml", "--profile", "replicas"), environment=environment)
    try:
        running.compose("up", "-d", "--no-build", "replicas")
        yield running
    finally:
        running.compose("down", "-v", "-t", "5")


def test_one_login_is_served_by_all_replicas_behind_one_name(project: Project) -> None:
    replicas = [Service(container) for container in project.containers("replicas")]
    assert len(replicas) == 3
    for replica in replicas:
        replica.wait_healthy()
    program = (
        "import http.client, json, socket\n"
        "key = open('/run/secrets/client/key').read().strip()\n"
        "c = http.client.HTTPConnection('replicas:1455', timeout=20)\n"
        "told = {'Authorization': 'Bearer ' + key, 'Content-Type': 'application/json'}\n"
        f"c.request('PUT', '/credential', json.dumps({LOGIN!r}), told)\n"
        "addresses = {found[4][0] for found in socket.getaddrinfo('replicas', 1455)}\n"
        "print(json.dumps([c.getresponse().status, len(addresses)]))\n"
    )
    assert json.loads(project.python(program)) == [200, 3]
    assert {replica.execute("pixir-auth", "token") for replica in replicas} == {LOGIN["access_token"]}
