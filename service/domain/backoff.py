"""How long to leave an issuer alone after a failure. Pure: the jitter comes in as a number from 0 to 1."""

import math
from typing import Final

FIRST: Final = 1.0
"""Seconds after the first failure: a person waiting at a terminal notices more."""

CAP: Final = 300.0
"""Seconds at most between tries while an issuer is down: the longest that recovery goes unnoticed."""

CONFIGURATION: Final = 60.0
"""Seconds at least after the issuer refused our configuration: waiting does not mend it, asking is only noise."""

RETRY_AFTER_CAP: Final = 3600.0
"""Seconds at most that a Retry-After is obeyed: a nonsensical one must not log anybody out."""

LONGEST: Final = RETRY_AFTER_CAP * 1.1
"""Seconds: no pause of ours is longer. One that seems to be was noted while the clock was ahead, and is none."""


def backoff(failures: int, jitter: float, *, at_least: float = 0.0) -> float:
    """Seconds until the next try after `failures` failures (0 = this is the first): doubling, capped, never in step.

    at_least: what the issuer asked for, or the kind of failure demands; capped at RETRY_AFTER_CAP.
    """
    exponential = min(CAP, math.ldexp(FIRST, min(failures, 16)))
    return max(exponential * (0.5 + jitter / 2), min(at_least, RETRY_AFTER_CAP) * (1 + jitter / 10))
