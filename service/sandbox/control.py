"""`/_sandbox/`: the sandbox's own handles, for tests in another process.

Open to whoever reaches the listener, which is loopback only; a POST must be JSON, so that a web page
cannot make one without asking first (no CORS header is ever sent).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from . import wire
from .errors import OAuthError
from .faults import NAMED, TOKEN_PATH, Fault
from .knobs import Knobs, turn, user_from

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request

    from .knobs import User
    from .sandbox import Sandbox


class Control:
    """The control routes of one sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def routes(self) -> list[Route]:
        """Where they live."""
        orders = {
            "knobs": self._knobs,
            "approve": self._approve,
            "deny": self._deny,
            "fail": self._fail,
            "issue": self._issue,
            "revoke": self._ender(self._sandbox.revoke),
            "end_session": self._ender(self._sandbox.end_session),
            "expire_refresh_token": self._ender(self._sandbox.expire_refresh_token),
            "revoke_access": self._ender(self._sandbox.revoke_access),
        }
        return [
            Route("/_sandbox/state", self._state, methods=["GET"]),
            Route("/_sandbox/requests", self._requests, methods=["GET"]),
            *(Route(f"/_sandbox/{name}", _posted(order), methods=["POST"]) for name, order in orders.items()),
        ]

    async def _state(self, _request: Request) -> Response:
        """The counts, the families, who waits on the device page, the knobs."""
        sandbox = self._sandbox
        counts = {
            "issuer": sandbox.issuer,
            "requests": len(sandbox.requests),
            "refresh_count": sandbox.refresh_count,
            "reuse_count": sandbox.reuse_count,
            "retry_count": sandbox.retry_count,
            "faults_left": sandbox.faults_left,
            "pending_user_codes": sandbox.pending_user_codes,
            "families": [
                {
                    "id": family.id,
                    "alive": family.alive,
                    "ended": family.ended,
                    "generation": family.generation,
                    "refresh_token": family.refresh_token,
                    "access_token": family.access_token,
                    "account_id": family.account_id,
                    "email": family.user.email,
                }
                for family in sandbox.families
            ],
            "knobs": _knobs_json(sandbox.knobs),
        }
        return JSONResponse(counts)

    async def _requests(self, _request: Request) -> Response:
        # Not JSONResponse: what was received may hold text that is not valid Unicode.
        log = json.dumps([asdict(each) for each in self._sandbox.requests])
        return Response(log, media_type=wire.JSON)

    def _knobs(self, given: Mapping[str, Any]) -> dict[str, Any]:
        turn(self._sandbox.knobs, given)
        return _knobs_json(self._sandbox.knobs)

    def _approve(self, given: Mapping[str, Any]) -> dict[str, Any]:
        self._sandbox.approve(self._user_code(given), _user(given))
        return {}

    def _deny(self, given: Mapping[str, Any]) -> dict[str, Any]:
        self._sandbox.deny(self._user_code(given))
        return {}

    def _user_code(self, given: Mapping[str, Any]) -> str:
        """The one given, else the newest that waits."""
        code: str = given.get("user_code") or self._sandbox.pending_user_codes[-1]
        return code

    def _fail(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """`{"name", "arguments"?}` for a named fault, or a Fault's own fields; `count`, `path`, `grant_type`."""
        fields = dict(given)
        count, path = fields.pop("count", 1), fields.pop("path", TOKEN_PATH)
        grant_type = fields.pop("grant_type", None)
        for _ in range(count):
            self._sandbox.fail_next(_fault(fields), path=path, grant_type=grant_type)
        return {"faults_left": self._sandbox.faults_left}

    def _issue(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return self._sandbox.issue(_user(given))

    def _ender(self, end: Callable[[str | None], None]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
        def order(given: Mapping[str, Any]) -> dict[str, Any]:
            end(given.get("which"))
            return {}

        return order


def _posted(order: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        if wire.media_type(request.headers.get("content-type", "")) != wire.JSON:
            return JSONResponse({"error": "send JSON"}, 415)
        try:
            return JSONResponse(order(wire.parameters_of(request).checked().values))
        except OAuthError as exc:
            return JSONResponse({"error": exc.description}, 400)
        except (AttributeError, LookupError, TypeError, ValueError) as exc:
            return JSONResponse({"error": f"{type(exc).__name__}: {exc}"}, 400)

    return endpoint


def _user(given: Mapping[str, Any]) -> User | None:
    return user_from(given["user"]) if "user" in given else None


def _fault(fields: Mapping[str, Any]) -> Fault:
    if "name" in fields:
        return NAMED[fields["name"]](**fields.get("arguments", {}))
    body = fields.get("body", b"")
    return Fault(**{**fields, "body": body.encode() if isinstance(body, str) else body})


def _knobs_json(knobs: Knobs) -> dict[str, Any]:
    plain = asdict(knobs)
    del plain["drop_error"]
    return {name: sorted(each) if isinstance(each, set | frozenset) else each for name, each in plain.items()}
