"""Scripted misbehaviour: what goes wrong with the next answers.

Promises named constructors for every failure a client of the Codex issuer has to survive, and a queue
that hands them out in order. Must not know how an answer is sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from .errors import ENDED_MESSAGE, OAuthError, nested

if TYPE_CHECKING:
    from collections.abc import Mapping

TOKEN_PATH = "/oauth/token"  # noqa: S105 - a path
DEVICE_POLL_PATH = "/api/accounts/deviceauth/token"


@dataclass(frozen=True, slots=True)
class Fault:
    """One broken answer.

    `how` it breaks: `answer` sends `status`, `headers` and `body` (an object as JSON, or raw bytes with
    `content_type`); `truncate` sends the real answer but only its first `at_byte` bytes; `hang` never
    answers; `drop` closes the connection. `after_processing`: the request takes effect first, so that the
    client loses an answer that mattered (`truncate` always does).
    """

    status: int = 500
    body: Mapping[str, Any] | bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    how: Literal["answer", "truncate", "hang", "drop"] = "answer"
    after_processing: bool = False
    at_byte: int = 0

    def __post_init__(self) -> None:
        if self.how not in ("answer", "truncate", "hang", "drop"):
            raise ValueError(f"no such way to fail: {self.how}")


def refusal(code: str, message: str = "", *, status: int | None = None, flat: bool = False) -> Fault:
    """The answer to a refused grant, by code; `flat` for RFC 6749 5.2's shape, else the nested one."""
    try:
        error = OAuthError(code, message)
    except KeyError:
        body = {"error": code, "error_description": message} if flat else nested(code, message)
        return Fault(status or 401, body)
    return Fault(status or error.status, error.flat() if flat else error.body())


def refresh_token_reused(status: int = 401) -> Fault:
    """The refresh token was spent before; some report 400."""
    return refusal("refresh_token_reused", status=status)


def refresh_token_expired(status: int = 401) -> Fault:
    """The refresh token is too old."""
    return refusal("refresh_token_expired", status=status)


def refresh_token_invalidated(status: int = 401) -> Fault:
    """The login was revoked."""
    return refusal("refresh_token_invalidated", status=status)


def app_session_terminated(status: int = 401) -> Fault:
    """The session was ended elsewhere."""
    return refusal("app_session_terminated", status=status)


def refresh_token_revoked(status: int = 401) -> Fault:
    """A further code that clients treat as final."""
    return refusal("refresh_token_revoked", ENDED_MESSAGE, status=status)


def token_expired(status: int = 401) -> Fault:
    """A further code that clients treat as final."""
    return refusal("token_expired", "Your authentication token has expired.", status=status)


def empty_refresh_token() -> Fault:
    """What an empty refresh token gets."""
    return refusal("empty_string")


def invalid_grant(status: int = 400, *, flat: bool = True) -> Fault:
    """RFC 6749 5.2; `flat=False` for the nested variant."""
    if flat:
        return refusal("invalid_grant", status=status, flat=True)
    return Fault(status, nested("invalid_grant", "Invalid grant."))


def invalid_client(status: int = 401) -> Fault:
    """The issuer does not accept the client_id."""
    return refusal("invalid_client", status=status, flat=True)


def rate_limited(retry_after: str | None = "1") -> Fault:
    """429; `retry_after` is the raw header value, seconds or an HTTP date."""
    return Fault(429, nested("rate_limit_exceeded", "Too many requests."), headers=_retry(retry_after))


def server_error(status: int = 503, retry_after: str | None = None) -> Fault:
    """A 5xx with a plain text body."""
    return Fault(status, b"upstream connect error", content_type="text/plain", headers=_retry(retry_after))


def html(status: int = 200) -> Fault:
    """A page where JSON was due: a captive portal, a bot check."""
    return Fault(status, b"<!doctype html><title>Just a moment...</title>", content_type="text/html")


def not_an_object(body: bytes = b"[]") -> Fault:
    """200 with a body that is not a JSON object."""
    return Fault(200, body)


def slow_down(status: int = 400) -> Fault:
    """For the device poll, RFC 8628 3.5."""
    return refusal("slow_down", status=status)


def truncated(at_byte: int = 20) -> Fault:
    """The real answer, cut; the grant was processed."""
    return Fault(how="truncate", at_byte=at_byte, after_processing=True)


def hang(*, after_processing: bool = False) -> Fault:
    """No answer until the client leaves."""
    return Fault(how="hang", after_processing=after_processing)


def drop(*, after_processing: bool = False) -> Fault:
    """The connection is closed without an answer."""
    return Fault(how="drop", after_processing=after_processing)


def lost_answer() -> Fault:
    """The grant is processed, the answer never arrives: the client cannot know."""
    return drop(after_processing=True)


NAMED = {
    each.__name__: each
    for each in (
        refusal,
        refresh_token_reused,
        refresh_token_expired,
        refresh_token_invalidated,
        refresh_token_revoked,
        app_session_terminated,
        token_expired,
        empty_refresh_token,
        invalid_grant,
        invalid_client,
        rate_limited,
        server_error,
        html,
        not_an_object,
        slow_down,
        truncated,
        hang,
        drop,
        lost_answer,
    )
}


class Script:
    """The faults to come, first in, first out, per path and grant type."""

    def __init__(self) -> None:
        self._queue: list[tuple[str, str | None, Fault]] = []

    def add(self, fault: Fault, path: str, grant_type: str | None) -> None:
        """Let `fault` befall the next request to `path` (with that grant type, if one is given)."""
        self._queue.append((path, grant_type, fault))

    def take(self, path: str, grant_type: object) -> Fault | None:
        """The fault due for this request, if any; it is gone then."""
        for entry in self._queue:
            if entry[0] == path and entry[1] in (None, grant_type):
                self._queue.remove(entry)
                return entry[2]
        return None

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        self._queue.clear()

    def __len__(self) -> int:
        return len(self._queue)


def _retry(value: str | None) -> dict[str, str]:
    return {} if value is None else {"Retry-After": value}
