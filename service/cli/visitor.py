"""The person of the demo: finishes a login as somebody with a browser would, on the sandbox's pages.

Promises to follow addresses on this machine only.
"""

import http.client
import time
from typing import Final
from urllib.parse import urlencode, urlsplit

from service.cli.client import Body, Service, login_path
from service.cli.console import Failure

_WITHIN: Final = 20.0
"""Seconds until the whole login must be over: nobody has to type anything."""


def is_ready(service: Service) -> bool:
    """Whether the service answers and can use its store."""
    try:
        return service.get("/readyz", within=1.0) is not None
    except Failure:
        return False


def finish_login(service: Service) -> None:
    """Log in to the default account at the sandbox, by a service that nobody else uses. Raises Failure."""
    login = service.call("POST", "/login", body={})
    page = str(login.get("authorize_url") or login.get("verification_uri"))
    if login.get("flow") == "device":
        _visit("POST", page, urlencode({"user_code": login.get("user_code"), "decision": "approve"}))
    else:
        _visit("GET", _visit("GET", page))
    ended = _ended(service, login)
    if ended.get("state") != "complete":
        raise Failure(f"The sandbox login did not succeed: {ended.get('detail') or ended.get('state')}")


def _ended(service: Service, login: Body) -> Body:
    give_up = time.monotonic() + _WITHIN
    while login.get("state") == "pending" and time.monotonic() < give_up:
        login = service.get(login_path(login.get("id")), {"wait": 5})
    return login


def _visit(method: str, url: str, form: str | None = None) -> str:
    """Load one page; the address that it redirects to, or nothing. Raises Failure unless it is a page or a redirect."""
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise Failure("The sandbox login left this machine.")
    headers = {} if form is None else {"Content-Type": "application/x-www-form-urlencoded"}
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=_WITHIN)
    try:
        connection.request(method, f"{parts.path}?{parts.query}", form, headers)
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException) as exc:
        raise Failure(f"A page of the sandbox login did not load ({type(exc).__name__}).") from exc
    finally:
        connection.close()
    if response.status >= 400:
        raise Failure(f"A page of the sandbox login answered HTTP {response.status}.")
    return response.headers.get("Location", "")
