"""`status`, `accounts` and `logout`."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from service.cli.accounts import duration
from service.cli.console import DONE, FAILED, LOGIN_REQUIRED, UNREACHABLE

from .conftest import ROOT, Run
from .fake import FakeService, Reply, api_key, nobody, subscription
from .terminal import terminal


def test_status_for_people(fake: FakeService, run: Run) -> None:
    ran = run("status")
    assert ran.code == DONE
    assert ran.err.splitlines() == [
        "account     default",
        "logged in   yes",
        "kind        subscription",
        "provider    codex",
        "e-mail      ada@example.com",
        "plan        plus",
        "account id  acct-1",
        "token       expires in 1h 0m (2030-01-01T00:00:00Z)",
        "refresh     idle, generation 3, last 2029-12-31T23:00:00Z",
        "service     0.1.0",
    ]


def test_status_for_programs(fake: FakeService, run: Run) -> None:
    ran = run("status", "--json")
    assert (ran.code, ran.err) == (DONE, "")
    assert json.loads(ran.out) == subscription("default")


def test_status_is_a_line_for_scripts(fake: FakeService, run: Run) -> None:
    assert run("status").out == "default\tauthenticated\tsubscription\tada@example.com\t2030-01-01T00:00:00Z\n"


def test_status_at_a_terminal_is_for_people_alone(fake: FakeService) -> None:
    with terminal("status", shows_stdout=True) as person:
        assert person.end() == DONE
    assert person.seen.startswith("account     default\r\n")
    assert "\t" not in person.seen


def test_status_of_nobody(fake: FakeService, run: Run) -> None:
    ran = run("status", "--account", "nobody")
    assert (ran.code, ran.out) == (LOGIN_REQUIRED, "nobody\tlogin_required\t-\t-\t-\n")
    assert "logged in   no\n" in ran.err
    assert run("status", "--account", "nobody", "--json").code == LOGIN_REQUIRED


def test_status_of_a_login_under_way(fake: FakeService, run: Run) -> None:
    pending = {"id": "x", "flow": "device", "state": "pending", "expires_at": "2030-01-01T00:00:00Z", "expires_in": 9}
    fake.accounts["default"] = {**nobody("default"), "login": pending}
    assert "login       pending (device)" in run("status").err


def test_status_of_an_expired_token(fake: FakeService, run: Run) -> None:
    fake.accounts["default"] = subscription("default", expires_in=0)
    assert "token       expired" in run("status").err


def test_status_without_details(fake: FakeService, run: Run) -> None:
    fake.replies["GET", "/status"] = Reply(body={"authenticated": True})
    assert run("status").err == "logged in   yes\n"


def test_accounts_are_listed_over_all_pages(fake: FakeService, run: Run) -> None:
    fake.accounts = {name: subscription(name) for name in "abcde"}
    fake.accounts["f"] = api_key("f")
    fake.accounts["g"] = nobody("g")
    ran = run("accounts", "--json")
    assert json.loads(ran.out) == {"accounts": list(fake.accounts.values()), "next": None}
    assert [each.query for each in fake.requests] == [{}, {"after": "b"}, {"after": "d"}, {"after": "f"}]


def three_accounts() -> dict[str, dict[str, Any]]:
    return {"default": subscription("default"), "key": api_key("key"), "old": nobody("old")}


def test_accounts_for_people(fake: FakeService) -> None:
    fake.accounts = three_accounts()
    with terminal("accounts", shows_stdout=True) as person:
        assert person.end() == DONE
    assert person.seen.splitlines() == [
        "default       ada@example.com (plus)  expires in 1h 0m (2030-01-01T00:00:00Z)",
        "key           api_key",
        "old           nobody  not logged in",
    ]


def test_accounts_are_a_line_each_for_scripts(fake: FakeService, run: Run) -> None:
    fake.accounts = three_accounts()
    ran = run("accounts")
    assert (ran.code, ran.err) == (DONE, "")
    assert [line.split("\t") for line in ran.out.splitlines()] == [
        ["default", "authenticated", "subscription", "ada@example.com", "2030-01-01T00:00:00Z"],
        ["key", "authenticated", "api_key", "-", "-"],
        ["old", "login_required", "-", "-", "-"],
    ]


def test_what_a_field_holds_makes_no_line_and_no_field(fake: FakeService, run: Run) -> None:
    fake.accounts = {"default": subscription("default", email="a\tb\nc\r\x1b[2J\u2028\ud800\x85d")}
    assert run("status").out == run("accounts").out
    (line,) = run("accounts").out.splitlines()
    lost = "\ufffd"
    assert line.split("\t")[3] == f"a{lost}b{lost}c{lost}{lost}[2J{lost}{lost}{lost}d"


def test_letters_that_the_locale_does_not_have_are_replaced(fake: FakeService) -> None:
    fake.accounts = {"default": subscription("default", email="åda\t@example.com")}
    command = [sys.executable, "-m", "service", "accounts"]
    environ = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, check=True, timeout=30)
    assert ran.stdout.split(b"\t")[3] == b"?da?@example.com"


def test_stdout_that_is_closed_is_a_failure(fake: FakeService) -> None:
    command = ["sh", "-c", 'exec "$0" -m service accounts >&-', sys.executable]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=30)
    assert (ran.returncode, ran.stderr) == (FAILED, "The output cannot be written (it is closed).\n")


def test_no_accounts(fake: FakeService, run: Run) -> None:
    fake.accounts = {}
    ran = run("accounts")
    assert (ran.code, ran.out) == (DONE, "")
    assert "pixir-auth login" in ran.err


def test_list_without_an_end_is_left(fake: FakeService, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cli.accounts._MAX_PAGES", 3)
    fake.replies["GET", "/accounts"] = Reply(body={"accounts": [], "next": "a"})
    assert run("accounts").code == UNREACHABLE
    assert len(fake.requests) == 3


@pytest.mark.parametrize(("revoked", "words"), [(True, "has revoked"), (False, "could not be told")])
def test_logout_says_what_the_issuer_did(fake: FakeService, run: Run, revoked: bool, words: str) -> None:
    fake.replies["POST", "/logout"] = Reply(body={**nobody("default"), "revoked": revoked})
    ran = run("logout")
    assert (ran.code, ran.out) == (DONE, "")
    assert words in ran.err


def test_logout_leaves_the_api_key(fake: FakeService, run: Run) -> None:
    fake.replies["POST", "/logout"] = Reply(body={**api_key("work"), "revoked": None})
    ran = run("logout", "--account", "work")
    assert fake.requests[0].query == {"account": "work"}
    assert ran.err == "Logged out of account work.\nThe service's OPENAI_API_KEY now serves this account.\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (-5, "0s"), (8.9, "8s"), (125, "2m 5s"), (3600, "1h 0m"), (3900, "1h 5m"), (864000 + 3600, "10d 1h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
