"""Credentials, as values in and out. Every change is one short transaction, guarded by what it was decided on.

The lock is in the row: `claim` writes a durable intent where there is none, `settle` writes an outcome where the row
still holds the refresh token that was sent. No transaction is open while an issuer is asked: nothing here can ask one.
"""

import asyncio
import logging
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, func, insert, or_, select, update
from sqlmodel import Session, col

from service.domain.credential import (
    RESTORED,
    Attempt,
    Credential,
    claimed,
    is_other_account,
    is_released,
    logged_out,
)
from service.domain.decide import CLOCK_SLACK
from service.domain.errors import AccountMismatch, InvalidCredential
from service.store.database import Database
from service.store.rescue import Rescued
from service.store.rows import all_columns, credential_of, state_columns
from service.store.schema import CredentialRow

log = logging.getLogger(__name__)

_NEWS: Final = 60.0
"""Seconds by which the time to look again must have moved to be worth a commit."""

_C = CredentialRow


class Credentials(Database):
    """The login of each account."""

    async def load(self, account: str) -> Credential | None:
        """The credential of an account, logged out and unreadable ones included."""
        return await self._run(self._load, account)

    async def accounts(self, after: str, limit: int) -> list[Credential]:
        """A page of accounts in order of their names."""
        return await self._run(self._accounts, after, limit)

    async def due(self, now: float, limit: int) -> tuple[list[str], float | None]:
        """Accounts that the background refresher must look at, and when the next one will be due."""
        return await self._run(self._due_accounts, now, limit)

    async def claim(self, credential: Credential, attempt: Attempt) -> Credential | None:
        """Write the intent to refresh, durably; None when the row has changed or somebody else was first."""
        if credential.attempt is not None:
            return None
        after = claimed(credential, attempt)
        won = await self._run(self._update, credential, after, late=False)
        return after if won else None

    async def settle(self, before: Credential, after: Credential) -> bool:
        """Write an outcome; False when the row has moved on from what it was decided on.

        A new token pair is written wherever the row still holds the token that was exchanged for it: whoever did
        that holds the only copy, however late he comes. Anything else needs the row to be just as it was.
        """
        late = after.generation != before.generation
        settled = await self._run(self._update, before, after, late=late)
        if settled and late and self._generations is not None:
            await self._run(self._generations.note, after.login_id, after.generation)
        return settled

    async def rescue(self, after: Credential) -> bool:
        """A new pair cannot be stored: free what space was set aside, and keep the pair in a file. Whether that worked.

        Needs no database.
        """
        return await asyncio.to_thread(self._save_in_need, after)  # our own threads may all wait for the database

    async def rescued(self, after: Credential) -> None:
        """The new pair is stored after all."""
        await self._run(self._no_more_need, after)

    async def recover(self) -> int:
        """Put pairs from rescue files where they belong; how many did."""
        if self._rescue is None:
            return 0
        return await self._run(self._recover)

    async def note_due(self, credential: Credential) -> None:
        """Write down when the background refresher must look at this row again, if it is still as it was.

        Writes only what is news: each commit wakes the background, which would come here again.
        """
        if self._backend.reaches_other_machines and credential.state == "unreadable":
            return  # it may open elsewhere: what we cannot do is not news for the others
        due = self._due(credential)
        noted = col(_C.due_at)
        news = noted.is_not(None) if due is None else or_(noted.is_(None), func.abs(noted - due) > _NEWS)
        guard = [*_is_row_of(credential), *_nobody_acted_since(credential), news]
        columns: dict[str, Any] = {"due_at": due}
        if self._backend.reaches_other_machines and credential.state == "restored":
            columns |= {"state": "dead", "reason": "outcome_unknown", "last_error": credential.last_error}  # tell them
        await self._run(self._note_due, guard, columns)

    async def install(self, credential: Credential) -> Credential:
        """Put a login made elsewhere in the place of whatever is there; its generation is one more than ever.

        A login that is here already stays as it is, however far it has come since. Raises InvalidCredential if
        another account holds it.
        """
        return await self._run(self._install, credential)

    async def forget(self, account: str) -> Credential | None:
        """Log out: erase the tokens and keep the generation. Gives what was there."""
        return await self._run(self._forget, account)

    def _load(self, account: str) -> Credential | None:
        found = self._read(account)
        return found and self._judged(found)

    def _read(self, account: str) -> Credential | None:
        with self._backend.reading() as connection, Session(connection) as session:
            row = session.get(_C, account)
            return credential_of(row, self._vault) if row else None

    def _judged(self, found: Credential) -> Credential:
        """What was read, or what it is worth if this login had come further before (I9)."""
        if self._generations is None or not (found.state == "active" or is_released(found)):
            return found
        highest = self._generations.highest(found.login_id)
        if is_released(found):  # by somebody else, who has a record of his own
            if highest <= found.generation:
                self._generations.note(found.login_id, found.generation + 1)
            return found
        if found.generation > highest:
            self._generations.note(found.login_id, found.generation)
        if found.generation >= highest:
            return found
        now = self._read(found.account)  # it may have moved on after it was read, and before the record was
        if now is None or now.login_id != found.login_id or now.generation >= highest:
            return now or found
        return replace(now, state="restored", last_error=RESTORED)

    def _accounts(self, after: str, limit: int) -> list[Credential]:
        with self._backend.reading() as connection, Session(connection) as session:
            name = col(_C.account).collate(self._backend.by_code_point)
            query = select(_C).where(name > after).order_by(name).limit(limit)
            found = [credential_of(row, self._vault) for row in session.scalars(query)]
        return [self._judged(each) for each in found]

    def _due_accounts(self, now: float, limit: int) -> tuple[list[str], float | None]:
        with self._backend.reading() as connection:
            due = select(col(_C.account)).where(col(_C.due_at) <= now).order_by(col(_C.due_at)).limit(limit)
            # What was obtained in the future was noted by a clock that has been set back since.
            future = select(col(_C.account)).where(col(_C.obtained_at) > now + CLOCK_SLACK, col(_C.due_at) > now)
            future = future.order_by(col(_C.obtained_at))
            later = select(func.min(_C.due_at)).where(col(_C.due_at) > now)
            accounts = [*connection.scalars(due), *connection.scalars(future.limit(limit))]
            return accounts[:limit], connection.scalar(later)

    def _note_due(self, guard: list[ColumnElement[bool]], columns: dict[str, Any]) -> None:
        with self._backend.writing() as connection:
            _changed(connection, guard, columns)

    def _save_in_need(self, after: Credential) -> bool:
        if self._rescue is None:
            return False
        self._rescue.free_ballast()
        return self._rescue.save(after, self._vault)

    def _no_more_need(self, after: Credential) -> None:
        if self._rescue is not None:
            self._rescue.discard(after)
            self._rescue.lay_ballast()

    def _recover(self) -> int:
        assert self._rescue is not None  # noqa: S101 - the only caller has looked
        stored = 0
        for found in self._rescue.found(self._vault):
            after = found.credential
            before = self._load(after.account)
            if before is not None and _follows(after, before) and self._update(before, after, late=True):
                log.warning("the token pair of %s was stored from its rescue file", after.account)
                self._rescue.discard(after)
                stored += 1
            else:
                self._clear(found)
        return stored

    def _clear(self, found: Rescued) -> None:
        """A rescue file whose pair was not stored from it. One of another database, or of another login, stays."""
        assert self._rescue is not None  # noqa: S101 - whoever found it has one
        after, now = found.credential, self._load(found.credential.account)
        if now is None or now.login_id != after.login_id or now.generation < after.generation:
            log.info("the rescue file %s is not for what is here", found.path)
        elif now.generation == after.generation:
            self._rescue.discard(after)  # its owner, or another process, has stored it in the meantime
        else:
            log.warning("the rescue file of %s is of no use: the login has moved on", after.account)
            self._rescue.set_aside(found)

    def _update(self, before: Credential, after: Credential, *, late: bool) -> bool:
        guard = self._holds_token(before)
        if not late:
            guard += [*_nobody_acted_since(before), col(_C.state) == before.state]
        with self._backend.writing() as connection:
            columns = self._all(connection, after) if late else state_columns(after, self._due(after))
            return _changed(connection, guard, columns)

    def _holds_token(self, before: Credential) -> list[ColumnElement[bool]]:
        token = before.refresh_token
        return [
            *_is_row_of(before),
            col(_C.state) != "logged_out",
            col(_C.refresh_fingerprint) == (self._vault.fingerprint(token) if token else None),
        ]

    def _install(self, credential: Credential) -> Credential:
        with self._backend.writing(exclusive=True) as connection:
            return self._installed(connection, credential, replace_other=True)

    def _installed(self, connection: Connection, credential: Credential, *, replace_other: bool) -> Credential:
        with Session(connection) as session:
            row = session.get(_C, credential.account, with_for_update=True)
            stored = credential_of(row, self._vault) if row else None
        if not replace_other and is_other_account(stored, credential.identity):
            raise AccountMismatch
        new = replace(credential, generation=stored.generation + 1 if stored else 1)
        columns = self._all(connection, new)
        token = columns["first_fingerprint"] = columns["refresh_fingerprint"]
        if stored and row and stored.state == "active" and token in (row.refresh_fingerprint, row.first_fingerprint):
            return stored  # this very login is here already, and further on: its first token is spent
        self._refuse_if_held(connection, token, credential.account)
        if stored:
            connection.execute(update(_C).where(col(_C.account) == new.account).values(columns))
        else:
            connection.execute(insert(_C).values(columns))
        return new

    def _refuse_if_held(self, connection: Connection, token: str, account: str) -> None:
        """Two accounts must not hold one refresh token: they would spend it twice."""
        held = or_(col(_C.refresh_fingerprint) == token, col(_C.first_fingerprint) == token)
        others = select(func.count()).where(held, col(_C.state) != "logged_out", col(_C.account) != account)
        if connection.scalar(others):
            raise InvalidCredential("Another account holds this login already.")
        # What was given away keeps its fingerprints: whoever has it now would lose it by a token that it began with.
        spent = and_(col(_C.first_fingerprint) == token, col(_C.refresh_fingerprint) != token)
        if connection.scalar(select(func.count()).where(spent, col(_C.state) == "logged_out")):
            raise InvalidCredential("This login was refreshed here, and then given away: this token of it is spent.")

    def _forget(self, account: str) -> Credential | None:
        with self._backend.writing() as connection, Session(connection) as session:
            row = session.get(_C, account, with_for_update=True)
            if row is None:
                return None
            before = credential_of(row, self._vault)
            self._erase(connection, before)
        self._backend.erase()
        return before

    def _erase(self, connection: Connection, before: Credential) -> None:
        """Nothing stays but how far it came, and of what was given away that what it began with is spent, if it is."""
        columns = all_columns(logged_out(before), self._vault, self._vault.first, None)
        if is_released(before):
            del columns["refresh_fingerprint"]
        connection.execute(update(_C).where(col(_C.account) == before.account).values(columns))

    def _all(self, connection: Connection, credential: Credential) -> dict[str, Any]:
        return all_columns(credential, self._vault, self._key(connection), self._due(credential))


def _changed(connection: Connection, guard: list[ColumnElement[bool]], columns: dict[str, Any]) -> bool:
    return connection.execute(update(_C).where(*guard).values(columns)).rowcount == 1


def _follows(after: Credential, before: Credential) -> bool:
    return (after.login_id, after.generation) == (before.login_id, before.generation + 1)


def _is_row_of(before: Credential) -> list[ColumnElement[bool]]:
    return [
        col(_C.account) == before.account,
        col(_C.login_id) == before.login_id,
        col(_C.generation) == before.generation,
    ]


def _nobody_acted_since(before: Credential) -> list[ColumnElement[bool]]:
    """Nobody has learned anything about the token since: every intent and every outcome changes one of these."""
    return [
        col(_C.attempt_id) == (before.attempt.attempt_id if before.attempt else None),
        col(_C.sends) == before.sends,
        col(_C.failures) == before.failures,
    ]
