"""The command line as a whole: exit codes, help, and what is not loaded."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service import __version__
from service.app import openapi_document
from service.cli.console import DONE, FAILED, is_terminal, printable

from .conftest import ROOT, Run, in_process_of_its_own
from .fake import FakeService, Reply

USAGE = 2
COMMANDS = (
    *("serve", "login", "status", "token", "headers", "logout", "accounts", "import", "export"),
    *("audit", "rekey", "backup", "restore", "demo", "doctor", "openapi", "keys"),
)


def test_help_names_every_command(run: Run) -> None:
    ran = run("--help")
    assert ran.code == DONE
    assert [line.split()[0] for line in ran.out.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()] == [
        *COMMANDS
    ]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(run: Run, command: str) -> None:
    ran = run(command, "-h")
    assert (ran.code, ran.err) == (DONE, "")
    assert ran.out.startswith(f"Usage: pixir-auth {command}")


def test_every_command_and_option_is_documented(run: Run) -> None:
    page = (ROOT / "docs" / "commands.md").read_text()
    for command in COMMANDS:
        assert f"## {command}" in page
        section = page.partition(f"## {command}")[2].partition("\n## ")[0]
        options = {
            word.strip(",") for word in run(command, "--help").out.split() if word.startswith("--") and word != "--help"
        }
        assert not {option for option in options if option not in section}, command


def test_import_names_the_files_there_are(run: Run) -> None:
    told = run("import", "--help").out
    assert "~/.codex/auth.json" in told
    assert "~/.pixir/auth.json" in told


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing"],
        ["token", "--min-ttl", "soon"],
        ["token", "--min-ttl", "-1"],
        ["token", "default"],
        ["headers", "--newer-than"],
        ["import"],
        ["export"],
        ["export", "--format", "toml"],
        ["status", "--colour"],
    ],
)
def test_wrong_use_is_told_on_stderr(run: Run, arguments: list[str]) -> None:
    ran = run(*arguments)
    assert (ran.code, ran.out) == (USAGE, "")
    assert "pixir-auth" in ran.err or "requires an argument" in ran.err


def test_version(run: Run) -> None:
    assert run("--version").out == f"{__version__}\n"


def test_module_is_the_command() -> None:
    ran = in_process_of_its_own("--version")
    assert (ran.code, ran.out, ran.err) == (DONE, f"{__version__}\n", "")


def test_console_script_is_the_command() -> None:
    script = Path(sys.executable).with_name("pixir-auth")
    if not script.exists():
        pytest.skip("the package is not installed here")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == f"{__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (["token"], {"typer", "pydantic", "pydantic_settings", "rich", "fastapi", "uvicorn", "sqlmodel", "httpx"}),
        (["headers", "--account", "x"], {"typer", "pydantic", "pydantic_settings", "rich", "fastapi", "uvicorn"}),
        (["status"], {"pydantic_settings", "rich", "fastapi", "uvicorn", "sqlmodel", "httpx", "cryptography"}),
        (["--help"], {"pydantic_settings", "rich", "fastapi", "uvicorn", "sqlmodel", "httpx", "cryptography"}),
        pytest.param(["openapi"], {"psycopg", "sqlalchemy.dialects.postgresql"}, marks=pytest.mark.long),
    ],
)
def test_what_is_not_needed_is_not_loaded(fake: FakeService, arguments: list[str], unwanted: set[str]) -> None:
    script = "import sys; from service.cli import main; main(); sys.stderr.write(repr(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True, cwd=ROOT, timeout=30
    )
    assert not {module for module in unwanted if f"'{module}'" in done.stderr}


def test_output_that_nobody_takes_is_a_failure(fake: FakeService) -> None:
    command = [sys.executable, "-m", "service", "token"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False, cwd=ROOT, timeout=30)
    assert done.returncode == FAILED
    assert done.stderr == b"The output cannot be written (No space left on device).\n"


def test_reader_that_has_left_is_a_failure(fake: FakeService) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "token"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == FAILED
    assert b"Traceback" not in said


@pytest.mark.parametrize("command", ["token", pytest.param("status", marks=pytest.mark.long)])
def test_ctrl_c_is_a_failure_without_a_traceback(fake: FakeService, command: str) -> None:
    fake.replies["GET", f"/{command}"] = Reply(delay=20)
    started = [sys.executable, "-m", "service", command]
    with subprocess.Popen(started, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        while not fake.requests:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=20)
    assert (process.returncode, *said) == (FAILED, b"", b"")


def test_terminal_is_not_steered_by_what_the_service_says() -> None:
    assert printable("a\x1b[31m\r\nb\x9b") == "a\ufffd[31m\ufffd\ufffdb\ufffd"


def test_stream_that_is_not_there_is_no_terminal() -> None:
    assert not is_terminal(None)


def test_openapi_is_the_document_of_the_app(run: Run) -> None:
    ran = run("openapi")
    assert (ran.code, ran.err) == (DONE, "")
    assert ran.out == json.dumps(openapi_document(), indent=2, sort_keys=True) + "\n"


@pytest.mark.parametrize("value", ["loud", pytest.param("0.0.0.0", marks=pytest.mark.long)])
def test_serve_says_why_it_cannot(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("PIXIR_AUTH_PORT", "0")  # another test may have 1455
    monkeypatch.setenv("PIXIR_AUTH_LOG_LEVEL" if value == "loud" else "PIXIR_AUTH_HOST", value)
    ran = in_process_of_its_own("serve")
    assert (ran.code, ran.out) == (FAILED, "")
    assert "PIXIR_AUTH_LOG_LEVEL" in ran.err or "PIXIR_AUTH_HOST" in ran.err
    assert "Traceback" not in ran.err
