"""A client that does everything right, so that each test can do one thing wrong."""

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from service.sandbox import CODEX_CLIENT_ID, Sandbox

VERIFIER = "v" * 86
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
REDIRECT = "http://localhost:1455/auth/callback"
OMIT = object()

AUTHORIZE = {
    "response_type": "code",
    "client_id": CODEX_CLIENT_ID,
    "redirect_uri": REDIRECT,
    "scope": "openid profile email offline_access",
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
    "id_token_add_organizations": "true",
    "codex_cli_simplified_flow": "true",
    "state": "a-state",
    "originator": "pixir",
}


class Clock:
    """Seconds since the epoch, moved by hand."""

    def __init__(self) -> None:
        self.at = 1_800_000_000.0

    def __call__(self) -> float:
        return self.at


def claims(token: str) -> dict[str, Any]:
    header, payload, signature = token.split(".")
    assert header
    assert signature
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def query_of(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def _changed(fields: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**fields, **changes}.items() if value is not OMIT}


@dataclass
class Driver:
    sandbox: Sandbox
    client: httpx.AsyncClient

    async def authorize(self, **changes: Any) -> httpx.Response:
        return await self.client.get("/oauth/authorize", params=_changed(AUTHORIZE, changes))

    async def code(self, **changes: Any) -> str:
        answer = await self.authorize(**changes)
        return query_of(answer.headers["location"])["code"]

    async def redeem(self, code: str, /, **changes: Any) -> httpx.Response:
        fields = {
            "grant_type": "authorization_code",
            "client_id": CODEX_CLIENT_ID,
            "code": code,
            "redirect_uri": REDIRECT,
            "code_verifier": VERIFIER,
        }
        return await self.client.post("/oauth/token", data=_changed(fields, changes))

    async def login(self, **changes: Any) -> dict[str, Any]:
        return (await self.redeem(await self.code(**changes))).json()

    async def refresh(self, token: str, **changes: Any) -> httpx.Response:
        fields = {"grant_type": "refresh_token", "client_id": CODEX_CLIENT_ID, "refresh_token": token}
        return await self.client.post("/oauth/token", json=_changed(fields, changes))

    async def form_refresh(self, token: str) -> httpx.Response:
        fields = {"grant_type": "refresh_token", "client_id": CODEX_CLIENT_ID, "refresh_token": token}
        return await self.client.post("/oauth/token", data=fields)

    async def call_api(self, token: str, account: str | None = None, path: str = "/v1/responses") -> httpx.Response:
        account = self.sandbox.knobs.user.account_id if account is None else account
        headers = {"Authorization": f"Bearer {token}", "ChatGPT-Account-ID": account}
        method = "POST" if path.endswith("responses") else "GET"
        return await self.client.request(method, path, headers=headers)

    async def usercode(self) -> dict[str, Any]:
        started = await self.client.post("/api/accounts/deviceauth/usercode", json={"client_id": CODEX_CLIENT_ID})
        return started.json()

    async def poll(self, device: dict[str, Any]) -> httpx.Response:
        asked = {name: device[name] for name in ("device_auth_id", "user_code")}
        return await self.client.post("/api/accounts/deviceauth/token", json=asked)
