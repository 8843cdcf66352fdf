"""A login under way, as a value. Instants are seconds since the Unix epoch."""

from dataclasses import dataclass
from typing import Literal

from service.domain.errors import Code
from service.domain.secret import Secret

Flow = Literal["browser", "device"]
LoginState = Literal["pending", "complete", "failed", "expired", "cancelled"]


EXCHANGE_LIMIT = 330.0
"""Seconds after which an exchange is surely over: the longest time limit that can be set, and some."""


@dataclass(frozen=True, slots=True)
class Login:
    """One started login. Secrets are there only while it is pending.

    `browser`: `redirect_uri`, `oauth_state` and `verifier` are set; `binding` too when a browser started it: the value
    of the cookie that the same browser has to bring back. `device`: `user_code`, `device_auth_id`, `interval` and
    `next_poll_at` are set. `replace`: may replace a login of another account. `fallback`: why a device code was
    given where a browser login was wanted. `error` says why it failed, `detail` the same for people.
    `taken_at`: since then somebody is finishing it.
    """

    id: str
    account: str
    provider: str
    flow: Flow
    created_at: float
    expires_at: float
    replace: bool = False
    fallback: str | None = None
    state: LoginState = "pending"
    error: Code | None = None
    detail: str | None = None
    redirect_uri: str | None = None
    oauth_state: Secret | None = None
    verifier: Secret | None = None
    binding: Secret | None = None
    user_code: Secret | None = None
    device_auth_id: Secret | None = None
    verification_uri: str | None = None
    interval: float | None = None
    next_poll_at: float | None = None
    taken_at: float | None = None


def state_at(login: Login, now: float) -> LoginState:
    """How the login stands: nobody has to write down that a pending one has run out of time.

    One that was taken and not finished was taken by a process that has died since.
    """
    if login.state != "pending":
        return login.state
    if login.taken_at is not None and now >= login.taken_at + EXCHANGE_LIMIT:
        return "failed"
    return "expired" if now >= login.expires_at else "pending"
