"""POST /oauth/token as OAuth clients know it (RFC 6749 section 6): a client key stands in for the refresh token.

Promises that what is sent is read within bounds and never said again, and that every refusal, whoever makes it, is one
of section 5.2: the problem as it is, with `error` and `error_description` beside it.
"""

import json
import re
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.types import Message, Send

from service.domain.errors import Code, InvalidRequest, UnsupportedGrantType
from service.domain.secret import Secret
from service.web.problems import retold

TOKEN_ENDPOINT: Final = "/oauth/token"  # noqa: S105 - a path

MAX_BODY: Final = 16 * 1024
"""Bytes of a request: it is read before anybody knows who asks."""

_VISIBLE: Final = re.compile(r"[ -~]+")
"""RFC 6749 appendix A.17: a refresh token."""

_ERRORS: Final[dict[Code, str]] = {
    "key_required": "invalid_grant",
    "login_required": "invalid_grant",
    "unknown_account": "invalid_grant",
    "scope": "unauthorized_client",
    "unsupported_grant_type": "unsupported_grant_type",
    "invalid_request": "invalid_request",
}
"""What is 400 here, and its `error`. Clients take 401 and `invalid_grant` for the end of a login, and no 5xx."""


def refresh_token(kind: bytes, body: bytes) -> Secret:
    """The refresh token of a request. `kind`: its media type, a form's unless it begins as that of JSON does.

    Raises InvalidRequest, UnsupportedGrantType.
    """
    sent = _object(body) if kind.startswith(b"application/json") else _form(body)
    asked = {name: value for name, value in sent if value not in ("", None)}  # RFC 6749 section 3.2: as if left out
    if len({name for name, _ in sent}) < len(sent):
        raise InvalidRequest("A parameter is repeated.")
    if "grant_type" not in asked:
        raise InvalidRequest("grant_type is missing.")
    if asked["grant_type"] != "refresh_token":
        raise UnsupportedGrantType
    token = asked.get("refresh_token")
    if not isinstance(token, str) or not _VISIBLE.fullmatch(token):
        raise InvalidRequest("refresh_token is missing, or is none.")
    return Secret(token)


class _Members(list[tuple[str, Any]]):
    """Of a JSON object, as often as they were sent."""


def _object(body: bytes) -> list[tuple[str, Any]]:
    try:
        sent = json.loads(body, object_pairs_hook=_Members)
    except (ValueError, RecursionError):
        sent = None
    if not isinstance(sent, _Members):
        raise InvalidRequest("The body is no JSON object.")
    return sent


def _form(body: bytes) -> list[tuple[str, Any]]:
    try:
        return parse_qsl(body.decode())
    except ValueError:
        raise InvalidRequest("The body is no form.") from None


def oauth_error(code: Code, status: int) -> tuple[int, str]:
    """Status and `error` of a refusal."""
    if code in _ERRORS:
        return 400, _ERRORS[code]
    if status >= 500:
        return status, "temporarily_unavailable" if status == 503 else "server_error"
    return status, "invalid_request"


def for_a_client(send: Send) -> Send:
    """A `send` for one answer."""

    async def uncached(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], (b"pragma", b"no-cache")]}  # RFC 6749 section 5.1
        await send(message)

    return retold(uncached, for_clients)


def for_clients(start: Message, body: bytes) -> tuple[Message, bytes]:
    """A problem answer as it is told to an OAuth client."""
    problem = json.loads(body)
    status, error = oauth_error(problem["code"], start["status"])
    told = {"error": error, "error_description": problem["detail"], **problem, "status": status}
    dropped = (b"content-type", b"content-length", b"www-authenticate")  # that one is for a 401
    headers = [(name, value) for name, value in start["headers"] if name not in dropped]
    content = json.dumps(told).encode()
    headers += [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    return {**start, "status": status, "headers": headers}, content
