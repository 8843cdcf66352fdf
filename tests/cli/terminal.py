"""A person at a terminal: a program whose stdin and stderr are one, and stdout if wanted, as a shell would start it."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

from .conftest import ROOT

_STARTER = """
import fcntl, os, sys, termios
if sys.argv[1] != "elsewhere":
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # from now on it is the terminal that controls us
if sys.argv[1] == "background":
    if child := os.fork():
        os.waitpid(child, os.WUNTRACED)
        sys.exit(0)
    os.setpgid(0, 0)
os.execv(sys.executable, [sys.executable, "-m", "service", *sys.argv[2:]])
"""


class Terminal:
    """What the person sees and types."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self.seen = ""
        self._master = master

    def wait_for(self, text: str, within: float = 20) -> None:
        """Until the text was shown."""
        deadline = time.monotonic() + within
        while text not in self.seen:
            assert time.monotonic() < deadline, f"{text!r} was not shown: {self.seen!r}"
            self._look()

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def press_ctrl_c(self) -> None:
        self.type("\x03")

    def end(self, within: float = 20) -> int:
        """The exit code, after everything was shown."""
        deadline = time.monotonic() + within
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it does not end: {self.seen!r}"
            self._look()
        self._look()
        return self.process.returncode

    def _look(self) -> None:
        while select.select([self._master], [], [], 0.05)[0]:
            try:
                shown = os.read(self._master, 65536)
            except OSError:  # EIO: nobody is at the other end any more
                return
            if not shown:
                return
            self.seen += shown.decode()


@contextmanager
def terminal(
    *arguments: str, where: Literal["foreground", "background", "elsewhere"] = "foreground", shows_stdout: bool = False
) -> Iterator[Terminal]:
    """The program at a terminal of its own; `elsewhere`: at one that does not control it."""
    master, slave = pty.openpty()
    command = [sys.executable, "-c", _STARTER, where, *arguments]
    process = subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave if shows_stdout else subprocess.DEVNULL,
        stderr=slave,
        cwd=ROOT,
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        os.close(master)
