"""Talks to a running service over HTTP, by TCP or through its unix socket, with the standard library alone.

Promises bounded waiting and bounded answers, no redirect followed and no proxy of the environment used: what is sent
and what comes back are secrets. An error never quotes what was sent or answered, but for the members of a problem
document (RFC 9457) that are meant for people.
"""

import http.client
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from service import __version__
from service.cli.console import FAILED, LOGIN_REQUIRED, MISUSED, UNREACHABLE, Failure
from service.domain.secret import Secret

CONNECT_WITHIN: Final = 5.0
"""Seconds for a connection to one address: the service is on this machine, or near."""

ANSWER_WITHIN: Final = 60.0
"""Seconds an answer may take: the service itself waits up to 30 for the issuer."""

_MAX_ANSWER: Final = 4 * 1024 * 1024
"""Bytes of an answer that are read: a page of accounts is the largest there is."""

_PIECE: Final = 64 * 1024
"""Bytes of a long answer that are in memory at a time."""

_LINES: Final = "application/jsonl"

Body = dict[str, Any]

_EXIT_CODES: Final = {
    (409, "login_required"): LOGIN_REQUIRED,
    (422, "invalid_request"): MISUSED,  # what a request is made of was typed: see `usage` for where it was not
    (422, "unknown_provider"): MISUSED,
}
"""How a command ends that the service says no to, unless it has just failed."""


