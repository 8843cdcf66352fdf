"""Client keys, as values in and out. What is kept of a key is its SHA-256: the key itself is nowhere."""

from collections.abc import Mapping
from typing import Any, cast

from sqlalchemy import delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlmodel import Session, col

from service.domain.caller import ClientKey, Right
from service.store.database import Database, unusable
from service.store.schema import ClientKeyRow

_K = ClientKeyRow


class ClientKeys(Database):
    """Who may ask without being the owner."""

    async def client_keys(self) -> list[ClientKey]:
        """All of them, expired ones included, by name."""
        return await self._run(self._client_keys)

    async def add_client_key(self, key: ClientKey) -> bool:
        """Keep a key; False when there is one of that name, or that very key, already."""
        return await self._run(self._add_client_key, key)

    async def revoke_client_key(self, name: str) -> bool:
        """Forget a key; False when there was none of that name."""
        return await self._run(self._revoke_client_key, name)

    async def note_key_use(self, used: Mapping[str, float]) -> None:
        """When keys were last used, by name; never back in time."""
        await self._run(self._note_key_use, used)

    def has_client_key(self, now: float) -> bool:
        """Whether any key is good now. Blocks: for the start, before there is a loop. Raises StoreUnavailable."""
        good = or_(col(_K.expires_at).is_(None), col(_K.expires_at) > now)
        try:
            with self._backend.reading() as connection:
                return bool(connection.scalar(select(func.count()).select_from(_K).where(good)))
        except SQLAlchemyError as exc:
            raise unusable(self._backend, exc) from exc

    def _client_keys(self) -> list[ClientKey]:
        with self._backend.reading() as connection, Session(connection) as session:
            name = col(_K.name).collate(self._backend.by_code_point)
            return [_key_of(row) for row in session.scalars(select(_K).order_by(name))]

    def _add_client_key(self, key: ClientKey) -> bool:
        try:
            with self._backend.writing() as connection:
                connection.execute(insert(_K).values(_columns(key)))
        except IntegrityError:
            return False
        return True

    def _revoke_client_key(self, name: str) -> bool:
        with self._backend.writing() as connection:
            return connection.execute(delete(_K).where(col(_K.name) == name)).rowcount == 1

    def _note_key_use(self, used: Mapping[str, float]) -> None:
        with self._backend.writing() as connection:
            for name, at in used.items():
                earlier = or_(col(_K.last_used_at).is_(None), col(_K.last_used_at) < at)
                connection.execute(update(_K).where(col(_K.name) == name, earlier).values(last_used_at=at))


def _columns(key: ClientKey) -> dict[str, Any]:
    return {
        "name": key.name,
        "digest": key.digest,
        "rights": ",".join(sorted(key.rights)),
        "accounts": None if key.accounts is None else ",".join(sorted(key.accounts)),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "last_used_at": key.last_used_at,
    }


def _key_of(row: ClientKeyRow) -> ClientKey:
    return ClientKey(
        name=row.name,
        digest=row.digest,
        rights=frozenset(cast("list[Right]", _parts(row.rights))),
        accounts=None if row.accounts is None else frozenset(_parts(row.accounts)),
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
    )


def _parts(joined: str) -> list[str]:
    return [part for part in joined.split(",") if part]
