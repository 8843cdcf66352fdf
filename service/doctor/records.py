"""What is stored: the database, the key it is sealed with, the logins in it, and copies of them in other programs."""

import json
import os
import shlex
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

from service.doctor.finding import Told, ok, trouble, warning
from service.domain.credential import Credential, Tokens
from service.domain.decide import REFUSED
from service.domain.errors import InvalidCredential, LoginReason, LoginRequired, StoreUnavailable
from service.oauth.imports import read_credential
from service.settings import PREFIX, Settings
from service.store.backend import Backend
from service.store.examine import SCHEMA, Examination, examine
from service.store.files import UnsafePath, refuse_unsafe_file
from service.store.keys import KeySource, KeyUnusable, key_source
from service.store.sqlite import SQLite

_LARGEST: Final = 1024 * 1024
"""Bytes of another program's file: a thousand times an auth.json."""


@dataclass(slots=True)
class Records:
    """The checks, to be made in this order. `owners`: the folder of the owner locks."""

    settings: Settings
    backend: Backend
    owners: Path
    _found: Examination | None = None
    _source: KeySource | None = None
    _fault: KeyUnusable | None = None

    def database(self) -> Iterator[Told]:
        """Can it be read, is it sound, and do we know its schema."""
        keys = self._keys()
        name = self.backend.name
        try:
            if isinstance(self.backend, SQLite):
                yield from _file(Path(name))
            self._found = found = examine(self.backend, self.owners, keys)
        except FileNotFoundError:
            self._found = Examination()
            yield ok(f"{name} is not there yet: the first start makes it.")
            return
        except UnsafePath as exc:
            yield trouble(f"The service does not start: {exc}.", f"Look: ls -l {shlex.quote(name)}*")
            return
        except (StoreUnavailable, OSError) as exc:
            yield trouble(f"{exc}", *self._unreadable())
            return
        yield self._schema(found, name)
        if found.is_sound is False:
            yield trouble(f"{name} is damaged.", "Stop the service, move the file away, and restore a backup or log in")

    def _unreadable(self) -> list[str]:
        if isinstance(self.backend, SQLite):
            return ["If it is damaged: stop the service, move it away, and restore a backup or log in again."]
        return ["See whether the server runs and PIXIR_AUTH_DATABASE_URL is right: psql with that address."]

    @staticmethod
    def _schema(found: Examination, name: str) -> Told:
        if found.schema > SCHEMA:
            return trouble(
                f"{name} was written by a newer version (schema {found.schema}, this one knows {SCHEMA}).",
                "Update the program: docs/install.md",
            )
        if found.schema < SCHEMA:
            return ok(f"{name} can be read; the next start brings it from schema {found.schema} to {SCHEMA}.")
        return ok(f"{name} can be read{' and is sound' if found.is_sound else ''}; schema {found.schema}.")

    def _keys(self) -> list[bytes]:
        try:
            self._source = key_source(self.settings, may_create=False)
            return self._source.read()
        except KeyUnusable as exc:
            self._fault = exc
            return []

    def key(self) -> Iterator[Told]:
        """Is there one, does it open what is stored, and is it kept apart."""
        found, source = self._found, self._source
        if source is None and found and found.is_new:
            yield ok(f"There is none yet: the first start makes {self.settings.key_folder / 'encryption.key'}.")
            return
        if source is None or self._fault:
            yield trouble(f"The service does not start: {self._fault}.", *_mend_key(source))
            return
        if found and found.wanted_key:
            yield trouble(
                f"{source.name} does not hold the key that the database is sealed with ({found.wanted_key}).",
                "Put that one back, as a further line. Without it: move the database away and log in again.",
            )
            return
        if _inside(source.name, self.settings.data_dir):
            yield warning(
                f"{source.name} is inside the data folder: a copy of that folder opens the logins.",
                f"Move it out, as a secret, and name its new place in {PREFIX}ENCRYPTION_KEY_FILE.",
            )
        else:
            yield ok(f"{source.name} is used{'' if found is None or found.is_new else ', and opens the database'}.")

    def logins(self) -> Iterator[Told]:
        """Which accounts are served, and which are not and why."""
        if self._found is None or self._found.schema not in (0, SCHEMA) or (self._fault and not self._found.is_new):
            yield warning("The logins are not known: see above.", "Mend the database or the key first.")
            return
        told = [each for credential in self._found.credentials for each in _standing(credential)]
        told += _waiting(self.owners.parent, self.settings.key_folder)
        active = sum(each.state == "active" for each in self._found.credentials)
        if not told and not active:
            told = [self._nobody()]
        yield from told or [ok(f"{active} of {len(self._found.credentials)} accounts are logged in.")]

    def _nobody(self) -> Told:
        if self.settings.openai_api_key:
            return ok("Nobody has logged in; OPENAI_API_KEY serves the account default.")
        return warning("Nobody has logged in.", "Run: pixir-auth login")

    def copies(self) -> Iterator[Told]:
        """Who else might refresh a login of ours: each refresh by him makes our refresh token worthless."""
        codex = Path(os.environ.get("CODEX_HOME") or Path.home() / ".codex") / "auth.json"
        files = {"Codex": codex, "Pixir": Path.home() / ".pixir" / "auth.json"}
        told = [each for program, path in files.items() for each in self._copy(program, path)]
        yield from told or [ok("No other program's file holds a login of this service.")]

    def _copy(self, program: str, path: Path) -> Iterable[Told]:
        tokens = _login_in(path)
        if tokens is None or tokens.refresh_token is None or self._found is None:
            return
        place = shlex.quote(str(path))
        holder = self._found.holder(tokens.refresh_token)
        account_id = tokens.identity.account_id
        kept = [each for each in self._found.credentials if each.state != "logged_out"]
        ours = [each.account for each in kept if each.identity.account_id == account_id is not None]
        if holder is not None:
            yield trouble(
                f"{path} holds the login of account {holder}: when {program} refreshes it, it ends for both.",
                f"End {program}, then: mv {place} {place}.imported",
                f"Let {program} ask the service: README.md, Use it.",
            )
        elif ours:
            yield warning(
                f"{path} holds a login to the same account as {ours[0]} here. That is well if {program} logged in by"
                f" itself; if it was imported here, {program} has refreshed it since.",
                f"If in doubt, log in anew: pixir-auth login --account {ours[0]}",
            )


