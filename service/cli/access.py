"""`token` and `headers`: what other programs call, and wait for.

Promises that a plain call of the two needs no typer: that loads pydantic to check options, which takes three times as
long as everything else. `plain_call` knows their options in the long form only, and leaves whatever else there is
(help, faults, unusual spellings) to `commands`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from service.cli.address import the_service
from service.cli.client import Body
from service.cli.console import DONE, UNREACHABLE, Failure, out, out_json, say
from service.cli.usage import is_name

_ACCOUNT: Final = "--account"
_JSON: Final = "--json"
_OPTIONS: Final = {_ACCOUNT: "account", "--min-ttl": "min_ttl", "--newer-than": "newer_than", _JSON: "as_json"}

_NUMBER: Final = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Wish:
    """Which token is wanted. `min_ttl` in seconds; `newer_than`: the generation whose token was just rejected."""

    account: str = "default"
    min_ttl: int | None = None
    newer_than: int | None = None
    as_json: bool = False

    @property
    def query(self) -> dict[str, object]:
        """As the service wants it."""
        return {"account": self.account, "min_ttl": self.min_ttl, "newer_than": self.newer_than}


def print_token(wish: Wish) -> int:
    """The access token and nothing else, or the whole answer as JSON."""
    answer = the_service().get("/token", wish.query)
    warn(answer)
    if wish.as_json:
        out_json(answer)
    else:
        out(sendable(answer.get("access_token")))
    return DONE


def print_headers(wish: Wish) -> int:
    """What to send to the provider, one `Name: value` a line, as `curl -H @-` reads it."""
    headers = the_service().get("/headers", wish.query)
    if wish.as_json:
        out_json(headers)
    else:
        out("\n".join(f"{sendable(name)}: {sendable(value)}" for name, value in headers.items()))
    return DONE


COMMANDS: Final = {"token": print_token, "headers": print_headers}


def plain_call(arguments: Sequence[str]) -> Callable[[], int] | None:
    """What to run for a plain call of one of the two commands; None for all that `commands` has to look at."""
    command = COMMANDS.get(arguments[0]) if arguments else None
    wish = plain_wish(arguments[1:]) if command else None
    return partial(command, wish) if command and wish else None


def plain_wish(options: Sequence[str]) -> Wish | None:
    """The options of a plain call; None when one is unknown, faulty, repeated or spelt in an unusual way."""
    found: dict[str, Any] = {}
    left = iter(options)
    for option in left:
        name, joined, value = option.partition("=")
        if name in found or name not in _OPTIONS or (name == _JSON and joined):
            return None
        found[name] = True if name == _JSON else _value(name, value if joined else next(left, ""))
    return None if None in found.values() else Wish(**{_OPTIONS[name]: value for name, value in found.items()})


def _value(name: str, text: str) -> str | int | None:
    if name == _ACCOUNT:
        return text if is_name(text) else None
    return int(text) if _NUMBER.fullmatch(text) else None


def warn(answer: Body) -> None:
    """Say why the token is less than what was asked for; it is valid all the same."""
    if warning := answer.get("warning"):
        say(f"warning: {warning}")


def sendable(value: object) -> str:
    """One line of visible ASCII: anything else would become two lines, or another header, at the reader's."""
    if isinstance(value, str) and value and value.isascii() and value.isprintable():
        return value
    raise Failure("The service answered without a usable token.", exit_code=UNREACHABLE)
