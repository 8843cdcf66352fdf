"""What happened, as a value: who did what, when, and how it ended. Never a secret, never anything that was sent."""

from dataclasses import dataclass
from typing import Literal

Deed = Literal[
    "login_started",
    "login",
    "refresh",
    "logout",
    "import",
    "export",
    "key_added",
    "key_revoked",
    "rekey",
    "backup",
    "restore",
    "refused",
]
"""What is kept in the audit trail."""

DONE = "done"
"""The outcome of what worked; anything else is an error code."""


@dataclass(frozen=True, slots=True)
class Event:
    """`who`: `uid 1000`, `key ci`, `browser`, `service` or `unknown`. `times`: how often it happened just so.

    `at`: seconds since the epoch, of the first time. `number`: its place in the trail, 0 until it has one.
    """

    at: float
    deed: Deed
    who: str
    outcome: str = DONE
    account: str | None = None
    detail: str | None = None
    times: int = 1
    number: int = 0
