"""compose.yaml as it stands, from nothing: its secrets, who is served where, and a login in a browser."""

import json
import re
import subprocess
from collections.abc import Iterator

import pytest

from .engine import ENDED, TAG, docker, stand_in, until
from .project import Project

pytestmark = pytest.mark.docker

HERE = "http://localhost:1455"
"""Where the published port is, for whoever is on this machine."""

PROXY = "http://localhost:8080"

OPTIONS = ("-f", "compose.yaml", "-f", "tests/container/issuer.yaml", "--profile", "proxy", "--profile", "sandbox")


@pytest.fixture(scope="module")
def project(image: str, version: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Up and healthy, as on a fresh clone: nothing was made by hand. Only the issuer is not the real one.

    The provider behind the proxy is what that issuer has of it: it serves who shows its token and the account of it.
    """
    environment = {
        "NGINX_IMAGE": stand_in("nginx", tmp_path_factory.mktemp("nginx")),
        "PROXY_UPSTREAM": "http://pixir-auth:8124/backend-api/codex",
    }
    running = Project(version, OPTIONS, environment)
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


def log_in(project: Project, service: str = "pixir-auth") -> None:
    """In a browser, by way of the issuer and back to the published port."""
    command = ["docker", "exec", project.service(service).name, "pixir-auth", "login"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as login:
        assert login.stderr is not None
        address = next(line.strip() for line in login.stderr if line.startswith("  http"))
        status, page = project.fetch(address)
        said = login.stderr.read()
    assert (status, login.returncode) == (200, 0), page + said
    assert "Logged in to account default as ada@example.com" in said


def key_of(project: Project) -> str:
    return project.service().execute("cat", "/run/secrets/client/key")


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
    key = key_of(project)
    assert project.fetch(HERE + "/healthz")[0] == 200
    assert json.loads(project.fetch(HERE + "/status")[1])["code"] == "key_required"
    assert project.fetch(HERE + "/status", "x" * 44)[0] == 401
    assert project.fetch(HERE + "/status", key)[0] == 200
    assert docker("port", project.service().name, "1455/tcp") == f"{project.published_at}:1455"


def test_browser_logs_in_through_the_published_port_and_applications_get_their_token(project: Project) -> None:
    for example in ("example", "example-across"):
        name = project.service(example).name
        until(lambda it=name: "nobody is logged in yet" in docker("logs", it), f"{example} has asked")
    log_in(project)
    for example in ("example", "example-across"):
        application = project.service(example)
        until(lambda it=application: it.inspect(ENDED) == "exited 0", f"{example} has its token")
        assert re.search(r"got a token, valid for \d+ s", docker("logs", application.name))


def test_sandbox_gives_tokens_without_an_account_and_apart_from_the_logins(project: Project) -> None:
    project.service("sandbox").wait_healthy()
    project.service().ask("POST", "/logout")
    log_in(project, "sandbox")
    key = key_of(project)
    assert project.fetch("http://localhost:1457/token")[0] == 401
    assert json.loads(project.fetch("http://localhost:1457/token", key)[1])["access_token"]
    assert project.fetch(HERE + "/token", key)[0] == 409
    ports = {docker("port", project.service("sandbox").name, port) for port in ("1457/tcp", "8123/tcp")}
    assert ports == {f"{project.published_at}:1457", f"{project.published_at}:8123"}


def test_proxy_takes_the_login_to_the_provider_whatever_the_client_claims(project: Project) -> None:
    models = PROXY + "/models"
    project.service().ask("POST", "/logout")
    assert project.fetch(models)[0] == 401
    log_in(project)
    assert project.fetch(models) == (200, '{"models":[]}')
    assert project.fetch(models, key="of-the-client", ChatGPT_Account_ID="somebody-else")[0] == 200
    assert project.fetch(models, Origin="https://evil.example")[0] == 403
    assert project.fetch(models, Sec_Fetch_Site="cross-site")[0] == 403
    assert project.fetch(models, Host="evil.example:8080")[0] == 421
    proxy = project.service("proxy")
    assert docker("port", proxy.name, "8080/tcp") == f"{project.published_at}:8080"
    assert proxy.execute("id", "-u") == "10001"
    token = project.service().execute("pixir-auth", "token")
    assert not [secret for secret in (token, key_of(project)) if secret in proxy.logs()]


def test_no_other_container_reaches_the_proxy_without_a_key(project: Project) -> None:
    addresses = project.service("proxy").inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}").split()
    program = (
        "import socket\n"
        "def reaches(address):\n"
        "    s = socket.socket()\n"
        "    s.settimeout(2)\n"
        "    return s.connect_ex((address, 8080)) == 0\n"
        f"print(any(map(reaches, {addresses})))\n"
    )
    assert project.python(program) == "False"
    assert project.python(program, "--network", f"{project.name}_proxy") == "True"


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
