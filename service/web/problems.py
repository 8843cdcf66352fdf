"""The one table from error codes to HTTP status, and problem answers (RFC 9457). Never echoes what was sent."""

import json
from collections.abc import Callable
from typing import Any, Final

from starlette.responses import Response
from starlette.types import Message, Send

from service.domain.errors import CODES, AuthError, Code, KeyRequired, LoginRequired, OutOfScope

STATUS: Final[dict[Code, tuple[int, str]]] = {
    "account_mismatch": (409, "Another account"),
    "callback_port_unavailable": (503, "Callback port taken"),
    "credential_unreadable": (500, "Stored login does not open"),
    "cross_site": (403, "Asked by another site"),
    "device_login_unavailable": (502, "No device login"),
    "header_required": (403, "Not allowed"),
    "headers_too_large": (431, "Headers too large"),
    "host_not_allowed": (421, "Host not allowed"),
    "internal_error": (500, "Error in this program"),
    "invalid_answer": (502, "Issuer's answer not understood"),
    "invalid_credential": (422, "Credential cannot be used"),
    "invalid_request": (422, "Request cannot be used"),
    "issuer_refused": (502, "Issuer refused"),
    "issuer_unavailable": (503, "Issuer unavailable"),
    "key_exists": (409, "Client key exists"),
    "key_required": (401, "Client key required"),
    "login_cancelled": (409, "Login ended"),
    "login_denied": (400, "Login denied"),
    "login_expired": (409, "Login expired"),
    "login_mismatch": (400, "No such pending login"),
    "login_replaced": (409, "Login replaced"),
    "login_required": (409, "Login required"),
    "malformed_request": (400, "Request cannot be read"),
    "method_not_allowed": (405, "Method not allowed"),
    "no_new_key": (409, "No new encryption key"),
    "not_found": (404, "Not found"),
    "payload_too_large": (413, "Body too large"),
    "scope": (403, "Out of scope"),
    "store_unavailable": (503, "Store unavailable"),
    "unknown_account": (404, "Unknown account"),
    "unknown_key": (404, "Unknown client key"),
    "unknown_login": (404, "Unknown login"),
    "unknown_provider": (422, "Unknown provider"),
    "unsupported_grant_type": (400, "Grant type not supported"),
    "unsupported_media_type": (415, "Unsupported media type"),
    "wrong_user": (403, "Another user"),
}
"""Status and title of every code."""

MEDIA_TYPE: Final = "application/problem+json"

_SEE_DOCUMENT: Final = ("See the OpenAPI document: pixir-auth openapi.",)

DEFAULT_ACTIONS: Final[dict[Code, tuple[str, ...]]] = {
    "cross_site": ("Open the address yourself, in a window of its own.",),
    "header_required": ("Send the header that PIXIR_AUTH_REQUIRE_HEADER names.",),
    "headers_too_large": ("Send fewer: a browser sends the cookies of everything at localhost; clear them.",),
    "host_not_allowed": ("Use the address that the service prints at start, or set PIXIR_AUTH_ALLOWED_HOSTS.",),
    "internal_error": ("See the log of the service.",),
    "invalid_credential": ("Look at what is imported, or log in instead: pixir-auth login.",),
    "invalid_request": _SEE_DOCUMENT,
    "login_cancelled": ("Start the login again.",),
    "login_replaced": ("Finish the newer login, or start one again.",),
    "malformed_request": ("Send what RFC 9112 allows.",),
    "method_not_allowed": _SEE_DOCUMENT,
    "not_found": _SEE_DOCUMENT,
    "payload_too_large": ("Send less at a time.",),
    "unknown_login": ("Start a login: pixir-auth login, or POST /login.",),
    "unknown_provider": ("Leave the provider out.",),
    "unsupported_grant_type": ("Send grant_type=refresh_token, and a client key as refresh_token.",),
    "unsupported_media_type": ("Send application/json.",),
}
"""What a person can do, where the error does not know better."""


def problem(
    code: Code,
    detail: str,
    *,
    next_actions: tuple[str, ...] = (),
    headers: dict[str, str] | None = None,
    **extras: object,
) -> Response:
    """A problem answer. extras: `account`, `retry_after`, `login_url`, `reason`; None ones are left out."""
    status, title = STATUS[code]
    body: dict[str, Any] = {
        "type": f"urn:pixir-auth:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "next_actions": list(next_actions or DEFAULT_ACTIONS.get(code, ())),
        **{name: value for name, value in extras.items() if value is not None},
    }
    sent = dict(headers or {})
    if (seconds := extras.get("retry_after")) is not None:
        sent["Retry-After"] = str(seconds)
    return Response(json.dumps(body), status, headers=sent, media_type=MEDIA_TYPE)


def problem_of(error: AuthError, public_url: str) -> Response:
    """The problem answer for an error of ours. `public_url`: where people reach the service."""
    if not isinstance(error, LoginRequired):
        return problem(
            error.code,
            error.detail,
            next_actions=error.next_actions,
            headers=_challenge(error),
            retry_after=error.retry_after,
        )
    query = "" if error.account == "default" else f"?account={error.account}"
    login_url = f"{public_url}/login{query}"
    option = "" if error.account == "default" else f" --account {error.account}"
    return problem(
        "login_required",
        error.detail,
        next_actions=(f"Open {login_url} in a browser.", f"Or run: pixir-auth login{option}"),
        account=error.account,
        login_url=login_url,
        reason=error.reason,
    )


def retold(send: Send, told: Callable[[Message, bytes], tuple[Message, bytes]]) -> Send:
    """A `send` for one answer; if it is a refusal, it is sent as `told` tells it, who gets its start and its body."""
    held: Message = {}
    body = b""

    async def sent(message: Message) -> None:
        nonlocal held, body
        if message["type"] == "http.response.start" and message["status"] >= 400:
            held = message
        elif not held:
            await send(message)
        else:
            body += message.get("body", b"")
            if not message.get("more_body", False):
                start, content = told(held, body)
                await send(start)
                await send({"type": "http.response.body", "body": content})

    return sent


def _challenge(error: AuthError) -> dict[str, str] | None:
    """RFC 6750 section 3: what to send, and what was wrong with what was sent, if anything was."""
    match error:
        case KeyRequired(is_wrong=wrong):
            return {"WWW-Authenticate": 'Bearer error="invalid_token"' if wrong else "Bearer"}
        case OutOfScope():
            return {"WWW-Authenticate": 'Bearer error="insufficient_scope"'}
    return None


assert frozenset(STATUS) == CODES  # noqa: S101 - one table for all codes, checked at import
