"""Who asks, and what he may: values. Knows nothing of HTTP or sockets."""

import hashlib
from dataclasses import dataclass
from typing import Final, Literal, get_args

from service.domain.secret import Secret

Right = Literal["token", "headers", "status", "login", "admin"]
"""What a caller may be let do; `admin` is everything that changes who is served and with what."""

KEY_PREFIX: Final = "pixir_"
"""What a client key begins with, so that whoever searches for leaked secrets, or is given one as a refresh token, knows
one when he sees it."""

RIGHTS: Final[tuple[Right, ...]] = get_args(Right)


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a connection, as the kernel tells it: never from headers.

    `uid` is None where the kernel cannot tell: then only a client key helps. `is_unix`: it came by the unix socket.
    """

    uid: int | None = None
    is_unix: bool = False


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who has been recognised. `name` is for people: `uid 1000` or `key ci`. `accounts` None: all."""

    name: str
    rights: frozenset[Right]
    accounts: frozenset[str] | None = None

    @property
    def is_key(self) -> bool:
        """Whether it is a client key that asks."""
        return self.name.startswith("key ")

    def may(self, right: Right) -> bool:
        """Whether he has this right at all."""
        return right in self.rights

    def sees(self, account: str) -> bool:
        """Whether this account is any of his business."""
        return self.accounts is None or account in self.accounts


@dataclass(frozen=True, slots=True)
class ClientKey:
    """A key as it is kept: its SHA-256 in hex and what it is good for. Instants are seconds since the epoch."""

    name: str
    digest: str
    rights: frozenset[Right]
    accounts: frozenset[str] | None
    created_at: float
    expires_at: float | None = None
    last_used_at: float | None = None

    def caller(self, now: float) -> Caller | None:
        """Who holds it; None once it has expired."""
        if self.expires_at is not None and now >= self.expires_at:
            return None
        return Caller(f"key {self.name}", self.rights, self.accounts)


def owner(uid: int) -> Caller:
    """The user whom the service belongs to, or root: everything."""
    return Caller(f"uid {uid}", frozenset(RIGHTS))


def digest_of(key: Secret) -> str:
    """What is kept of a client key. No salt, no work factor: nobody guesses a key of 128 random bits or more."""
    return hashlib.sha256(key.reveal().encode()).hexdigest()
