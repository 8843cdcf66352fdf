"""Where the service is, as the settings say.

Promises the address that `service.settings` would give, mostly without loading it: pydantic costs more than everything
else that `token` does. Only plain values are read here; whatever is unusual is left to the settings themselves. A fault
in a setting that says nothing about the address is the service's business and hinders no client.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from platformdirs import user_config_path

from service.cli.console import UNREACHABLE, Failure

_PREFIX: Final = "PIXIR_AUTH_"
_FIELDS: Final = ("public_url", "host", "port")
_PORT: Final = re.compile(r"0|[1-9][0-9]{0,4}")
_WILDCARDS: Final = ("", "0.0.0.0", "::", "*")  # noqa: S104 - addresses that are never connected to


@dataclass(frozen=True, slots=True)
class Place:
    """The settings that say where the service is, with their defaults."""

    public_url: str | None = None
    host: str = "localhost"
    port: int = 1455

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


def service_url() -> str:
    """Base URL of the service that the settings mean. Raises Failure when they cannot be used."""
    return (plain_place(os.environ) or _settings_place()).url


def plain_place(environ: Mapping[str, str]) -> Place | None:
    """What plain settings say; None when only `service.settings` can tell."""
    try:
        given = {**_from_file(environ), **_from_environment(environ)}
    except (OSError, ValueError):  # a file that cannot be read or is not TOML, a name in lower case
        return None
    if not all(_is_plain(name, value) for name, value in given.items()):
        return None
    return Place(**{**given, "port": int(given["port"])}) if "port" in given else Place(**given)


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
        return {name: value for name, value in tomllib.load(file).items() if name.lower() in _FIELDS}


def _is_plain(name: str, value: object) -> bool:
    match name, value:
        case "port", str() | int():
            return bool(_PORT.fullmatch(str(value))) and int(value) <= 65535
        case "host", str():
            return True
        case "public_url", str():
            return value.startswith(("https://", "http://")) and not value.endswith("/")
    return False


def _settings_place() -> Place:
    from service.settings import SettingsError, load_settings  # noqa: PLC0415 - see above

    try:
        settings = load_settings()
    except SettingsError as exc:
        raise Failure(str(exc)) from exc
    return Place(settings.public_url, settings.host, settings.port)
