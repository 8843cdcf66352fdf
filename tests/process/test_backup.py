"""Backup and restore with real processes: a spent refresh token never reaches the issuer a second time."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.kit.processes import ROOT, Machine, Process, machine

pytestmark = pytest.mark.long


def state(issuer: Process) -> dict[str, Any]:
    found: dict[str, Any] = issuer.client.get("/_sandbox/state").json()
    return found


def command(service: Process, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """A command as somebody types it. It must not find a setting of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    environment = {**kept, "PIXIR_AUTH_PUBLIC_URL": service.url}
    line = [sys.executable, "-W", "error", "-m", "service", *arguments]
    return subprocess.run(line, env=environment, cwd=ROOT, capture_output=True, check=False, timeout=60)


def refresh(service: Process, account: str = "default") -> int:
    now = service.client.get("/status", params={"account": account}).json()["refresh"]["generation"]
    answer = service.client.get("/token", params={"account": account, "newer_than": now}).raise_for_status().json()
    assert answer["generation"] == now + 1
    return now + 1


def told(service: Process, account: str = "default") -> tuple[str, str | None]:
    found = service.client.get("/status", params={"account": account}).json()["refresh"]
    return found["state"], found["last_error"]


def lost(m: Machine, *, with_record: bool) -> None:
    """The data is gone; the key is not."""
    shutil.rmtree(m.folder / "data")
    if with_record:
        for file in (m.folder / "config" / "pixir-auth").glob("generations.db*"):
            file.unlink()


@pytest.mark.parametrize("with_record", [False, True])
def test_what_is_restored_is_not_refreshed_until_it_is_confirmed(tmp_path: Path, with_record: bool) -> None:
    with machine(tmp_path) as m:
        issuer = m.issuer(access_lifetime=3600)
        service = m.service(issuer, refresh_floor=0)
        m.install(service, issuer, "spent", subject="a")
        m.install(service, issuer, "unspent", subject="b")
        file = tmp_path / "logins.backup"
        done = command(service, "backup", str(file))
        assert done.returncode == 0, done.stderr
        assert file.stat().st_mode & 0o777 == 0o600
        for _ in range(3):
            refresh(service, "spent")
        service.close()
        lost(m, with_record=with_record)
        before = state(issuer)["refresh_count"]

        service = m.service(issuer, refresh_floor=0)
        done = command(service, "restore", str(file))
        assert done.returncode == 0, done.stderr
        expected = ("uncertain" if with_record else "dead", "restored_backup")
        assert told(service, "spent") == expected
        assert told(service, "unspent") == ("uncertain", "restored_backup")
        for account in ("spent", "unspent"):
            now = service.client.get("/token", params={"account": account}).raise_for_status().json()
            assert now["warning"] in ("refresh_uncertain", "login_required")
            again = service.client.get("/token", params={"account": account, "newer_than": now["generation"]})
            assert again.json().get("generation", 1) == 1
        assert state(issuer)["refresh_count"] == before

        done = command(service, "restore", "--confirm-unspent", "unspent")
        assert done.returncode == 0, done.stderr
        assert refresh(service, "unspent") == 3
        assert state(issuer)["refresh_count"] == before + 1
        if not with_record:
            assert command(service, "restore", "--confirm-unspent", "spent").returncode == 1
            assert state(issuer)["refresh_count"] == before + 1
        assert state(issuer)["reuse_count"] == 0
        assert all(family["alive"] for family in state(issuer)["families"])


def test_it_survives_a_restart_unconfirmed_and_its_end(tmp_path: Path) -> None:
    """The access token runs out: nothing is sent then either, and a person is asked to log in."""
    with machine(tmp_path) as m:
        issuer = m.issuer(access_lifetime=4)
        service = m.service(issuer, refresh_floor=0)
        m.install(service, issuer)
        file = tmp_path / "logins.backup"
        assert command(service, "backup", str(file)).returncode == 0
        refresh(service)
        service.close()
        lost(m, with_record=True)
        service = m.service(issuer)
        assert command(service, "restore", str(file)).returncode == 0
        before = state(issuer)["refresh_count"]
        service.close()
        service = m.service(issuer)
        while (answer := service.client.get("/token")).status_code == 200:
            assert answer.json()["warning"] == "refresh_uncertain"
        assert (answer.status_code, answer.json()["reason"]) == (409, "outcome_unknown")
        assert state(issuer)["refresh_count"] == before
        assert state(issuer)["reuse_count"] == 0
