"""Whose fault a refused request is: the command line's, or that of what it names."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from service.cli.client import Problem
from service.cli.console import FAILED, MISUSED

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def is_name(text: str) -> bool:
    """Whether there can be an account, or a client key, of that name."""
    return _NAME.fullmatch(text) is not None


@contextmanager
def nothing_typed_but(account: str) -> Iterator[None]:
    """Around a request that is made of a file's content or a login's state: if that cannot be used the command has
    failed, and the command line is at fault only if there can be no account of that name. Raises what is raised inside.
    """
    try:
        yield
    except Problem as problem:
        if problem.exit_code == MISUSED and is_name(account):
            problem.exit_code = FAILED
        raise
