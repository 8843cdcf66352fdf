"""What travels between us and an issuer, as values. `service.issuer` turns a Request into one of the outcomes."""

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from service.domain.secret import Secret


@dataclass(frozen=True, slots=True)
class Request:
    """One POST. Secrets travel in the body only; `kind` is a word for logs."""

    kind: str
    url: str
    content_type: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, the few headers that matter (names in lower case) and the body of an answer that was read whole."""

    status: int
    body: bytes = field(repr=False)
    headers: dict[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class NotSent:
    """No byte of the request can have reached the issuer: name lookup, connect, TLS or our own queue failed."""

    error: str


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """The request may have been read and acted upon, but no whole answer came back."""

    error: str


Outcome = Answer | NotSent | NoAnswer


def form(kind: str, url: str, **fields: str | Secret) -> Request:
    """RFC 6749 appendix B."""
    return Request(kind, url, "application/x-www-form-urlencoded", urlencode(_revealed(fields)).encode())


def json_body(kind: str, url: str, **fields: str | Secret) -> Request:
    """The same as a JSON object, where the issuer wants that."""
    return Request(kind, url, "application/json", json.dumps(_revealed(fields)).encode())


def parse_object(body: bytes) -> dict[str, Any] | None:
    """The body as a JSON object, or None. Tolerates a byte-order mark; never raises, never quotes the body."""
    try:
        parsed = json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _revealed(fields: dict[str, str | Secret]) -> dict[str, str]:
    return {name: value.reveal() if isinstance(value, Secret) else value for name, value in fields.items()}
