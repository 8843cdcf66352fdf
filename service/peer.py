"""Who is at the other end of a connection, as the kernel tells it. Promises never to raise for what a peer does, never
to wait, and to say None whenever anything is less than certain. Knows nothing of HTTP.

Loopback TCP on Linux: one exact question to the kernel's socket table (sock_diag(7)) for the *peer's* own socket. A
dump or /proc/net/tcp would cost milliseconds and grow with the number of sockets. A unix socket keeps its peer itself.
"""

import atexit
import contextlib
import functools
import itertools
import logging
import socket
import struct
import sys
from pathlib import Path
from typing import Any, Final, NamedTuple

from service.domain.caller import Peer

log = logging.getLogger(__name__)

_ESTABLISHED, _FIN_WAIT1, _FIN_WAIT2, _CLOSE_WAIT = 1, 4, 5, 8
_LIVE: Final = frozenset({_ESTABLISHED, _FIN_WAIT1, _FIN_WAIT2, _CLOSE_WAIT})
"""States (net/tcp_states.h) of a socket that a process may still hold: one that has shut down its half does."""
_UNBROKEN: Final = frozenset({_ESTABLISHED, _CLOSE_WAIT})
"""States of our own end in which nobody else can have come by the peer's address and port."""

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST: Final = 1
_MAPPED: Final = bytes(10) + b"\xff\xff"
_HEADER: Final = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ENDS: Final = struct.Struct("!HH16s16s")  # the beginning of inet_diag_sockid: source and destination, both big-endian
_REQUEST: Final = struct.Struct("=BBBxI36sIII")  # inet_diag_req_v2: family, protocol, extensions, states, id
_ROW: Final = struct.Struct("=BBBB36sIIIIIIII")  # inet_diag_msg: family, state, …, id, …, uid, inode
_NO_COOKIE: Final = 0xFFFFFFFF
_LOCAL_PEERCRED: Final = 1  # macOS, sys/un.h
_XUCRED_SIZE: Final = 76


class Ends(NamedTuple):
    """A connection as one of its sockets sees it. Addresses are packed: 4 bytes, also where IPv6 maps them, or 16."""

    own: bytes
    own_port: int
    other: bytes
    other_port: int

    @property
    def is_loopback(self) -> bool:
        """Whether both ends are on this machine."""
        return all(end[0] == 127 if len(end) == 4 else end == _V6_LOOPBACK for end in (self.own, self.other))

    def turned(self) -> "Ends":
        """As the socket at the other end sees it."""
        return Ends(self.other, self.other_port, self.own, self.own_port)

    @property
    def is_v4(self) -> bool:
        """Whether the packets are IPv4, whatever family the socket has."""
        return len(self.own) == len(self.other) == 4


_V6_LOOPBACK: Final = bytes(15) + b"\x01"


def peer_of(sock: Any) -> Peer:
    """Who holds the other end of `sock`: a connected socket, or what a transport gives as its `socket`."""
    try:
        if sock.family == socket.AF_UNIX:
            return Peer(_known(_unix_uid(sock)), is_unix=True)
        return Peer(_known(_tcp_uid(sock)))
    except OSError:  # closed, reset or never connected
        return Peer(is_unix=sock.family == socket.AF_UNIX)


def question(ends: Ends, sequence: int) -> bytes:
    """The netlink message that asks for the one socket that sees the connection so."""
    family = socket.AF_INET if ends.is_v4 else socket.AF_INET6
    wanted = _ENDS.pack(ends.own_port, ends.other_port, ends.own, ends.other)  # 16 bytes each: struct pads with zeros
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, _NO_COOKIE, wanted, 0, _NO_COOKIE, _NO_COOKIE)
    return _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, sequence, 0) + body


def is_answer(message: bytes, sequence: int) -> bool:
    """Whether a netlink message answers that question."""
    return len(message) >= _HEADER.size and _HEADER.unpack_from(message)[3] == sequence


