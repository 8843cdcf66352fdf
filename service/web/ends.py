"""How a login ended, once more at an address that holds no code: the first stays in no history (RFC 9700 section 4.2).

The page at the first sends the browser on at once, with a cookie; browsers put the second in the place of the first.
"""

from collections.abc import Callable, Mapping
from secrets import token_urlsafe
from typing import Final, NamedTuple

COOKIE: Final = "pixir_auth_ended"

SHOWN_FOR: Final = 300
"""Seconds in which the page may be loaded again."""

_KEPT: Final = 64


class End(NamedTuple):
    """Who has logged in: an account, and the person's address where it is known."""

    account: str
    email: str | None


class Ends:
    """The last logins that ended well here, in memory: what a page says is worth no more."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._ends: dict[str, tuple[End, float]] = {}

    def keep(self, end: End) -> str:
        """The value of the cookie that finds it again."""
        if len(self._ends) >= _KEPT:
            del self._ends[next(iter(self._ends))]
        value = token_urlsafe(16)
        self._ends[value] = end, self._now() + SHOWN_FOR
        return value

    def of(self, cookies: Mapping[str, str]) -> End | None:
        """What the browser was shown, if it was here and not long ago."""
        end, until = self._ends.get(cookies.get(COOKIE, ""), (None, 0.0))
        return end if self._now() < until else None
