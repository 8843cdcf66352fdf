"""`/oauth/token` and `/oauth/revoke`.

Promises RFC 6749 5.1 and 5.2 answers to forms and to JSON alike: the Codex CLI redeems codes with the one and
refreshes with the other.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from . import wire
from .errors import OAuthError
from .mint import new_secret
from .values import Redemption, Tokens

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from .knobs import Knobs
    from .state import State
    from .wire import Parameters

_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")  # RFC 7636 4.1
_TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - RFC 8693 2.1
_ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105 - RFC 8693 3


class Token:
    """The token and revocation endpoints of one sandbox. Endpoints raise OAuthError."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._grants = {
            "authorization_code": self._redeem,
            "refresh_token": self._refresh,
            _TOKEN_EXCHANGE: self._api_key,
        }

    def routes(self) -> list[Route]:
        """Where they live."""
        return [
            Route("/oauth/token", self.grant, methods=["POST"]),
            Route("/oauth/revoke", self.revoke, methods=["POST"]),
        ]

    async def grant(self, request: Request) -> Response:
        """RFC 6749 3.2; parameters it does not know are ignored, as that section says."""
        if request.url.query:
            raise OAuthError("invalid_request", "Parameters belong into the body.")
        if "authorization" in request.headers:
            raise OAuthError("invalid_client", "A public client does not authenticate.")
        given = wire.parameters_of(request).checked()
        grant = self._grants.get(given.required("grant_type"))
        if grant is None:
            raise OAuthError("unsupported_grant_type")
        if given.required("client_id") not in self._state.knobs.client_ids:
            raise OAuthError("invalid_client", "The client_id is unknown.")
        return wire.answer(grant(given))

    async def revoke(self, request: Request) -> Response:
        """RFC 7009 2.2: 200 whatever the token was. Codex sends its built-in client_id, so that is not read."""
        token = wire.parameters_of(request).values.get("token")
        if isinstance(token, str):
            self._state.grants.revoke(token)
        return wire.answer({})

    def _redeem(self, given: Parameters) -> dict[str, Any]:
        verifier = given.required("code_verifier")
        if not _VERIFIER.fullmatch(verifier):
            raise OAuthError("invalid_request", "The code_verifier is malformed.")
        redemption = Redemption(
            given.required("code"), given.required("client_id"), given.required("redirect_uri"), verifier
        )
        return shaped(self._state.redeem(redemption), self._state.knobs)

    def _refresh(self, given: Parameters) -> dict[str, Any]:
        if given.values.get("refresh_token") == "":
            raise OAuthError("empty_string")
        token, client_id = given.required("refresh_token"), given.required("client_id")
        scope, terms = given.optional("scope"), self._state.terms()
        return shaped(self._state.grants.refresh(token, client_id, scope, terms), terms.knobs)

    def _api_key(self, given: Parameters) -> dict[str, Any]:
        """RFC 8693 as Codex uses it after a browser login: an id_token for an API key."""
        if given.required("subject_token_type") != _ID_TOKEN:
            raise OAuthError("invalid_request", "The subject_token_type is not supported.")
        if given.required("requested_token") != "openai-api-key":
            raise OAuthError("invalid_request", "The requested_token is not supported.")
        if not self._state.grants.identified(given.required("subject_token"), self._state.terms()):
            raise OAuthError("invalid_request", "The subject_token is not valid.")  # RFC 8693 2.2.2
        return {"access_token": new_secret("sk-sandbox-"), "token_type": "N_A"}


def shaped(tokens: Tokens, knobs: Knobs) -> dict[str, Any]:
    """A token answer after the knobs that drop and replace fields."""
    fields = {**tokens.fields(), **knobs.override_fields}
    return {name: value for name, value in fields.items() if name not in knobs.drop_fields}
