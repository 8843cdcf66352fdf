"""`export --with-refresh-token`: the login itself, opened by the command alone, and not lost wherever it breaks off."""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from service.cli.console import DONE, FAILED, LOGIN_REQUIRED, MISUSED, UNREACHABLE

from .conftest import ROOT, Ran, Run
from .fake import ACCESS, REFRESH, FakeService, Reply, problem

WHOLE = ("export", "--with-refresh-token", "--format")


def into(file: Path, *arguments: str) -> Ran:
    """As the shell does with `>`."""
    file.touch(0o600)
    with file.open("wb") as out:
        command = [sys.executable, "-m", "service", *arguments]
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, cwd=ROOT, check=False, timeout=30)
    return Ran(done.returncode, file.read_text(), done.stderr.decode())


def given(run: Run, form: str) -> Any:
    ran = run(*WHOLE, form)
    assert ran.code == DONE, ran.err
    return json.loads(ran.out)


def test_codex_is_given_the_real_pair(fake: FakeService, run: Run) -> None:
    assert given(run, "codex") == {
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": None,
        "tokens": {
            "id_token": "real.id.token",
            "access_token": ACCESS,
            "refresh_token": REFRESH,
            "account_id": "acct-1",
        },
        "last_refresh": "2029-12-31T23:00:00Z",
    }


def test_codex_is_given_an_id_token_where_the_issuer_gave_none(fake: FakeService, run: Run) -> None:
    fake.id_token = None
    assert len(given(run, "codex")["tokens"]["id_token"].split(".")) == 3


def test_pixir_is_given_the_real_pair(fake: FakeService, run: Run) -> None:
    assert given(run, "pixir") == {
        "kind": "subscription",
        "access_token": ACCESS,
        "refresh_token": REFRESH,
        "expires_at": 1893456000000,
        "account_id": "acct-1",
        "obtained_at": "2029-12-31T23:00:00Z",
    }


def test_a_shell_is_given_the_real_pair(fake: FakeService, run: Run) -> None:
    assert run(*WHOLE, "env").out.splitlines() == [
        f"export OPENAI_ACCESS_TOKEN={ACCESS}",
        f"export OPENAI_REFRESH_TOKEN={REFRESH}",
        "export OPENAI_ACCESS_TOKEN_EXPIRES_AT=2030-01-01T00:00:00Z",
        "export CHATGPT_ACCOUNT_ID=acct-1",
    ]


def test_nothing_is_asked_but_that_and_no_token_is_on_the_wire(fake: FakeService, run: Run) -> None:
    run(*WHOLE, "codex", "--account", "work")
    (asked,) = fake.requests
    assert (asked.method, asked.path, asked.query) == ("POST", "/export", {"account": "work"})
    assert set(asked.json) == {"public_key"}
    run(*WHOLE, "codex", "--account", "work")
    assert fake.requests[1].json != asked.json, "a key pair of its own each time"


def test_the_person_is_told_in_one_line_what_it_means(fake: FakeService, tmp_path: Path) -> None:
    ran = into(tmp_path / "auth.json", *WHOLE, "codex", "--account", "work")
    (line,) = ran.err.splitlines()
    assert "has given up the login of account work" in line
    assert "whoever uses what was written refreshes it" in line
    assert "pixir-auth login --account work" in line


def test_what_is_in_a_file_is_confirmed(fake: FakeService, tmp_path: Path) -> None:
    ran = into(tmp_path / "auth.json", *WHOLE, "codex", "--account", "work")
    assert json.loads(ran.out)["tokens"]["refresh_token"] == REFRESH
    (confirmed,) = fake.sent("POST", "/export/confirm")
    assert (confirmed.query, confirmed.json) == ({"account": "work"}, {"generation": 3})


def test_of_what_a_pipe_has_taken_nobody_knows_where_it_is(fake: FakeService, run: Run) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "service", *WHOLE, "codex"], capture_output=True, cwd=ROOT, check=True, timeout=30
    )
    assert REFRESH.encode() in done.stdout
    assert b"A sealed copy stays" in done.stderr
    assert not fake.sent("POST", "/export/confirm")


