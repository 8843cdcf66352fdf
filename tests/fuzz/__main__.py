"""Run one target under atheris: `python -m tests.fuzz NAME -runs=1000`, with the options of libFuzzer."""

import logging
import sys
import tempfile
from pathlib import Path

import atheris


def planted(data: bytes) -> None:
    """A reader with a fault, to see that it is found."""
    if data[:1] == b"o" and data[1:2] == b"h" and data[2:3] == b"n" and data[3:4] == b"o":
        raise RuntimeError("the planted fault")


def main(name: str, options: list[str]) -> None:
    """Start with the target's seeds. Does not return."""
    with atheris.instrument_imports(include=["service"]):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - what it imports has to be instrumented
    logging.disable()  # a reader that warns at every input would be slowed by the lines
    folder = Path(tempfile.mkdtemp(prefix="corpus-"))
    run = atheris.instrument_func(planted) if name == "planted" else TARGETS[name]
    for number, seed in enumerate([] if name == "planted" else TARGETS[name].seeds()):
        (folder / str(number)).write_bytes(seed)
    atheris.Setup([sys.argv[0], *options, "-timeout=10", str(folder)], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
