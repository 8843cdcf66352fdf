"""Bytes to parameters and answers to bytes: the HTTP shapes of the issuer.

Promises that nothing malformed passes: a parameter given twice, an unknown encoding, a number where a
text belongs are RFC 6749 5.2 `invalid_request`. Must not know grants or devices.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from starlette.responses import JSONResponse, Response

from .errors import OAuthError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.requests import Request

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
# RFC 6749 5.1: what holds a token must not be kept by any cache.
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a request carried, decoded; `problem` says why it must not be used.

    `repeated` names the first parameter given twice; its first value is the one in `values`.
    """

    values: Mapping[str, Any]
    problem: str = ""
    repeated: str = ""

    def checked(self) -> Parameters:
        """Itself. Raises OAuthError when it could not be decoded without doubt."""
        if self.problem:
            raise OAuthError("invalid_request", self.problem)
        return self

    def optional(self, name: str) -> str | None:
        """A text, or None when absent or empty (RFC 6749 3.2: no value is the same as omitted)."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, str):
            raise OAuthError("invalid_request", f"The parameter {name} is not a string.")
        return value or None

    def required(self, name: str) -> str:
        """A text that is there."""
        value = self.optional(name)
        if value is None:
            raise OAuthError("invalid_request", f"The parameter {name} is missing.")
        return value


def media_type(content_type: str) -> str:
    """Without parameters, lower-case."""
    return content_type.partition(";")[0].strip().lower()


def decoded(content_type: str, body: bytes) -> Parameters:
    """The parameters of a form or JSON body."""
    kind = media_type(content_type)
    try:
        if kind == FORM:
            return from_query(body.decode("ascii"))
        if kind == JSON:
            return _from_json(body)
    except (ValueError, RecursionError):
        return Parameters({}, "The body cannot be decoded.")
    return Parameters({}, f"The content type must be {FORM} or {JSON}.")


def from_query(query: str) -> Parameters:
    """The parameters of a query string."""
    try:
        return _unrepeated(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), errors="strict"))
    except ValueError:
        return Parameters({}, "The parameters cannot be decoded.")


def _from_json(body: bytes) -> Parameters:
    objects: list[Parameters] = []

    def unrepeated(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
        objects.append(_unrepeated(pairs))
        return objects[-1].values

    value = json.loads(body, object_pairs_hook=unrepeated, parse_constant=_not_json)
    if not isinstance(value, dict):
        return Parameters({}, "The body is not a JSON object.")
    return objects[-1]  # the outermost object closes last


def _not_json(constant: str) -> None:
    """NaN and Infinity: Python's dialect, not RFC 8259."""
    raise ValueError(constant)


def _unrepeated(pairs: Iterable[tuple[str, Any]]) -> Parameters:
    """RFC 6749 3.2: a parameter must not be included more than once."""
    values: dict[str, Any] = {}
    repeated = ""
    for name, value in pairs:
        if name in values:
            repeated = repeated or name
        values.setdefault(name, value)
    return Parameters(values, f"The parameter {repeated} is repeated." if repeated else "", repeated)


def parameters_of(request: Request) -> Parameters:
    """The body as the outermost layer decoded it, once."""
    parameters: Parameters = request.scope["sandbox.parameters"]
    return parameters


def answer(fields: Mapping[str, Any], status: int = 200) -> Response:
    """A JSON object that no cache keeps."""
    return JSONResponse(fields, status, headers=NO_STORE)


def refused(error: OAuthError, request: Request) -> Response:
    """The answer for a refusal."""
    response = answer(error.body(), error.status)
    if error.status == 401 and "authorization" in request.headers:
        response.headers["WWW-Authenticate"] = 'Basic realm="sandbox"'  # RFC 6749 5.2
    return response
