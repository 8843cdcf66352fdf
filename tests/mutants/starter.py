"""Starts pytest in copies of this project, each in a fork of a process that has imported the libraries already.

Run by its path, so that nothing of this project is imported before a fork stands in its copy. A line of JSON on the
input is an order, `[folder, [arguments of pytest]]`; a line on the output tells `[exit code, what pytest said]`.
"""

import importlib
import json
import os
import signal
import sys
import tempfile
import traceback

import pytest

_TIME = 300
"""Seconds that the tests of one copy may take: one that hangs is not killed, it is unclear."""


def main(libraries: list[str]) -> None:
    """Answer orders until the input ends."""
    sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]  # as tests/conftest.py has it
    for library in libraries:
        importlib.import_module(library)
    for line in sys.stdin:
        folder, arguments = json.loads(line)
        with tempfile.TemporaryFile() as said:
            sys.stdout.flush()
            child = os.fork()
            if not child:
                _be_pytest(folder, arguments, said.fileno())
            _, status = os.waitpid(child, 0)
            said.seek(0)
            print(json.dumps([os.waitstatus_to_exitcode(status), said.read().decode(errors="replace")]), flush=True)


def _be_pytest(folder: str, arguments: list[str], output: int) -> None:
    """In the fork, which ends with it."""
    code = 70
    try:
        nothing = os.open(os.devnull, os.O_RDONLY)
        for stream, wanted in enumerate((nothing, output, output)):
            os.dup2(wanted, stream)
        os.chdir(folder)
        sys.path[0] = folder  # in the place of this file's own
        signal.alarm(_TIME)
        code = int(pytest.main(arguments))
    except BaseException:  # noqa: BLE001 - whatever it is, it is told, and the process that forked does not go on twice
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
