"""A loopback of one's own. Chromium breaks off what is under way (ERR_NETWORK_CHANGED) when an address of its network
changes, and each container that another process of the tests starts or stops changes one."""

import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS = 0x8914
_UP_AND_RUNNING = 0x1 | 0x40
_NOT_FOR_US = {errno.EPERM, errno.EINVAL, errno.ENOSYS}
"""Only root gets one, and only on Linux."""


@contextmanager
def own_network() -> Iterator[bool]:
    """This thread, its processes and its later threads share a network with nobody. False: it stays the machine's."""
    if not hasattr(libc := ctypes.CDLL(None, use_errno=True), "unshare"):
        yield False
        return
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(_CLONE_NEWNET):
            if ctypes.get_errno() not in _NOT_FOR_US:
                raise OSError(ctypes.get_errno(), "unshare")
            yield False
            return
        try:
            with socket.socket() as any_socket:
                fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _UP_AND_RUNNING))
            yield True
        finally:
            if libc.setns(before, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(before)
