"""A clock that stands still until somebody turns it, and jitter that is always the middle."""

import secrets

from service.broker.seams import Seams


class Clock:
    """Wall time and boot time, turned together by `advance`; `now` may be set alone, as people set clocks."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now
        self.boot = 1000.0

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds
        self.boot += seconds

    def seams(self) -> Seams:
        """The seams that use this clock."""
        return Seams(now=lambda: self.now, boot=lambda: self.boot, token_bytes=secrets.token_bytes, jitter=lambda: 0.5)
