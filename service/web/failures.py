"""Errors of ours, refusals of the framework and what nobody expected, as problems."""

import logging
from collections.abc import Sequence
from typing import Final

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from service.domain.errors import AuthError, OutOfScope
from service.web import schemas
from service.web.callers import call_of
from service.web.problems import problem, problem_of
from service.web.services import caller_of, services_of

log = logging.getLogger(__name__)

_NAMES: Final = frozenset({"query", "body", "path", "name"}).union(
    schemas.AccountsQuery.model_fields,
    schemas.AuditQuery.model_fields,
    schemas.ConfirmExportBody.model_fields,
    schemas.ExportBody.model_fields,
    schemas.KeyBody.model_fields,
    schemas.LineBody.model_fields,
    schemas.LoginBody.model_fields,
    schemas.PastedBody.model_fields,
    schemas.RestoreBody.model_fields,
    schemas.TokenQuery.model_fields,
    schemas.WaitQuery.model_fields,
)
"""Names that may stand in an answer. A name that we do not know is input, and may be a token."""


def add_handlers(api: FastAPI, public_url: str, routers: Sequence[APIRouter]) -> None:
    """Make every error of the application a problem answer."""

    async def our_error(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, AuthError)  # noqa: S101 - registered for nothing else
        if isinstance(exc, OutOfScope):  # the guard notes what it refuses itself
            call = call_of(request.scope)
            services_of(request).trail.note("refused", caller_of(request).name, exc.code, detail=call)
        return problem_of(exc, public_url)

    async def refused(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, HTTPException)  # noqa: S101 - registered for nothing else
        return _refusal(exc, request, routers)

    api.add_exception_handler(AuthError, our_error)
    api.add_exception_handler(HTTPException, refused)
    api.add_exception_handler(RequestValidationError, _invalid)
    api.add_exception_handler(Exception, _unexpected)


async def _invalid(_request: Request, exc: Exception) -> Response:
    """Which parameter is wrong and how, never what was sent."""
    assert isinstance(exc, RequestValidationError)  # noqa: S101 - registered for nothing else
    faults = [f"{_known(error['loc'])}: {error['msg']}" for error in exc.errors()]
    return problem("invalid_request", "; ".join(dict.fromkeys(faults)) or "The request cannot be used.")


def _known(loc: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in loc if part in _NAMES) or "request"


def _refusal(exc: HTTPException, request: Request, routers: Sequence[APIRouter]) -> Response:
    """What the framework refuses: unknown paths, methods, unreadable bodies."""
    if exc.status_code == 405:
        allow = ", ".join(sorted(_methods(request, routers)))
        return problem("method_not_allowed", "Not with this method.", headers={"Allow": allow})
    if exc.status_code == 404:
        return problem("not_found", "There is nothing here.")
    return problem("invalid_request", "The request cannot be read.")


def _methods(request: Request, routers: Sequence[APIRouter]) -> set[str]:
    """What all routes on this path allow (RFC 9110 section 15.5.6); the framework names the first route's only."""
    routes = [route for router in routers for route in router.routes]
    on_path = [route for route in routes if route.matches(request.scope)[0] != Match.NONE]
    return set().union(*(getattr(route, "methods", None) or () for route in on_path))


async def _unexpected(_request: Request, exc: Exception) -> Response:
    log.error("an error in this program", exc_info=exc)
    return problem("internal_error", "Something went wrong inside the service; nothing was lost.")
