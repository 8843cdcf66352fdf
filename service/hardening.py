"""What a process that holds secrets forgoes: core dumps, and being looked into by others of its user.

Never fatal: where it cannot be had the service is as good as any other program, and says so.
"""

import logging
import os
import resource
import sys
from collections.abc import Callable
from typing import Final

log = logging.getLogger(__name__)

_PR_SET_DUMPABLE: Final = 4
"""From linux/prctl.h."""


def harden() -> None:
    """Before there is anything to lose: new files are ours alone, no core dump, no debugger, no /proc/PID/environ."""
    os.umask(0o077)  # for what we do not make ourselves; what we do make has its mode in any case
    _tried("core dumps cannot be switched off", _no_core)
    if sys.platform == "linux":
        _tried("other processes of this user can look into this one", _not_dumpable)


def _tried(otherwise: str, step: Callable[[], None]) -> None:
    try:
        step()
    except (OSError, ValueError, AttributeError, ImportError) as exc:
        log.warning("%s (%s)", otherwise, type(exc).__name__)


def _no_core() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _not_dumpable() -> None:
    """Also covers a core pattern that is a pipe: the kernel does not ask the limit there."""
    import ctypes  # noqa: PLC0415 - only this platform needs it

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
