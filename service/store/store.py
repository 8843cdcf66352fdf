"""The store: all that is kept, and the one change that touches accounts and started logins."""

from sqlalchemy import update
from sqlmodel import col

from service.domain.credential import Credential
from service.domain.errors import LoginOver
from service.domain.login import Login
from service.store.audit import AuditTrail
from service.store.backup import Backups
from service.store.client_keys import ClientKeys
from service.store.logins import PendingLogins
from service.store.rekey import Rekeying
from service.store.releases import Releases
from service.store.rows import LOGIN_OVER
from service.store.schema import LoginRow


class Store(Backups, Releases, PendingLogins, ClientKeys, AuditTrail, Rekeying):
    """What the use cases know of the database."""

    async def complete_login(self, login: Login, credential: Credential) -> Credential:
        """Store what a login brought and end it, in one. Raises LoginOver if it has ended, AccountMismatch."""
        return await self._run(self._complete_login, login, credential)

    def _complete_login(self, login: Login, credential: Credential) -> Credential:
        over = {"state": "complete", **LOGIN_OVER}
        with self._backend.writing(exclusive=True) as connection:
            ended = update(LoginRow).where(col(LoginRow.id) == login.id, col(LoginRow.state) == "pending").values(over)
            if connection.execute(ended).rowcount != 1:
                raise LoginOver("This login had ended before it was finished.")
            return self._installed(connection, credential, replace_other=login.replace)
