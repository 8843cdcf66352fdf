"""Where the service is: what is read without the settings' own machinery is what the settings say."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.cli.address import Place, plain_place, the_service
from service.cli.client import Service
from service.cli.console import FAILED, UNREACHABLE, Failure
from service.settings import Settings, SettingsError, load_settings
from tests.kit.lacking import IN_CI

HOSTS = ["localhost", "127.0.0.1", "::1", "[::1]", "0.0.0.0", "::", "*", "", "example.org", " x"]
PORTS = ["1455", "0", "65535", "65536", "-1", "01455", " 80", "8e1", "", "x", "80.0", "+80", "1_0"]
URLS = ["http://localhost:9", "https://a.example/base", "https://a.example/", "ftp://a", "", "http://", "HTTP://a"]
PATHS = ["/run/pixir/auth.sock", "relative", "~/x", "", " ", "/with space/ü"]
HEADERS = ["X-Pixir", "x", "", "with space", "x" * 65, "X_Y", "X-Pixir\n"]
FIELDS = [field.name for field in fields(Place)]
CASES = st.fixed_dictionaries(
    {},
    optional={
        "HOST": st.sampled_from(HOSTS),
        "PORT": st.sampled_from(PORTS),
        "PUBLIC_URL": st.sampled_from(URLS),
        "UNIX_SOCKET": st.sampled_from(PATHS),
        "CLIENT_KEY_FILE": st.sampled_from(PATHS),
        "REQUIRE_HEADER": st.sampled_from(HEADERS),
    },
)
SPELLINGS = st.sampled_from(["{}", "PIXIR_AUTH_{}", "pixir_auth_{}", "Pixir_Auth_{}"])
TOML = st.fixed_dictionaries(
    {},
    optional={
        "host": st.sampled_from([*HOSTS, 1]),
        "port": st.sampled_from([*PORTS, 1455, 0, 65536, -1, True, 80.0]),
        "public_url": st.sampled_from([*URLS, False]),
        "unix_socket": st.sampled_from([*PATHS, 1]),
        "client_key_file": st.sampled_from([*PATHS, True]),
        "require_header": st.sampled_from([*HEADERS, 5]),
        "log_level": st.just("info"),
    },
)


@contextmanager
def settings_of(environ: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def declared() -> Place | None:
    try:
        loaded = load_settings()
    except SettingsError:
        return None
    return Place(**{name: getattr(loaded, name) for name in FIELDS})


@settings(max_examples=100 if IN_CI else 30, deadline=None)
@given(
    environ=CASES,
    prefix=st.sampled_from(["PIXIR_AUTH_", "pixir_auth_"]),
    file=st.none() | TOML,
    spellings=st.sets(SPELLINGS, min_size=1, max_size=2),
)
def test_plain_reading_says_what_the_settings_say(
    tmp_path_factory: pytest.TempPathFactory,
    environ: dict[str, str],
    prefix: str,
    file: dict[str, object] | None,
    spellings: set[str],
) -> None:
    given_names = {f"{prefix}{name}": value for name, value in environ.items()}
    if file is not None:
        path = tmp_path_factory.mktemp("settings") / "pixir-auth.toml"
        lines = [f"{way.format(name)} = {json.dumps(value)}\n" for name, value in file.items() for way in spellings]
        path.write_text("".join(lines))
        given_names["PIXIR_AUTH_CONFIG"] = str(path)
    with settings_of(given_names):
        plain = plain_place(os.environ)
        if plain is not None:
            assert plain == declared()


def test_usual_settings_are_plain(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('port = 1500\nhost = "127.0.0.1"\nlog_level = "debug"\n')
    assert plain_place({"XDG_CONFIG_HOME": "/nowhere"}) == Place()
    assert plain_place({"PIXIR_AUTH_CONFIG": str(file)}) == Place(None, "127.0.0.1", 1500)
    assert plain_place({"PIXIR_AUTH_CONFIG": str(file), "PIXIR_AUTH_PORT": "1600"}) == Place(None, "127.0.0.1", 1600)
    assert plain_place({"PIXIR_AUTH_PUBLIC_URL": "http://h:1"}) == Place("http://h:1")


def test_default_file_is_the_one_of_the_settings(alone: Path) -> None:
    folder = alone / "config" / "pixir-auth"
    folder.mkdir(parents=True)
    (folder / "pixir-auth.toml").write_text("port = 1501\n")
    assert plain_place(os.environ) == declared() == Place(port=1501)


def test_defaults_are_those_of_the_settings() -> None:
    declared_fields = Settings.model_fields
    assert Place() == Place(**{name: declared_fields[name].default for name in FIELDS})


@pytest.mark.parametrize(
    ("place", "url"),
    [
        (Place(), "http://localhost:1455"),
        (Place(host="0.0.0.0"), "http://localhost:1455"),
        (Place(host="::"), "http://localhost:1455"),
        (Place(host="[::]"), "http://localhost:1455"),
        (Place(host=""), "http://localhost:1455"),
        (Place(host="127.0.0.1", port=1500), "http://127.0.0.1:1500"),
        (Place(host="::1"), "http://[::1]:1455"),
        (Place(host="[::1]"), "http://[::1]:1455"),
        (Place("https://auth.example/base", "x", 0), "https://auth.example/base"),
    ],
)
def test_address_is_one_that_can_be_connected_to(place: Place, url: str) -> None:
    assert place.url == url


def test_port_of_the_services_own_choice_is_not_known() -> None:
    with pytest.raises(Failure) as caught:
        _ = Place(port=0).url
    assert caught.value.exit_code == UNREACHABLE


def test_unusual_settings_are_asked_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("pixir_auth_port", "1600")
    monkeypatch.setenv("PIXIR_AUTH_HOST", "127.0.0.1")
    assert plain_place(os.environ) is None
    assert the_service() == Service("http://127.0.0.1:1600")


@pytest.mark.parametrize(("name", "value"), [("PORT", "http"), ("CONFIG", "/nowhere/at/all.toml")])
def test_settings_that_cannot_be_used_are_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"PIXIR_AUTH_{name}", value)
    with pytest.raises(Failure) as caught:
        the_service()
    assert caught.value.exit_code == FAILED
    assert f"PIXIR_AUTH_{name}" in caught.value.lines[0]
    assert value not in caught.value.lines[0]


def test_file_that_is_not_toml_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text("port = = 1\n")
    monkeypatch.setenv("PIXIR_AUTH_CONFIG", str(file))
    with pytest.raises(Failure, match=r"own\.toml is not valid TOML"):
        the_service()
