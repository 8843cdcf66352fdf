"""The unix socket: a file, 0600 in a folder of ours, that leads to the service.

Promises that nobody else can connect at any moment: the file gets its mode before it listens, and its name after that.
It takes the place of what a dead process of ours left there, and of nothing else.

    bind to a random name  ->  chmod 0600  ->  listen  ->  rename to the name that was asked for
"""

import errno
import fcntl
import os
import secrets
import socket
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from service.store.files import UnsafePath, private_folder

_LONGEST: Final = 107 if sys.platform == "linux" else 103
"""Bytes of a path that the kernel takes: `sun_path` without its NUL."""

_TURN_WITHIN: Final = 5.0
"""Seconds to wait for another process that takes a name in the same folder: each needs a millisecond."""


class UnixSocket:
    """A listening socket and the file that leads to it. `with`: the file is removed in any case."""

    def __init__(self, path: Path, backlog: int) -> None:
        """Listen at a path. Raises UnsafePath, or OSError: among others if it is too long or somebody listens there."""
        self.path = path
        draft = path.parent / f".{secrets.token_hex(4)}"
        if max(len(os.fsencode(each)) for each in (path, draft)) > _LONGEST:
            raise OSError(errno.ENAMETOOLONG, f"a path of more than {_LONGEST} bytes cannot be a unix socket's")
        private_folder(path.parent)
        self._file: tuple[int, int] | None = None
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.listener.bind(str(draft))
            try:
                draft.chmod(0o600)
                self.listener.listen(backlog)
                with _turn(path.parent):
                    _make_way(path)
                    self._file = _identity(draft)
                    draft.rename(path)
            finally:
                draft.unlink(missing_ok=True)
        except (OSError, UnsafePath):
            self.listener.close()
            raise

    def remove(self) -> None:
        """Take the file away if it is still ours. To be called while we listen: so nobody takes us for dead before."""
        with suppress(OSError):
            if self._file == _identity(self.path):
                self.path.unlink()
        self._file = None  # once we are closed the kernel may give the number to somebody else's file

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()
        self.listener.close()


def _make_way(path: Path) -> None:
    """Make sure that the name may be taken: it is free, or a dead process of ours left its socket there."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise UnsafePath(f"{path} is something else than a socket: it is left as it is")
    if found.st_uid != os.geteuid():
        raise UnsafePath(f"{path} belongs to another user")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full backlog must not make us wait
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except OSError:
            pass  # whatever it is, it is not proven dead
    raise OSError(errno.EADDRINUSE, "in use by another process")


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """One process at a time: else two could find the same dead socket, and the later one take the other's place."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        give_up = time.monotonic() + _TURN_WITHIN
        while not _locked(descriptor):
            if time.monotonic() > give_up:  # who may read the folder can hold its lock, but not hold us up for ever
                raise OSError(errno.EAGAIN, "its folder is locked by another process")
            time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino
