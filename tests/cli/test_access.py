"""`token` and `headers`: exactly what a program reads."""

import json
from collections.abc import Callable
from itertools import chain

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.cli import _run
from service.cli.access import Wish, plain_call, plain_wish
from service.cli.console import DONE, FAILED, LOGIN_REQUIRED, UNREACHABLE, Failure
from tests.kit.lacking import IN_CI

from .conftest import Run, in_process_of_its_own
from .fake import ACCESS, FakeService, Reply, problem


def test_token_is_alone_on_stdout(fake: FakeService, run: Run) -> None:
    ran = run("token")
    assert (ran.code, ran.out, ran.err) == (DONE, f"{ACCESS}\n", "")


def test_token_as_a_program_gets_it(fake: FakeService) -> None:
    ran = in_process_of_its_own("token", "--account", "default")
    assert (ran.code, ran.out, ran.err) == (DONE, f"{ACCESS}\n", "")


@pytest.mark.parametrize("unusual", [[], ["--json", "--json"]])  # the second is left to typer
@pytest.mark.parametrize("command", ["token", "headers"])
def test_options_are_asked_of_the_service(fake: FakeService, run: Run, command: str, unusual: list[str]) -> None:
    fake.accounts["work"] = fake.accounts["default"]
    assert run(command, "--account", "work", "--min-ttl=60", "--newer-than", "4", *unusual).code == DONE
    assert [each.query for each in fake.requests] == [{"account": "work", "min_ttl": "60", "newer_than": "4"}]


def test_whole_answer_as_json(fake: FakeService, run: Run) -> None:
    ran = run("token", "--json")
    assert json.loads(ran.out) == {
        "access_token": ACCESS,
        "token_type": "Bearer",
        "expires_at": "2030-01-01T00:00:00Z",
        "expires_in": 3600,
        "account": "default",
        "kind": "subscription",
        "generation": 3,
    }


def test_warning_is_told_and_the_token_given(fake: FakeService, run: Run) -> None:
    fake.replies["GET", "/token"] = Reply(body={"access_token": ACCESS, "warning": "issuer_unavailable"})
    ran = run("token")
    assert (ran.code, ran.out, ran.err) == (DONE, f"{ACCESS}\n", "warning: issuer_unavailable\n")


def test_headers_are_lines_for_curl(fake: FakeService, run: Run) -> None:
    assert run("headers").out == f"Authorization: Bearer {ACCESS}\nChatGPT-Account-ID: acct-1\n"


def test_headers_as_json(fake: FakeService, run: Run) -> None:
    ran = run("headers", "--json")
    assert json.loads(ran.out) == {"Authorization": f"Bearer {ACCESS}", "ChatGPT-Account-ID": "acct-1"}


@pytest.mark.parametrize("command", ["token", "headers"])
def test_nobody_logged_in(fake: FakeService, run: Run, command: str) -> None:
    ran = run(command, "--account", "nobody")
    assert (ran.code, ran.out) == (LOGIN_REQUIRED, "")
    assert "pixir-auth login" in ran.err


@pytest.mark.parametrize("command", ["token", "headers"])
def test_service_says_no(fake: FakeService, run: Run, command: str) -> None:
    fake.replies["GET", f"/{command}"] = problem(404, "unknown_account")
    ran = run(command)
    assert (ran.code, ran.out) == (FAILED, "")


@pytest.mark.parametrize("command", ["token", "headers"])
def test_service_is_not_there(monkeypatch: pytest.MonkeyPatch, run: Run, command: str) -> None:
    monkeypatch.setenv("PIXIR_AUTH_PUBLIC_URL", "http://127.0.0.1:1")
    ran = run(command)
    assert (ran.code, ran.out) == (UNREACHABLE, "")
    assert "pixir-auth serve" in ran.err


@pytest.mark.parametrize("token", [None, "", "two\nlines", "esc\x1b[0m", "umläut", 5])
def test_what_is_not_one_line_is_not_printed(fake: FakeService, run: Run, token: object) -> None:
    fake.replies["GET", "/token"] = Reply(body={"access_token": token})
    fake.replies["GET", "/headers"] = Reply(body={"Authorization": token})
    for command in ("token", "headers"):
        ran = run(command)
        assert (ran.code, ran.out) == (UNREACHABLE, "")


NAMES = st.sampled_from(["--account", "--min-ttl", "--newer-than", "--json"])
VALUES = st.sampled_from(["work", "5", "007", "0", "-1", "1.5", "", "٣", "A", "a=b", "--json", "5=6", "9999999999"])
USUAL = [["--account", "work"], ["--account=work"], ["--min-ttl", "5"], ["--newer-than=007"], ["--json"]]
OPTION = st.one_of(
    st.sampled_from(USUAL),
    NAMES.map(lambda name: [name]),
    st.tuples(NAMES, VALUES).map(list),
    st.tuples(NAMES, VALUES).map("=".join).map(lambda joined: [joined]),
    st.sampled_from(["-h", "--", "--acc", "x"]).map(lambda other: [other]),
)
OPTIONS = st.lists(OPTION, max_size=4).map(lambda parts: [*chain(*parts)])


@settings(max_examples=100 if IN_CI else 30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(options=OPTIONS, command=st.sampled_from(["token", "headers"]))
def test_plain_call_does_what_typer_does(
    fake: FakeService, capsys: pytest.CaptureFixture[str], options: list[str], command: str
) -> None:
    plain = plain_call([command, *options])
    if plain is None:
        return  # typer has the word

    def effect(call: Callable[[], int]) -> tuple[object, ...]:
        fake.requests.clear()
        try:
            code = call()
        except Failure as failure:
            code = failure.exit_code
        return code, *capsys.readouterr(), [(each.method, each.path, each.query) for each in fake.requests]

    assert effect(plain) == effect(lambda: _run([command, *options]))


@pytest.mark.parametrize(
    ("options", "wish"),
    [
        ([], Wish()),
        (["--account", "work"], Wish("work")),
        (["--account=work", "--min-ttl", "60", "--newer-than=3", "--json"], Wish("work", 60, 3, True)),
    ],
)
def test_usual_calls_are_plain(options: list[str], wish: Wish) -> None:
    assert plain_wish(options) == wish


@pytest.mark.parametrize("arguments", [[], ["status"], ["token", "--help"], ["token", "x"], ["--account", "token"]])
def test_everything_else_is_left_to_typer(arguments: list[str]) -> None:
    assert plain_call(arguments) is None
