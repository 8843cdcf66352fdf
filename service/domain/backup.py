"""What comes back from a backup, as values. What a backup looks like is the store's business."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

FORMAT: Final = 1
"""The version of the document."""

Value = str | int | float | bool | None

Outcome = Literal["restored", "spent", "ended", "here", "held", "damaged"]
"""What became of a row.

restored: it is here, and not refreshed until confirmed (a client key: it is good again). spent: it is here, but was
refreshed after the backup, or may have been sent twice by then: never. ended: it is here as it was, logged out or dead.
here: something of that name is here already, and stays. held: another account holds that login. damaged: it was changed
or moved, or its key is missing.
"""


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a backup, columns by name, and what proves that nobody has changed it."""

    row: Mapping[str, Value]
    mac: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Some of a backup. fingerprints: a secret of the database that it was made of, sealed. replace: logins that are
    here."""

    fingerprints: bytes
    credentials: Sequence[Line] = ()
    client_keys: Sequence[Line] = ()
    replace: bool = False
