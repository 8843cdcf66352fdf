"""`import` and `export`: what comes in is passed on as it is, and no refresh token goes out."""

import io
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.cli import transfer
from service.cli.console import DONE, FAILED, LOGIN_REQUIRED, MISUSED, UNREACHABLE
from service.domain.errors import InvalidCredential
from service.domain.secret import Secret
from service.oauth.claims import identity, unverified_claims
from service.oauth.imports import read_credential

from .conftest import Run, in_process_of_its_own
from .fake import ACCESS, REFRESH, FakeService, Reply, api_key, problem, running, subscription

CODEX = {"tokens": {"id_token": "a.b.c", "access_token": ACCESS, "refresh_token": REFRESH, "account_id": "acct-1"}}
AUTH = "https://api.openai.com/auth"


@pytest.fixture
def auth_json(tmp_path: Path) -> Path:
    file = tmp_path / "auth.json"
    file.write_text(json.dumps(CODEX))
    return file


def test_file_is_handed_over(fake: FakeService, run: Run, auth_json: Path) -> None:
    ran = run("import", str(auth_json), "--account", "work")
    (asked,) = fake.sent("PUT", "/credential")
    assert asked.query == {"account": "work"}
    assert asked.body == auth_json.read_bytes()
    assert (ran.code, ran.out) == (DONE, "")
    assert "ada@example.com" in ran.err
    assert "Use it nowhere else" in ran.err


def test_stdin_is_handed_over(fake: FakeService) -> None:
    ran = in_process_of_its_own("import", "-", stdin=json.dumps(CODEX).encode())
    assert ran.code == DONE
    assert fake.sent("PUT", "/credential")[0].json == CODEX


