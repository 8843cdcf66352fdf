"""Reading the answers of a device login. The issuer makes the PKCE pair and hands us the verifier."""

from dataclasses import dataclass

from service.domain.secret import Secret
from service.oauth.answers import error_code, retry_after, token_text
from service.oauth.wire import Answer, Outcome, parse_object

DEFAULT_INTERVAL = 5.0
"""Seconds between polls when the issuer names none (RFC 8628 section 3.2)."""

SLOW_DOWN = 5.0
"""Seconds added for good at each slow_down (RFC 8628 section 3.5)."""


@dataclass(frozen=True, slots=True)
class UserCode:
    """What a person has to type, and how often we may ask (seconds)."""

    device_auth_id: Secret
    user_code: Secret
    interval: float


@dataclass(frozen=True, slots=True)
class NoDeviceLogin:
    """The issuer offers no device codes."""


@dataclass(frozen=True, slots=True)
class Approved:
    """The person has said yes."""

    code: Secret
    verifier: Secret


@dataclass(frozen=True, slots=True)
class Pending:
    """Not yet. `slower`: seconds to add to the interval from now on."""

    slower: float = 0.0


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No answer: ask again, less often."""

    retry_after: float = 0.0


@dataclass(frozen=True, slots=True)
class Ended:
    """The device login is over at the issuer."""

    code: str


Poll = Approved | Pending | Unreachable | Ended


def read_user_code(answer: Answer) -> UserCode | NoDeviceLogin | None:
    """The answer to a request for a user code; None when it cannot be understood."""
    if answer.status == 404:
        return NoDeviceLogin()
    members = parse_object(answer.body) or {}
    code = members.get("user_code") or members.get("usercode")
    device_auth_id = token_text(members.get("device_auth_id"))
    if answer.status != 200 or device_auth_id is None or not _is_typable(code):
        return None
    return UserCode(device_auth_id, Secret(str(code)), _interval(members.get("interval")))


def read_poll(outcome: Outcome, *, now: float) -> Poll:
    """The answer to a poll. 403 and 404 both mean that the person has not finished."""
    if not isinstance(outcome, Answer):
        return Unreachable()
    if outcome.status == 200:
        members = parse_object(outcome.body) or {}
        grant, verifier = token_text(members.get("authorization_code")), token_text(members.get("code_verifier"))
        return Approved(grant, verifier) if grant and verifier else Ended("invalid_answer")
    code = error_code(outcome.body)
    if code == "slow_down":
        return Pending(SLOW_DOWN)
    if code in ("access_denied", "expired_token"):
        return Ended(code)
    if code in ("authorization_pending", "deviceauth_authorization_pending") or outcome.status in (403, 404):
        return Pending()
    if outcome.status == 429 or outcome.status >= 500:
        return Unreachable(retry_after(outcome, now=now))
    return Ended(code or f"http_{outcome.status}")


def _interval(value: object) -> float:
    """A number or a decimal string of seconds, at least one."""
    try:
        seconds = float(value) if isinstance(value, str | int | float) else DEFAULT_INTERVAL
    except (ValueError, OverflowError):
        return DEFAULT_INTERVAL
    return min(max(1.0, seconds), 60.0) if seconds == seconds else DEFAULT_INTERVAL  # noqa: PLR0124 - NaN


def _is_typable(code: object) -> bool:
    return isinstance(code, str) and 0 < len(code) <= 64 and code.isascii() and code.isprintable()
