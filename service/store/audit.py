"""The audit trail: what happened, in order, and only the newest of each kind.

Bounded by kind, so that somebody who is refused all day does not push out who logged in.
"""

from collections.abc import Sequence
from typing import Final, cast

from sqlalchemy import delete, insert, select
from sqlmodel import Session, col

from service.domain.audit import Deed, Event
from service.store.database import Database
from service.store.schema import AuditRow

KEPT: Final = 5000
"""Entries kept of each kind."""

_A = AuditRow


class AuditTrail(Database):
    """What happened."""

    async def append(self, events: Sequence[Event]) -> None:
        """Keep events; the oldest of their kinds go."""
        await self._run(self._append, events)

    async def events(self, before: int | None, limit: int) -> list[Event]:
        """The newest events, newest first; those before a number, if one is given."""
        return await self._run(self._events, before, limit)

    def _append(self, events: Sequence[Event]) -> None:
        with self._backend.writing() as connection:
            connection.execute(insert(_A), [_columns(event) for event in events])
            for deed in sorted({event.deed for event in events}):  # one order for all: each waits for rows that go
                oldest = select(_A.id).where(col(_A.event) == deed).order_by(col(_A.id).desc()).offset(KEPT).limit(1)  # type: ignore[call-overload]
                connection.execute(delete(_A).where(col(_A.event) == deed, col(_A.id) <= oldest.scalar_subquery()))

    def _events(self, before: int | None, limit: int) -> list[Event]:
        query = select(_A).order_by(col(_A.id).desc()).limit(limit)
        if before is not None:
            query = query.where(col(_A.id) < before)
        with self._backend.reading() as connection, Session(connection) as session:
            return [_event_of(row) for row in session.scalars(query)]


def _columns(event: Event) -> dict[str, object]:
    return {
        "at": event.at,
        "event": event.deed,
        "who": event.who,
        "account": event.account,
        "outcome": event.outcome,
        "detail": event.detail,
        "times": event.times,
    }


def _event_of(row: AuditRow) -> Event:
    deed = cast("Deed", row.event)
    return Event(row.at, deed, row.who, row.outcome, row.account, row.detail, row.times, row.id or 0)
