"""Copies of this project in a temporary folder, mutated or not, and what a test says of them.

A copy holds `service/`, `tests/` and `pyproject.toml`; pytest runs in it, in a process of its own, and imports from it.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.table import Edit
from tests.mutants.trial import IMPORTED_BEFORE, LIBRARIES

ROOT = Path(__file__).parents[2]

STARTER = Path(__file__).with_name("starter.py")


class OutOfDate(Exception):
    """A text that a mutant replaces does not occur exactly once."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What pytest said: its exit code (0: all passed, 1: some failed) and its output."""

    code: int
    output: str


def edited(text: str, edit: Edit) -> str:
    """The text with the edit made. Raises OutOfDate."""
    if (found := text.count(edit.old)) != 1:
        raise OutOfDate(f"service/{edit.file} holds this {found} times, not once:\n{edit.old}")
    return text.replace(edit.old, edit.new)


def copied(source: Path, folder: Path, edits: Iterable[Edit] = ()) -> Path:
    """A copy of the project, or of a copy of it, with some edits. Raises OutOfDate."""
    for name in ("service", "tests"):
        shutil.copytree(source / name, folder / name)
    shutil.copy2(source / "pyproject.toml", folder)
    for edit in edits:
        path = folder / "service" / edit.file
        path.write_text(edited(path.read_text(), edit))
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
            compiled.unlink()
    return folder


class Workshop:
    """Runs tests in copies, each in a process of its own that need not import the libraries first."""

    def __init__(self) -> None:
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV", "CI"))}
        self._starter = subprocess.Popen(
            [sys.executable, str(STARTER), *LIBRARIES],
            env=plain,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, copy: Path, tests: Iterable[str]) -> Verdict:
        """Run tests, by node ids below `tests/`, in a copy."""
        options = ["-p", "no:cacheprovider", "--color=no", "--tb=line", "-m", "long or not long", *IMPORTED_BEFORE]
        arguments = [*options, *(f"tests/{test}" for test in tests)]
        assert self._starter.stdin is not None
        assert self._starter.stdout is not None
        self._starter.stdin.write(json.dumps([str(copy), arguments]) + "\n")
        self._starter.stdin.flush()
        return Verdict(*json.loads(self._starter.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        self._starter.communicate()
