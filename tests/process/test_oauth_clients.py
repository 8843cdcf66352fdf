"""Existing OAuth clients that have the service for their token endpoint, over real sockets; one is the Codex CLI."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.kit.processes import ROOT, Machine, Process, machine
from tests.sandbox.test_sandbox_codex import CONFIG

HELLO = "The sandbox says hello."
VARIABLE = "CODEX_REFRESH_TOKEN_URL_OVERRIDE"


@pytest.fixture
def m(tmp_path: Path) -> Iterator[Machine]:
    with machine(tmp_path) as made:
        yield made


@pytest.fixture
def issuer(m: Machine) -> Process:
    return m.issuer(access_lifetime=290)


@pytest.fixture
def service(m: Machine, issuer: Process) -> Process:
    """A service whose login has a token that is valid, and that Codex wants to be replaced: the second."""
    service = m.service(issuer, log_level="debug", refresh_margin=1, refresh_floor=0)
    m.install(service, issuer)
    service.client.get("/token?newer_than=1").raise_for_status()
    issuer.client.post("/_sandbox/knobs", json={"access_lifetime": 3600}).raise_for_status()
    return service


def ours(service: Process, *arguments: str, stdin: str = "") -> str:
    """A command of the service's own user, as he would type it."""
    environment = {**os.environ, "PIXIR_AUTH_PUBLIC_URL": service.url}
    command = [sys.executable, "-m", "service", *arguments]
    done = subprocess.run(
        command, env=environment, cwd=ROOT, input=stdin, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def family(issuer: Process) -> dict[str, Any]:
    state = issuer.client.get("/_sandbox/state").json()
    assert state["reuse_count"] == 0
    (only,) = state["families"]
    assert only["alive"]
    return dict(only)


def sent_to(issuer: Process) -> list[str]:
    """Every refresh token that the issuer was sent."""
    requests = issuer.client.get("/_sandbox/requests").json()
    return [request["form"]["refresh_token"] for request in requests if "refresh_token" in request["form"]]


@pytest.mark.long
def test_clients_with_keys_of_their_own_are_one_refresh(issuer: Process, service: Process) -> None:
    keys = [ours(service, "keys", "add", name, "--scope", "token").strip() for name in ("one", "two")]

    def refreshed(number: int) -> tuple[int, Any]:
        form = {"grant_type": "refresh_token", "refresh_token": keys[number % 2], "client_id": "any"}
        is_form = number % 3 > 0
        answer = service.client.post("/oauth/token", data=form if is_form else None, json=None if is_form else form)
        return answer.status_code, answer.json()

    with ThreadPoolExecutor(8) as pool:
        first = list(pool.map(refreshed, range(2)))
        assert {status for status, _ in first} == {200}, "what is valid is served to who has not had it"
        answers = list(pool.map(refreshed, range(40)))  # it is too short for all of them
    assert {status for status, _ in answers} == {200}
    now = family(issuer)
    assert {body["access_token"] for _, body in answers} == {now["access_token"]}
    assert {body["refresh_token"] for _, body in answers} == set(keys)
    assert now["generation"] == 3
    assert len(sent_to(issuer)) == 2


class Codex:
    """One home of the CLI, with an auth.json as the documentation says to make it."""

    def __init__(self, home: Path, service: Process, issuer: Process) -> None:
        home.mkdir()
        (home / "config.toml").write_text(CONFIG.format(url=issuer.url))
        self.key = ours(service, "keys", "add", "codex", "--scope", "token").strip()
        self.file = home / "auth.json"
        self.file.write_text(ours(service, "export", "--format", "codex", "--stand-in", "-", stdin=self.key))
        self.home = home
        self.variables = {"HOME": str(home), "CODEX_HOME": str(home)}

    def run(self) -> subprocess.CompletedProcess[str]:
        """One turn."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CODEX_")}
        return subprocess.run(
            ["codex", "exec", "--skip-git-repo-check", "hi"],
            env={**environment, **self.variables},
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def tokens(self) -> dict[str, Any]:
        return dict(json.loads(self.file.read_text())["tokens"])


@pytest.fixture
def codex(tmp_path: Path, service: Process, issuer: Process) -> Codex:
    return Codex(tmp_path / "home", service, issuer)


def held_nothing_real(codex: Codex, service: Process, issuer: Process) -> None:
    """Codex has the present token and never had the refresh token; the issuer never saw Codex's."""
    real = family(issuer)
    held = codex.tokens()
    assert (held["access_token"], held["refresh_token"]) == (real["access_token"], codex.key)
    sent = sent_to(issuer)
    assert codex.key not in sent
    assert real["refresh_token"] not in codex.file.read_text()
    assert codex.key not in service.log.read_text()


@pytest.mark.codex
@pytest.mark.parametrize("by_variable", [False, True], ids=["by the file", "by the variable"])
def test_codex_refreshes_through_the_service(
    codex: Codex, service: Process, issuer: Process, by_variable: bool
) -> None:
    if by_variable:
        document = json.loads(codex.file.read_text())
        del document["tokens"]["oauth_provenance"]
        codex.file.write_text(json.dumps(document))
        codex.variables[VARIABLE] = f"{service.url}/oauth/token?account=default"
    before = codex.tokens()["access_token"]
    done = codex.run()
    assert HELLO in done.stdout, done.stderr
    assert family(issuer)["generation"] == 3
    assert codex.tokens()["access_token"] != before
    held_nothing_real(codex, service, issuer)


@pytest.mark.codex
def test_three_of_them_in_one_home_are_one_refresh(codex: Codex, service: Process, issuer: Process) -> None:
    with ThreadPoolExecutor(3) as pool:
        turns = list(pool.map(lambda _: codex.run(), range(3)))
    assert [HELLO in turn.stdout for turn in turns] == [True] * 3, [turn.stderr for turn in turns]
    assert family(issuer)["generation"] == 3
    held_nothing_real(codex, service, issuer)


@pytest.mark.codex
def test_a_token_that_the_provider_rejects_is_replaced(codex: Codex, service: Process, issuer: Process) -> None:
    assert HELLO in codex.run().stdout
    issuer.client.post("/_sandbox/revoke_access", json={}).raise_for_status()
    until = time.monotonic() + 30
    while HELLO not in (done := codex.run()).stdout:  # for five seconds it may be another process with the same key
        assert time.monotonic() < until, done.stderr
    assert family(issuer)["generation"] == 4
    held_nothing_real(codex, service, issuer)


@pytest.mark.codex
def test_in_an_outage_it_goes_on_with_what_it_has(codex: Codex, issuer: Process) -> None:
    issuer.client.post("/_sandbox/fail", json={"name": "server_error", "count": 50}).raise_for_status()
    done = codex.run()
    assert HELLO in done.stdout, done.stderr
    assert family(issuer)["generation"] == 2


@pytest.mark.codex
def test_the_end_of_the_login_is_told_to_who_uses_it(codex: Codex, service: Process, issuer: Process) -> None:
    service.client.post("/logout").raise_for_status()
    done = codex.run()
    assert done.returncode != 0
    assert "sign in again" in done.stderr
    assert codex.tokens()["refresh_token"] == codex.key
