"""Every route there is, as somebody would ask for it, made from the application's own table."""

import re

from starlette.routing import Route

from service.web.api import ROUTERS

TABLE: list[Route] = [route for router in ROUTERS for route in router.routes if isinstance(route, Route)]


def called(template: str) -> str:
    """A path of a route, with `nothing` where a name or an id belongs."""
    return re.sub(r"\{[a-z_]+\}", "nothing", template)


PATHS: list[str] = sorted({called(route.path) for route in TABLE})

CALLS: list[tuple[str, str]] = sorted((method, called(route.path)) for route in TABLE for method in route.methods or ())

NOWHERE: list[tuple[str, str]] = [("GET", "/nowhere"), ("POST", "/nowhere")]

ALL: list[tuple[str, str]] = [*CALLS, *NOWHERE]
"""With paths where nothing is."""

NAVIGABLE = frozenset({"/", "/login", "/callback", "/auth/callback"})
"""Where a link on another site may lead a person's browser."""


def allowed(path: str) -> set[str]:
    """The methods of a path."""
    return {method for method, one in CALLS if one == path}
