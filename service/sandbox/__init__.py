"""An issuer that behaves like the one Codex logs in at: for demos, tests, and the real Codex CLI.

Promises: strict about everything it receives, every right and every failure under the caller's control.
It imports nothing from the rest of the service, so that agreement between the two proves something.
"""

from . import faults
from .devices import UnknownUserCodeError
from .faults import DEVICE_POLL_PATH, TOKEN_PATH, Fault
from .knobs import CODEX_CLIENT_ID, Knobs, User
from .layer import Received
from .sandbox import Sandbox
from .values import Ended, Family

__all__ = [
    "CODEX_CLIENT_ID",
    "DEVICE_POLL_PATH",
    "TOKEN_PATH",
    "Ended",
    "Family",
    "Fault",
    "Knobs",
    "Received",
    "Sandbox",
    "UnknownUserCodeError",
    "User",
    "faults",
]
