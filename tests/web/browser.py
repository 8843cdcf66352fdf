"""A person's browser: a cookie jar, and the headers that browsers send when a window is led somewhere."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.kit import House
from tests.kit.house import BASE
from tests.web.expect import lawful

HTML = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
TYPED = {"Accept": HTML, "Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
"""The address was typed."""

LED = {**TYPED, "Sec-Fetch-Site": "cross-site"}
"""A link or a redirect of another site led here."""


class Browser:
    """Follows nothing by itself: a test says where it goes."""

    def __init__(self, house: House, base: str = BASE) -> None:
        self._issuer = house.browser
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(house.app), base_url=base, event_hooks={"response": [lawful]}
        )

    async def open_login(self, account: str = "default", **query: Any) -> httpx.Response:
        """Type the address of GET /login."""
        return await self.http.get("/login", params={"account": account, **query}, headers=TYPED)

    async def approve(self, answer: httpx.Response) -> str:
        """Go where the answer leads, say yes there; the path of ours that the issuer then leads to."""
        at_issuer = await self._issuer.get(answer.headers["location"])
        back = urlsplit(at_issuer.headers["location"])
        return f"{back.path}?{back.query}"

    async def come_back(self, path: str) -> httpx.Response:
        """The issuer's redirect."""
        return await self.http.get(path, headers=LED)


@asynccontextmanager
async def browsing(house: House, base: str = BASE) -> AsyncIterator[Browser]:
    """A browser with an empty cookie jar."""
    browser = Browser(house, base)
    async with browser.http:
        yield browser
