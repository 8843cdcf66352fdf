"""`login`: a person is told what to do, and the command ends when the login does."""

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from service.cli.console import DONE, FAILED, MISUSED, UNREACHABLE
from service.cli.login import why_no_browser

from .conftest import ROOT, Run
from .fake import GOOD_URL, FakeService, Reply, problem
from .terminal import terminal

pytestmark = pytest.mark.long


def when_waiting(fake: FakeService, act: Callable[[], None]) -> threading.Thread:
    """Do something once somebody waits for the end of the login."""

    def watch() -> None:
        for _ in range(500):
            if fake.sent("GET", "/login/login-1"):
                act()
                return
            time.sleep(0.02)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def ends(fake: FakeService, state: str, **members: object) -> threading.Thread:
    return when_waiting(fake, lambda: fake.end_login(state, **members))


def test_browser_login(fake: FakeService, run: Run) -> None:
    ends(fake, "complete")
    ran = run("login")
    assert (ran.code, ran.out) == (DONE, "")
    assert f"\n  {fake.authorize_url}\n" in ran.err
    assert "Waiting for the login, 15m 0s left.\n" in ran.err
    assert ran.err.endswith("Logged in to account default as ada@example.com (plus).\n")
    assert fake.requests[0].json == {"account": "default", "flow": "auto", "replace": False}
    assert fake.requests[1].query == {"wait": "30"}


def test_wish_is_passed_on(fake: FakeService, run: Run) -> None:
    ends(fake, "complete")
    run("login", "--account", "work", "--provider", "codex", "--device", "--replace")
    assert fake.requests[0].json == {"account": "work", "provider": "codex", "flow": "device", "replace": True}


def test_device_login(fake: FakeService, run: Run) -> None:
    ends(fake, "complete")
    ran = run("login", "--device")
    assert ran.code == DONE
    assert "Open       https://issuer.example/codex/device\n" in ran.err
    assert "\n\n                  ABCD-12345\n\n" in ran.err
    assert "https://issuer.example/codex/device?user_code=ABCD-12345" in ran.err
    assert "only if you started this login yourself" in ran.err
    assert "Open this address" not in ran.err


@pytest.mark.parametrize(
    ("fallback", "words"), [("callback_port_unavailable", "are taken"), ("something new", "something new")]
)
def test_device_login_instead_of_a_browser_says_why(fake: FakeService, run: Run, fallback: str, words: str) -> None:
    fake.flow, fake.fallback = "device", fallback
    ends(fake, "complete")
    assert words in run("login").err.splitlines()[0]


@pytest.mark.parametrize(
    ("state", "members", "words"),
    [
        (
            "failed",
            {"error": "login_denied", "detail": "The login was refused at the issuer."},
            "refused at the issuer.",
        ),
        ("failed", {"error": "issuer_unavailable"}, "issuer_unavailable"),
        ("expired", {"error": "login_expired"}, "login_expired"),
        ("cancelled", {}, "it is cancelled"),
        ("failed", {"error": "account_mismatch", "detail": "Another account."}, "pixir-auth login --replace"),
    ],
)
def test_login_that_fails(fake: FakeService, run: Run, state: str, members: dict[str, str], words: str) -> None:
    ends(fake, state, **members)
    ran = run("login")
    assert (ran.code, ran.out) == (FAILED, "")
    assert words in ran.err
    assert ("--replace" in ran.err) == (members.get("error") == "account_mismatch")


def test_login_that_cannot_start(fake: FakeService, run: Run) -> None:
    fake.replies["POST", "/login"] = problem(422, "unknown_provider", "There is no such provider.")
    ran = run("login", "--provider", "nobody")
    assert ran.code == MISUSED
    assert "unknown_provider" in ran.err


def test_logged_in_though_the_status_is_not_to_be_had(fake: FakeService, run: Run) -> None:
    fake.replies["GET", "/status"] = problem(503, "store_unavailable")
    ends(fake, "complete")
    ran = run("login")
    assert ran.code == DONE
    assert ran.err.endswith("Logged in to account default.\n")


def test_login_that_is_forgotten(fake: FakeService, run: Run) -> None:
    fake.replies["GET", "/login/login-1"] = problem(404, "unknown_login", "There is no such login.")
    ran = run("login")
    assert ran.code == FAILED
    assert "unknown_login" in ran.err


def test_login_outlives_a_restart_of_the_service(fake: FakeService, run: Run) -> None:
    fake.replies["GET", "/login/login-1"] = [Reply(raw=b"")]
    ends(fake, "complete")
    assert run("login").code == DONE


