"""The device login over HTTP: two JSON endpoints for the device, one page for the person."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from starlette.routing import Route

from . import pages, wire
from .devices import UnknownUserCodeError
from .errors import OAuthError
from .mint import challenge_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from .state import State
    from .wire import Parameters


class DeviceAuth:
    """The endpoints of one sandbox. Those for the device raise OAuthError."""

    def __init__(self, state: State) -> None:
        self._state = state

    def routes(self) -> list[Route]:
        """Where they live."""
        return [
            Route("/api/accounts/deviceauth/usercode", self.usercode, methods=["POST"]),
            Route("/api/accounts/deviceauth/token", self.poll, methods=["POST"]),
            Route("/codex/device", self.form, methods=["GET"]),
            Route("/codex/device", self.decide, methods=["POST"]),
        ]

    async def usercode(self, request: Request) -> Response:
        """Start a device login."""
        terms = self._state.terms()
        if not terms.knobs.device_login:
            raise OAuthError("deviceauth_disabled")
        client_id = _json_only(request).required("client_id")
        if client_id not in terms.knobs.client_ids:
            raise OAuthError("invalid_client", "The client_id is unknown.")
        device = self._state.devices.start(client_id, terms)
        return wire.answer(
            {
                "device_auth_id": device.device_auth_id,
                "user_code": device.user_code,
                "interval": terms.knobs.device_interval,
                "expires_at": datetime.fromtimestamp(device.until, UTC).isoformat(),
            }
        )

    async def poll(self, request: Request) -> Response:
        """Ask how it stands; once approved, a code and the verifier made for it."""
        given = _json_only(request)
        asked = given.required("device_auth_id"), given.required("user_code")
        code, verifier = self._state.device_code(*asked)
        return wire.answer(
            {
                "authorization_code": code,
                "code_challenge": challenge_of(verifier),
                "code_verifier": verifier,
            }
        )

    async def form(self, request: Request) -> Response:
        """The page, with the code filled in when the link carried it."""
        return pages.device_form(request.query_params.get("user_code", ""))

    async def decide(self, request: Request) -> Response:
        """What the person pressed."""
        try:
            given = wire.parameters_of(request).checked()
            user_code, approved = given.required("user_code"), given.required("decision") == "approve"
            if approved:
                self._state.approve(user_code, None)
            else:
                self._state.devices.deny(user_code, self._state.now())
        except OAuthError as exc:
            return pages.device_form(problem=exc.description)
        except UnknownUserCodeError:
            return pages.device_form(problem="That code is unknown or no longer valid.")
        done = "You are signed in. Go back to your device." if approved else "The device was refused."
        return pages.notice("Done", done)


def _json_only(request: Request) -> Parameters:
    if wire.media_type(request.headers.get("content-type", "")) != wire.JSON:
        raise OAuthError("invalid_request", f"The content type must be {wire.JSON}.")
    return wire.parameters_of(request).checked()
