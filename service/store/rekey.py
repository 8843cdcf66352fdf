"""Going over to another encryption key while everything runs, a row at a time.

    1. the source holds the new key in front of the old          whoever starts now can open either
    2. the key of the fingerprints is sealed with the new one    from here on so is all that is new (`Database._key`)
    3. what the old one has sealed is sealed with the new one    each row guarded by what was read; fingerprints stay
    4. nothing is left: the old one leaves the source            if the source is ours

Killed anywhere, the next start opens everything and the next `rekey` goes on. No claim and no outcome is disturbed:
what guards them is in columns that are not touched here.
"""

import logging
from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import LargeBinary, func, or_, select, update
from sqlmodel import Session, col

from service.domain.errors import KeyNotReplaced, StoreUnavailable
from service.store.database import FINGERPRINTS, IS_FINGERPRINTS, Database
from service.store.keys import KeyUnusable, OwnKey
from service.store.rows import SEALED_COLUMNS, sealed_anew
from service.store.schema import CredentialRow, LoginRow, SealedRow
from service.store.vault import HEAD_BYTES, Key, Unopenable

log = logging.getLogger(__name__)

_PASSES: Final = 10
"""Times to look again for rows that somebody else has changed meanwhile: they have sealed them with the new key."""

_NAMES: Final[dict[type[Any], Any]] = {
    CredentialRow: CredentialRow.account,
    LoginRow: LoginRow.id,
    SealedRow: SealedRow.name,
}


class Rekeying(Database):
    """The change of the encryption key."""

    async def rekey(self) -> int:
        """Seal everything with the first key of the source; how many values that were.

        Where the source is the file that the service has made, it makes the new key too. Raises KeyNotReplaced,
        StoreUnavailable; to be called again then.
        """
        return await self._run(self._rekey)

    def _rekey(self) -> int:
        try:
            self._vault.learn(self._keys.read)
            done = 0
            if self._sealing_key().head == self._vault.first.head:
                done = self._seal_all_anew()
                if not isinstance(self._keys, OwnKey) or self._backend.reaches_other_machines:
                    return done or _refuse()
                self._keys.renew(self._vault.first.head)
                self._vault.learn(self._keys.read)
            return done + self._go_over() + self._seal_all_anew()
        except (KeyUnusable, Unopenable) as exc:
            log.warning("the encryption key is not replaced: %s", exc)
            raise KeyNotReplaced("The source of the encryption key cannot be used for that; the log says why.") from exc

    def _sealing_key(self) -> Key:
        with self._backend.reading() as connection:
            kept = connection.scalar(select(col(SealedRow.value)).where(IS_FINGERPRINTS))
        key = self._vault.key_of(kept or b"")
        if key is None:
            raise KeyUnusable(f"the database is sealed with a key that is not in {self._keys.name}")
        return key

    def _go_over(self) -> int:
        with self._backend.writing(exclusive=True) as connection:
            kept = connection.scalars(select(col(SealedRow.value)).where(IS_FINGERPRINTS).with_for_update()).one()
            first = Key(self._keys.read()[0])  # as it is now: another rekey may have come and gone
            if kept.startswith(first.head):
                return 0
            sealed = first.seal(self._vault.open(kept, FINGERPRINTS), FINGERPRINTS)
            connection.execute(update(SealedRow).where(IS_FINGERPRINTS).values(value=sealed))
        log.info("new values are sealed with the key %s from now on", first.id.hex())
        return 1

    def _seal_all_anew(self) -> int:
        done = 0
        for _ in range(_PASSES):
            key = self._sealing_key()
            outcomes = [self._seal_anew(table, name, key) for table, name in self._behind(key)]
            outcomes += self._rescue.seal_anew(self._vault, key) if self._rescue else []
            done += sum(each or 0 for each in outcomes)
            if None not in outcomes:
                self._retire(key)
                break
        self._backend.erase()
        return done

    def _behind(self, key: Key) -> list[tuple[type[Any], str]]:
        """The rows that hold what another key has sealed."""
        with self._backend.reading() as connection:
            return [
                (table, name)
                for table, columns in SEALED_COLUMNS.items()
                for name in connection.scalars(
                    select(_NAMES[table]).where(or_(*(_head(table, column) != key.head for column in columns)))
                )
            ]

    def _seal_anew(self, table: type[Any], name: str, key: Key) -> int | None:
        """How many values of a row were sealed with the key; None if somebody was faster and it is worth another look.

        A row that does not open stays as it is, and holds nobody up.
        """
        if self._ends:
            raise StoreUnavailable("The service is about to end: ask again, for it goes on where it was.")
        with self._backend.reading() as connection, Session(connection) as session:
            row = session.get(table, name)
            if row is None:
                return None
            try:
                sealed = sealed_anew(row, self._vault, key)
            except Unopenable:
                log.warning("what is stored for %s in %s does not open, and stays as it is", name, table.__tablename__)
                return 0
            if not sealed:
                return 0  # somebody else has done it
            guard = [_NAMES[table] == name, *_is_as_read(table, row)]
        with self._backend.writing() as connection:
            if self._key(connection).head != key.head:
                return None
            changed = connection.execute(update(table).where(*guard).values(sealed)).rowcount == 1
        return len(sealed) if changed else None

    def _retire(self, key: Key) -> None:
        if isinstance(self._keys, OwnKey) and not self._backend.reaches_other_machines:
            try:
                self._keys.retire(key.head)
            except KeyUnusable as exc:
                log.warning("keys that are not needed any more stay in their file: %s", exc)


def _head(table: type[Any], column: str) -> Any:
    return func.substr(getattr(table, column), 1, HEAD_BYTES, type_=LargeBinary)


def _is_as_read(table: type[Any], row: Any) -> Iterator[Any]:
    """The same generation, and byte for byte the same sealed values."""
    for column in (*SEALED_COLUMNS[table], *(["generation"] if table is CredentialRow else [])):
        yield getattr(table, column) == getattr(row, column)


def _refuse() -> int:
    raise KeyNotReplaced("There is no new encryption key to go over to.")
