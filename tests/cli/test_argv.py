"""A secret on the command line is refused, whatever the command, and never said again."""

from pathlib import Path

import pytest

from service.cli.argv import refuse_secrets
from service.cli.console import FAILED, MISUSED

from .conftest import Run
from .fake import FakeService

SECRETS = {
    "api key": "sk-proj-4f9aKq0Zl2mNp8sT",
    "jwt": "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
    "refresh token": "rt_4f9aKq0Zl2mNp8sT6uVw",
    "another token": "Zl2mNp8sT6uVw4f9aKq0Zl2mNp8sT6uVw4f9aKq0Zl2m",
    "header": "Authorization: Bearer x",
    "scheme": "Bearer abc",
    "auth.json": '{"tokens": {"access_token": "x"}}',
    "address": "http://localhost:1455/auth/callback?state=s&code=ac_123",
}
PLACES: list[list[str]] = [
    ["import", "?"],
    ["import", "-", "?"],
    ["token", "?"],
    ["token", "--account", "?"],
    ["token", "--account=?"],
    ["headers", "--min-ttl", "?"],
    ["status", "--account", "?"],
    ["login", "?"],
    ["export", "--format", "?"],
    ["serve", "?"],
    ["?"],
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("place", PLACES, ids=" ".join)
def test_a_secret_is_refused_with_a_hint_and_not_repeated(
    fake: FakeService, run: Run, place: list[str], secret: str
) -> None:
    ran = run(*(part.replace("?", SECRETS[secret]) for part in place))
    assert (ran.code, ran.out) == (MISUSED, "")
    assert SECRETS[secret] not in ran.err
    assert "pixir-auth import -" in ran.err
    assert not fake.requests


@pytest.mark.parametrize(
    "arguments",
    [
        ["import", "auth.json"],
        ["import", "/home/Ada/very/long/Path/to/a/folder/of-2024/and/more/of/it/auth.json"],
        ["token", "--account", "sk-work"],
        ["token", "--account", "work.of-a-very-long-name_that-somebody-made-up-2024-01-01.x"],
        ["token", "--min-ttl", "999999999", "--newer-than=7", "--json"],
        ["login", "--provider", "codex", "--no-browser"],
        ["export", "--format", "codex"],
        [],
    ],
)
def test_what_people_write_is_no_secret(arguments: list[str]) -> None:
    refuse_secrets(arguments)


def test_a_file_that_looks_like_a_secret_may_be_named(
    fake: FakeService, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sk-a-file-of-mine.json").write_text("[]")
    assert run("import", "sk-a-file-of-mine.json").err == "That is not a JSON object.\n"


def test_a_short_secret_given_as_a_file_is_not_repeated_either(fake: FakeService, run: Run) -> None:
    ran = run("import", "hunter2")
    assert ran.code == FAILED
    assert "hunter2" not in ran.err
    assert "The file cannot be read (No such file or directory)" in ran.err
