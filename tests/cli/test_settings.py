"""The settings file: both spellings of a name, what is said of a name that is none; and hosts that nobody can send."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from service.cli.address import the_service
from service.cli.client import Service
from service.cli.console import FAILED
from service.settings import PREFIX, Settings, SettingsError, load_settings

from .conftest import Run, in_process_of_its_own

Write = Callable[[str], Path]

VALUES = {
    "port": "1460",
    "refresh_margin": "9.5",
    "issuer_timeout": "7",
    "allowed_hosts": '["a:1", "b"]',
    "log_level": '"debug"',
    "OPENAI_API_KEY": '"sk-1"',
}
"""Numbers, lists and texts; the rest is one of these."""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Make a settings file that is in use."""
    path = tmp_path / "own.toml"
    monkeypatch.setenv("PIXIR_AUTH_CONFIG", str(path))

    def written(text: str) -> Path:
        path.write_text(text)
        return path

    return written


def refused(write: Write, text: str) -> str:
    """What is said of a file that cannot be used."""
    write(text)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    return str(caught.value)


@pytest.mark.parametrize("change", [str.lower, str.upper, str.title])
def test_a_file_may_name_settings_as_the_environment_does(write: Write, change: Callable[[str], str]) -> None:
    write("".join(f"{name} = {value}\n" for name, value in VALUES.items()))
    short = load_settings()
    assert (short.port, short.refresh_margin, short.allowed_hosts) == (1460, 9.5, ("a:1", "b"))
    full = {name if name.isupper() else f"{PREFIX}{name}": value for name, value in VALUES.items()}
    write("".join(f"{change(name)} = {value}\n" for name, value in full.items()))
    assert load_settings() == short
    assert short.openai_api_key is not None


def test_every_setting_has_both_spellings(write: Write) -> None:
    """It is the value that is refused, not the name."""
    for name in set(Settings.model_fields) - {"config"}:  # which the environment says
        for spelling in (name, f"{PREFIX}{name.upper()}") if name != "openai_api_key" else (name,):
            write(f"{spelling} = [[]]\n")
            with pytest.raises(SettingsError) as caught:
                load_settings()
            assert str(caught.value).startswith("settings cannot be used: "), spelling


def test_the_environment_goes_before_the_file_in_any_spelling(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("PIXIR_AUTH_PORT = 1460\n")
    monkeypatch.setenv("PIXIR_AUTH_PORT", "1461")
    assert load_settings().port == 1461


@pytest.mark.parametrize(
    ("one", "other"), [("port", "PIXIR_AUTH_PORT"), ("port", "PORT"), ("pixir_auth_port", "PIXIR_AUTH_PORT")]
)
def test_one_setting_in_two_spellings_is_refused(write: Write, one: str, other: str) -> None:
    said = refused(write, f"{one} = 1460\n{other} = 1460\n")
    assert said.endswith(f"own.toml: `{one}` and `{other}` are the same setting")
    assert "1460" not in said


@pytest.mark.parametrize("name", ["nope", "PIXIR_AUTH_NOPE", "Pixir_Auth_Pixir_Auth_Port", "PIXIR_AUTH_OPENAI_API_KEY"])
def test_an_unknown_name_is_said_as_it_was_written_with_the_file(write: Write, name: str) -> None:
    path = write("")
    said = refused(write, f'port = 1460\n{name} = "hunter2"\n')
    assert said == f"{path}: `{name}` is no setting"


def test_a_table_is_no_setting(write: Write) -> None:
    assert refused(write, "[pixir-auth]\nport = 1460\n").endswith("own.toml: `pixir-auth` is no setting")


def test_the_commands_read_both_spellings(write: Write) -> None:
    write('PIXIR_AUTH_PORT = 1460\npixir_auth_host = "127.0.0.1"\n')
    assert the_service() == Service("http://127.0.0.1:1460")


def test_the_service_and_the_doctor_say_which_name_it_is(write: Write, run: Run) -> None:
    path = write('nope = "hunter2"\n')
    for command in ("serve", "doctor"):
        ran = in_process_of_its_own(command)
        assert (ran.code, ran.out) == (FAILED, "")
        assert f"{path}: `nope` is no setting" in ran.err
        assert "hunter2" not in ran.err


@pytest.mark.parametrize(
    "host",
    [
        *("bad host/", "http://auth:1455", "auth:1455/", "auth/path", "a@b", "*", "*.example", "a b", "a?b", "a#b"),
        *(
            "auth:",
            ":1455",
            "auth:0",
            "auth:01",
            "auth:65536",
            "auth:http",
            "a:1:2",
            "auth:-1",
            "auth:\u0661",
            "..",
            "a..b",
        ),
        *(
            "::1",
            "[::1",
            "::1]",
            "[]",
            "[1.2.3.4]",
            "[::g]",
            "[:::]",
            "[fe80::1%eth0]",
            "[::1]:",
            "[::1]:x",
            "[::1]1455",
        ),
        *("ä.example", "a\tb", "auth:1455\n", "a\x00"),
    ],
)
def test_a_host_that_nobody_can_send_keeps_the_service_from_starting(write: Write, host: str) -> None:
    said = refused(write, f"allowed_hosts = {json.dumps(['auth:1455', host])}\n")
    assert said == (
        "settings cannot be used: PIXIR_AUTH_ALLOWED_HOSTS: Value error, must each be a host or host:port, "
        "as a Host header says it"
    )


@pytest.mark.parametrize(
    "host",
    [
        *("auth", "auth:1455", "Auth.Internal:80", "auth.internal.:65535", "my_stack-auth_1:1", "xn--4ca.example", "8"),
        *("10.0.0.1", "10.0.0.1:1455", "[::1]", "[::1]:1455", "[2001:DB8::a]:1", "[::ffff:10.0.0.1]:9"),
    ],
)
def test_a_host_that_can_be_sent_is_allowed(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("PIXIR_AUTH_ALLOWED_HOSTS", f" {host} ,other:1,")
    assert load_settings().allowed_hosts == (host, "other:1")


def test_a_bad_host_in_the_environment_is_told_by_its_setting_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXIR_AUTH_ALLOWED_HOSTS", "bad host/")
    ran = in_process_of_its_own("serve")
    assert (ran.code, ran.out) == (FAILED, "")
    assert "PIXIR_AUTH_ALLOWED_HOSTS" in ran.err
    assert "bad host" not in ran.err
