"""Exit code 2 is for what was typed wrong, also where it is the service that notices; at a real one."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.cli.console import DONE, FAILED, MISUSED
from tests.kit.processes import Process, machine

from .conftest import Run
from .fake import FakeService, problem

BAD = "BAD NAME"
WHOLE = ("export", "--format", "codex", "--with-refresh-token")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A service with a subscription in the account `default`."""
    with machine(tmp_path_factory.mktemp("machine")) as m:
        issuer = m.issuer()
        service = m.service(issuer, openai_api_key=None)
        m.install(service, issuer)
        yield service


@pytest.fixture
def service(real: Process, monkeypatch: pytest.MonkeyPatch) -> Process:
    monkeypatch.setenv("PIXIR_AUTH_PUBLIC_URL", real.url)
    return real


@pytest.mark.long
@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(
    "arguments",
    [
        ("token", "--account", BAD),
        ("token", f"--account={BAD}", "--json"),
        ("token", "--account", ""),
        ("token", "--min-ttl", "9" * 30),
        ("headers", "--account", "x" * 64),
        ("status", "--account", BAD),
        ("logout", "--account", BAD),
        ("login", "--account", BAD),
        ("login", "--provider", "nope"),
        ("export", "--format", "env", "--account", BAD),
        (*WHOLE, "--account", BAD),
        ("restore", "--confirm-unspent", BAD),
        ("keys", "add", BAD),
        ("keys", "add", "a/b"),
        ("keys", "add", "x", "--account", BAD),
        ("keys", "add", "x", "--expires-in", "999999999d"),
        ("keys", "revoke", BAD),
        ("keys", "revoke", "a/b"),
    ],
)
def test_what_was_typed_wrong_is_usage(run: Run, arguments: tuple[str, ...]) -> None:
    ran = run(*arguments)
    assert (ran.code, ran.out) == (MISUSED, ""), ran.err


@pytest.mark.long
@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("token", "--account", "other"), FAILED),
        (("keys", "revoke", "nobody"), FAILED),
        (("restore", "--confirm-unspent", "default"), FAILED),
        ((*WHOLE, "--account", "nobody"), FAILED),
        (("status", "--account", "nobody"), FAILED),
        (("token",), DONE),
    ],
)
def test_what_was_typed_well_is_none(run: Run, arguments: tuple[str, ...], code: int) -> None:
    ran = run(*arguments)
    assert ran.code == code, ran.err


@pytest.mark.long
@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("content", ["{}", '{"kind": "subscription", "access_token": 7}', '{"kind": "api_key"}'])
def test_a_bad_file_is_no_usage_and_a_bad_account_is(run: Run, tmp_path: Path, content: str) -> None:
    file = tmp_path / "auth.json"
    file.write_text(content)
    assert run("import", str(file), "--account", "new").code == FAILED
    assert run("import", str(file), "--account", BAD).code == MISUSED


def test_what_the_state_of_a_login_forbids_is_no_usage(fake: FakeService, run: Run) -> None:
    fake.replies["POST", "/export"] = problem(422, "invalid_request", "Nobody knows whether it is spent.")
    assert run(*WHOLE).code == FAILED
    assert run(*WHOLE, "--account", BAD).code == MISUSED


def test_what_a_backup_holds_is_no_usage(fake: FakeService, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    head = {"pixir_auth_backup": 1, "fingerprints": "x", "key": "k"}
    end = {"end": {"credentials": 0, "client_keys": 0}}
    file.write_text(f"{json.dumps(head)}\n{json.dumps(end)}\n")
    fake.replies["POST", "/restore"] = problem(422, "invalid_request", "body.fingerprints: it is none.")
    ran = run("restore", str(file))
    assert (ran.code, "body.fingerprints" in ran.err) == (FAILED, True), ran.err


def test_other_refusals_stay_failures(fake: FakeService, run: Run) -> None:
    for status, code in (
        (403, "scope"),
        (422, "invalid_credential"),
        (404, "unknown_account"),
        (500, "invalid_request"),
    ):
        fake.replies["GET", "/token"] = problem(status, code)
        assert run("token").code == FAILED, code