def _file(path: Path) -> Iterator[Told]:
    if (mode := refuse_unsafe_file(path)) & 0o077:
        yield warning(f"{path} can be read by others (mode {mode:04o}).", f"Run: chmod 600 {shlex.quote(str(path))}")


def _waiting(*folders: Path) -> Iterator[Told]:
    for folder in dict.fromkeys(folders):
        if count := len(list(folder.glob("*.rescue"))):
            yield warning(
                f"{count} token pairs in {folder} wait to be stored.", "Free the disk, then start the service anew."
            )


def _inside(name: str, folder: Path) -> bool:
    path = Path(name)
    return path.exists() and path.resolve().is_relative_to(folder.resolve())


def _mend_key(source: KeySource | None) -> list[str]:
    if source is None:
        return ["Put the key file back from where you keep it apart from the data.", "Or begin with a new database."]
    path = shlex.quote(source.name)
    return [f"See that it is your own file with a key in base64: ls -l {path}", f"Run: chmod 600 {path}"]


def _standing(credential: Credential) -> Iterator[Told]:
    """What somebody should know of an account; nothing, if all is well."""
    name = credential.account
    log_in = "Run: pixir-auth login" + ("" if name == "default" else f" --account {name}")
    match credential.state:
        case "dead":
            reason = _known(credential.reason)
            said = LoginRequired(name, reason).detail
            yield trouble(f"Account {name} needs a new login: {said} [{reason}]", log_in, *_SEE_ALSO.get(reason, ()))
        case "unreadable":
            yield trouble(
                f"Account {name} does not open with the present key.",
                "Put back, as a further line, the key that it was stored with.",
                log_in,
            )
        case "restored":
            yield warning(
                f"Account {name} is from a backup, and is not refreshed.",
                f"If nobody has refreshed it since: pixir-auth restore --confirm-unspent {name}",
                log_in,
            )
        case "active" if credential.last_error:
            refused = credential.last_error.startswith(REFUSED)
            yield warning(
                f"The last refresh of account {name} did not work: {credential.last_error}.",
                "Look at PIXIR_AUTH_CODEX_ISSUER and the network." if refused else "It is tried again by itself.",
            )


def _known(reason: LoginReason | None) -> LoginReason:
    """A row may say anything."""
    return reason if reason is not None and reason in get_args(LoginReason) else "outcome_unknown"


_SEE_ALSO: Final[dict[str, tuple[str, ...]]] = {
    "refresh_token_reused": ("Find who else has a copy of it (below, other machines, containers): one owner a login.",),
    "account_mismatch": ("With another account on purpose: pixir-auth login --replace",),
}


def _login_in(path: Path) -> Tokens | None:
    """The login in another program's file, if there is one; whatever is wrong with the file is that program's."""
    with suppress(OSError, ValueError, RecursionError, InvalidCredential):
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would make us wait
            return None
        with path.open("rb") as file:
            document: Any = json.loads(file.read(_LARGEST))
        found = read_credential(document) if isinstance(document, dict) else None
        return found if isinstance(found, Tokens) else None
    return None
