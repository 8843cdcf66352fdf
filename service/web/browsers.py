"""A person's browser: how it is told from a program, and where it is led."""

from typing import Final
from urllib.parse import urlsplit

from fastapi import Request, Response

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
"""This machine, as browsers name it. Issuers send them back to the first."""


def wants_page(request: Request) -> bool:
    """Whether it is a browser that asks."""
    return "text/html" in request.headers.get("accept", "")


def is_window(request: Request) -> bool:
    """Whether a browser says that a person looks at the answer."""
    return request.headers.get("sec-fetch-dest") == "document"


def is_at(request: Request, url: str) -> bool:
    """Whether the browser asked at the host and port of this address."""
    return request.headers["host"].lower() == urlsplit(url).netloc.lower()


def see_other(url: str, headers: dict[str, str] | None = None) -> Response:
    """Go there, with GET."""
    return Response(status_code=303, headers={"Location": url, **(headers or {})})


def at_localhost(request: Request, path: str) -> Response | None:
    """Lead a browser to the name that the issuer sends it back to: a cookie set at 127.0.0.1 would not come along.

    From the page of the accounts at 127.0.0.1 a login at localhost would be that of another site. None: it is there, or
    nobody who comes back.
    """
    host = urlsplit(f"//{request.headers['host']}")
    if not is_window(request) or host.hostname not in LOOPBACK - {"localhost"}:
        return None
    port = f":{host.port}" if host.port else ""
    return see_other(f"http://localhost{port}{path}")
