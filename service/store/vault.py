"""Encryption at rest: AES-256-GCM, each value bound to the place it is kept in.

    sealed = 0x01 | key id (8) | nonce (12) | ciphertext and tag

The place (table, column, row, generation) and the key id are associated data: a value moved to another row or column,
or an older one put back beside a newer generation number, does not open. Random 96-bit nonces allow 2^32 values a key.
Sub-keys per purpose come from the key by HKDF; fingerprints are keyed, so that a copy of the database tells nothing.
"""

import hashlib
import hmac
import os
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from service.domain.secret import Secret

KEY_BYTES = 32
_VERSION = b"\x01"
_ID_BYTES = 8
_NONCE_BYTES = 12
_HEAD = len(_VERSION) + _ID_BYTES


class Unopenable(Exception):
    """Sealed with another key, moved, or changed. One text for all, so that nothing can be probed."""

    def __init__(self) -> None:
        super().__init__("a stored value does not open")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sealed value is kept."""

    table: str
    column: str
    row: str
    generation: int = 0

    def associated(self, key_id: bytes) -> bytes:
        """Canonical and length-prefixed, so that no two places share it."""
        parts = (b"pixir-auth", self.table.encode(), self.column.encode(), self.row.encode(), key_id)
        return b"".join(len(part).to_bytes(4) + part for part in parts) + self.generation.to_bytes(8)


class Vault:
    """Seals and opens with one key."""

    def __init__(self, key: bytes) -> None:
        """`key`: 32 random bytes."""
        if len(key) != KEY_BYTES or len(set(key)) < 8:
            raise ValueError("an encryption key is 32 random bytes")
        self.key_id = hashlib.sha256(key).digest()[:_ID_BYTES]
        self._cipher = AESGCM(_derived(key, b"tokens"))
        self._fingerprint_key = _derived(key, b"fingerprints")

    def seal(self, secret: Secret, place: Place) -> bytes:
        """The secret, readable only at this place."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, secret.reveal().encode(), place.associated(self.key_id))
        return _VERSION + self.key_id + nonce + sealed

    def open(self, sealed: bytes, place: Place) -> Secret:
        """The secret that was sealed at this place. Raises Unopenable."""
        if sealed[:_HEAD] != _VERSION + self.key_id:
            raise Unopenable
        nonce, ciphertext = sealed[_HEAD : _HEAD + _NONCE_BYTES], sealed[_HEAD + _NONCE_BYTES :]
        try:
            return Secret(self._cipher.decrypt(nonce, ciphertext, place.associated(self.key_id)).decode())
        except (InvalidTag, ValueError):
            raise Unopenable from None

    def fingerprint(self, secret: Secret) -> str:
        """A name for a secret that tells nothing without the key."""
        return hmac.new(self._fingerprint_key, secret.reveal().encode(), hashlib.sha256).hexdigest()


def _derived(key: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=b"pixir-auth " + purpose).derive(key)
