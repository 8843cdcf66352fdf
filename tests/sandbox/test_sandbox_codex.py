"""The real Codex CLI takes the sandbox for its issuer: device login, refresh near expiry, one turn, logout."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.codex

CONFIG = """
chatgpt_base_url = "{url}/backend-api"
model_provider = "sandbox"
check_for_update_on_startup = false

[analytics]
enabled = false

[model_providers.sandbox]
name = "sandbox"
base_url = "{url}/backend-api/codex"
wire_api = "responses"
requires_openai_auth = true
request_max_retries = 0
stream_max_retries = 0
"""


class Codex:
    """One home of the CLI, and the sandbox it talks to."""

    def __init__(self, home: Path, url: str) -> None:
        self.home = home
        self.url = url
        # Only the refresh finds its issuer by itself; revocation follows this variable.
        names = {"HOME": home, "CODEX_HOME": home, "CODEX_REFRESH_TOKEN_URL_OVERRIDE": f"{url}/oauth/token"}
        self.environment = {**os.environ, **{name: str(value) for name, value in names.items()}}
        (home / "config.toml").write_text(CONFIG.format(url=url))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(["codex", *arguments], env=self.environment, cwd=self.home, text=True, **pipes)

    def run(self, *arguments: str) -> str:
        with self.start(*arguments) as started:
            out, err = started.communicate(timeout=60)
        assert started.returncode == 0, err
        return out + err

    def login(self) -> None:
        with self.start("login", "--device-auth", "--experimental_issuer", self.url) as started:
            deadline = time.monotonic() + 30
            while not self.state()["pending_user_codes"]:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            httpx.post(f"{self.url}/_sandbox/approve", json={}).raise_for_status()
            out, err = started.communicate(timeout=60)
        assert started.returncode == 0, out + err

    def state(self) -> dict:
        return httpx.get(f"{self.url}/_sandbox/state").json()

    def turn(self, **knobs: object) -> None:
        httpx.post(f"{self.url}/_sandbox/knobs", json=knobs).raise_for_status()

    def tokens(self) -> dict[str, str]:
        return json.loads((self.home / "auth.json").read_text())["tokens"]


@pytest.fixture
def codex(tmp_path: Path) -> Iterator[Codex]:
    command = [sys.executable, "-m", "service.sandbox", "--port", "0", "--device-interval", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started:
        try:
            yield Codex(tmp_path, started.stdout.readline().strip())
        finally:
            started.terminate()


def test_login_refresh_turn_logout(codex: Codex) -> None:
    codex.turn(access_lifetime=200)  # Codex refreshes what lives less than five minutes
    codex.login()
    first = codex.state()["families"][0]
    assert codex.tokens()["refresh_token"] == first["refresh_token"]
    assert codex.tokens()["account_id"] == first["account_id"]

    codex.turn(access_lifetime=3600)
    assert "The sandbox says hello." in codex.run("exec", "--skip-git-repo-check", "hi")
    second = codex.state()["families"][0]
    assert second["generation"] == 2
    assert codex.tokens()["refresh_token"] == second["refresh_token"] != first["refresh_token"]
    assert codex.state()["reuse_count"] == 0

    codex.run("logout")
    assert codex.state()["families"][0]["ended"] == "revoked"


def test_a_401_makes_it_refresh_once(codex: Codex) -> None:
    codex.login()
    httpx.post(f"{codex.url}/_sandbox/revoke_access", json={}).raise_for_status()
    assert "The sandbox says hello." in codex.run("exec", "--skip-git-repo-check", "hi")
    assert codex.state()["families"][0]["generation"] == 2
