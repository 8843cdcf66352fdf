"""A stand-in for the API the tokens are for: says only whether it would have served the caller.

Promises 401 `{"detail":"Unauthorized"}` unless the bearer token and the account header fit each other.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .mint import new_id

if TYPE_CHECKING:
    from starlette.requests import Request

    from .state import State
    from .values import Family

_RESPONSES = ("/v1/responses", "/backend-api/codex/responses", "/responses")
_MODELS = ("/v1/models", "/backend-api/codex/models", "/models")
_ACCOUNTS = ("/backend-api/wham/accounts/check", "/wham/accounts/check")


class Api:
    """The endpoints of one sandbox."""

    def __init__(self, state: State) -> None:
        self._state = state

    def routes(self) -> list[Route]:
        """Where they live."""
        return [
            *(Route(path, self.responses, methods=["POST"]) for path in _RESPONSES),
            *(Route(path, self.models, methods=["GET"]) for path in _MODELS),
            *(Route(path, self.accounts, methods=["GET"]) for path in _ACCOUNTS),
        ]

    async def responses(self, request: Request) -> Response:
        """One finished turn as server-sent events; what was asked does not matter."""
        if self._caller(request) is None:
            return _unauthorized()
        body = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in _turn())
        return Response(body, media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    async def models(self, request: Request) -> Response:
        """No models: clients fall back to those they know."""
        return JSONResponse({"models": []}) if self._caller(request) else _unauthorized()

    async def accounts(self, request: Request) -> Response:
        """The one account of the caller."""
        family = self._caller(request)
        return JSONResponse(_accounts(family, self._state.issuer)) if family else _unauthorized()

    def _caller(self, request: Request) -> Family | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        family = self._state.grants.bearer(token, self._state.terms()) if scheme.lower() == "bearer" else None
        account = request.headers.get("chatgpt-account-id", "")
        return family if family and family.account_id == account else None


def _unauthorized() -> Response:
    return JSONResponse({"detail": "Unauthorized"}, 401)


def _accounts(family: Family, issuer: str) -> dict[str, Any]:
    account = {
        "id": family.account_id,
        "name": family.user.email,
        "structure": "personal",
        "plan_type": family.user.plan,
        # Codex insists on an HTTPS origin and may send the token there: our own name keeps it on this machine.
        "workspace_backend_origin": f"https://{urlsplit(issuer).netloc}",
        "account_routing_override": "NO_CONSTRAINT",
    }
    return {
        "accounts": [account],
        "account_ordering": [family.account_id],
        "default_account_id": family.account_id,
    }


def _turn() -> list[dict[str, Any]]:
    """The least that Codex accepts as a finished answer."""
    turn_id = new_id("resp_")
    message = {
        "type": "message",
        "role": "assistant",
        "id": new_id("msg_"),
        "content": [{"type": "output_text", "text": "The sandbox says hello."}],
    }
    usage = {
        "input_tokens": 1,
        "input_tokens_details": None,
        "output_tokens": 1,
        "output_tokens_details": None,
        "total_tokens": 2,
    }
    return [
        {"type": "response.created", "response": {"id": turn_id}},
        {"type": "response.output_item.done", "output_index": 0, "item": message},
        {"type": "response.completed", "response": {"id": turn_id, "usage": usage}},
    ]
