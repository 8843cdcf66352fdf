"""The image as it is meant to run: nobody's root, nothing writable but its volume, reached by sharing its namespace."""

import base64
import json
import os
import secrets
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from service import __version__
from tests.kit.lacking import lacking

from .engine import LOGIN, TAG, Service, build, docker, has_buildkit, until

pytestmark = pytest.mark.docker

Start = Callable[..., Service]


def test_image_declares_how_it_runs(image: str) -> None:
    config = json.loads(docker("image", "inspect", "--format", "{{json .Config}}", image))
    assert config["User"] == "10001:10001"
    assert (config["Entrypoint"], config["Cmd"], config["StopSignal"]) == (["pixir-auth"], ["serve"], "SIGTERM")
    assert list(config["Volumes"]) == ["/data"]
    labels = {name.rpartition(".")[2]: value for name, value in config["Labels"].items()}
    assert (labels["title"], labels["licenses"]) == ("pixir-auth", "Apache-2.0")
    assert (labels["version"], labels["revision"]) == (__version__, "of-the-test")
    assert not [one for one in config["Env"] if "://" in one or "KEY=" in one or "PIP" in one]


def test_builds_with_buildkit_too_and_starts(start: Start, tmp_path: Path) -> None:
    if not has_buildkit():
        lacking("the docker command has no BuildKit")
    build(tmp_path, f"{TAG}-buildkit", buildkit=True)
    service = start(image=f"{TAG}-buildkit")
    service.wait_healthy()
    assert service.execute("pixir-auth", "--version") == __version__


def test_image_holds_no_build_tools(image: str) -> None:
    tools = "for tool in pip pip3 hatchling gcc cc make git; do command -v $tool; done"
    tools += "; python -m pip --version; python -m ensurepip; true"
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


def test_beyond_loopback_it_does_not_start_without_a_client_key(start: Start) -> None:
    service = start("-e", "PIXIR_AUTH_HOST=0.0.0.0")
    assert docker("wait", service.name) == "1"
    assert "client key" in service.logs()


def test_with_a_volume_and_a_client_key_it_starts_and_warns_of_the_key_it_made(start: Start, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(secrets.token_urlsafe(32))
    key.chmod(0o444)
    where = "/run/secrets/client-key"
    service = start(
        "-v", f"{key}:{where}:ro", "-e", f"PIXIR_AUTH_CLIENT_KEY_FILE={where}", "-e", "PIXIR_AUTH_HOST=0.0.0.0"
    )
    service.wait_healthy()
    told = [line for line in service.logs().splitlines() if "warning" in line]
    assert len(told) == 1
    assert "/data/config/pixir-auth/encryption.key" in told[0]
    assert "PIXIR_AUTH_ENCRYPTION_KEY_FILE" in told[0]


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


def test_sigterm_during_a_refresh_finishes_it(start: Start) -> None:
    """The issuer has the refresh token and takes its time: the answer is stored before the container ends."""
    issuer = ["python", "-m", "service.sandbox", "--latency", "12"]
    sandbox = start(entrypoint=issuer)  # its network namespace outlives the service's container
    until(lambda: "http://" in sandbox.logs(), "the issuer answers")
    beside = ("--network", f"container:{sandbox.name}", "-e", "PIXIR_AUTH_CODEX_ISSUER=http://127.0.0.1:8123")
    service = start(*beside)
    service.wait_healthy()
    tokens = sandbox.ask("POST", "/_sandbox/issue", {}, port=8123)[1]
    old = tokens["refresh_token"]
    login = {"kind": "subscription", "expires_at": "2000-01-01T00:00:00Z"}
    login |= {name: tokens[name] for name in ("access_token", "refresh_token", "id_token")}
    assert service.ask("PUT", "/credential", login)[0] == 200

    def family() -> dict[str, Any]:
        (only,) = sandbox.ask("GET", "/_sandbox/state", port=8123)[1]["families"]
        return dict(only)

    until(lambda: family()["refresh_token"] != old, "the issuer has spent the refresh token")
    asked = time.monotonic()
    docker("stop", "-t", "40", service.name)
    assert time.monotonic() - asked > 2, "the refresh was over before: nothing is shown"
    assert service.inspect("{{.State.ExitCode}}") == "0", service.logs()
    second = start(*beside)
    second.wait_healthy()
    spent = family()
    assert second.ask("GET", "/token")[1]["access_token"] == spent["access_token"]
    assert spent["alive"]


def test_figures(image: str, start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """What it costs. The bounds are generous: they fail when something is there that does not belong there."""
    layers = docker("history", "--format", "{{.Size}} {{.CreatedBy}}", image).splitlines()
    ours = sum(
        _megabytes(layer.split()[0]) for layer in layers if "COPY" in layer or "RUN" in layer or "groupadd" in layer
    )
    service = start("--health-interval", "10s")  # the image's own
    service.wait_healthy()
    state = service.container.attrs["State"]
    serving = next(line.split()[0] for line in service.logs().splitlines() if " serves http" in line)
    serving_in, healthy_in = (
        (datetime.fromisoformat(at[:26].rstrip("Z")) - datetime.fromisoformat(state["StartedAt"][:26])).total_seconds()
        for at in (serving, state["Health"]["Log"][-1]["End"])
    )
    memory = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", service.name).split()[0]
    size = int(docker("image", "inspect", "--format", "{{.Size}}", image)) / 1e6
    with capsys.disabled():
        print(f"\nimage {size:.0f} MB, {ours:.0f} MB on its base; {memory} at rest")
        print(f"serving {serving_in:.1f} s after the start, healthy {healthy_in:.1f} s after it")
    assert ours < 200
    assert float(memory.removesuffix("MiB")) < 200


def _megabytes(told: str) -> float:
    for unit, factor in (("GB", 1e3), ("MB", 1.0), ("kB", 1e-3), ("B", 1e-6)):
        if told.endswith(unit):
            return float(told.removesuffix(unit)) * factor
    raise ValueError(told)
