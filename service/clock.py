"""The clock that nobody can set."""

import time


def boot() -> float:
    """Seconds that only grow, and that also count while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