def test_service_that_stays_away(fake: FakeService, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cli.login._RETURNS_WITHIN", 1)
    fake.replies["GET", "/login/login-1"] = Reply(raw=b"")
    assert run("login").code == UNREACHABLE


def test_service_that_does_not_hold_the_call_is_not_hammered(fake: FakeService, run: Run) -> None:
    pending = Reply(body={"id": "login-1", "state": "pending", "expires_in": 60})
    fake.replies["GET", "/login/login-1"] = [pending, pending]
    threading.Timer(0.5, lambda: fake.end_login("complete")).start()
    before = time.monotonic()
    assert run("login").code == DONE
    assert time.monotonic() - before >= 2
    assert len(fake.sent("GET", "/login/login-1")) == 3


def test_service_that_never_says_how_it_ended(fake: FakeService, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cli.login._GRACE", 0.0)
    fake.expires_in = 0
    fake.replies["GET", "/login/login-1"] = Reply(body={"id": "login-1", "state": "pending", "expires_in": None})
    ran = run("login")
    assert ran.code == FAILED
    assert "does not say how the login ended" in ran.err


# -- the browser -------------------------------------------------------------------------------------------------


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A browser that writes down what it is given."""
    program, seen = tmp_path / "browser", tmp_path / "seen"
    program.write_text(f'#!/bin/sh\necho "$@" >{seen}.new && mv {seen}.new {seen}\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("BROWSER", f"{program} %s")
    return seen


def is_opened(seen: Path, within: float = 5) -> bool:
    deadline = time.monotonic() + within
    while not seen.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return seen.exists()


def test_browser_is_opened(fake: FakeService, run: Run, browser: Path) -> None:
    when_waiting(fake, lambda: is_opened(browser) and fake.end_login("complete"))
    assert run("login").code == DONE
    assert browser.read_text().strip() == fake.authorize_url


@pytest.mark.parametrize(
    ("options", "environ", "words"),
    [
        (["--no-browser"], {}, None),
        ([], {"SSH_CONNECTION": "1.2.3.4 5 6.7.8.9 22"}, "this is an SSH session"),
        (["--device"], {}, None),
    ],
)
def test_browser_is_left_alone(
    fake: FakeService,
    run: Run,
    browser: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    environ: dict[str, str],
    words: str | None,
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    ends(fake, "complete")
    ran = run("login", *options)
    assert not is_opened(browser, within=0.3)
    assert (f"No browser was opened: {words}" in ran.err) == (words is not None)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "javascript:alert(1)", "--help", ""])
def test_browser_gets_web_pages_only(fake: FakeService, run: Run, browser: Path, url: str) -> None:
    fake.authorize_url = url
    ran = run("login")
    assert ran.code == FAILED
    assert "not a web page" in ran.err
    assert not is_opened(browser, within=0.3)


@pytest.mark.parametrize(
    ("environ", "platform", "reason"),
    [
        ({}, "linux", "there is no display"),
        ({}, "darwin", None),
        ({"DISPLAY": ":0"}, "linux", None),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", None),
        ({"BROWSER": "lynx"}, "linux", None),
        ({"DISPLAY": ":10", "SSH_TTY": "/dev/pts/1"}, "linux", "this is an SSH session"),
        ({"SSH_CLIENT": "x"}, "darwin", "this is an SSH session"),
    ],
)
def test_where_a_browser_helps(environ: dict[str, str], platform: str, reason: str | None) -> None:
    assert why_no_browser(environ, platform) == reason


# -- at a terminal -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["foreground", "elsewhere"])
def test_pasted_address_finishes_the_login(fake: FakeService, where: Literal["foreground", "elsewhere"]) -> None:
    with terminal("login", "--no-browser", where=where) as person:
        person.wait_for("left.")
        person.type("http://localhost:1455/auth/callback?code=foreign\n")
        person.wait_for("[login_mismatch]")
        person.type(f"\n  {GOOD_URL}  \n")
        assert person.end() == DONE
    assert "Logged in to account default as ada@example.com (plus)." in person.seen
    assert [each.json for each in fake.sent("POST", "/login/login-1/callback")] == [
        {"url": "http://localhost:1455/auth/callback?code=foreign"},
        {"url": GOOD_URL},
    ]


def test_remaining_time_is_shown_in_place(fake: FakeService) -> None:
    with terminal("login", "--device") as person:
        person.wait_for("\r\x1b[KWaiting for the login, 15m 0s left. ")
        fake.end_login("complete")
        assert person.end() == DONE
    assert "paste" not in person.seen


def test_end_of_input_is_not_the_end(fake: FakeService) -> None:
    with terminal("login", "--no-browser") as person:
        person.wait_for("left.")
        person.type("\x04")
        time.sleep(0.5)
        assert person.process.poll() is None
        fake.end_login("complete")
        assert person.end() == DONE


def test_ctrl_c_cancels_the_login(fake: FakeService) -> None:
    with terminal("login", "--no-browser") as person:
        person.wait_for("left.")
        person.press_ctrl_c()
        assert person.end() == FAILED
    assert "Cancelled." in person.seen
    assert "Traceback" not in person.seen
    assert len(fake.sent("DELETE", "/login/login-1")) == 1


def test_login_in_the_background_is_not_stopped_by_what_is_typed(fake: FakeService) -> None:
    with terminal("login", "--no-browser", where="background") as person:
        person.wait_for("left.")
        person.type("meant for somebody else\n")
        time.sleep(0.7)
        fake.end_login("complete")
        person.wait_for("Logged in")
    assert not fake.sent("POST", "/login/login-1/callback")


def test_interrupt_without_a_terminal(fake: FakeService) -> None:
    command = [sys.executable, "-m", "service", "login", "--no-browser"]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=-1, stderr=subprocess.STDOUT)
    with process:
        when_waiting(fake, lambda: os.kill(process.pid, signal.SIGINT)).join(20)
        said, _ = process.communicate(timeout=20)
    assert process.returncode == FAILED
    assert b"Traceback" not in said
    assert fake.sent("DELETE", "/login/login-1")


def test_service_that_is_gone_when_cancelled(fake: FakeService) -> None:
    fake.replies["DELETE", "/login/login-1"] = Reply(raw=b"")
    with terminal("login", "--no-browser") as person:
        person.wait_for("left.")
        person.press_ctrl_c()
        assert person.end() == FAILED
    assert "Traceback" not in person.seen
