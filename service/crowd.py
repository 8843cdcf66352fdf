"""How many connections may be open, and to whom: a flood by other users neither locks the owner out nor uses up what
the process has of descriptors. Counts only; knows nothing of sockets.
"""

import functools
import os
import resource
from typing import Final

from service.domain.caller import Peer

_DESCRIPTORS: Final = 8192
"""As many as we ask for: the soft limit is 1024 on most Linux systems and 256 on macOS."""

_MOST: Final = 4096
"""Connections in all, however many descriptors there are: each costs some kilobytes."""

_RESERVE: Final = 256
"""Descriptors for everything that is no connection of a client: the store, the issuer, the listeners."""

_STRANGERS: Final = 4
"""The part of all connections that everybody else may hold together: one in so many."""


class Crowd:
    """The open connections, at most `most`: a quarter of them for strangers, be they one user or many."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.owners = 0
        self.strangers = 0

    def admits(self, peer: Peer) -> bool:
        """Count one more, if there is room for it."""
        if self.owners + self.strangers >= self.most:
            return False
        if _is_owner(peer):
            self.owners += 1
        elif self.strangers < self.most // _STRANGERS:
            self.strangers += 1
        else:
            return False
        return True

    def loses(self, peer: Peer) -> None:
        """Count one less of those that were admitted."""
        if _is_owner(peer):
            self.owners -= 1
        else:
            self.strangers -= 1


@functools.cache
def crowd() -> Crowd:
    """All connections of this process, whichever listener they come by. Call it early: it makes room for them."""
    return Crowd(_room())


def _room() -> int:
    """Raise the limit of descriptors as far as we may and use; how many connections that is good for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return min(_MOST, max(soft - _RESERVE, soft // 2))


def _is_owner(peer: Peer) -> bool:
    """Whether it is the service's own user, or root."""
    return peer.uid is not None and peer.uid in (0, os.geteuid())
