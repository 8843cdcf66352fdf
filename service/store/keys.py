"""Where the encryption key comes from, in order: the file named in the settings, systemd's credentials folder, a Docker
secret, the key file in the platform's config folder (made on first start), the environment.

A key is 32 random bytes, kept as base64. A key that is named but cannot be used is an error, never passed over.
"""

import base64
import binascii
import os
from pathlib import Path

from service.settings import PREFIX, Settings
from service.store.files import UnsafePath, create_private, private_folder, read_private
from service.store.vault import KEY_BYTES, Vault

NAME = "pixir-auth-encryption-key"
"""Name of the systemd credential and of the Docker secret."""

DOCKER_SECRETS = Path("/run/secrets")


class KeyUnusable(Exception):
    """There is no usable encryption key. The text names the source, never its content."""


def load_vault(settings: Settings, *, may_create: bool) -> Vault:
    """The vault of this installation. `may_create`: nothing sealed exists yet. Raises KeyUnusable."""
    os.environ.pop(f"{PREFIX}ENCRYPTION_KEY", None)  # what we start must not inherit it
    own = settings.key_folder / "encryption.key"
    for path, strict in _named(settings):
        return _vault(_read(path, strict=strict), str(path))
    if own.exists():
        return _vault(_read(own, strict=True), str(own))
    if settings.encryption_key is not None:
        text = settings.encryption_key.get_secret_value()
        return _vault(text.encode(), f"{PREFIX}ENCRYPTION_KEY")
    if not may_create:
        raise KeyUnusable(f"the database is in use but its encryption key is gone: put it back as {own}")
    return _vault(_created(own), str(own))


def _named(settings: Settings) -> list[tuple[Path, bool]]:
    """Sources outside our own folder; Docker mounts its secrets readable for all inside the container."""
    if settings.encryption_key_file is not None:
        return [(settings.encryption_key_file, not settings.encryption_key_file.is_relative_to(DOCKER_SECRETS))]
    folders = [(os.environ.get("CREDENTIALS_DIRECTORY"), True), (str(DOCKER_SECRETS), False)]
    candidates = [(Path(folder) / NAME, strict) for folder, strict in folders if folder]
    return [(path, strict) for path, strict in candidates if path.exists()]


def _read(path: Path, *, strict: bool) -> bytes:
    try:
        return read_private(path, strict=strict)
    except UnsafePath as exc:
        raise KeyUnusable(str(exc)) from exc
    except OSError as exc:
        raise KeyUnusable(f"the encryption key {path} cannot be read ({exc.strerror})") from exc


def _created(path: Path) -> bytes:
    try:
        private_folder(path.parent)
        create_private(path, base64.b64encode(os.urandom(KEY_BYTES)) + b"\n")
    except UnsafePath as exc:
        raise KeyUnusable(str(exc)) from exc
    except OSError as exc:
        raise KeyUnusable(f"no encryption key can be made at {path} ({exc.strerror})") from exc
    return _read(path, strict=True)


def _vault(text: bytes, source: str) -> Vault:
    try:
        return Vault(base64.b64decode(text.strip(), validate=True))
    except (binascii.Error, ValueError):
        raise KeyUnusable(f"{source} does not hold 32 random bytes in base64") from None
