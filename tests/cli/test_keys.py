"""`keys` and `audit`: a key is printed once and never sent; who did what, newest first."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT, Run
from .fake import FakeService, problem
from .terminal import terminal


def entry(number: int, **members: Any) -> dict[str, Any]:
    """An entry of the audit trail."""
    plain = {"at": "2026-11-26T10:00:00Z", "deed": "logout", "who": "uid 1000", "outcome": "done", "times": 1}
    return {"number": number, **plain, "account": None, "detail": None, **members}


def test_a_key_is_printed_alone_and_its_digest_is_sent(fake: FakeService, run: Run) -> None:
    ran = run("keys", "add", "ci")
    assert ran.code == 0
    key = ran.out.removesuffix("\n")
    assert key.startswith("pixir_")
    assert len(key) >= 6 + 43
    (asked,) = fake.sent("PUT", "/keys/ci")
    assert asked.json == {"digest": hashlib.sha256(key.encode()).hexdigest(), "expires_in": None}
    assert key not in ran.err
    assert key not in str(fake.requests)


def test_no_two_keys_are_alike(fake: FakeService, run: Run) -> None:
    assert run("keys", "add", "one").out != run("keys", "add", "two").out


def test_what_it_is_for(fake: FakeService, run: Run) -> None:
    options = ["--account", "work", "--account", "home", "--account", "work"]
    ran = run("keys", "add", "ci", *options, "--scope", "token,status", "--expires-in", "30d")
    assert ran.code == 0
    (asked,) = fake.sent("PUT", "/keys/ci")
    assert asked.json["accounts"] == ["home", "work"]
    assert asked.json["scope"] == ["status", "token"]
    assert asked.json["expires_in"] == 30 * 86400
    assert "accounts home,work" in ran.err


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("5m", 300), ("12h", 43200), ("2d", 172800)])
def test_durations(fake: FakeService, run: Run, text: str, seconds: int) -> None:
    assert run("keys", "add", "ci", "--expires-in", text).code == 0
    assert fake.sent("PUT", "/keys/ci")[0].json["expires_in"] == seconds


@pytest.mark.parametrize(
    "options",
    [
        ["--expires-in", "0"],
        ["--expires-in", "-1"],
        ["--expires-in", "1w"],
        ["--expires-in", "1.5h"],
        ["--expires-in", ""],
        ["--scope", "everything"],
        ["--scope", "token,"],
        ["--scope", ""],
    ],
)
def test_what_cannot_be_is_usage(fake: FakeService, run: Run, options: list[str]) -> None:
    ran = run("keys", "add", "ci", *options)
    assert (ran.code, ran.out) == (2, "")
    assert fake.requests == []


def test_a_name_that_is_taken(fake: FakeService, run: Run) -> None:
    run("keys", "add", "ci")
    ran = run("keys", "add", "ci")
    assert (ran.code, ran.out) == (1, "")
    assert "key_exists" in ran.err


def test_a_name_is_one_part_of_a_path(fake: FakeService, run: Run) -> None:
    for name in ("../logout", "a/b", "..", "a?b", "a#b", "a%2fb", "A", "a b", "", "a\n", "x" * 64):
        for command in ("add", "revoke"):
            ran = run("keys", command, name)
            assert (ran.code, ran.out) == (2, "")
    assert fake.requests == []


def test_a_key_that_nobody_has_seen_is_revoked(fake: FakeService) -> None:
    """`pixir-auth keys add x >/dev/full`."""
    command = [sys.executable, "-m", "service", "keys", "add", "ci"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert [asked.method for asked in fake.requests] == ["PUT", "DELETE"]
    assert fake.keys == {}


def test_the_list(fake: FakeService, run: Run) -> None:
    assert "no client key yet" in run("keys", "list").err
    run("keys", "add", "ci", "--account", "work")
    fake.keys["ci"]["last_used_at"] = "2026-11-26T10:05:00Z"
    run("keys", "add", "zz", "--expires-in", "60")
    fake.keys["zz"]["expires_in"] = 0
    with terminal("keys", "list", shows_stdout=True) as person:
        assert person.end() == 0
    first, second = person.seen.splitlines()
    for word in ("ci", "token,headers,status", "accounts work", "no expiry", "last used 2026-11-26T10:05:00Z"):
        assert word in first
    for word in ("zz", "all accounts", "expired", "never used"):
        assert word in second
    listed = run("keys", "list", "--json")
    assert listed.err == ""
    assert [key["name"] for key in json.loads(listed.out)["keys"]] == ["ci", "zz"]


def test_keys_are_a_line_each_for_scripts(fake: FakeService, run: Run) -> None:
    ran = run("keys", "list")
    assert (ran.code, ran.out) == (0, "")
    secret = run("keys", "add", "ci", "--account", "work", "--account", "home").out.strip()
    run("keys", "add", "zz", "--scope", "token", "--expires-in", "60")
    fake.keys["zz"]["last_used_at"] = "2026-11-26T10:05:00Z"
    ran = run("keys", "list")
    assert (ran.code, ran.err) == (0, "")
    assert secret not in ran.out
    assert [line.split("\t") for line in ran.out.splitlines()] == [
        ["ci", "token,headers,status", "home,work", "-", "-"],
        ["zz", "token", "-", "2026-12-26T10:00:00Z", "2026-11-26T10:05:00Z"],
    ]


def test_revoking(fake: FakeService, run: Run) -> None:
    run("keys", "add", "ci")
    ran = run("keys", "revoke", "ci")
    assert (ran.code, ran.out, fake.keys) == (0, "", {})
    ran = run("keys", "revoke", "ci")
    assert ran.code == 1
    assert "unknown_key" in ran.err


def test_the_trail(fake: FakeService, run: Run) -> None:
    assert "Nothing has happened yet" in run("audit").err
    fake.trail = [
        entry(5, deed="refused", who="uid 1001", outcome="wrong_user", detail="GET /token", times=7),
        entry(4, account="work"),
        entry(3, account="\x1b[2Jhome"),
    ]
    with terminal("audit", shows_stdout=True) as person:
        assert person.end() == 0
    lines = person.seen.splitlines()
    assert " ".join(lines[0].split()) == "2026-11-26T10:00:00Z uid 1001 refused wrong_user GET /token 7 times"
    assert " ".join(lines[1].split()) == "2026-11-26T10:00:00Z uid 1000 logout done account work"
    assert "\x1b" not in person.seen
    assert len(lines) == 3, "all pages"


def test_the_trail_is_a_line_each_for_scripts(fake: FakeService, run: Run) -> None:
    fake.trail = [entry(2, account="work"), entry(1, detail="GET\n/token", times=7)]
    ran = run("audit")
    assert (ran.code, ran.err) == (0, "")
    assert [line.split("\t") for line in ran.out.splitlines()] == [
        ["2026-11-26T10:00:00Z", "uid 1000", "logout", "done", "work", "-", "1"],
        ["2026-11-26T10:00:00Z", "uid 1000", "logout", "done", "-", "GET\ufffd/token", "7"],
    ]


def test_as_many_as_were_asked_for(fake: FakeService, run: Run) -> None:
    fake.trail = [entry(number) for number in range(10, 0, -1)]
    told = json.loads(run("audit", "--json", "--limit", "5").out)
    assert [each["number"] for each in told["entries"]] == [10, 9, 8, 7, 6]
    assert told["next"] == 6


@pytest.mark.parametrize("command", [["keys"], ["keys", "--help"], ["audit", "--help"], ["keys", "add", "--help"]])
def test_help(run: Run, command: list[str]) -> None:
    ran = run(*command)
    assert "Usage: " in ran.out + ran.err


def test_another_encryption_key(fake: FakeService, run: Run) -> None:
    ran = run("rekey")
    assert (ran.code, ran.out) == (0, "")
    assert "12 values" in ran.err
    fake.replies["POST", "/rekey"] = problem(409, "no_new_key", "There is none.", "Put a new key first.")
    ran = run("rekey")
    assert ran.code == 1
    assert "Put a new key first." in ran.err
