"""Credentials made elsewhere: our own shape, or the `auth.json` of Codex or Pixir. Pure; raises InvalidCredential."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from service.domain.caller import KEY_PREFIX
from service.domain.credential import Identity, Tokens
from service.domain.errors import InvalidCredential
from service.domain.secret import Secret
from service.oauth import claims
from service.oauth.answers import is_sendable


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key: kept in memory only."""

    key: Secret


def read_credential(document: dict[str, Any]) -> Tokens | ApiKey:
    """The credential in a document of any of the three shapes."""
    if "account" in document:  # it would be overlooked, and another account's login replaced
        raise InvalidCredential("The account belongs in the query, not in the body.")
    if isinstance(document.get("tokens"), dict):
        return _subscription(document["tokens"], expires_at=None)
    if document.get("kind") == "subscription":
        return _subscription(document, expires_at=_expires_at(document.get("expires_at")))
    if document.get("kind") == "api_key":
        return ApiKey(_required(document, "api_key"))
    if document.get("OPENAI_API_KEY") is not None:
        return ApiKey(_required(document, "OPENAI_API_KEY"))
    raise InvalidCredential("This is neither a credential nor an auth.json of Codex or Pixir.")


def _subscription(members: dict[str, Any], *, expires_at: float | None) -> Tokens:
    access, refresh = _required(members, "access_token"), _required(members, "refresh_token")
    if refresh.reveal().startswith(KEY_PREFIX):  # nothing that could be refreshed, in the place of what can
        raise InvalidCredential("The refresh token is a client key: this is a copy of a login that is here already.")
    id_token = _optional(members, "id_token")
    ends = expires_at if expires_at is not None else claims.instant(access, "exp")
    claimed = claims.identity(access, id_token)
    account_id = _optional(members, "account_id")
    return Tokens(
        access_token=access,
        refresh_token=refresh,
        id_token=id_token,
        expires_at=None if ends is None else min(max(ends, 0.0), _LATEST),
        identity=Identity(
            account_id=account_id.reveal() if account_id else claimed.account_id,
            email=claimed.email,
            plan=claimed.plan,
        ),
    )


def _expires_at(value: object) -> float | None:
    """RFC 3339 text in our own shape; milliseconds since the epoch in Pixir's, and seconds, which are fewer."""
    if value is None:
        return None
    try:
        if isinstance(value, int) and not isinstance(value, bool):
            return value / 1000 if abs(value) >= _MILLISECONDS else float(value)
        instant = datetime.fromisoformat(value) if isinstance(value, str) else None
        if instant is not None and instant.tzinfo is not None:
            return instant.timestamp()
    except (ValueError, OverflowError):
        pass
    raise InvalidCredential("expires_at must be an RFC 3339 instant with its offset, or milliseconds or seconds.")


_LATEST: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()
"""The last instant that can be told."""

_MILLISECONDS: Final = 10**11
"""A number so large is none of seconds: that would be the year 5138."""


def _required(members: dict[str, Any], name: str) -> Secret:
    value = _optional(members, name)
    if value is None:
        raise InvalidCredential(f"{name} is missing or empty.")
    return value


def _optional(members: dict[str, Any], name: str) -> Secret | None:
    value = members.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not is_sendable(Secret(value)):
        raise InvalidCredential(f"{name} must be text without spaces or control characters.")
    return Secret(value)
