"""Every refusal of the issuer: its code, its HTTP status, and which of the two body shapes it takes.

Promises one table. The flat shape is RFC 6749 5.2; the nested one is what the Codex issuer sends
about dead refresh tokens and about device logins. Must not know HTTP libraries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

REUSED_MESSAGE = "Your refresh token has already been used to generate a new access token. Please try signing in again."
ENDED_MESSAGE = "Your session has ended. Please log in again."
EMPTY_MESSAGE = (
    "Invalid 'refresh_token': empty string. Expected a string with minimum length 1, but got an empty string instead."
)


@dataclass(frozen=True, slots=True)
class Shape:
    """How a code goes over the wire."""

    status: int
    nested: bool = False
    message: str = ""
    param: str | None = None


SHAPES: dict[str, Shape] = {
    # RFC 6749 5.2
    "invalid_request": Shape(400),
    "invalid_client": Shape(401),
    "invalid_grant": Shape(400),
    "unsupported_grant_type": Shape(400),
    "invalid_scope": Shape(400),
    # the end of a refresh token
    "refresh_token_reused": Shape(401, nested=True, message=REUSED_MESSAGE),
    "refresh_token_invalidated": Shape(401, nested=True, message=ENDED_MESSAGE),
    "refresh_token_expired": Shape(401, nested=True, message="Your refresh token has expired. Please log in again."),
    "app_session_terminated": Shape(401, nested=True, message=ENDED_MESSAGE),
    "empty_string": Shape(400, nested=True, message=EMPTY_MESSAGE, param="refresh_token"),
    # device login; Codex reads only the status: 403 goes on polling, 404 at the start means "not offered",
    # anything else ends the login. The names of the endings are RFC 8628 3.5.
    "deviceauth_authorization_pending": Shape(403, nested=True, message="The user has not approved this device yet."),
    "deviceauth_disabled": Shape(404, nested=True, message="Device code login is not enabled."),
    "access_denied": Shape(400, nested=True, message="The user refused this device."),
    "expired_token": Shape(400, nested=True, message="The user code has expired."),
    "slow_down": Shape(400, nested=True, message="Polling too fast."),
    "deviceauth_unknown": Shape(400, nested=True, message="No such device login."),
}


class OAuthError(Exception):
    """A refusal by its literal code; `description` overrides the table's words."""

    def __init__(self, code: str, description: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.shape = SHAPES[code]
        self.description = description or self.shape.message

    @property
    def status(self) -> int:
        """The HTTP status that goes with the code."""
        return self.shape.status

    def body(self) -> dict[str, Any]:
        """The JSON object that goes with the code."""
        return nested(self.code, self.description, self.shape.param) if self.shape.nested else self.flat()

    def flat(self) -> dict[str, Any]:
        """`{"error", "error_description"}`, RFC 6749 5.2."""
        return {"error": self.code, "error_description": self.description or self.code.replace("_", " ")}


def nested(code: str, message: str, param: str | None = None) -> dict[str, Any]:
    """`{"error": {"message", "type", "param", "code"}}`, as the Codex issuer words it."""
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}
