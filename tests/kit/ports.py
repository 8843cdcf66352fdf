"""Ports: 1455 and 1457, where issuers redirect to, for one test at a time whatever suites run beside; and free ones."""

import contextlib
import fcntl
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

_BELOW = range(20_000, 32_000)


@contextlib.contextmanager
def callback_ports() -> Iterator[None]:
    """Nobody else has them meanwhile."""
    with (Path(tempfile.gettempdir()) / f"pixir-auth-{os.getuid()}-callback-ports.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def free_port() -> int:
    """A port that nobody has, nor gets before it is used: it lies below those that the kernel gives out by itself."""
    while True:
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", secrets.choice(_BELOW))) as found:
            return int(found.getsockname()[1])
