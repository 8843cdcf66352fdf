"""Settings: the environment, then `pixir-auth.toml`, then the defaults. Read once, at the edge.

Promises that no value of a setting appears in an error. Knows nothing of what the settings are for.
"""

import os
import re
import tomllib
from ipaddress import IPv6Address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from platformdirs import user_config_path, user_data_path
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

APP = "pixir-auth"
PREFIX = "PIXIR_AUTH_"

_HOST = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?)(?::(?P<port>[1-9][0-9]{0,4}))?"
)
"""A name, an address or an IPv6 address in brackets, and a port. Underscores: containers have them in their names."""


class SettingsError(Exception):
    """The settings cannot be used. The text names the setting, never its value."""


class Settings(BaseSettings):
    """Every setting of the service; docs/settings.md says what each one does."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    host: str = Field("localhost", description="Where to listen. Beyond loopback only with a client key.")
    port: int = Field(1455, ge=0, le=65535, description="Port of the service; 0 takes a free one.")
    data_dir: Path = Field(
        default_factory=lambda: user_data_path(APP), description="Folder of the database and the owner locks."
    )
    database_url: SecretStr | None = Field(None, description="SQLite in the data folder unless set.")
    encryption_key_file: Path | None = Field(None, description="File that holds the key for what is kept at rest.")
    encryption_key: SecretStr | None = Field(None, description="The key itself; the last resort, a file is better.")
    codex_issuer: str = Field("https://auth.openai.com", description="Issuer of the codex provider.")
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Further Host values to answer to, separated by commas, port included."
    )
    unix_socket: Path | None = Field(None, description="A unix socket to serve at as well, for our own user only.")
    public_url: str | None = Field(
        None, description="What people and containers call the service; http://localhost:<port> unless set."
    )
    client_key_file: Path | None = Field(
        None, description="A first client key from a file, for containers; the commands send it."
    )
    require_header: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9-]{1,64}$",
        description="Name of a header that every call must carry, but those of health and the browser's return.",
    )
    refresh_margin: float | None = Field(
        None, gt=0, description="Seconds before expiry at which the background refresher acts."
    )
    refresh_floor: float = Field(
        5.0, ge=0, description="Seconds between two refreshes of one account that callers ask for."
    )
    issuer_timeout: float = Field(30.0, gt=0, le=300, description="Seconds one call to the issuer may take.")
    log_format: Literal["text", "json"] = Field("text", description="Shape of the log lines on stderr.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="What is logged.")
    config: Path | None = Field(
        None, description="The settings file; pixir-auth.toml in the platform's config folder unless set."
    )
    openai_api_key: SecretStr | None = Field(
        None,
        validation_alias="OPENAI_API_KEY",
        description="Serves account `default` while no subscription is logged in. Never stored.",
    )

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("allowed_hosts")
    @classmethod
    def _as_sent(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(map(_is_host, value)):
            raise ValueError("must each be a host or host:port, as a Host header says it")
        return value

    @field_validator("log_level", "log_format", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("codex_issuer", "public_url")
    @classmethod
    def _web_address(cls, value: str | None) -> str | None:
        if value is not None and (not value.startswith(("https://", "http://")) or not _authority(value)):
            raise ValueError("must begin with https:// or http:// and a host")
        return value.rstrip("/") if value else value

    @field_validator("codex_issuer")
    @classmethod
    def _kept_private(cls, value: str) -> str:
        if value.startswith("http://") and urlsplit(value).hostname not in ("localhost", "127.0.0.1", "::1"):
            raise ValueError("must be https: refresh tokens travel there")  # RFC 6749 section 3.2
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over file; no `.env`, which would be read from whatever folder we are started in."""
        return init_settings, env_settings, InitSettingsSource(settings_cls, _from_file())

    @property
    def key_folder(self) -> Path:
        """Where the key file is made on first start: apart from the data, so that one backup holds one half."""
        return user_config_path(APP)


def _is_host(text: str) -> bool:
    """Whether a client could send this as its Host (RFC 9112 section 3.2): they are compared as they are."""
    found = _HOST.fullmatch(text)
    if found is None or int(found["port"] or 1) > 65535:
        return False
    try:
        return found["ipv6"] is None or bool(IPv6Address(found["ipv6"]))
    except ValueError:
        return False


def _authority(url: str) -> bool:
    """Whether a URL names a host, and a port that there can be. Raises ValueError for another port."""
    parts = urlsplit(url)
    return bool(parts.hostname) and parts.port != 0


def _from_file() -> dict[str, Any]:
    """What the settings file says, by the names that pydantic knows. Raises SettingsError, OSError, ValueError."""
    path = config_file()
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        table = tomllib.load(file)
    names, found = _spellings(), dict[str, str]()
    for written in table:
        name = names.get(written.lower())
        if name is None:
            raise SettingsError(f"{path}: `{written}` is no setting")
        if name in found:
            raise SettingsError(f"{path}: `{found[name]}` and `{written}` are the same setting")
        found[name] = written
    return {name: table[written] for name, written in found.items()}


def _spellings() -> dict[str, str]:
    """How a file may name a setting, in lower case: as the environment does, or without its prefix."""
    fields = Settings.model_fields.items()
    names = {
        str(info.validation_alias or f"{PREFIX}{name}"): str(info.validation_alias or name) for name, info in fields
    }
    return {spelling.lower(): name for full, name in names.items() for spelling in (full, name)}


def config_file() -> Path:
    """The settings file in use; it need not exist."""
    return Path(os.environ.get(f"{PREFIX}CONFIG") or user_config_path(APP) / "pixir-auth.toml")


def load_settings() -> Settings:
    """Settings of this process. Raises SettingsError, which names the setting at fault and never its value."""
    if os.environ.get(f"{PREFIX}CONFIG") and not config_file().is_file():
        raise SettingsError(f"{PREFIX}CONFIG names a file that does not exist")
    try:
        return Settings()
    except ValidationError as exc:
        faults = "; ".join(f"{_name(e['loc'])}: {e['msg']}" for e in exc.errors(include_input=False))
        raise SettingsError(f"settings cannot be used: {faults}") from None
    except OSError as exc:
        raise SettingsError(f"{config_file()} cannot be read ({exc.strerror})") from None
    except ValueError as exc:  # tomllib.TOMLDecodeError: its text may quote a line of the file
        raise SettingsError(f"{config_file().name} is not valid TOML ({type(exc).__name__})") from None


def _name(loc: tuple[int | str, ...]) -> str:
    name = str(loc[0]) if loc else "?"
    return name if name.isupper() else PREFIX + name.upper()
