"""Secrets do not belong on a command line: other users see it in the list of processes, and shells write it down.

Promises that one that looks like a secret is refused before anything is done with it, and not said again.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from service.cli.console import MISUSED, Failure

_SECRET: Final = re.compile(
    r"""(?: -- [a-z-]+ = )? (?:
        (?: sk- | eyJ | rt[_.-] ) [\w.~+/=-]{12,}                   # API keys; JWTs; refresh tokens of OpenAI
        | Bearer [ ] .+ | (?i:authorization) : .+
        | [{] .+                                                    # a whole auth.json
        | https?:// [^?]* [?&#] (?: .* & )? code= .+                # where a browser came back to
        | (?= .* [A-Z] ) (?= .* [a-z] ) (?= .* [0-9] ) [\w.~+=-]{40,}  # too random for a name
    )""",
    re.VERBOSE | re.DOTALL,
)


def refuse_secrets(arguments: Sequence[str]) -> None:
    """Raises Failure if one of them looks like a secret; a file of that name may be named."""
    for argument in arguments:
        if _SECRET.fullmatch(argument) and not _is_there(argument):
            raise Failure(
                "An argument looks like a token, a key or a code: it was not used.",
                "Other users of this machine can see arguments, and shells keep them: take it as known, and renew it.",
                "Hand secrets over in a file or on stdin: pixir-auth import FILE, pixir-auth import -",
                exit_code=MISUSED,
            )


def _is_there(argument: str) -> bool:
    try:
        return Path(argument).exists()
    except (OSError, ValueError):  # too long for a name
        return False