class Problem(Failure):
    """The service said no. `code` is one of the closed list in the service's OpenAPI document."""

    def __init__(self, status: int, document: Body) -> None:
        self.status = status
        self.code = str(document.get("code", ""))
        super().__init__(*_problem_lines(document), exit_code=_EXIT_CODES.get((status, self.code), FAILED))


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as it came. `media_type` without parameters, in lower case."""

    status: int
    media_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Service:
    """A service at a base URL, and what it is sent with every call. Each call is a connection of its own.

    unix_socket: the way there in the place of the URL's host. key: a client key. mark: a header that every call has to
    carry, with any value.
    """

    url: str
    unix_socket: Path | None = None
    key: Secret | None = None
    mark: str | None = None

    def get(self, path: str, query: Mapping[str, object] | None = None, *, within: float = ANSWER_WITHIN) -> Body:
        """The object at a path. Raises Problem, or Failure when nothing that understands us answers."""
        return self.call("GET", path, query=query, within=within)

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: Body | bytes | None = None,
        within: float = ANSWER_WITHIN,
    ) -> Body:
        """What the service answers; an empty object where there is no content. A None in the query is left out.

        `body`: an object, or JSON as it is. `within`: seconds between two signs of life. Raises as `get`.
        """
        asked = urlencode({name: value for name, value in (query or {}).items() if value is not None})
        target = f"{path}?{asked}" if asked else path
        content = json.dumps(body).encode() if isinstance(body, dict) else body
        try:
            answer = self.send(method, target, body=content, within=within)
        except (OSError, http.client.HTTPException, ValueError) as exc:
            raise _unreachable(self._where, exc) from None  # the cause may quote a line of the answer
        return self._understood(answer)

    def send(self, method: str, target: str, *, body: bytes | None = None, within: float = ANSWER_WITHIN) -> Answer:
        """One request and its answer, whatever it is. Raises OSError, http.client.HTTPException or ValueError."""
        with self._response(method, target, body, within) as response:
            return _whole(response)

    def download(self, path: str, take: Callable[[bytes], None], *, within: float = ANSWER_WITHIN) -> None:
        """Hand over the lines of JSON at a path, of any length, as they come. Raises as `get`, and what `take` raises.

        What has been handed over by then is not the whole.
        """
        try:
            with self._response("GET", path, None, within) as response:
                if response.status != 200 or response.headers.get_content_type() != _LINES:
                    self._understood(_whole(response))
                    raise Failure("The service does not know this command: update it.", exit_code=UNREACHABLE)
                while piece := response.read(_PIECE):
                    take(piece)
        except (OSError, http.client.HTTPException, ValueError) as exc:
            raise _unreachable(self._where, exc) from None

    @contextmanager
    def _response(
        self, method: str, target: str, body: bytes | None, within: float
    ) -> Iterator[http.client.HTTPResponse]:
        parts = urlsplit(self.url + target)
        connection = self._connection(parts, min(CONNECT_WITHIN, within))
        try:
            connection.connect()  # every address of the name in turn: localhost is 127.0.0.1 and ::1
            connection.sock.settimeout(within)
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            connection.request(method, path, body, self._headers(has_body=body is not None))
            yield connection.getresponse()
        finally:
            connection.close()

    def _connection(self, parts: SplitResult, within: float) -> http.client.HTTPConnection:
        if not parts.hostname:
            raise ValueError("no host")
        if self.unix_socket:
            return _UnixConnection(self.unix_socket, parts.hostname, within)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        return kind(parts.hostname, parts.port, timeout=within)

    def _headers(self, *, has_body: bool) -> dict[str, str]:
        headers = {"accept": "application/json", "user-agent": f"pixir-auth/{__version__}"}
        if has_body:
            headers["content-type"] = "application/json"
        if self.key:
            headers["authorization"] = f"Bearer {self.key.reveal()}"
        if self.mark:
            headers.setdefault(self.mark.lower(), "1")
        return headers

    @property
    def _where(self) -> str:
        return f"the unix socket {self.unix_socket}" if self.unix_socket else _shown(self.url)

    def _understood(self, answer: Answer) -> Body:
        if answer.status == 204:
            return {}
        document = _object(answer.body) if answer.media_type.endswith("json") else None
        if document is not None and 200 <= answer.status < 300:
            return document
        is_problem = answer.media_type == "application/problem+json"
        if document is not None and (is_problem or {"error", "code"} <= set(document)):  # as /oauth/token says it
            raise Problem(answer.status, document)
        raise Failure(
            f"What answers at {self._where} is not pixir-auth (HTTP {answer.status}).",
            "Check PIXIR_AUTH_PUBLIC_URL and PIXIR_AUTH_PORT, or start the service: pixir-auth serve",
            exit_code=UNREACHABLE,
        )


def login_path(login_id: object) -> str:
    """Where a login lives."""
    return f"/login/{quote(str(login_id), safe='')}"


class _UnixConnection(http.client.HTTPConnection):
    """HTTP through a file."""

    def __init__(self, path: Path, host: str, within: float) -> None:
        super().__init__(host, timeout=within)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _whole(response: http.client.HTTPResponse) -> Answer:
    content = response.read(_MAX_ANSWER + 1)
    if len(content) > _MAX_ANSWER:
        raise http.client.HTTPException("answer too large")
    media_type = response.headers.get_content_type() if "content-type" in response.headers else ""
    return Answer(response.status, media_type, content)


def _object(body: bytes) -> Body | None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _problem_lines(document: Body) -> list[str]:
    """`Title: detail [code: reason]`, then what to do about it."""
    said = ": ".join(_texts(document.get("title"), document.get("detail"))) or "The service refused."
    why = ": ".join(_texts(document.get("code"), document.get("reason")))
    lines = [f"{said} [{why}]" if why else said]
    actions = document.get("next_actions")
    lines += [f"  - {action}" for action in _texts(*(actions if isinstance(actions, list) else ()))]
    if isinstance(document.get("retry_after"), int):
        lines.append(f"  - Worth another try in {document['retry_after']} s.")
    return lines


def _texts(*values: object) -> list[str]:
    return [value for value in values if isinstance(value, str) and value]


def _unreachable(where: str, exc: Exception) -> Failure:
    return Failure(
        f"No service answers at {where} ({_reason(exc)}).",
        "Start it with: pixir-auth serve",
        exit_code=UNREACHABLE,
    )


def _reason(exc: Exception) -> str:
    """In our own words: the exception's may quote the URL or a line of the answer."""
    match exc:
        case ConnectionRefusedError():
            return "connection refused"
        case TimeoutError():
            return "timed out"
        case FileNotFoundError():
            return "there is no such file"
        case PermissionError():
            return "permission denied"
        case socket.gaierror():
            return "its name is not known"
    return type(exc).__name__


def _shown(url: str) -> str:
    """The URL without a user name, password or query that somebody put there."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the address of the settings"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
