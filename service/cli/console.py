"""What a command says and how it ends. The only room that writes to stdout and stderr.

Promises that nothing from outside can steer the terminal: on stderr only printable characters pass.
"""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, TextIO

DONE: Final = 0
FAILED: Final = 1
MISUSED: Final = 2
"""A command line that cannot be understood, as typer or the service says, or should not have been given."""
LOGIN_REQUIRED: Final = 3
UNREACHABLE: Final = 4


class Failure(Exception):
    """The command cannot do what it was asked to. `lines` are for people and hold no secret."""

    def __init__(self, *lines: str, exit_code: int = FAILED) -> None:
        super().__init__(*lines)
        self.lines = lines
        self.exit_code = exit_code


def say(*lines: str) -> None:
    """Tell a person, on stderr."""
    sys.stderr.write("\n".join(map(printable, lines)) + "\n")
    sys.stderr.flush()


def progress(line: str) -> None:
    """Say how it stands: on a terminal in the place of what was said before, else as a line of its own."""
    if is_terminal(sys.stderr):
        sys.stderr.write(f"\r\x1b[K{printable(line)} ")  # back to the start, and the line erased
        sys.stderr.flush()
    else:
        say(line)


def out(text: str) -> None:
    """Give a script what it reads, on stdout, with one newline. Raises Failure when nobody takes it."""
    with _taken() as stdout:
        stdout.write(text + "\n")
        stdout.flush()


def out_bytes(content: bytes) -> None:
    """A part of a document as it is. Raises Failure when nobody takes it."""
    with _taken() as stdout:
        stdout.buffer.write(content)
        stdout.flush()


def out_json(value: Any) -> None:
    """The same for JSON. ASCII only, so that no locale can break it."""
    out(json.dumps(value, indent=2))


def out_rows(rows: Iterable[Iterable[object]]) -> None:
    """The same for a list: a line each, tabs between its fields, `-` for one that there is not, commas in one that is a
    list. Nothing that stands in a field adds to either."""
    if lines := ["\t".join(map(_field, row)) for row in rows]:
        out("\n".join(lines))


def is_for_people() -> bool:
    """Whether stdout leads to a person and not to a script."""
    return is_terminal(sys.stdout)


def printable(text: str) -> str:
    """The text with everything that a terminal would act upon replaced."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def is_terminal(stream: Any) -> bool:
    """Whether a person is at the other end; a closed or missing stream has nobody."""
    with suppress(AttributeError, ValueError):
        return bool(stream.isatty())
    return False


def _field(value: object) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"  # of the locale, which may not have the letter
    return printable(text).encode(encoding, "replace").decode(encoding) or "-"


@contextmanager
def _taken() -> Iterator[TextIO]:
    """stdout. Raises Failure when nobody takes what is written."""
    if sys.stdout is None:
        raise Failure("The output cannot be written (it is closed).")
    try:
        yield sys.stdout
    except OSError as exc:
        _abandon_stdout()
        raise Failure(f"The output cannot be written ({exc.strerror}).") from exc


def _abandon_stdout() -> None:
    """Send what is still buffered nowhere: the interpreter's last flush would fail again and change the exit code."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
