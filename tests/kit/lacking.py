"""What a machine lacks for a test: on a newcomer's it is skipped with the reason, and in CI, where nothing may be left
out unseen, it fails.
"""

import os
from typing import NoReturn

import pytest

IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}


def lacking(reason: str) -> NoReturn:
    """Ends the test."""
    if IN_CI:
        pytest.fail(reason)
    pytest.skip(reason)
