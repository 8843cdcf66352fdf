"""What an issuer's answer means: the one table of outcome classes, and tolerant reading of token answers.

Decides on the status and the error *code*, never on a description (RFC 6749 section 5.2).
"""

import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final

from service.domain.credential import Tokens
from service.domain.errors import LoginReason
from service.domain.secret import Secret
from service.oauth import claims
from service.oauth.wire import Answer, NoAnswer, NotSent, Outcome, parse_object


@dataclass(frozen=True, slots=True)
class Granted:
    """Tokens, complete or not. The request was acted upon: whatever is here has to be stored before it is judged."""

    tokens: Tokens


@dataclass(frozen=True, slots=True)
class Refused:
    """The refresh token (or code) itself is no good."""

    reason: LoginReason
    code: str


@dataclass(frozen=True, slots=True)
class Misconfigured:
    """The issuer, or something between, refuses how we ask. The token was not looked at."""

    code: str


@dataclass(frozen=True, slots=True)
class Later:
    """Nothing was done: never sent, or the issuer asks us to come back. retry_after: seconds, as told."""

    code: str
    retry_after: float = 0.0


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may have been acted upon, and what came back does not say."""

    code: str


Verdict = Granted | Refused | Misconfigured | Later | Unknown

DEAD: Final[dict[str, LoginReason]] = {
    "app_session_terminated": "refresh_token_revoked",
    "invalid_grant": "refresh_token_revoked",
    "invalid_refresh_token": "refresh_token_revoked",
    "refresh_token_expired": "refresh_token_expired",
    "refresh_token_invalidated": "refresh_token_revoked",
    "refresh_token_reused": "refresh_token_reused",
    "refresh_token_revoked": "refresh_token_revoked",
    "token_expired": "refresh_token_expired",
}
"""Error codes that end a login. Anything else does not, however the status reads."""

_BUSY: Final = frozenset({"rate_limit_exceeded", "slow_down", "temporarily_unavailable"})
_WHOLE_MEMBER: Final = re.compile(rb'"(access_token|refresh_token|id_token)"\s*:\s*"([\x21\x23-\x5b\x5d-\x7e]+)"')
"""A complete token member in a damaged body: no escapes, closing quote present."""


def classify(outcome: Outcome, *, now: float) -> Verdict:
    """The outcome class of a call to the token endpoint. `now`: epoch seconds, to read a Retry-After date."""
    match outcome:
        case NotSent(error):
            return Later(error)
        case NoAnswer(error):
            return Unknown(error)
        case Answer(status) if 200 <= status < 300:
            return _granted(outcome, now)
        case Answer():
            return _denied(outcome, now)


def error_code(body: bytes) -> str | None:
    """`error.code`, `error` or `code` of an error body, in lower case; None where there is none."""
    parsed = parse_object(body) or {}
    error = parsed.get("error")
    candidates = (error.get("code"), error.get("type")) if isinstance(error, dict) else (error, parsed.get("code"))
    for candidate in candidates:
        if isinstance(candidate, str) and re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", candidate):
            return candidate.lower()
    return None


def retry_after(answer: Answer, *, now: float) -> float:
    """Retry-After in seconds (RFC 9110 section 10.2.3); 0 where it is absent, past or nonsense."""
    value = answer.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:12])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return 0.0


def lifetime(value: object, access_token: Secret | None, *, now: float) -> float | None:
    """Seconds of life from `expires_in`, else from the token's own `exp`; None when neither is usable."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = None
    if isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value <= MAX_LIFETIME:
        return float(value)
    expires_at = claims.instant(access_token, "exp")
    left = expires_at - now if expires_at is not None else 0.0
    return left if 1 <= left <= MAX_LIFETIME else None


MAX_LIFETIME: Final = 366 * 86400.0
"""Seconds beyond which a lifetime is not believed: a refresh must come before the refresh token dies of age."""


def read_tokens(members: dict[str, Any], *, now: float) -> Tokens:
    """The token members of an answer (RFC 6749 section 5.1). Tolerant: what cannot be used is None, never an error."""
    access, refresh, id_token = (
        token_text(members.get(name)) for name in ("access_token", "refresh_token", "id_token")
    )
    fault = _fault(members)
    return Tokens(
        access_token=access,
        refresh_token=refresh,
        id_token=id_token,
        lifetime=lifetime(members.get("expires_in"), access, now=now),
        identity=claims.identity(access, id_token),
        fault=fault,
    )


def is_sendable(token: Secret) -> bool:
    """Whether a token may stand in a header line: visible ASCII only (RFC 6750 section 2.1, RFC 9110 section 5.5)."""
    return re.fullmatch(r"[\x21-\x7e]+", token.reveal()) is not None


def token_text(value: object) -> Secret | None:
    """A token or code: visible ASCII and spaces (RFC 6749 appendix A); anything else could not be stored or sent."""
    return Secret(value) if isinstance(value, str) and re.fullmatch(r"[\x20-\x7e]+", value) else None


def _granted(answer: Answer, now: float) -> Verdict:
    members = parse_object(answer.body)
    if members is None:
        # Spent, and the answer is damaged: save what is whole in it rather than the login's life.
        found = {name.decode(): value.decode() for name, value in _WHOLE_MEMBER.findall(answer.body)}
        return Granted(read_tokens(found, now=now)) if "refresh_token" in found else Unknown("unreadable_answer")
    tokens = read_tokens(members, now=now)
    if tokens.access_token is None and tokens.refresh_token is None:
        return Unknown("empty_answer")
    return Granted(tokens)


def _denied(answer: Answer, now: float) -> Verdict:
    code = error_code(answer.body)
    wait = retry_after(answer, now=now)
    if code in DEAD and answer.status in (400, 401, 403):
        return Refused(DEAD[code], code)
    if answer.status in (429, 503) or code in _BUSY:  # "unavailable" says that nothing was done (RFC 9110 15.6.4)
        return Later(code or f"http_{answer.status}", wait)
    if answer.status == 408 or answer.status >= 500:
        return Unknown(f"http_{answer.status}")
    return Misconfigured(code or f"http_{answer.status}")


def _fault(members: dict[str, Any]) -> str | None:
    token_type = members.get("token_type", "Bearer")
    if not isinstance(token_type, str) or token_type.lower() != "bearer":
        return "unsupported_token_type"  # RFC 6749 section 7.1: must not be used
    access = members.get("access_token")
    return "unsendable_token" if isinstance(access, str) and access and not is_sendable(Secret(access)) else None