def uid_in(message: bytes, ends: Ends) -> int | None:
    """The user in an answer, if it is about exactly this socket and a process holds it.

    Where there is none the kernel answers with a listening socket of that port, and for a closed one with uid 0.
    """
    if len(message) < _HEADER.size + _ROW.size or _HEADER.unpack_from(message)[1] != _SOCK_DIAG_BY_FAMILY:
        return None
    family, state, _, _, seen, _, _, _, _, _, _, uid, inode = _ROW.unpack_from(message, _HEADER.size)
    own_port, other_port, own, other = _ENDS.unpack(seen)
    found = Ends(_packed(own, family), own_port, _packed(other, family), other_port)
    return int(uid) if found == ends and state in _LIVE and inode != 0 else None


class _SockDiag:
    """A netlink socket that is used again and again, from one thread; made anew after an error."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._sequence = itertools.count(1)

    def uid(self, ends: Ends) -> int | None:
        """Whose socket sees the connection so; None if nobody's, or if the kernel cannot tell."""
        for _ in range(2):
            with contextlib.suppress(OSError):
                return uid_in(self._exchanged(ends), ends)
            self.close()
        return None

    def _exchanged(self, ends: Ends) -> bytes:
        """The answer. The kernel has it ready when `send` returns, so that nothing is waited for. Raises OSError."""
        netlink = self._socket = self._socket or _netlink()
        sequence = next(self._sequence) & 0xFFFFFFFF
        netlink.send(question(ends, sequence))
        for _ in range(4):  # an answer that an error left unread may come first
            if is_answer(message := netlink.recv(1024), sequence):
                return message
        raise OSError("no answer")

    def close(self) -> None:
        """Until it is needed again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _netlink() -> socket.socket:
    """A socket that only the kernel can send to. Raises OSError where there is none to be had."""
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG)
    netlink.setblocking(False)
    netlink.connect((0, 0))
    return netlink


_sock_diag: Final = _SockDiag()
atexit.register(_sock_diag.close)


def _tcp_uid(sock: Any) -> int | None:
    """The peer's user. Raises OSError when the connection is no more."""
    own, own_port = sock.getsockname()[:2]
    other, other_port = sock.getpeername()[:2]
    peers = Ends(_address(other), other_port, _address(own), own_port)
    if not peers.is_loopback:
        return None
    if sys.platform != "linux":
        _warn_once()
        return None
    uid = _sock_diag.uid(peers)
    is_told = uid is not None or _sock_diag.uid(peers.turned()) is not None  # our own end is there for certain
    # Had the peer reset the connection, its port could be another user's by the time we asked.
    if sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] not in _UNBROKEN:
        return None
    if not is_told:
        _warn_once()
    return uid


@functools.cache
def _warn_once() -> None:
    log.warning("this system does not tell whose a connection is: client keys are needed")


def _unix_uid(sock: Any) -> int | None:
    """The user who connected, even if he has closed since. Raises OSError."""
    if sys.platform == "linux":
        return int(struct.unpack("=iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1])
    elif sys.platform == "darwin":  # noqa: RET505 - mypy knows what cannot be reached only so
        return int(struct.unpack_from("=II", sock.getsockopt(0, _LOCAL_PEERCRED, _XUCRED_SIZE))[1])
    else:
        return None


def _address(host: str) -> bytes:
    """Packed. Raises OSError for what is no address."""
    host = host.partition("%")[0]
    return _packed(socket.inet_pton(socket.AF_INET6, host), socket.AF_INET6) if ":" in host else socket.inet_aton(host)


def _packed(address: bytes, family: int) -> bytes:
    """16 bytes of the kernel's, or of an IPv6 address, as `Ends` has them."""
    if family == socket.AF_INET:
        return address[:4]
    return address[12:] if address.startswith(_MAPPED) else address


def _known(uid: int | None) -> int | None:
    """None for the user that stands for all users whom a user namespace does not know."""
    return None if uid == _unmapped() else uid


@functools.cache
def _unmapped() -> int | None:
    """That user, where some are not known here (user_namespaces(7)); None where all are."""
    if sys.platform != "linux":
        return None
    try:
        if Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]:
            return None
        return int(Path("/proc/sys/kernel/overflowuid").read_text())
    except (OSError, ValueError):
        return 65534
