"""Log lines on stderr, text or JSON. Promises one line a record, and an exception's type and place but never its text:
the texts of libraries hold tokens, rows and bodies.
"""

import json
import logging
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Literal

request_id: Final[ContextVar[str | None]] = ContextVar("request_id", default=None)
"""Of the request that is being answered: in every line that is logged meanwhile, and by what it has begun."""

_LOUD: Final = ("httpx", "httpcore", "uvicorn", "asyncio", "sqlalchemy", "hpack")
"""Libraries that log headers, URLs or statements when they are let."""


def configure(shape: Literal["text", "json"], level: str) -> None:
    """Log our own lines at `level` and what libraries say only from warnings up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if shape == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _LOUD:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # warns of every malformed request, which is not our trouble


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at, asked = _at(record), request_id.get()
        name = f"{record.name} [{asked}]" if asked else record.name
        return f"{at} {record.levelname.lower():7} {name}: {_line(record.getMessage())}{_where(record)}"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "at": _at(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage() + _where(record),
        }
        if asked := request_id.get():
            fields["request_id"] = asked
        return json.dumps(fields)


def _at(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _line(message: str) -> str:
    """One line, whatever is in it: no escape sequence reaches a terminal, no line break starts a false record."""
    return message if message.isprintable() else message.encode("unicode_escape").decode("ascii")


def _where(record: logging.LogRecord) -> str:
    """` | Type at file:line in function < Type ...` for a record with an exception."""
    if not record.exc_info or record.exc_info[1] is None:
        return ""
    places: list[str] = []
    error: BaseException | None = record.exc_info[1]
    while error is not None and len(places) < 5:
        places.append(f"{type(error).__name__}{_place(error.__traceback__)}")
        error = error.__cause__
    return " | " + " < ".join(places)


def _place(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)
    return f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""
