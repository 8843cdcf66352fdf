"""PKCE (RFC 7636): challenge from verifier. The random bytes come from outside."""

import base64
import hashlib

VERIFIER_BYTES = 64
"""Octets behind a verifier: 86 characters, inside the 43 to 128 of RFC 7636 section 4.1."""


def verifier(random_bytes: bytes) -> str:
    """A code verifier from at least 32 random octets (RFC 7636 section 4.1)."""
    if len(random_bytes) < 32:
        raise ValueError("a code verifier needs 32 random octets")
    return b64url(random_bytes)


def challenge(code_verifier: str) -> str:
    """The S256 code challenge (RFC 7636 section 4.2)."""
    return b64url(hashlib.sha256(code_verifier.encode("ascii")).digest())


def b64url(raw: bytes) -> str:
    """base64url without padding (RFC 7636 appendix A)."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
