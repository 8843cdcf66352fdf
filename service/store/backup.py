"""A backup, sealed as it is stored, and its way back: what may be spent is not refreshed until somebody confirms it.

    {"pixir_auth_backup": 1, "key": ID, "fingerprints": SEALED}                   lines of JSON, the first and the last
    {"kind": "credential" or "client_key", "row": COLUMNS, "mac": HEX}            of their kind, in one state of the
    {"end": {"credentials": N, "client_keys": N, "keys": [ID, …]}}                database

Bytes are in base64. It opens only with the encryption keys that it names, and holds none of them. What is not sealed is
proven by the MAC, whose key is that of the fingerprints: else whoever can write to a backup could add a client key.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
from tempfile import TemporaryFile
from typing import IO, Any, Final, Literal, get_args

from sqlalchemy import Connection, insert, or_, select, update
from sqlmodel import Session, SQLModel, col

from service.domain.backup import FORMAT, Batch, Line, Outcome
from service.domain.credential import RESTORED, Credential, State, confirmed, restored
from service.domain.errors import (
    CredentialUnreadable,
    InvalidCredential,
    InvalidRequest,
    LoginRequired,
    StoreUnavailable,
    UnknownAccount,
)
from service.domain.secret import Secret
from service.store.credentials import Credentials
from service.store.database import FINGERPRINTS, IS_FINGERPRINTS
from service.store.rows import SEALED_COLUMNS, credential_of
from service.store.schema import ClientKeyRow, CredentialRow, SealedRow
from service.store.vault import HEAD_BYTES, Unopenable

_C = CredentialRow
_K = ClientKeyRow

_PAGE: Final = 200
"""Rows that are in memory at a time: a few kilobytes each."""

Kind = Literal["credential", "client_key"]

_NUMBERS: Final = ("generation", "obtained_at", "expires_at", "sends", "failures")
_TEXTS: Final = ("account", "provider", "login_id")


class Backups(Credentials):
    """Accounts and client keys, out of the database and back."""

    async def backup(self) -> IO[bytes]:
        """All of them as they are now, in a file without a name; the caller closes it.

        So that whoever takes it slowly holds up no transaction. Raises StoreUnavailable.
        """
        return await self._run(self._backup)

    async def restore(self, batch: Batch) -> tuple[list[Outcome], list[Outcome]]:
        """Put rows of a backup back, all in one: what became of its credentials and its client keys, one by one.

        May be done again. Raises InvalidCredential, with nothing changed, if the key of the backup is not here.
        """
        return await self._run(self._restore, batch)

    async def confirm_unspent(self, account: str, login_id: str) -> Credential:
        """Somebody says that a restored refresh token was never used elsewhere: it is refreshed from now on.

        login_id: a new name for the login. Raises UnknownAccount, CredentialUnreadable, InvalidRequest if it was not
        restored, LoginRequired if it was used as far as we know.
        """
        return await self._run(self._confirm, account, login_id)

    def _backup(self) -> IO[bytes]:
        try:
            file = TemporaryFile(dir=self._rescue.folder if self._rescue else None)  # noqa: SIM115 - the caller's
            try:
                with self._backend.snapshot() as connection:
                    for line in self._lines(connection):
                        file.write(json.dumps(line, default=str).encode() + b"\n")
                file.flush()  # here, for whoever takes it has no answer to a full disk
            except BaseException:
                file.close()
                raise
        except OSError as exc:
            raise StoreUnavailable("There is no room for a backup in the data folder.") from exc
        return file

    def _lines(self, connection: Connection) -> Iterator[dict[str, Any]]:
        kept = connection.scalars(select(col(SealedRow.value)).where(IS_FINGERPRINTS)).one()
        heads = {kept[:HEAD_BYTES]}
        count = {"credentials": 0, "client_keys": 0}
        yield {"pixir_auth_backup": FORMAT, "key": _key_id(kept), "fingerprints": base64.b64encode(kept).decode()}
        for each in self._pages(connection, _C, col(_C.account)):
            heads.update(each[name][:HEAD_BYTES] for name in SEALED_COLUMNS[_C] if each[name])
            count["credentials"] += 1
            yield self._line("credential", each)
        for each in self._pages(connection, _K, col(_K.name)):
            count["client_keys"] += 1
            yield self._line("client_key", each)
        yield {"end": {**count, "keys": sorted(map(_key_id, heads))}}

    def _pages(self, connection: Connection, table: type[SQLModel], name: Any) -> Iterator[Any]:
        columns = select(*(getattr(table, each) for each in table.model_fields))
        ordered = name.collate(self._backend.by_code_point)
        last = ""
        while page := connection.execute(columns.where(ordered > last).order_by(ordered).limit(_PAGE)).mappings().all():
            yield from page
            last = page[-1][name.name]

    def _line(self, kind: Kind, columns: Mapping[str, Any]) -> dict[str, Any]:
        row = {
            name: base64.b64encode(value).decode() if isinstance(value, bytes) else value
            for name, value in columns.items()
        }
        return {"kind": kind, "row": row, "mac": _mac(self._vault.fingerprints, kind, row)}

    def _restore(self, batch: Batch) -> tuple[list[Outcome], list[Outcome]]:
        try:
            theirs = self._vault.open(batch.fingerprints, FINGERPRINTS)
        except Unopenable:
            raise InvalidCredential(
                "The backup is sealed with an encryption key that this service does not have; nothing was changed.",
                next_actions=("Add that key as a further line to the source of the encryption key.",),
            ) from None
        with self._backend.writing(exclusive=True) as connection:
            return (
                [self._restore_login(connection, each, theirs, replace=batch.replace) for each in batch.credentials],
                [_restore_key(connection, each, theirs) for each in batch.client_keys],
            )

    def _restore_login(self, connection: Connection, line: Line, theirs: Secret, *, replace: bool) -> Outcome:
        old = _row_of(line, theirs)
        saved = credential_of(old, self._vault) if old else None
        if old is None or saved is None or saved.state == "unreadable":
            return "damaged"
        with Session(connection) as session:
            row = session.get(_C, saved.account, with_for_update=True)
            present = credential_of(row, self._vault) if row else None
        if present and (outcome := _stays(present, saved, replace=replace)):
            return outcome
        new = restored(
            saved,
            generation=max(saved.generation, present.generation + 1) if present else saved.generation,
            is_spent=self._is_spent(saved) or _had_come_further(present, saved),
        )
        columns = self._all(connection, new)
        is_ours = theirs == self._vault.fingerprints
        columns["first_fingerprint"] = old.first_fingerprint if is_ours else columns["refresh_fingerprint"]
        try:
            for name in {columns["refresh_fingerprint"], columns["first_fingerprint"]} - {None}:
                self._refuse_if_held(connection, name, saved.account)
        except InvalidCredential:
            return "held"
        change = update(_C).where(col(_C.account) == new.account) if present else insert(_C)
        connection.execute(change.values(columns))
        return _outcome(new)

    def _is_spent(self, credential: Credential) -> bool:
        """Whether this login had come further here, once."""
        return self._generations is not None and self._generations.highest(credential.login_id) > credential.generation

    def _confirm(self, account: str, login_id: str) -> Credential:
        with self._backend.writing(exclusive=True) as connection:
            with Session(connection) as session:
                row = session.get(_C, account, with_for_update=True)
                present = credential_of(row, self._vault) if row else None
            if present is None:
                raise UnknownAccount
            if present.state == "unreadable":
                raise CredentialUnreadable
            if _was_spent(present) or (present.state in ("active", "restored") and self._is_spent(present)):
                raise LoginRequired(account, "outcome_unknown")
            if present.state != "restored":
                raise InvalidRequest("This account does not wait for that: it was not restored, or was confirmed.")
            new = confirmed(present, login_id=login_id)
            connection.execute(update(_C).where(col(_C.account) == account).values(self._all(connection, new)))
        return new


def _stays(present: Credential, saved: Credential, *, replace: bool) -> Outcome | None:
    """What becomes of a row whose account is here, if that is not to be written over.

    An older copy of the same login is worth less than what is here, also when that was logged out.
    """
    is_same = present.login_id == saved.login_id
    if is_same and present.last_error == RESTORED:
        return _outcome(present)
    if saved.state == "logged_out" or (is_same and present.state != "unreadable"):
        return "here"
    return None if replace or present.state == "logged_out" else "here"


def _had_come_further(present: Credential | None, saved: Credential) -> bool:
    """Whether a row that does not open, which is written over, is the same login at a later generation."""
    return present is not None and present.login_id == saved.login_id and present.generation > saved.generation


def _outcome(new: Credential) -> Outcome:
    if new.state == "restored":
        return "restored"
    return "spent" if _was_spent(new) else "ended"


def _was_spent(credential: Credential) -> bool:
    return credential.state == "dead" and credential.last_error == RESTORED


def _restore_key(connection: Connection, line: Line, theirs: Secret) -> Outcome:
    if not _is_proven("client_key", line, theirs, _K):
        return "damaged"
    row = dict(line.row)
    taken = or_(col(_K.name) == row["name"], col(_K.digest) == row["digest"])
    if connection.execute(select(col(_K.name)).where(taken)).first():
        return "here"
    connection.execute(insert(_K).values(row))
    return "restored"


def _row_of(line: Line, theirs: Secret) -> CredentialRow | None:
    """The row in a line; None if somebody else has written it, or nobody of ours can have."""
    row: dict[str, Any] = dict(line.row)
    if not _is_proven("credential", line, theirs, _C):
        return None
    if not all(isinstance(row[name], int | float) for name in _NUMBERS):
        return None
    if not all(isinstance(row[name], str) for name in _TEXTS) or row["state"] not in get_args(State):
        return None
    try:
        sealed = {name: _bytes(row[name]) for name in SEALED_COLUMNS[_C]}
    except (ValueError, TypeError):
        return None
    return CredentialRow(**row | sealed)


def _is_proven(kind: Kind, line: Line, theirs: Secret, table: type[SQLModel]) -> bool:
    return hmac.compare_digest(_mac(theirs, kind, line.row), line.mac) and set(line.row) == set(table.model_fields)


def _mac(fingerprints: Secret, kind: Kind, row: Mapping[str, Any]) -> str:
    content = json.dumps([kind, row], sort_keys=True, default=str).encode()
    return hmac.new(bytes.fromhex(fingerprints.reveal()), b"pixir-auth backup " + content, hashlib.sha256).hexdigest()


def _bytes(text: Any) -> bytes | None:
    return None if text is None else base64.b64decode(text, validate=True)


def _key_id(sealed: bytes) -> str:
    return sealed[1:HEAD_BYTES].hex()
