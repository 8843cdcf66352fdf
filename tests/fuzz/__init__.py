"""What others send, made up by programs that are good at it."""

import platform
import sys
from typing import Final

HAS_ATHERIS: Final = sys.platform == "linux" and platform.machine() == "x86_64"
"""Whether atheris has a wheel for this platform; pyproject.toml asks for it where it has."""

FUZZERS: Final = ("schemathesis", "atheris") if HAS_ATHERIS else ("schemathesis",)
"""What the suite needs."""
