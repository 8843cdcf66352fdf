"""Where the service is and what it wants to be sent, as the settings say.

Promises what `service.settings` would give, mostly without loading it: pydantic costs more than everything
else that `token` does. Only plain values are read here; whatever is unusual is left to the settings themselves. A fault
in a setting that says nothing about the address is the service's business and hinders no client.
"""

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from platformdirs import user_config_path

from service.cli.client import Service
from service.cli.console import UNREACHABLE, Failure
from service.domain.secret import Secret

_PREFIX: Final = "PIXIR_AUTH_"
_FIELDS: Final = ("public_url", "host", "port", "unix_socket", "client_key_file", "require_header")
_KINDS: Final = {"port": int, "unix_socket": Path, "client_key_file": Path}
_PORT: Final = re.compile(r"0|[1-9][0-9]{0,4}")
_HEADER: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
_LONGEST_KEY: Final = 4096
"""Bytes of a file with a client key: far more than one has."""

_WILDCARDS: Final = ("", "0.0.0.0", "::", "*")  # nosec B104  # noqa: S104 - addresses that are never connected to


@dataclass(frozen=True, slots=True)
class Place:
    """The settings that say where the service is and what it is sent, with their defaults."""

    public_url: str | None = None
    host: str = "localhost"
    port: int = 1455
    unix_socket: Path | None = None
    client_key_file: Path | None = None
    require_header: str | None = None

    @property
    def service(self) -> Service:
        """The way there: the unix socket if there is one, where no key is needed, else the URL. Raises Failure."""
        if self.unix_socket:
            return Service("http://localhost", self.unix_socket, mark=self.require_header)
        key = client_key(self.client_key_file) if self.client_key_file else None
        return Service(self.url, key=key, mark=self.require_header)

    @property
    def url(self) -> str:
        """Base URL without a trailing slash. Raises Failure when there is none to know."""
        if self.public_url:
            return self.public_url
        if self.port == 0:
            raise Failure(
                "The settings give the service a port of its own choice, so its address is not known here.",
                "Set PIXIR_AUTH_PUBLIC_URL to the address that it logged at its start.",
                exit_code=UNREACHABLE,
            )
        host = self.host.strip("[]")
        if host in _WILDCARDS:
            host = "localhost"
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def the_service() -> Service:
    """The service that the settings mean. Raises Failure when they cannot be used."""
    return (plain_place(os.environ) or _settings_place()).service


def client_key(path: Path) -> Secret:
    """The key in a file of one line. Raises Failure, which names the file and nothing of what is in it."""
    try:
        is_file = stat.S_ISREG(path.stat().st_mode)  # a pipe would make us wait
        with path.open("rb") if is_file else BytesIO() as file:
            content = file.read(_LONGEST_KEY + 1)
    except OSError as exc:
        raise Failure(f"PIXIR_AUTH_CLIENT_KEY_FILE: {path} cannot be read ({exc.strerror}).") from exc
    key = content.strip()
    if len(content) > _LONGEST_KEY or not re.fullmatch(rb"[!-~]+", key):
        raise Failure(f"PIXIR_AUTH_CLIENT_KEY_FILE: {path} does not hold a client key and nothing else.")
    return Secret(key.decode())


def plain_place(environ: Mapping[str, str]) -> Place | None:
    """What plain settings say; None when only `service.settings` can tell."""
    try:
        given = {**_from_file(environ), **_from_environment(environ)}
    except (OSError, ValueError):  # a file that cannot be read or is not TOML, names that need a closer look
        return None
    if not all(_is_plain(name, value) for name, value in given.items()):
        return None
    return Place(**{name: _KINDS.get(name, str)(value) for name, value in given.items()})


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    names = {f"{_PREFIX}{field}".upper(): field for field in _FIELDS}
    if any(name.upper() in names and name not in names for name in environ):
        raise ValueError("the settings know names in lower case too")
    return {field: environ[name] for name, field in names.items() if environ.get(name)}  # an empty one is unset


def _from_file(environ: Mapping[str, str]) -> dict[str, Any]:
    named = environ.get(f"{_PREFIX}CONFIG")
    path = Path(named or user_config_path("pixir-auth") / "pixir-auth.toml")
    if not named and not path.exists():
        return {}
    with path.open("rb") as file:
        table = tomllib.load(file)
    found = {name.lower().removeprefix(_PREFIX.lower()): value for name, value in table.items()}
    if len(found) < len(table):
        raise ValueError("one setting in two spellings")
    return {name: value for name, value in found.items() if name in _FIELDS}


def _is_plain(name: str, value: object) -> bool:
    match name, value:
        case "port", str() | int():
            return bool(_PORT.fullmatch(str(value))) and int(value) <= 65535
        case "host", str():
            return True
        case "public_url", str():
            return value.startswith(("https://", "http://")) and not value.endswith("/")
        case "unix_socket" | "client_key_file", str():
            return value != ""
        case "require_header", str():
            return bool(_HEADER.fullmatch(value))
    return False


def _settings_place() -> Place:
    from service.settings import SettingsError, load_settings  # noqa: PLC0415 - see above

    try:
        settings = load_settings()
    except SettingsError as exc:
        raise Failure(str(exc)) from exc
    return Place(**{name: getattr(settings, name) for name in _FIELDS})
