"""Makes tokens and recognises its own again, without remembering any.

Promises: two tokens never look alike; what another sandbox made, or anyone altered, is not recognised.
The JWTs look like RS256 but carry a MAC: clients of the Codex issuer read them and never verify them.
Must not know grants, HTTP or the clock.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

_HEADER = {"alg": "RS256", "kid": "sandbox", "typ": "JWT"}
# No vowels and nothing that reads like another letter: people type these.
_CODE_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
# Into the MAC, so that a refresh token is never taken for a JWT.
_JWT = b"jwt "
_REFRESH = b"refresh "


def base64url(data: bytes) -> str:
    """Unpadded, RFC 7636 appendix A."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def challenge_of(verifier: str) -> str:
    """The S256 code challenge of a verifier, RFC 7636 4.2."""
    return base64url(hashlib.sha256(verifier.encode()).digest())


def new_id(prefix: str) -> str:
    """A name that never comes twice, without a dot in it."""
    return prefix + secrets.token_hex(16)


def new_secret(prefix: str = "") -> str:
    """43 characters of chance behind a prefix: codes, verifiers."""
    return prefix + secrets.token_urlsafe(32)


def new_user_code() -> str:
    """What a person types on the device page, like `BCDF-12345`."""
    letters = "".join(secrets.choice(_CODE_LETTERS) for _ in range(4))
    return f"{letters}-{secrets.randbelow(100_000):05}"


class Mint:
    """One sandbox's signing key."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def jwt(self, claims: dict[str, Any]) -> str:
        """A three-part token over `claims`."""
        signed = f"{_encoded(_HEADER)}.{_encoded(claims)}"
        return f"{signed}.{self._mac(_JWT, signed)}"

    def claims(self, token: str) -> dict[str, Any] | None:
        """What a token of this mint says; None for anything else."""
        signed, _, mac = token.rpartition(".")
        if not _same(mac, self._mac(_JWT, signed)):
            return None
        payload = signed.partition(".")[2]
        claims: dict[str, Any] = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return claims

    def refresh_token(self, family_id: str, serial: int) -> str:
        """The refresh token number `serial` of a family."""
        signed = f"rt_{family_id}.{serial}"
        return f"{signed}.{self._mac(_REFRESH, signed)}"

    def serial(self, token: str) -> tuple[str, int] | None:
        """Family and number of a refresh token of this mint; None for anything else."""
        signed, _, mac = token.rpartition(".")
        if not _same(mac, self._mac(_REFRESH, signed)):
            return None
        family_id, _, serial = signed.removeprefix("rt_").partition(".")
        return family_id, int(serial)

    def _mac(self, kind: bytes, signed: str) -> str:
        return base64url(hmac.digest(self._key, kind + _bytes(signed), "sha256"))


def _same(given: str, made: str) -> bool:
    return hmac.compare_digest(_bytes(given), made.encode())


def _bytes(text: str) -> bytes:
    # JSON can carry half a surrogate pair; that is a wrong token, not an encoding error.
    return text.encode("utf-8", "surrogatepass")


def _encoded(value: dict[str, Any]) -> str:
    return base64url(json.dumps(value, separators=(",", ":")).encode())
