"""How a login ended, once more at an address that holds no code: the first stays in no history (RFC 9700 section 4.2).

The page at the first sends the browser on at once, with a cookie; browsers put the second in the place of the first.
"""

from collections.abc import Mapping
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

    def __init__(self) -> None:
        self._ends: dict[str, End] = {}

    def keep(self, end: End) -> str:
        """The value of the cookie that finds it again."""
        if len(self._ends) >= _KEPT:
            del self._ends[next(iter(self._ends))]
        value = token_urlsafe(16)
        self._ends[value] = end
        return value

    def of(self, cookies: Mapping[str, str]) -> End | None:
        """What the browser was shown, if it was here."""
        return self._ends.get(cookies.get(COOKIE, ""))
