"""The last resort for a token pair that the database does not take: a sealed file, and some space set aside for need.

The issuer has spent the old refresh token, so this process holds the only copy of the next. A rescue file outlives the
process; whoever starts next puts the pair where it belongs, if the row still waits for it, and removes the file.

    NAME = LOGIN-GENERATION.rescue    content = sealed JSON of the credential, bound to that login and generation
"""

import json
import logging
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import gettempdir, mkdtemp
from typing import Any, Final

from service.domain.credential import Credential, Identity
from service.domain.secret import Secret
from service.store.files import UnsafePath, create_private, private_folder, read_private
from service.store.keys import alone_in, replace_private
from service.store.vault import Key, Place, Unopenable, Vault

log = logging.getLogger(__name__)

_TOKENS: Final = ("access_token", "refresh_token", "id_token")
_NAME: Final = re.compile(r"([0-9a-f]{1,64})-([0-9]{1,18})\.rescue")
_LARGEST: Final = 1 << 20
_PREFIX: Final = "pixir-auth-rescue-"

BALLAST_BYTES: Final = 1 << 20
"""Space that is given back to the file system when it is full: enough for one commit of every account in trouble."""


@dataclass(frozen=True, slots=True)
class Rescued:
    """A pair found in a file."""

    path: Path
    credential: Credential


class Rescue:
    """Rescue files in the first folder that takes them, and the ballast in the first of all."""

    def __init__(self, *folders: Path) -> None:
        """Folders that outlive the process and the machine's restart; the one for temporary files comes after them."""
        self.folder = folders[0]
        self._durable = folders
        self._ballast = self.folder / "ballast"

    def lay_ballast(self) -> None:
        """Set space aside, if there is any."""
        try:
            private_folder(self._ballast.parent)
            create_private(self._ballast, bytes(BALLAST_BYTES))
        except (OSError, UnsafePath) as exc:
            log.warning("no space could be set aside for need (%s)", exc)

    def free_ballast(self) -> None:
        """Give the space back: now it is needed."""
        try:
            self._ballast.unlink(missing_ok=True)
        except OSError as exc:
            log.warning("the space set aside cannot be given back (%s)", exc)

    def save(self, credential: Credential, vault: Vault) -> bool:
        """Keep a pair; False when no folder takes it that is sure to be there at the next start."""
        sealed = vault.seal(Secret(json.dumps(_document(credential))), _place(credential))
        for folder in (*self._durable, *_temporary()):
            if _kept(folder / _name(credential), sealed, vault):
                return folder in self._durable
        try:
            _kept(Path(mkdtemp(prefix=_PREFIX)) / _name(credential), sealed, vault)
        except OSError as exc:
            log.warning("there is no folder for temporary files either (%s)", exc)
        return False

    def discard(self, credential: Credential) -> None:
        """The pair is in the database: its files are not needed any more."""
        for folder in (*self._durable, *_temporary()):
            try:
                (folder / _name(credential)).unlink()
                if folder not in self._durable:
                    folder.rmdir()
            except FileNotFoundError:
                continue
            except OSError as exc:
                log.warning("a rescue file that is not needed any more cannot be removed (%s)", exc)

    def found(self, vault: Vault) -> Iterator[Rescued]:
        """Every pair that can be read. A file that cannot be is kept, and told of."""
        for folder in (*self._durable, *_temporary()):
            for path in _files(folder):
                credential = _read(path, vault)
                if credential is not None:
                    yield Rescued(path, credential)

    def seal_anew(self, vault: Vault, key: Key) -> list[int | None]:
        """Seal with this key what another one has sealed: 1 for each that was, None for one that could not be written.

        A file that was removed meanwhile may be there again: whoever finds it sees that its pair is stored.
        """
        folders = (*self._durable, *_temporary())
        return [_sealed_anew(path, vault, key) for folder in folders for path in _files(folder)]

    def set_aside(self, rescued: Rescued) -> None:
        """The login has come further: the pair is of no use, but it is not ours to throw away."""
        try:
            rescued.path.rename(rescued.path.with_suffix(".superseded"))
        except OSError as exc:
            log.warning("the rescue file %s stays where it is (%s)", rescued.path, exc)


def _kept(path: Path, sealed: bytes, vault: Vault) -> bool:
    try:
        private_folder(path.parent)
        return create_private(path, sealed) or _read(path, vault) is not None  # kept before, and whole
    except (OSError, UnsafePath) as exc:
        log.warning("no rescue file can be made in %s (%s)", path.parent, exc)
        return False


def _temporary() -> list[Path]:
    """Our folders among the temporary files of everybody. Their names are random: nobody can have made one for us."""
    try:
        found = [(path, path.lstat()) for path in Path(gettempdir()).glob(f"{_PREFIX}*")]
    except OSError:
        return []  # not even that
    return [path for path, each in found if stat.S_ISDIR(each.st_mode) and each.st_uid == os.geteuid()]


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(folder.glob("*.rescue"))
    except OSError as exc:
        log.warning("nobody can say whether there are rescue files in %s (%s)", folder, exc.strerror)
        return []


def _name(credential: Credential) -> str:
    return f"{credential.login_id}-{credential.generation}.rescue"


def _place(credential: Credential) -> Place:
    return Place("rescue", "credential", credential.login_id, credential.generation)


def _place_of(path: Path) -> Place | None:
    named = _NAME.fullmatch(path.name)
    return named and Place("rescue", "credential", named[1], int(named[2]))


def _sealed_anew(path: Path, vault: Vault, key: Key) -> int | None:
    place = _place_of(path)
    try:
        sealed = read_private(path, limit=_LARGEST)
        if place is None or sealed.startswith(key.head):
            return 0
        secret = vault.open(sealed, place)
        with alone_in(path.parent):
            replace_private(path, key.seal(secret, place))
    except (FileNotFoundError, UnsafePath, Unopenable):
        return 0  # gone, or not ours: told of when they are looked for
    except OSError as exc:
        log.warning("the rescue file %s cannot be written (%s)", path, exc)
        return None
    return 1


def _read(path: Path, vault: Vault) -> Credential | None:
    place = _place_of(path)
    if place is None:
        return None
    try:
        text = vault.open(read_private(path, limit=_LARGEST), place).reveal()
        return _credential(json.loads(text))
    except (OSError, UnsafePath, Unopenable, TypeError, KeyError) as exc:  # the last two: by another version
        log.warning("the rescue file %s cannot be used (%s)", path, type(exc).__name__)
        return None


def _document(credential: Credential) -> dict[str, Any]:
    """Everything but the attempt, which has ended."""
    values = {field.name: getattr(credential, field.name) for field in fields(credential)}
    tokens = {name: values[name] and values[name].reveal() for name in _TOKENS}
    identity = credential.identity
    return values | tokens | {"identity": [identity.account_id, identity.email, identity.plan], "attempt": None}


def _credential(document: dict[str, Any]) -> Credential:
    tokens = {name: document[name] and Secret(document[name]) for name in _TOKENS}
    return Credential(**document | tokens | {"identity": Identity(*document["identity"])})
