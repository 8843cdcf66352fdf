"""Logins that are given up: to somebody else, who refreshes them from then on. Nobody here ever does again.

What is released counts as logged out for whoever reads the row, also for a replica that knows nothing of releases. Its
tokens stay sealed in the row until whoever was given them says that he has them, or a login, import or logout comes.
"""

from dataclasses import replace

from sqlalchemy import Connection, update
from sqlmodel import Session, col

from service.domain.credential import RESTORED, Credential, is_released, is_unspent, released
from service.store.credentials import Credentials
from service.store.rows import credential_of, state_columns
from service.store.schema import CredentialRow

_C = CredentialRow


class Releases(Credentials):
    """Out of our hands, in one short transaction."""

    async def release(self, account: str) -> Credential | None:
        """Give up a login whose refresh token is unspent; what was there before, which tells whether it was given up.

        What was released before may be given again. Raises InvalidCredential if another account holds it by now.
        """
        before = await self._run(self._release, account)
        if before is not None and (is_unspent(before) or is_released(before)) and self._generations is not None:
            # As if it had been refreshed: a copy of the database from before this must not be (I9).
            await self._run(self._generations.note, before.login_id, before.generation + 1)
        return before

    async def forget_released(self, account: str, generation: int) -> None:
        """Erase the tokens of a release, if this one is still there. A login of ours is left alone."""
        if await self._run(self._forget_released, account, generation):
            await self._run(self._backend.erase)

    def _release(self, account: str) -> Credential | None:
        with self._backend.writing(exclusive=True) as connection:
            before = self._locked(connection, account)
            if before is None or before.refresh_token is None:
                return before
            if is_released(before):
                self._refuse_if_held(connection, self._vault.fingerprint(before.refresh_token), account)
            if is_unspent(before):
                columns = state_columns(released(before), None)
                connection.execute(update(_C).where(col(_C.account) == account).values(columns))
        return before

    def _forget_released(self, account: str, generation: int) -> bool:
        with self._backend.writing() as connection:
            before = self._locked(connection, account)
            if before is None or not is_released(before) or before.generation != generation:
                return False
            self._erase(connection, before)
        return True

    def _locked(self, connection: Connection, account: str) -> Credential | None:
        """The row, held until the transaction ends; `restored` where this login had come further before (I9)."""
        with Session(connection) as session:
            row = session.get(_C, account, with_for_update=True)
            found = credential_of(row, self._vault) if row else None
        if found is None or found.state != "active" or self._generations is None:
            return found
        has_come_further = self._generations.highest(found.login_id) > found.generation
        return replace(found, state="restored", last_error=RESTORED) if has_come_further else found
