"""The OpenAPI document: what the framework says of the routes, and what it does not know."""

from typing import Any

from fastapi import FastAPI

from service.web.oauth import TOKEN_ENDPOINT, oauth_error
from service.web.problems import MEDIA_TYPE, STATUS
from service.web.proxies import FORWARD_AUTH, proxy_status
from service.web.schemas import OAuthError, Problem


def document(api: FastAPI) -> dict[str, Any]:
    """The OpenAPI document. Every operation may answer with a problem, whose `code` is from a closed list.

    Where there is a page for people, what goes wrong may be told by a page too.
    """
    described: dict[str, Any] = api.openapi()
    schema = Problem.model_json_schema()
    schema["x-status"] = {code: STATUS[code][0] for code in sorted(STATUS)}
    schemas = described["components"]["schemas"]
    schemas["Problem"] = schema
    schemas["OAuthError"] = OAuthError.model_json_schema()
    for unused in ("HTTPValidationError", "ValidationError"):  # the framework's shape, which we never send
        schemas.pop(unused, None)
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for path, operations in described["paths"].items():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            told = operation["responses"].get("200", {}).get("content", {})
            page = {"text/html": told["text/html"]} if "text/html" in told else {}
            if path == FORWARD_AUTH:
                operation["x-status"] = {code: proxy_status(STATUS[code][0]) for code in sorted(STATUS)}
            operation["responses"]["default"] = {"description": "A problem (RFC 9457)", "content": content | page}
    _tell_of_oauth(described["paths"][TOKEN_ENDPOINT]["post"])
    return described


def _tell_of_oauth(operation: dict[str, Any]) -> None:
    """Of the one operation that refuses as OAuth clients understand it."""
    told = {code: oauth_error(code, STATUS[code][0]) for code in sorted(STATUS)}
    operation["x-status"] = {code: status for code, (status, _) in told.items()}
    operation["x-error"] = {code: error for code, (_, error) in told.items()}
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/OAuthError"}}}
    operation["responses"]["default"] = {"description": "An error (RFC 6749 section 5.2)", "content": content}
