"""The command line: every command but `serve`, `demo`, `doctor` and `openapi` is a client of a running service.

Promises: stdout holds what a script reads and nothing else; people are spoken to on stderr; a token is printed only by
`token`, `headers` and `export`, never in an error; exit codes are those of `console`. What a command does not need is
not imported: other programs call `token` and wait for it.
"""

import sys
from collections.abc import Sequence

from service.cli.access import plain_call
from service.cli.argv import refuse_secrets
from service.cli.console import FAILED, Failure, say

PROGRAM = "pixir-auth"

_INTERRUPTED = 130
"""What typer makes of Ctrl-C."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. `argv`: without the program's name; sys.argv unless given."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        refuse_secrets(arguments)
        if call := plain_call(arguments):
            return call()
        return _run(arguments)
    except Failure as failure:
        say(*failure.lines)
        return failure.exit_code
    except KeyboardInterrupt:
        return FAILED


def _run(arguments: list[str]) -> int:
    from service.cli.commands import app  # noqa: PLC0415 - typer and what it loads cost more than a whole `token`

    try:
        app(args=arguments, prog_name=PROGRAM)
    except SystemExit as exc:  # how typer ends
        return FAILED if exc.code == _INTERRUPTED or not isinstance(exc.code, int) else exc.code
    return FAILED  # pragma: no cover - it never returns
