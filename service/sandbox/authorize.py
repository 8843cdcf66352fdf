"""`/oauth/authorize`: a person lets a client act for them, in a browser.

Promises: nothing is sent to a redirect_uri that is not on the allow-list; every other fault goes back to the
client in the query, with the state it sent (RFC 6749 4.1.2.1).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from . import pages, wire
from .errors import OAuthError
from .values import CODEX_SCOPE, Login

if TYPE_CHECKING:
    from starlette.requests import Request

    from .knobs import Knobs, User
    from .state import State
    from .wire import Parameters

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")  # an S256 challenge is the base64url of 32 bytes
_REDIRECT_HOSTS = ("localhost", "127.0.0.1")


class RedirectedError(Exception):
    """An error that goes back to the client."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(error)
        self.error = error
        self.description = description


@dataclass(frozen=True, slots=True)
class _Asked:
    """A sound authorization request."""

    client_id: str
    scope: str
    challenge: str
    user: User


class Authorize:
    """The authorization endpoint of one sandbox."""

    def __init__(self, state: State) -> None:
        self._state = state

    def routes(self) -> list[Route]:
        """A GET comes from the client, a POST from the page's own buttons."""
        return [
            Route("/oauth/authorize", self.ask, methods=["GET"]),
            Route("/oauth/authorize", self.decide, methods=["POST"]),
        ]

    async def ask(self, request: Request) -> Response:
        """RFC 6749 4.1.1 with RFC 7636: a redirect with a code, or the page that asks the person."""
        if self._state.knobs.auto_approve:
            return self._answered(request, approved=True)
        return self._answered(request, approved=None)

    async def decide(self, request: Request) -> Response:
        """What the person pressed on that page."""
        pressed = wire.parameters_of(request).values.get("decision")
        return self._answered(request, approved=pressed == "approve")

    def _answered(self, request: Request, *, approved: bool | None) -> Response:
        try:
            query = wire.from_query(request.url.query)
            redirect_uri = _trusted_redirect(query, self._state.knobs)
        except OAuthError as exc:
            return pages.notice("Sign in failed", exc.description, 400)
        try:
            asked = self._asked(query)
            if approved is None:
                action = f"/oauth/authorize?{request.url.query}"
                return pages.consent(asked.user.email, asked.client_id, asked.scope, action)
            back = self._code(asked, redirect_uri, approved=approved)
        except RedirectedError as exc:
            back = {"error": exc.error, "error_description": exc.description}
        return _back_to(redirect_uri, back, query)

    def _asked(self, query: Parameters) -> _Asked:
        try:
            query.checked().required("state")
            if query.required("response_type") != "code":
                raise RedirectedError("unsupported_response_type", "Only the code is supported.")
            challenge, scope = _challenge(query), _scope(query)
            user = self._state.hinted(query.optional("login_hint"))
        except OAuthError as exc:
            raise RedirectedError("invalid_request", exc.description) from exc
        return _Asked(query.required("client_id"), scope, challenge, user)

    def _code(self, asked: _Asked, redirect_uri: str, *, approved: bool) -> dict[str, str]:
        knobs = self._state.knobs
        if knobs.authorize_error:
            raise RedirectedError(knobs.authorize_error, knobs.authorize_error_description)
        if not approved:
            raise RedirectedError("access_denied", "The user refused the request.")
        login = Login(asked.user, asked.client_id, asked.scope)
        code = self._state.grants.authorize(login, redirect_uri, asked.challenge, self._state.terms())
        return {"code": code, "scope": asked.scope}


def allowed_redirect(uri: str, ports: frozenset[int] | None) -> bool:
    """`http://localhost|127.0.0.1:<port>/auth/callback` and not a byte else."""
    try:
        url = urlsplit(uri)
        host, port = url.hostname, url.port
    except ValueError:
        return False
    exact = f"http://{host}:{port}/auth/callback" == uri
    return exact and host in _REDIRECT_HOSTS and (ports is None or port in ports)


def _trusted_redirect(query: Parameters, knobs: Knobs) -> str:
    if query.repeated in ("client_id", "redirect_uri"):
        # Which of the two values would be the trusted one?
        query.checked()
    if query.required("client_id") not in knobs.client_ids:
        raise OAuthError("invalid_request", "The client_id is unknown.")
    redirect_uri = query.required("redirect_uri")
    if not allowed_redirect(redirect_uri, knobs.redirect_ports):
        raise OAuthError("invalid_request", "The redirect_uri is not registered.")
    return redirect_uri


def _challenge(query: Parameters) -> str:
    if query.optional("code_challenge_method") != "S256":
        # Absent would mean "plain", RFC 7636 4.3.
        raise OAuthError("invalid_request", "The code_challenge_method must be S256.")
    challenge = query.required("code_challenge")
    if not _CHALLENGE.fullmatch(challenge):
        raise OAuthError("invalid_request", "The code_challenge is malformed.")
    return challenge


def _scope(query: Parameters) -> str:
    asked = (query.optional("scope") or "").split()
    if not asked or not set(asked) <= set(CODEX_SCOPE.split()):
        raise RedirectedError("invalid_scope", "The scope is missing or unknown.")
    return " ".join(asked)


def _back_to(redirect_uri: str, back: dict[str, str], query: Parameters) -> Response:
    state = query.values.get("state")
    parameters = {**back, **({"state": state} if state else {})}
    return RedirectResponse(f"{redirect_uri}?{urlencode(parameters)}", 302, headers=wire.NO_STORE)
