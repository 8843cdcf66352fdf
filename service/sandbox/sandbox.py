"""The sandbox as a test holds it: one object with the application, the knobs and what happened.

The only place that puts the rooms together.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette

from . import wire
from .api import Api
from .authorize import Authorize
from .control import Control
from .deviceauth import DeviceAuth
from .errors import OAuthError
from .faults import TOKEN_PATH, Fault
from .knobs import Knobs, User
from .layer import Layer, Received
from .state import State
from .tokens import Token, shaped
from .values import CODEX_SCOPE, Ended, Family, Login

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.requests import Request
    from starlette.responses import Response


class Sandbox:
    """An issuer that behaves like the one Codex logs in at, and is strict about what it is sent.

    `now` gives seconds since the epoch. `issuer` may be set later, once a port is known.
    """

    def __init__(
        self,
        issuer: str = "http://localhost:8123",
        knobs: Knobs | None = None,
        now: Callable[[], float] = time.time,
        users: Iterable[User] = (),
    ) -> None:
        self._state = State(issuer, knobs or Knobs(), now, list(users))
        routes = [
            *Authorize(self._state).routes(),
            *Token(self._state).routes(),
            *DeviceAuth(self._state).routes(),
            *Api(self._state).routes(),
            *Control(self).routes(),
        ]
        endpoints = Starlette(routes=routes, exception_handlers={OAuthError: _refused})
        self.app = Layer(endpoints, self._state)

    # how it behaves

    @property
    def issuer(self) -> str:
        """Its own base URL, without a trailing slash."""
        return self._state.issuer

    @issuer.setter
    def issuer(self, url: str) -> None:
        self._state.issuer = url.rstrip("/")

    @property
    def knobs(self) -> Knobs:
        """May be changed, or replaced, while it runs."""
        return self._state.knobs

    @knobs.setter
    def knobs(self, knobs: Knobs) -> None:
        self._state.knobs = knobs

    @property
    def users(self) -> list[User]:
        """The people a `login_hint` may name, by email or subject."""
        return self._state.users

    def fail_next(self, *faults: Fault, path: str = TOKEN_PATH, grant_type: str | None = None) -> None:
        """Queue faults for the next requests to `path`, each used up by one of them."""
        for fault in faults:
            self.app.script.add(fault, path, grant_type)

    def clear_faults(self) -> None:
        """Forget the faults not yet used up."""
        self.app.script.clear()

    # what happened

    @property
    def requests(self) -> list[Received]:
        """Every request it received but those to `/_sandbox/`, oldest first."""
        return self.app.requests

    def token_requests(self, grant_type: str | None = None) -> list[Received]:
        """Those to the token endpoint, of one grant type or of all."""
        posted = [each for each in self.requests if each.path == TOKEN_PATH]
        return [each for each in posted if grant_type in (None, each.form.get("grant_type"))]

    @property
    def families(self) -> list[Family]:
        """Every login there was, oldest first, as it stands now."""
        return list(self._state.grants.families.values())

    def family(self, which: str) -> Family:
        """The login of a token, family id or account id, the newest if several. Raises LookupError."""
        return self._state.chosen(which)[-1]

    @property
    def refresh_count(self) -> int:
        """Refresh requests that got new tokens."""
        return self._state.grants.refresh_count

    @property
    def reuse_count(self) -> int:
        """Refresh requests refused because their token was spent."""
        return self._state.grants.reuse_count

    @property
    def retry_count(self) -> int:
        """Refresh requests with a just-spent token, answered again thanks to `retry_window`."""
        return self._state.grants.retry_count

    @property
    def faults_left(self) -> int:
        """Faults not yet used up."""
        return len(self.app.script)

    @property
    def pending_user_codes(self) -> list[str]:
        """Device logins that wait for a person, oldest first."""
        return [each.user_code for each in self._state.devices.pending(self._state.now())]

    # what people do

    def approve(self, user_code: str, user: User | None = None) -> None:
        """The person types the code and approves. Raises UnknownUserCodeError."""
        self._state.approve(user_code, user)

    def deny(self, user_code: str) -> None:
        """The person types the code and refuses. Raises UnknownUserCodeError."""
        self._state.devices.deny(user_code, self._state.now())

    def issue(self, user: User | None = None, scope: str = CODEX_SCOPE) -> dict[str, Any]:
        """A login made directly: the fields of a token answer, the knobs' changes included."""
        client_id = min(self.knobs.client_ids)
        family = self._state.grants.issue(Login(user or self.knobs.user, client_id, scope), self._state.terms())
        return shaped(family.tokens, self.knobs)

    # what becomes of logins; `which` is a Family, its id, its account or any of its tokens, None means all

    def revoke(self, which: str | Family | None = None) -> None:
        """From now on refresh answers `refresh_token_invalidated`, and the API 401."""
        self._end(which, Ended.REVOKED)

    def end_session(self, which: str | Family | None = None) -> None:
        """From now on refresh answers `app_session_terminated`, and the API 401."""
        self._end(which, Ended.SESSION_TERMINATED)

    def expire_refresh_token(self, which: str | Family | None = None) -> None:
        """From now on refresh answers `refresh_token_expired`; the access token goes on working."""
        self._change(which, lambda family: replace(family, refresh_until=self._state.now()))

    def revoke_access(self, which: str | Family | None = None) -> None:
        """The API refuses the access tokens there are; the next refresh mends it."""
        self._change(which, lambda family: replace(family, access_from=family.generation + 1))

    def _end(self, which: str | Family | None, reason: Ended) -> None:
        for family in self._state.chosen(which):
            self._state.grants.end(family.id, reason)

    def _change(self, which: str | Family | None, change: Callable[[Family], Family]) -> None:
        for family in self._state.chosen(which):
            self._state.grants.families[family.id] = change(family)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, OAuthError)  # noqa: S101 - the table above calls it for nothing else
    return wire.refused(error, request)