def test_a_file_that_is_gone_with_its_process_is_not_confirmed(fake: FakeService) -> None:
    with tempfile.TemporaryFile() as nameless:
        done = subprocess.run(
            [sys.executable, "-m", "service", *WHOLE, "codex"],
            stdout=nameless,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            check=True,
            timeout=30,
        )
    assert b"A sealed copy stays" in done.stderr
    assert not fake.sent("POST", "/export/confirm")


def test_without_stdout_nothing_is_lost(fake: FakeService) -> None:
    command = ["sh", "-c", 'exec "$0" -m service "$@" >&-', sys.executable, *WHOLE, "codex"]
    done = subprocess.run(command, stderr=subprocess.PIPE, cwd=ROOT, check=False, timeout=30)
    assert done.returncode == FAILED
    assert b"it is closed" in done.stderr
    assert b"the same command gives it again" in done.stderr
    assert not fake.sent("POST", "/export/confirm")


def test_an_error_of_the_service_is_not_the_end_either(fake: FakeService, run: Run) -> None:
    fake.replies["POST", "/export"] = problem(503, "store_unavailable")
    ran = run(*WHOLE, "codex")
    assert (ran.code, ran.out) == (FAILED, "")
    assert "the same command gives it again" in ran.err


def test_a_service_that_is_gone_by_then_keeps_its_copy(fake: FakeService, tmp_path: Path) -> None:
    fake.replies["POST", "/export/confirm"] = Reply(raw=b"")
    ran = into(tmp_path / "auth.json", *WHOLE, "codex")
    assert ran.code == DONE
    assert "A sealed copy stays" in ran.err


def test_what_was_given_before_may_be_spent(fake: FakeService, run: Run) -> None:
    assert "if that copy has been used" not in run(*WHOLE, "codex").err
    again = run(*WHOLE, "codex")
    assert (again.code, "if that copy has been used since, this one is spent" in again.err) == (DONE, True)


def test_what_cannot_be_written_is_not_lost(fake: FakeService) -> None:
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "service", *WHOLE, "codex"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, cwd=ROOT, check=False, timeout=30)
    assert done.returncode == FAILED
    assert b"the same command gives it again" in done.stderr
    assert REFRESH.encode() not in done.stderr
    assert not fake.sent("POST", "/export/confirm")


@pytest.mark.parametrize(
    "reply",
    [
        Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{"),
        Reply(body={"account": "default", "generation": 3, "again": False, "sealed": "AAAA"}),
        Reply(body={}),
    ],
)
def test_an_answer_that_is_lost_is_not_the_end(fake: FakeService, run: Run, reply: Reply) -> None:
    fake.replies["POST", "/export"] = reply
    ran = run(*WHOLE, "codex")
    assert (ran.code, ran.out) == (UNREACHABLE, "")
    assert "the same command gives it again" in ran.err


def test_what_the_service_refuses_is_said(fake: FakeService, run: Run) -> None:
    fake.replies["POST", "/export"] = problem(422, "invalid_request", "An API key serves this account.")
    ran = run(*WHOLE, "codex")
    assert (ran.code, ran.out, ran.err) == (FAILED, "", "Refused: An API key serves this account. [invalid_request]\n")
    fake.replies["POST", "/export"] = problem(409, "login_required", reason="logged_out")
    assert run(*WHOLE, "codex").code == LOGIN_REQUIRED


def test_a_stand_in_is_for_a_login_that_stays(fake: FakeService, run: Run, tmp_path: Path) -> None:
    ran = run(*WHOLE, "codex", "--stand-in", str(tmp_path / "key"))
    assert (ran.code, ran.out) == (MISUSED, "")
    assert "exclude each other" in re.sub(r"\W+", " ", ran.err)
    assert not fake.requests


def test_a_file_that_others_may_read_is_told(fake: FakeService, tmp_path: Path) -> None:
    (tmp_path / "auth.json").touch()
    (tmp_path / "auth.json").chmod(0o644)
    assert "others may read" in into(tmp_path / "auth.json", *WHOLE, "codex").err
