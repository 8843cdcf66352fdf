"""Logins over the API, and what a browser would bring back from the issuer."""

from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from tests.kit import House


async def start(h: House, account: str, **body: Any) -> dict[str, Any]:
    """POST /login."""
    answer = await h.client.post("/login", json={"account": account, **body})
    assert answer.status_code == 201
    login: dict[str, Any] = answer.json()
    return login


async def stands(h: House, login: dict[str, Any]) -> dict[str, Any]:
    """GET /login/{id}."""
    body: dict[str, Any] = (await h.client.get(f"/login/{login['id']}")).json()
    return body


async def state_of(h: House, login: dict[str, Any]) -> str:
    """The word for how it stands."""
    state: str = (await stands(h, login))["state"]
    return state


def asked(login: dict[str, Any]) -> dict[str, str]:
    """The parameters of its authorize_url."""
    return dict(parse_qsl(urlsplit(login["authorize_url"]).query, strict_parsing=True))


async def pending(h: House, account: str) -> tuple[dict[str, Any], str]:
    """A started login and where the browser would come back."""
    login = await start(h, account)
    return login, await h.authorize(login["authorize_url"])


def bent(back: str, **members: str | None) -> str:
    """The same return with members changed, or left out."""
    query = {**dict(parse_qsl(urlsplit(back).query)), **members}
    return "/auth/callback?" + urlencode({name: value for name, value in query.items() if value is not None})


def exchanges(h: House) -> int:
    """Codes that were sent to the issuer."""
    return len(h.sandbox.token_requests("authorization_code"))
