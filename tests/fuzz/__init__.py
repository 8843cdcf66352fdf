"""What others send, made up by programs that are good at it."""

import os
import platform
import sys
from typing import Final

HAS_ATHERIS: Final = sys.platform == "linux" and platform.machine() == "x86_64"
"""Whether atheris has a wheel for this platform; pyproject.toml asks for it where it has."""

FUZZERS: Final = ("schemathesis", "atheris") if HAS_ATHERIS else ("schemathesis",)
"""What the suite needs."""


def plain_environment() -> dict[str, str]:
    """For a fuzzer: one that is traced for coverage tries a tenth as much."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COV")}
