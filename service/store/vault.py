"""Encryption at rest: AES-256-GCM, each value bound to the place it is kept in.

    sealed = 0x01 | key id (8) | nonce (12) | ciphertext and tag

The place (table, column, row, generation) and the key id are associated data: a value moved to another row or column,
or an older one put back beside a newer generation number, does not open. Random 96-bit nonces allow 2^32 values a key.
Sub-keys per purpose come from the key by HKDF; fingerprints are keyed, so that a copy of the database tells nothing.

There may be several keys. All of them open; which one seals a row is what the database says (`Database._key`), so that
all who share it use the same; the first is the one that `rekey` goes over to.
"""

import hashlib
import hmac
import os
import threading
from collections.abc import Callable, Sequence
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
HEAD_BYTES = len(_VERSION) + _ID_BYTES
"""How much of a sealed value says how and with which key it was sealed."""


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


class Key:
    """One key: seals, and opens what it has sealed."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES or len(set(key)) < 8:
            raise ValueError("an encryption key is 32 random bytes")
        self.id = hashlib.sha256(key).digest()[:_ID_BYTES]
        self.head = _VERSION + self.id
        self.fingerprints = Secret(_derived(key, b"fingerprints").hex())
        self._cipher = AESGCM(_derived(key, b"tokens"))

    def seal(self, secret: Secret, place: Place) -> bytes:
        """The secret, readable only at this place."""
        nonce = os.urandom(_NONCE_BYTES)
        return self.head + nonce + self._cipher.encrypt(nonce, secret.reveal().encode(), place.associated(self.id))

    def open(self, sealed: bytes, place: Place) -> Secret:
        """The secret that this key has sealed at this place. Raises Unopenable."""
        nonce, ciphertext = sealed[HEAD_BYTES : HEAD_BYTES + _NONCE_BYTES], sealed[HEAD_BYTES + _NONCE_BYTES :]
        try:
            return Secret(self._cipher.decrypt(nonce, ciphertext, place.associated(self.id)).decode())
        except (InvalidTag, ValueError):
            raise Unopenable from None


class Vault:
    """Opens with any of its keys, and seals with the first. For any number of threads."""

    def __init__(self, *keys: bytes, news: Callable[[], Sequence[bytes] | None] = lambda: None) -> None:
        """keys: 32 random bytes each, at least one. Raises ValueError.

        news: gives the keys if their source says something else by now; quick, for it is asked often.
        """
        self._news = news
        self._asking = threading.RLock()
        self._keys: dict[bytes, Key] = {}
        self._know(keys)
        self.name_with(self.first.fingerprints)

    def learn(self, read: Callable[[], Sequence[bytes]]) -> None:
        """What the source says now. What it said before is not forgotten: it opens what it has sealed."""
        with self._asking:  # read by one at a time: the last to look is the last to know
            self._know(read())

    def key_of(self, sealed: bytes) -> Key | None:
        """The key that a value was sealed with, if we have it; the source is asked before it is said to be missing."""
        head = sealed[:HEAD_BYTES]
        if head not in self._keys and head[:1] == _VERSION:
            self._ask()
        return self._keys.get(head)

    def seal(self, secret: Secret, place: Place) -> bytes:
        """The secret, readable only at this place, sealed with the first key that the source holds now."""
        self._ask()
        return self.first.seal(secret, place)

    def open(self, sealed: bytes, place: Place) -> Secret:
        """The secret that was sealed at this place. Raises Unopenable."""
        key = self.key_of(sealed)
        if key is None:
            raise Unopenable
        return key.open(sealed, place)

    def fingerprint(self, secret: Secret) -> str:
        """A name for a secret that tells nothing without the key."""
        return hmac.new(self._fingerprints, secret.reveal().encode(), hashlib.sha256).hexdigest()

    def name_with(self, fingerprints: Secret) -> None:
        """Make fingerprints with this key, whatever seals."""
        self.fingerprints = fingerprints
        self._fingerprints = bytes.fromhex(fingerprints.reveal())

    def _know(self, keys: Sequence[bytes]) -> None:
        said = {key.head: key for key in map(Key, keys)}
        if not said:
            raise ValueError("an encryption key is 32 random bytes")
        self._keys = self._keys | said
        self.first = next(iter(said.values()))

    def _ask(self) -> None:
        with self._asking:
            if news := self._news():
                self._know(news)


def _derived(key: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=b"pixir-auth " + purpose).derive(key)
