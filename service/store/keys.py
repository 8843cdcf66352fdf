"""Where the encryption keys come from, in order: the file named in the settings, systemd's credentials folder, a Docker
secret, the key file in the platform's config folder (made on first start), the environment.

A key is 32 random bytes, kept as base64, one a line: the first is the one to seal with, all of them open. A source that
is named but cannot be used is an error, never passed over. Only the file that we have made is ever written.
"""

import base64
import binascii
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from service.settings import PREFIX, Settings
from service.store.files import UnsafePath, create_private, private_folder, read_private
from service.store.vault import KEY_BYTES, Key

log = logging.getLogger(__name__)

NAME = "pixir-auth-encryption-key"
"""Name of the systemd credential and of the Docker secret."""

DOCKER_SECRETS = Path("/run/secrets")

MOST: Final = 8
"""Keys that a source may hold: a list that only grows is a mistake."""


_PATIENCE: Final = 2.0
"""Seconds to wait for somebody else who replaces a file: that takes milliseconds."""

_ASK_AGAIN: Final = 0.02
"""Seconds between two tries to be the one who does."""


class KeyUnusable(Exception):
    """There is no usable encryption key. The text names the source, never its content."""


class KeySource:
    """One place that holds keys."""

    def __init__(self, name: str, *, path: Path | None = None, text: bytes = b"", strict: bool = True) -> None:
        """name: for people. path: a file, which may be read again; else `text` is all there will ever be."""
        self.name = name
        self.is_ours = False
        self._path = path
        self._text = text
        self._strict = strict
        self._seen: tuple[int, ...] | None = None

    def read(self) -> list[bytes]:
        """The keys, the first one first. Raises KeyUnusable."""
        if self._path is None:
            return self._parsed(self._text)
        try:
            return self._parsed(read_private(self._path, strict=self._strict))
        except UnsafePath as exc:
            raise KeyUnusable(str(exc)) from exc
        except OSError as exc:
            raise KeyUnusable(f"the encryption key {self._path} cannot be read ({exc.strerror})") from exc

    def news(self) -> list[bytes] | None:
        """The keys, if the file is not as this has found it last and can be used; costs a few microseconds else."""
        try:
            if self._path is None or (found := _version(self._path)) == self._seen:
                return None
            self._seen = found  # before the content: so that a later change is seen as one
            return self.read()
        except (OSError, KeyUnusable) as exc:
            if isinstance(exc.__cause__, OSError):
                self._seen = None  # a fault of the moment: the same file may be read the next time
            log.warning("the encryption keys cannot be read again (%s)", exc)
            return None

    def _parsed(self, text: bytes) -> list[bytes]:
        try:
            keys = [base64.b64decode(line.strip(), validate=True) for line in text.strip().splitlines() or [b""]]
            heads = {Key(key).head for key in keys}
        except (binascii.Error, ValueError):
            raise KeyUnusable(f"{self.name} does not hold 32 random bytes in base64") from None
        if len(keys) > MOST or len(heads) < len(keys):
            raise KeyUnusable(f"{self.name} holds a key twice, or more than {MOST}")
        return keys


class OwnKey(KeySource):
    """The key file that the service makes for itself: the one source that it also writes."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), path=path)
        self.is_ours = True
        self._own = path

    def create(self) -> bool:
        """Make the file with a new key; False when somebody was faster. Raises KeyUnusable."""
        try:
            private_folder(self._own.parent)
            return create_private(self._own, _lines(_new_key()))
        except UnsafePath as exc:
            raise KeyUnusable(str(exc)) from exc
        except OSError as exc:
            raise KeyUnusable(f"no encryption key can be made at {self._own} ({exc.strerror})") from exc

    def renew(self, used: bytes) -> None:
        """Put a new key in front of the one whose values begin with `used`, unless somebody has. Raises KeyUnusable."""
        with self._changing():
            keys = self.read()
            if Key(keys[0]).head != used:
                return
            if len(keys) == MOST:
                raise KeyUnusable(f"{self.name} holds {MOST} keys already: remove those that nothing is sealed with")
            replace_private(self._own, _lines(_new_key(), *keys))

    def retire(self, used: bytes) -> None:
        """Nothing that anybody needs is sealed with another key than `used` any more: keep the others apart.

        Each goes to a file of its own that is never read: a backup, or another database, may still need it. Does
        nothing if the first key is another by now. Raises KeyUnusable.
        """
        with self._changing():
            first, *others = self.read()
            if Key(first).head != used or not others:
                return
            for old in others:
                create_private(self._own.with_name(f"{self._own.name}.{Key(old).id.hex()}.old"), _lines(old))
            replace_private(self._own, _lines(first))

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One process at a time reads and writes the file: a key that was written over would be lost."""
        try:
            with alone_in(self._own.parent):
                yield
        except OSError as exc:
            raise KeyUnusable(f"the encryption key {self._own} cannot be replaced ({exc.strerror})") from exc


def key_source(settings: Settings, *, may_create: bool) -> KeySource:
    """Where this installation has its keys. `may_create`: nothing sealed exists yet. Raises KeyUnusable."""
    os.environ.pop(f"{PREFIX}ENCRYPTION_KEY", None)  # what we start must not inherit it
    for path, strict in _named(settings):
        return KeySource(str(path), path=path, strict=strict)
    own = OwnKey(settings.key_folder / "encryption.key")
    if os.path.lexists(own.name):
        return own
    if settings.encryption_key is not None:
        text = settings.encryption_key.get_secret_value()
        return KeySource(f"{PREFIX}ENCRYPTION_KEY", text=text.encode())
    if not may_create:
        raise KeyUnusable(f"the database is in use but its encryption key is gone: put it back as {own.name}")
    if own.create() and Path(own.name).resolve().is_relative_to(settings.data_dir.resolve()):
        log.warning(
            "the encryption key was made at %s, inside the data folder: a copy of that folder opens the logins."
            " Move it out, as a secret, and name its new place in %sENCRYPTION_KEY_FILE",
            own.name,
            PREFIX,
        )
    return own


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold the kernel's lock on a folder: nobody else replaces a file in it meanwhile.

    Raises OSError, also when somebody else holds it for long: he may have been stopped, and must not stop us.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_ASK_AGAIN)


def replace_private(path: Path, content: bytes) -> None:
    """Replace a file by a 0600 one, durably: whoever looks finds the one or the other, whole. Raises OSError.

    To be called alone in the folder: what an earlier one has left half done is taken away.
    """
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _named(settings: Settings) -> list[tuple[Path, bool]]:
    """Sources outside our own folder; Docker mounts its secrets readable for all inside the container."""
    if settings.encryption_key_file is not None:
        return [(settings.encryption_key_file, not settings.encryption_key_file.is_relative_to(DOCKER_SECRETS))]
    folders = [(os.environ.get("CREDENTIALS_DIRECTORY"), True), (str(DOCKER_SECRETS), False)]
    candidates = [(Path(folder) / NAME, strict) for folder, strict in folders if folder]
    return [(path, strict) for path, strict in candidates if path.exists()]


def _new_key() -> bytes:
    return os.urandom(KEY_BYTES)


def _lines(*keys: bytes) -> bytes:
    return b"".join(base64.b64encode(key) + b"\n" for key in keys)


def _version(path: Path) -> tuple[int, ...]:
    """Differs after every change of a file."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
