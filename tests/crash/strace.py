"""Faults in system calls: strace, attached to a process that does one refresh.

Promises that nothing is injected before that process is told to begin. strace counts the calls of each thread apart.
"""

import multiprocessing
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.crash import driver

_FORK: Final = multiprocessing.get_context("forkserver")
_FORK.set_forkserver_preload([driver.__name__])  # else each run would import all of it again

_IN_VAIN: Final = 3.0
"""Seconds after which a refresh that cannot end is ended: it has tried to store its pair a hundred times by then."""


@dataclass(frozen=True, slots=True)
class Fault:
    """`what` happens to the `when`-th invocations of a system `call`, in strace's words."""

    call: str
    what: str
    when: str

    @property
    def option(self) -> str:
        """For `strace -e`."""
        return f"inject={self.call}:{self.what}:when={self.when}"


@dataclass(frozen=True, slots=True)
class Run:
    """How one refresh went: what it told at its end (None if it was killed), and strace's record of the calls."""

    told: int | str | None
    record: str

    @property
    def was_killed(self) -> bool:
        """Whether it did not come to its end."""
        return self.told is None

    @property
    def was_hit(self) -> bool:
        """Whether the fault befell any call."""
        return self.was_killed or "(INJECTED" in self.record


def refresh_under(
    fault: Fault, folder: Path, values: dict[str, Any], *, loop: str = "uvloop", threads: bool = True, beside: str = ""
) -> Run:
    """One refresh with a fault.

    threads: in any of its threads, else only in the one that runs the loop. beside: further calls to be recorded.
    """
    record = folder / "strace"
    here, there = _FORK.Pipe()
    child = _FORK.Process(target=driver.refresh, args=(values, loop, there))
    child.start()
    there.close()
    here.recv()
    follow = ["-f"] if threads else []
    command = ["strace", *follow, "-o", str(record), "-y", "-e", f"trace={fault.call},{beside}", "-e", fault.option]
    with subprocess.Popen([*command, "-p", str(child.pid)], stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        first = tracer.stderr.readline()
        assert "attached" in first, first
        here.send("begin")
        try:
            told = here.recv() if here.poll(_IN_VAIN) else None
        except (EOFError, ConnectionResetError):
            told = None
        if told is None:
            child.kill()
        child.join()
        tracer.communicate()
    return Run(told, record.read_text())