def test_api_key_is_not_kept(fake: FakeService, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "key.json"
    file.write_text('{"kind":"api_key","api_key":"sk-1"}')
    ran = run("import", str(file))
    assert "in memory only" in ran.err
    assert "Use it nowhere else" not in ran.err


@pytest.mark.parametrize("content", [b"", b"no json", b"[]", b'"text"', b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_object_is_not_sent(fake: FakeService, run: Run, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "auth.json"
    file.write_bytes(content)
    ran = run("import", str(file))
    assert (ran.code, ran.out, ran.err) == (FAILED, "", "That is not a JSON object.\n")
    assert not fake.requests


def test_what_is_too_large_is_not_sent(
    fake: FakeService, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "auth.json"
    file.write_bytes(b" " * transfer.MAX_IMPORT + b"{}")
    assert "larger than any credential" in run("import", str(file)).err
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(file.read_bytes())))
    assert run("import", "-").code == FAILED
    assert not fake.requests


def test_file_that_cannot_be_read(fake: FakeService, run: Run, tmp_path: Path) -> None:
    ran = run("import", str(tmp_path / "nothing.json"))
    assert (ran.code, ran.out) == (FAILED, "")
    assert "cannot be read (No such file or directory)" in ran.err


def test_service_refuses_the_credential(fake: FakeService, run: Run, auth_json: Path) -> None:
    fake.replies["PUT", "/credential"] = problem(422, "invalid_credential", "access_token is missing or empty.")
    ran = run("import", str(auth_json))
    assert ran.code == FAILED
    assert "invalid_credential" in ran.err


# -- export ------------------------------------------------------------------------------------------------------


def exported(run: Run, form: str, *options: str) -> Any:
    ran = run("export", "--format", form, *options)
    assert ran.code == DONE, ran.err
    return json.loads(ran.out)


def test_codex_auth_json(fake: FakeService, run: Run) -> None:
    document = exported(run, "codex")
    id_token = document["tokens"].pop("id_token")
    assert document == {
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": None,
        "tokens": {"access_token": ACCESS, "refresh_token": "", "account_id": "acct-1"},
        "last_refresh": "2029-12-31T23:00:00Z",
    }
    assert all(id_token.split("."))
    assert len(id_token.split(".")) == 3
    assert unverified_claims(Secret(id_token)) == {
        "email": "ada@example.com",
        "exp": 1893456000,
        AUTH: {"chatgpt_account_id": "acct-1", "chatgpt_plan_type": "plus"},
    }


KEY = "pixir_0a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0u"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "codex.key"
    file.write_text(f"{KEY}\n")
    return file


def test_codex_is_given_a_client_key_for_its_refresh_token(fake: FakeService, run: Run, key_file: Path) -> None:
    document = exported(run, "codex", "--stand-in", str(key_file))
    assert document["tokens"] == {
        "id_token": "real.id.token",
        "access_token": ACCESS,
        "refresh_token": KEY,
        "account_id": "acct-1",
        "oauth_provenance": {"issuer": fake.url, "client_id": "pixir-auth"},
    }
    (asked,) = fake.sent("POST", "/oauth/token")
    assert asked.json == {"grant_type": "refresh_token", "refresh_token": KEY}


def test_the_key_may_come_from_the_command_that_makes_it(fake: FakeService) -> None:
    ran = in_process_of_its_own("export", "--format", "codex", "--stand-in", "-", stdin=f"{KEY}\n".encode())
    assert json.loads(ran.out)["tokens"]["refresh_token"] == KEY


def test_through_a_unix_socket_nobody_knows_where_codex_is_to_ask(
    run: Run, key_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with running(FakeService(), socket := tmp_path / "s"):
        monkeypatch.setenv("PIXIR_AUTH_UNIX_SOCKET", str(socket))
        assert "oauth_provenance" not in exported(run, "codex", "--stand-in", str(key_file))["tokens"]


def test_a_key_that_means_another_account_is_not_written(fake: FakeService, run: Run, key_file: Path) -> None:
    other = {"access_token": "of-another", "token_type": "Bearer", "refresh_token": KEY}
    fake.replies["POST", "/oauth/token"] = Reply(body=other)
    ran = run("export", "--format", "codex", "--stand-in", str(key_file))
    assert (ran.code, ran.out) == (FAILED, "")
    assert "keys add NAME --scope token --account default" in ran.err
    fake.replies.clear()
    fake.accounts["default"] = api_key("default")
    assert run("export", "--format", "codex", "--stand-in", str(key_file)).code == FAILED


def test_a_key_that_is_not_good_is_not_written(fake: FakeService, run: Run, key_file: Path) -> None:
    told = {"error": "invalid_grant", "code": "key_required", "detail": "This client key is not good here."}
    fake.replies["POST", "/oauth/token"] = Reply(400, told)
    ran = run("export", "--format", "codex", "--stand-in", str(key_file))
    assert (ran.code, ran.out) == (FAILED, "")
    assert "not good here. [key_required]" in ran.err


@pytest.mark.parametrize("content", ["", "two words", "a\nb", "k\xe4y", "{}\t{}"])
def test_what_is_no_key_is_not_sent(fake: FakeService, run: Run, key_file: Path, content: str) -> None:
    key_file.write_text(content)
    assert run("export", "--format", "codex", "--stand-in", str(key_file)).err == "That is no client key.\n"
    assert not fake.requests


@pytest.mark.parametrize("form", ["pixir", "env"])
def test_nobody_else_refreshes_with_a_key(fake: FakeService, run: Run, key_file: Path, form: str) -> None:
    assert run("export", "--format", form, "--stand-in", str(key_file)).code == MISUSED
    assert not fake.requests


def test_what_holds_a_key_is_no_login_to_take_over(fake: FakeService, run: Run, key_file: Path) -> None:
    document = exported(run, "codex", "--stand-in", str(key_file))
    with pytest.raises(InvalidCredential, match="is a client key"):
        read_credential(document)


def test_codex_id_token_tells_what_the_access_token_claims(fake: FakeService, run: Run) -> None:
    claimed = {"chatgpt_user_id": "user-1", "chatgpt_account_is_fedramp": True, "chatgpt_plan_type": "old"}
    parts = [transfer._base64url(json.dumps(part).encode()) for part in ({"alg": "none"}, {AUTH: claimed})]
    fake.access_token = ".".join([*parts, "c2ln"])
    told = unverified_claims(Secret(exported(run, "codex")["tokens"]["id_token"]))
    assert told[AUTH] == {**claimed, "chatgpt_plan_type": "plus", "chatgpt_account_id": "acct-1"}


def test_codex_id_token_names_the_person_to_the_service_too(fake: FakeService, run: Run) -> None:
    who = identity(Secret(exported(run, "codex")["tokens"]["id_token"]))
    assert (who.account_id, who.email, who.plan) == ("acct-1", "ada@example.com", "plus")


def test_pixir_auth_json(fake: FakeService, run: Run) -> None:
    assert exported(run, "pixir", "--account", "default") == {
        "kind": "subscription",
        "access_token": ACCESS,
        "refresh_token": "",
        "expires_at": 1893456000000,
        "account_id": "acct-1",
        "obtained_at": "2029-12-31T23:00:00Z",
    }


def test_environment_lines_are_what_a_shell_reads(fake: FakeService, run: Run) -> None:
    fake.access_token = "a'b $(touch /nowhere) \"c"
    ran = run("export", "--format", "env")
    script = f'{ran.out}\nprintf "%s\\n" "$OPENAI_ACCESS_TOKEN" "$OPENAI_ACCESS_TOKEN_EXPIRES_AT" "$CHATGPT_ACCOUNT_ID"'
    read = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, timeout=10)
    assert read.stdout.splitlines() == [fake.access_token, "2030-01-01T00:00:00Z", "acct-1"]


def test_api_key_in_each_shape(fake: FakeService, run: Run) -> None:
    fake.accounts["default"] = api_key("default")
    assert exported(run, "codex") == {"auth_mode": "apikey", "OPENAI_API_KEY": ACCESS}
    assert run("export", "--format", "env").out == f"export OPENAI_API_KEY={shlex.quote(ACCESS)}\n"
    ran = run("export", "--format", "pixir")
    assert (ran.code, ran.out) == (FAILED, "")
    assert "--format env" in ran.err


def test_nothing_known_but_the_token(fake: FakeService, run: Run) -> None:
    fake.accounts["default"] = subscription("default", email=None, plan=None, account_id=None, expires_at=None)
    assert run("export", "--format", "env").out == f"export OPENAI_ACCESS_TOKEN={ACCESS}\n"
    assert exported(run, "pixir")["expires_at"] is None
    assert unverified_claims(Secret(exported(run, "codex")["tokens"]["id_token"])) == {AUTH: {}}


def test_instant_that_is_none(fake: FakeService, run: Run) -> None:
    fake.accounts["default"] = subscription("default", expires_at="soon")
    assert exported(run, "pixir")["expires_at"] is None


@pytest.mark.parametrize("form", ["codex", "pixir", "env"])
def test_nothing_is_exported_for_nobody(fake: FakeService, run: Run, form: str) -> None:
    ran = run("export", "--format", form, "--account", "nobody")
    assert (ran.code, ran.out) == (LOGIN_REQUIRED, "")


def test_token_that_cannot_be_used(fake: FakeService, run: Run) -> None:
    fake.replies["GET", "/token"] = Reply(body={"access_token": "two\nlines"})
    assert run("export", "--format", "env").code == UNREACHABLE


@pytest.mark.parametrize("form", ["codex", "pixir"])
def test_what_is_exported_cannot_be_imported(fake: FakeService, run: Run, form: str) -> None:
    """There is no refresh token in it: it is a copy of the token, not of the login."""
    with pytest.raises(Exception, match="refresh_token is missing or empty"):
        read_credential(exported(run, form))


@pytest.mark.parametrize(("mode", "warned"), [(0o644, True), pytest.param(0o600, False, marks=pytest.mark.long)])
def test_file_that_others_may_read_is_told(fake: FakeService, tmp_path: Path, mode: int, warned: bool) -> None:
    file = tmp_path / "auth.json"
    file.touch(mode)
    with file.open("wb") as out:
        command = [sys.executable, "-m", "service", "export", "--format", "codex"]
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, check=True, timeout=30)
    assert (b"others may read" in done.stderr) is warned
    assert json.loads(file.read_text())["tokens"]["access_token"] == ACCESS
