"""Reading the tokens' claims: hints for display and for `exp`. Their signatures are the resource server's business."""

import base64
import binascii
from typing import Any

from service.domain.credential import Identity
from service.domain.secret import Secret
from service.oauth.wire import parse_object

_AUTH = "https://api.openai.com/auth"
_PROFILE = "https://api.openai.com/profile"
_MAX_CLAIM = 320
"""Characters of a claim that are kept: the longest e-mail address."""


def unverified_claims(token: Secret | None) -> dict[str, Any]:
    """The payload of a JWT, or an empty object when it is none (RFC 7519)."""
    parts = token.reveal().split(".") if token else []
    if len(parts) != 3:
        return {}
    try:
        raw = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
    except (binascii.Error, ValueError):
        return {}
    return parse_object(raw) or {}


def identity(*tokens: Secret | None) -> Identity:
    """Account id, e-mail and plan: each from the first token that claims it."""
    found = [_identity(unverified_claims(token)) for token in tokens]
    return Identity(
        account_id=next((one.account_id for one in found if one.account_id), None),
        email=next((one.email for one in found if one.email), None),
        plan=next((one.plan for one in found if one.plan), None),
    )


def instant(token: Secret | None, claim: str) -> float | None:
    """`exp` or `iat` of a token as seconds since the epoch."""
    value = unverified_claims(token).get(claim)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e11:
        return None
    return float(value)


def _identity(claims: dict[str, Any]) -> Identity:
    auth = _object(claims.get(_AUTH))
    return Identity(
        account_id=_text(auth.get("chatgpt_account_id")),
        email=_text(claims.get("email")) or _text(_object(claims.get(_PROFILE)).get("email")),
        plan=_text(auth.get("chatgpt_plan_type")),
    )


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    """A claim that may be shown and sent in a header: printable ASCII, short."""
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_CLAIM:
        return None
    return value if value.isascii() and value.isprintable() else None
