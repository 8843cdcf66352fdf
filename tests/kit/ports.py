"""1455 and 1457, the ports that the issuer redirects to: one test at a time, whatever suites run beside."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def callback_ports() -> Iterator[None]:
    """Nobody else has them meanwhile."""
    with (Path(tempfile.gettempdir()) / f"pixir-auth-{os.getuid()}-callback-ports.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
