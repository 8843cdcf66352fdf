"""Reads lines that a person types while something else is waited for.

Promises to end when told to: it looks at the terminal's descriptor and never blocks in a read, which nothing could
interrupt.
"""

import os
import select
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from service.cli.console import is_terminal

_LOOK_EVERY: Final = 0.2
"""Seconds until the end of the wait is noticed."""

_MAX_LINE: Final = 65536


class Paste:
    """A context in which every line typed at the terminal is delivered. Without a terminal it does nothing."""

    def __init__(self, deliver: Callable[[str], None], *, listen: bool) -> None:
        self.listens = listen and is_terminal(sys.stdin)
        self._deliver = deliver
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        if self.listens:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()

    def _listen(self) -> None:
        with suppress(OSError, ValueError):  # the terminal is gone
            descriptor = sys.stdin.fileno()
            while not self._ended.is_set():
                if not _is_ready(descriptor):
                    continue
                typed = os.read(descriptor, _MAX_LINE)  # a terminal gives one line at a time
                if not typed:
                    return  # Ctrl-D
                if line := typed.decode(errors="replace").strip():
                    self._deliver(line)


def _is_ready(descriptor: int) -> bool:
    """Whether a line is there that is meant for us: a read in the background would stop the whole program (SIGTTIN)."""
    if _in_background(descriptor):
        time.sleep(_LOOK_EVERY)
        return False
    return bool(select.select([descriptor], [], [], _LOOK_EVERY)[0])


def _in_background(descriptor: int) -> bool:
    try:
        return os.tcgetpgrp(descriptor) != os.getpgrp()
    except OSError:  # not the terminal that controls us: it cannot stop us either
        return False
