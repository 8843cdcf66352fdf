"""What the use cases take from the machine: the time and randomness. Tests put their own in its place."""

import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from service import clock


@dataclass(frozen=True, slots=True)
class Seams:
    """now: seconds since the epoch. boot: seconds that only grow. token_bytes: unguessable. jitter: 0 to 1."""

    now: Callable[[], float] = time.time
    boot: Callable[[], float] = clock.boot
    token_bytes: Callable[[int], bytes] = secrets.token_bytes
    jitter: Callable[[], float] = field(default=random.random)
