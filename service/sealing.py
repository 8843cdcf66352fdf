"""A secret on its way to one process: HPKE (RFC 9180), base mode, for a key that lives no longer than the call.

    DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM; info = "pixir-auth export" 0x00 account, no associated data
    sealed = encapsulated key (32) | ciphertext and tag, in base64; a public key is its 32 bytes, in base64

Whoever reads or keeps an answer learns nothing from it. Who sits in the middle and changes the question is not kept
out by this: that is what the kernel, the unix socket or TLS are for.
"""

import base64

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from service.domain.secret import Secret

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class Recipient:
    """Whoever has the private half."""

    def __init__(self, public_key: str) -> None:
        """Raises ValueError for what is no key, or one that would keep nothing secret."""
        self._key = X25519PublicKey.from_public_bytes(base64.b64decode(public_key, validate=True))
        _SUITE.encrypt(b"", self._key)  # a point of low order is refused here, not when there is something to lose

    def seal(self, secret: Secret, account: str) -> str:
        """The secret, for him alone."""
        return base64.b64encode(_SUITE.encrypt(secret.reveal().encode(), self._key, _info(account))).decode()


class Opener:
    """A key pair that exists nowhere else."""

    def __init__(self) -> None:
        self._key = X25519PrivateKey.generate()
        self.public_key = base64.b64encode(self._key.public_key().public_bytes_raw()).decode()

    def open(self, sealed: str, account: str) -> Secret:
        """What was sealed for this account and this key pair. Raises ValueError, one text for all."""
        try:
            return Secret(_SUITE.decrypt(base64.b64decode(sealed, validate=True), self._key, _info(account)).decode())
        except (InvalidTag, ValueError):
            raise ValueError("what was sealed does not open") from None


def _info(account: str) -> bytes:
    return b"pixir-auth export\0" + account.encode()
