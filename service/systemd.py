"""What a service manager hands over and is told: sockets that listen already (sd_listen_fds(3)), and how we stand
(sd_notify(3)).

Promises that no program we start inherits either: what the environment says of them is taken out of it.
"""

import logging
import os
import socket
from typing import Final

log = logging.getLogger(__name__)

_FIRST: Final = 3
"""The first descriptor that is passed: SD_LISTEN_FDS_START."""

_KINDS: Final = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)

_TELL_WITHIN: Final = 1.0
"""Seconds that a manager which does not read may hold us up."""


class NotUsable(Exception):
    """A passed descriptor that nobody can be served at. The text names it by its number."""


def passed_sockets() -> list[socket.socket]:
    """The listening sockets that were passed to this process, in order; none if there is no such manager.

    Raises NotUsable, and then leaves none open.
    """
    told = {name: os.environ.pop(f"LISTEN_{name}", "") for name in ("PID", "FDS", "FDNAMES", "PIDFDID")}
    if told["PID"] != str(os.getpid()):
        return []
    if not told["FDS"].isdecimal():
        raise NotUsable("it is not a number")
    passed: list[socket.socket] = []
    try:
        for descriptor in range(_FIRST, _FIRST + int(told["FDS"])):
            passed.append(_opened(descriptor))  # noqa: PERF401 - those before a bad one are to be closed
        _agree(passed)
    except NotUsable:
        for each in passed:
            each.close()
        raise
    return passed


class Manager:
    """Who has started us and waits to be told, if anybody does."""

    def __init__(self) -> None:
        self._address = os.environ.pop("NOTIFY_SOCKET", "")

    def tell(self, *lines: str) -> None:
        """Say these assignments in one message. Never raises: a manager that does not hear costs a line in the log."""
        if not self._address:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as way:
                way.settimeout(_TELL_WITHIN)
                way.sendto("\n".join(lines).encode(), address)
        except OSError as exc:
            log.warning("the service manager does not hear us (%s)", exc.strerror or type(exc).__name__)


def _agree(passed: list[socket.socket]) -> None:
    if len({each.getsockname()[1] for each in passed if each.family != socket.AF_UNIX}) > 1:
        raise NotUsable("all sockets must listen at the same port")


def _opened(descriptor: int) -> socket.socket:
    try:
        os.set_inheritable(descriptor, False)
        given = socket.socket(fileno=descriptor)
    except OSError as exc:
        raise NotUsable(f"descriptor {descriptor} is no socket ({exc.strerror})") from exc
    is_stream = given.family in _KINDS and given.type == socket.SOCK_STREAM
    if not is_stream or not given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        given.close()
        raise NotUsable(f"descriptor {descriptor} is no listening stream socket")
    return given
