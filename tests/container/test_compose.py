"""compose.yaml as it stands, from nothing: its secrets, who is served where, and a login in a browser."""

import json
import re
import subprocess
from collections.abc import Iterator

import pytest

from .engine import ENDED, TAG, docker, until
from .project import SANDBOX, Project

pytestmark = pytest.mark.docker

HERE = "http://localhost:1455"
"""Where the published port is, for whoever is on this machine."""


@pytest.fixture(scope="module")
def project(image: str) -> Iterator[Project]:
    """Up and healthy, with the sandbox issuer, as on a fresh clone: nothing was made by hand."""
    running = Project(SANDBOX)
    try:
        running.compose("up", "-d", "--no-build")
        running.service().wait_healthy()
        yield running
    finally:
        running.compose("down", "-v", "-t", "5")


def asks(url: str, key: str) -> str:
    """A program that prints the status of `/status`; `key`: an expression for the key to send, or `None`."""
    return (
        "import http.client, os\n"
        f"key = {key}\n"
        f"c = http.client.HTTPConnection('{url}', timeout=20)\n"
        "c.request('GET', '/status', headers={'Authorization': 'Bearer ' + key} if key else {})\n"
        "print(c.getresponse().status)\n"
    )


KEYS = {
    "none": ("None", "401"),
    "wrong": ("'x' * 44", "401"),
    "right": ("open('/run/secrets/client/key').read().strip()", "200"),
}


@pytest.mark.parametrize("key", KEYS)
def test_across_the_network_the_key_decides(project: Project, key: str) -> None:
    sent, status = KEYS[key]
    assert project.python(asks("pixir-auth:1455", sent)) == status


@pytest.mark.parametrize(("user", "status"), [("10001", "200"), ("0", "200"), ("10002", "403")])
def test_beside_it_the_user_decides(project: Project, user: str, status: str) -> None:
    beside = ("--network", f"container:{project.service().name}", "--user", user)
    assert project.python(asks("localhost:1455", "None"), *beside) == status


def test_published_port_serves_who_has_the_key(project: Project) -> None:
    key = docker("exec", project.service().name, "cat", "/run/secrets/client/key")
    assert project.fetch(HERE + "/healthz")[0] == 200
    assert json.loads(project.fetch(HERE + "/status")[1])["code"] == "key_required"
    assert project.fetch(HERE + "/status", "x" * 44)[0] == 401
    assert project.fetch(HERE + "/status", key)[0] == 200
    assert docker("port", project.service().name, "1455/tcp") == f"{project.published_at}:1455"


def test_browser_logs_in_through_the_published_port_and_applications_get_their_token(project: Project) -> None:
    for example in ("example", "example-across"):
        name = project.service(example).name
        until(lambda it=name: "nobody is logged in yet" in docker("logs", it), f"{example} has asked")
    command = ["docker", "exec", project.service().name, "pixir-auth", "login"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as login:
        assert login.stderr is not None
        address = next(line.strip() for line in login.stderr if line.startswith("  http"))
        status, page = project.fetch(address)  # the issuer, and back to localhost:1455
        said = login.stderr.read()
    assert (status, login.returncode) == (200, 0), page + said
    assert "Logged in to account default as ada@example.com" in said
    for example in ("example", "example-across"):
        application = project.service(example)
        until(lambda it=application: it.inspect(ENDED) == "exited 0", f"{example} has its token")
        assert re.search(r"got a token, valid for \d+ s", docker("logs", application.name))


def test_secrets_are_in_their_files_and_nowhere_else(project: Project) -> None:
    secrets = project.secrets()
    assert len(secrets) == 3
    containers = project.containers()
    shown = [docker("inspect", *containers), docker("history", "--no-trunc", TAG), docker("inspect", TAG)]
    shown += [docker("logs", container) for container in containers]
    assert not [one for one in secrets if any(one in text for text in shown)]
    service = project.service()
    for one in secrets:
        assert service.execute("sh", "-c", f"grep -rlF -e '{one}' /data; true") == ""
    assert service.execute("stat", "-c", "%a %u", "/run/secrets/sealing/encryption-key") == "400 10001"
    assert docker("exec", "-u", "10002", service.name, "cat", "/run/secrets/client/key") in secrets


def test_secrets_survive_another_up(project: Project) -> None:
    before = project.secrets()
    project.compose("up", "-d", "--no-build", "keys")
    (keys,) = project.containers("keys")
    assert docker("wait", keys) == "0"
    assert project.secrets() == before
