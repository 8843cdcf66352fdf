"""The image as it is meant to run: nobody's root, nothing writable but its volume, reached by sharing its namespace."""

import base64
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .engine import LOGIN, TAG, Service, docker

pytestmark = pytest.mark.docker

Start = Callable[..., Service]


def test_image_declares_how_it_runs(image: str) -> None:
    config = json.loads(docker("image", "inspect", "--format", "{{json .Config}}", image))
    assert config["User"] == "10001:10001"
    assert (config["Entrypoint"], config["Cmd"], config["StopSignal"]) == (["pixir-auth"], ["serve"], "SIGTERM")
    assert list(config["Volumes"]) == ["/data"]
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert not [one for one in config["Env"] if "://" in one or "KEY=" in one or "PIP" in one]


def test_image_holds_no_build_tools(image: str) -> None:
    tools = "for tool in pip pip3 hatchling gcc cc make git; do command -v $tool; done; python -m pip --version; true"
    assert docker("run", "--rm", "--entrypoint", "sh", image, "-c", tools) == ""


def test_every_module_of_a_start_has_its_bytecode(image: str) -> None:
    program = (
        "import importlib.util, os, service.app, service.server, sys\n"
        "files = [getattr(m, '__file__', None) or '' for m in list(sys.modules.values())]\n"
        "print([f for f in files if f.endswith('.py') and not os.path.exists(importlib.util.cache_from_source(f))])\n"
    )
    assert docker("run", "--rm", "--read-only", "--entrypoint", "python", image, "-c", program) == "[]"


def test_command_works_without_a_service(image: str) -> None:
    assert "/token" in json.loads(docker("run", "--rm", "--read-only", "--network", "none", image, "openapi"))["paths"]


def test_runs_as_nobody_with_nothing_writable(start: Start) -> None:
    service = start()
    service.wait_healthy()
    state = dict(
        line.split(":\t", 1) for line in service.execute("cat", "/proc/1/status").splitlines() if ":\t" in line
    )
    assert set(state["Uid"].split()) == {"10001"}
    assert int(state["CapEff"], 16) == 0
    assert state["NoNewPrivs"] == "1"
    refused = "for d in / /opt/pixir-auth /usr/local /etc; do touch $d/x 2>/dev/null && echo $d; done; true"
    assert service.execute("sh", "-c", refused) == ""


def test_container_beside_it_is_served(start: Start) -> None:
    service = start()
    service.wait_healthy()
    assert service.ask("GET", "/healthz")[0] == 200
    status, answer = service.ask("GET", "/status")
    assert (status, answer["authenticated"]) == (200, False)


def test_command_inside_talks_to_it(start: Start) -> None:
    service = start()
    service.wait_healthy()
    assert service.ask("PUT", "/credential", LOGIN)[0] == 200
    assert service.execute("pixir-auth", "token") == LOGIN["access_token"]


def test_other_namespaces_do_not_reach_it(start: Start) -> None:
    service = start()
    service.wait_healthy()
    address = service.inspect("{{.NetworkSettings.IPAddress}}")
    program = f"import socket; print(socket.socket().connect_ex(('{address}', 1455)) != 0)"
    assert docker("run", "--rm", "--entrypoint", "python", TAG, "-c", program) == "True"


def test_login_outlives_the_container(start: Start) -> None:
    first = start()
    first.wait_healthy()
    assert first.ask("PUT", "/credential", LOGIN)[0] == 200
    docker("restart", first.name)
    first.wait_healthy()
    assert first.ask("GET", "/token")[1]["access_token"] == LOGIN["access_token"]
    docker("stop", first.name)
    second = start()
    second.wait_healthy()
    assert second.ask("GET", "/token")[1]["access_token"] == LOGIN["access_token"]


def test_killed_container_leaves_a_volume_that_starts(start: Start) -> None:
    first = start()
    first.wait_healthy()
    assert first.ask("PUT", "/credential", LOGIN)[0] == 200
    docker("kill", first.name)
    second = start()
    second.wait_healthy()
    assert second.ask("GET", "/status")[1]["authenticated"] is True


def test_key_given_as_a_secret_stays_out_of_the_volume(start: Start, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(base64.b64encode(os.urandom(32)).decode())
    key.chmod(0o444)  # Docker mounts its secrets so
    service = start("-v", f"{key}:/run/secrets/pixir-auth-encryption-key:ro")
    service.wait_healthy()
    assert service.ask("PUT", "/credential", LOGIN)[0] == 200
    assert service.execute("find", "/data", "-name", "*.key") == ""
    assert service.execute("sh", "-c", f"grep -rlF {LOGIN['refresh_token']} /data; true") == ""


def test_sigterm_ends_it_cleanly(start: Start) -> None:
    service = start()
    service.wait_healthy()
    asked = time.monotonic()
    docker("stop", "-t", "10", service.name)
    assert time.monotonic() - asked < 10
    assert service.inspect("{{.State.ExitCode}}") == "0", docker("logs", service.name)
