"""The values the ledger is made of. Frozen: a change is a new value in its place.

Must not know how they come about, HTTP, or the clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .knobs import Knobs, User

CODEX_SCOPE = "openid profile email offline_access api.connectors.read api.connectors.invoke"


class Ended(StrEnum):
    """Why a family lives no more."""

    REVOKED = "revoked"
    REUSED = "reused"
    SESSION_TERMINATED = "session_terminated"
    CODE_REPLAYED = "code_replayed"


@dataclass(frozen=True, slots=True)
class Terms:
    """Under what one request is judged: its one instant, and the knobs as they stand."""

    at: float
    issuer: str
    knobs: Knobs


@dataclass(frozen=True, slots=True)
class Login:
    """Who let which client do what."""

    user: User
    client_id: str
    scope: str = CODEX_SCOPE


@dataclass(frozen=True, slots=True)
class Code:
    """An authorization code's other half; `family_id` once redeemed."""

    login: Login
    redirect_uri: str
    challenge: str
    until: float
    family_id: str | None = None


@dataclass(frozen=True, slots=True)
class Redemption:
    """What a client sends to turn a code into tokens (RFC 6749 4.1.3, RFC 7636 4.5)."""

    code: str
    client_id: str
    redirect_uri: str
    verifier: str


@dataclass(frozen=True, slots=True)
class Tokens:
    """One answer of the token endpoint."""

    access_token: str
    refresh_token: str
    id_token: str
    expires_in: int
    scope: str

    def fields(self) -> dict[str, Any]:
        """RFC 6749 5.1; a refresh token only where offline access was granted."""
        offline = "offline_access" in self.scope.split()
        return {
            "access_token": self.access_token,
            **({"refresh_token": self.refresh_token} if offline else {}),
            "id_token": self.id_token,
            "token_type": "Bearer",
            "expires_in": self.expires_in,
            "scope": self.scope,
        }


@dataclass(frozen=True, slots=True)
class Family:
    """One login and everything that descends from it."""

    id: str
    login: Login
    tokens: Tokens
    rotated_at: float
    generation: int = 1  # of the access token; grows with every refresh
    serial: int = 1  # of the refresh token; grows with every rotation
    refresh_until: float | None = None
    access_from: int = 1  # access tokens of older generations are refused
    ended: Ended | None = None

    @property
    def alive(self) -> bool:
        """Whether its refresh token may still be honoured."""
        return self.ended is None

    @property
    def refresh_token(self) -> str:
        """The newest one."""
        return self.tokens.refresh_token

    @property
    def access_token(self) -> str:
        """The newest one."""
        return self.tokens.access_token

    @property
    def user(self) -> User:
        """Who signed in."""
        return self.login.user

    @property
    def account_id(self) -> str:
        """The account it speaks for."""
        return self.login.user.account_id
