"""What the two JWTs of a login say about it.

Promises the claims the Codex issuer's clients read: the account both in the id_token (Codex looks there)
and in the access token (Pixir looks there). Pure: every value comes in.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .knobs import User

AUTH = "https://api.openai.com/auth"
PROFILE = "https://api.openai.com/profile"
GENERATION = "sandbox_generation"


@dataclass(frozen=True, slots=True)
class Subject:
    """Of what a token speaks: one login at one generation."""

    issuer: str
    user: User
    client_id: str
    session_id: str
    generation: int


def id_claims(of: Subject, jti: str, at: float, lifetime: float) -> dict[str, Any]:
    """The id_token: OpenID Connect Core 2, plus the issuer's own object."""
    paid = datetime.fromtimestamp(at, UTC)
    return {
        **_common(of, jti, at, lifetime),
        "aud": [of.client_id],
        "auth_time": int(at),
        "email": of.user.email,
        "email_verified": True,
        "sid": of.session_id,
        AUTH: {
            **_account(of.user),
            "chatgpt_account_is_fedramp": of.user.fedramp,
            "chatgpt_subscription_active_start": paid.isoformat(),
            "chatgpt_subscription_active_until": (paid + timedelta(days=30)).isoformat(),
            "chatgpt_subscription_last_checked": paid.isoformat(),
            "groups": [],
            "organizations": [
                {"id": "org-" + of.user.subject, "is_default": True, "role": "owner", "title": "Personal"}
            ],
        },
    }


def access_claims(of: Subject, jti: str, at: float, right: tuple[float, str]) -> dict[str, Any]:
    """The access token; `right` is its lifetime in seconds and its scope."""
    lifetime, scope = right
    return {
        **_common(of, jti, at, lifetime),
        "aud": ["https://api.openai.com/v1"],
        "client_id": of.client_id,
        "nbf": int(at),
        "scp": scope.split(),
        "session_id": of.session_id,
        AUTH: {
            **_account(of.user),
            "chatgpt_account_user_id": f"{of.user.subject}__{of.user.account_id}",
            "chatgpt_compute_residency": "no_constraint",
            "poid": "org-" + of.user.subject,
        },
        PROFILE: {"email": of.user.email, "email_verified": True},
    }


def _common(of: Subject, jti: str, at: float, lifetime: float) -> dict[str, Any]:
    return {
        "iss": of.issuer,
        "sub": of.user.subject,
        "iat": int(at),
        "exp": int(at + lifetime),
        "jti": jti,
        GENERATION: of.generation,
    }


def _account(user: User) -> dict[str, Any]:
    account = {"chatgpt_account_id": user.account_id} if user.account_id else {}
    return {
        **account,
        "chatgpt_plan_type": user.plan,
        "chatgpt_user_id": user.subject,
        "user_id": user.subject,
        "localhost": True,
    }
