"""Started logins, as values in and out. What finishes one happens once: the taking is a guarded change."""

from typing import Any, Final

from sqlalchemy import delete, func, insert, or_, select, update
from sqlmodel import Session, col

from service.domain.errors import Code
from service.domain.login import Login, LoginState
from service.domain.secret import Secret
from service.store.database import Database
from service.store.rows import LOGIN_OVER, login_of, row_of_login
from service.store.schema import LoginRow
from service.store.vault import Unopenable

_KEEP_LOGINS: Final = 86400.0
"""Seconds that a login stays readable after its time ran out, for whoever asks how it ended."""

_L = LoginRow


class PendingLogins(Database):
    """Logins that wait for somebody to finish them, and for a day those that have ended."""

    async def add_login(self, login: Login) -> None:
        """Keep a pending login; the one that was pending for the account is replaced."""
        await self._run(self._add_login, login)

    async def login(self, login_id: str) -> Login | None:
        """A login by its id, which may be whatever somebody has sent."""
        if "\0" in login_id:  # PostgreSQL has no such text, and takes it for an error
            return None
        return await self._run(self._login, _L.id == login_id)

    async def pending_login(self, account: str, now: float) -> Login | None:
        """The login that waits for somebody to finish it."""
        return await self._run(self._login, _L.account == account, *_pending(now))

    async def waiting_login(self, state: Secret, now: float) -> Login | None:
        """The login that waits for a browser with that state; looking changes nothing."""
        digest = self._vault.fingerprint(state)
        return await self._run(self._login, _L.state_digest == digest, *_pending(now))

    async def redirect_uris(self, now: float) -> set[str]:
        """The redirect URIs that browsers may come back to, or are being answered at."""
        return await self._run(self._redirect_uris, now)

    async def take_login(self, state: Secret, binding: Secret | None, now: float, *, bound: bool) -> Login | None:
        """The browser is back: give the login of that state to the first who asks, once, ever.

        bound: a login that a browser started needs that browser's binding. None changes nothing.
        """
        return await self._run(self._take_login, state, binding, now, bound)

    async def claim_poll(self, login_id: str, now: float, until: float) -> Login | None:
        """Be the one who polls for a device login; if he dies, it is free again at `until`."""
        return await self._run(self._claim_poll, login_id, now, until)

    async def take_approved(self, login_id: str, now: float) -> bool:
        """The person has decided a device login: nobody polls any more. False if it has ended or was taken."""
        columns = {"taken_at": now, "next_poll_at": None}
        return await self._run(self._update_login, _L.id == login_id, *_pending(now), columns=columns)

    async def poll_again(self, login_id: str, interval: float, at: float) -> None:
        """When to poll next, and how often from now on."""
        columns = {"interval": interval, "next_poll_at": at}
        await self._run(self._update_login, _L.id == login_id, _L.state == "pending", columns=columns)

    async def due_polls(self, now: float) -> tuple[list[str], float | None]:
        """Device logins to poll, and when the next one will be due."""
        return await self._run(self._due_polls, now)

    async def end_login(self, login_id: str, state: LoginState, error: Code | None, detail: str | None) -> bool:
        """A pending login ends without a credential; False when it had ended before."""
        columns = {"state": state, "error": error, "detail": detail, **LOGIN_OVER}
        return await self._run(self._update_login, _L.id == login_id, _L.state == "pending", columns=columns)

    def _add_login(self, login: Login) -> None:
        replaced = {"state": "cancelled", "error": "login_replaced", **LOGIN_OVER}
        with self._backend.writing(exclusive=True) as connection:
            old = update(_L).where(col(_L.account) == login.account, col(_L.state) == "pending")
            connection.execute(old.values(replaced))
            connection.execute(delete(_L).where(col(_L.expires_at) < login.created_at - _KEEP_LOGINS))
            connection.execute(insert(_L).values(row_of_login(login, self._vault, self._key(connection)).model_dump()))

    def _login(self, *conditions: Any) -> Login | None:
        with self._backend.reading() as connection, Session(connection) as session:
            row = session.scalars(select(_L).where(*conditions)).first()
            try:
                return login_of(row, self._vault) if row else None
            except Unopenable:
                return None  # begun with another key: nobody can finish it

    def _redirect_uris(self, now: float) -> set[str]:
        with self._backend.reading() as connection:
            alive = (col(_L.state) == "pending", col(_L.expires_at) > now)
            uris = connection.scalars(select(col(_L.redirect_uri)).where(*alive))
            return {uri for uri in uris if uri}

    def _take_login(self, state: Secret, binding: Secret | None, now: float, bound: bool) -> Login | None:
        conditions = [col(_L.state_digest) == self._vault.fingerprint(state), *_pending(now)]
        if bound:
            digest = self._vault.fingerprint(binding) if binding else ""
            conditions.append(or_(col(_L.binding_digest).is_(None), col(_L.binding_digest) == digest))
        return self._won(*conditions, columns={"taken_at": now, "state_digest": None})

    def _claim_poll(self, login_id: str, now: float, until: float) -> Login | None:
        is_due = col(_L.next_poll_at) <= now
        return self._won(_L.id == login_id, is_due, *_pending(now), columns={"next_poll_at": until})

    def _won(self, *conditions: Any, columns: dict[str, Any]) -> Login | None:
        """The login on which a guarded change took hold. One that does not open here is left to whoever has its key."""
        if self._login(*conditions) is None:
            return None
        with self._backend.writing() as connection:
            login_id = connection.scalar(update(_L).where(*conditions).values(columns).returning(col(_L.id)))
        return None if login_id is None else self._login(_L.id == login_id)

    def _due_polls(self, now: float) -> tuple[list[str], float | None]:
        with self._backend.reading() as connection:
            due = select(col(_L.id)).where(col(_L.next_poll_at) <= now, *_pending(now))
            later = select(func.min(_L.next_poll_at)).where(col(_L.next_poll_at) > now, *_pending(now))
            return list(connection.scalars(due)), connection.scalar(later)

    def _update_login(self, *conditions: Any, columns: dict[str, Any]) -> bool:
        with self._backend.writing() as connection:
            return connection.execute(update(_L).where(*conditions).values(columns)).rowcount == 1


def _pending(now: float) -> tuple[Any, ...]:
    return (col(_L.state) == "pending", col(_L.taken_at).is_(None), col(_L.expires_at) > now)
