"""Who asks, and whether he may: the one table of routes and rights, and the order in which a caller is recognised.

A client key counts before anything else: whoever sends one wants to be that one. Without a key it is the kernel's word
on the connection, and only for a request that came straight from there. Where a key stands in for a refresh token
nothing but that key counts: an owner whose key is not good is told so.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from starlette.types import Scope

from service.broker.keys import Keys
from service.domain.audit import Deed
from service.domain.caller import Caller, Peer, Right, owner
from service.domain.errors import KeyRequired, OutOfScope, WrongUser
from service.domain.secret import Secret
from service.web.oauth import TOKEN_ENDPOINT
from service.web.proxies import FORWARD_AUTH

OPEN: Final = frozenset({"/callback", "/auth/callback", "/healthz", "/readyz"})
"""Nobody is asked who he is: the state of a login is its own proof, and health tells nothing."""

_ROOT: Final = 0


@dataclass(frozen=True, slots=True)
class Rule:
    """What a route needs. `everything`: only for who sees all accounts, or he could make himself a key that does."""

    right: Right
    everything: bool = False


RULES: Final[dict[tuple[str, str], Rule]] = {
    ("GET", "/token"): Rule("token"),
    ("GET", "/headers"): Rule("headers"),
    ("GET", FORWARD_AUTH): Rule("headers"),
    ("POST", TOKEN_ENDPOINT): Rule("token"),
    ("GET", "/status"): Rule("status"),
    ("GET", "/accounts"): Rule("status"),
    ("GET", "/"): Rule("status"),
    ("GET", "/metrics"): Rule("status", everything=True),
    ("POST", "/login"): Rule("login"),
    ("GET", "/login"): Rule("login"),
    ("GET", "/login/{login_id}"): Rule("login"),
    ("DELETE", "/login/{login_id}"): Rule("login"),
    ("POST", "/login/{login_id}/callback"): Rule("login"),
    ("PUT", "/credential"): Rule("admin"),
    ("POST", "/logout"): Rule("admin"),
    ("POST", "/export"): Rule("admin"),
    ("POST", "/export/confirm"): Rule("admin"),
    ("GET", "/keys"): Rule("admin", everything=True),
    ("PUT", "/keys/{name}"): Rule("admin", everything=True),
    ("DELETE", "/keys/{name}"): Rule("admin", everything=True),
    ("GET", "/audit"): Rule("admin", everything=True),
    ("POST", "/rekey"): Rule("admin", everything=True),
    ("GET", "/backup"): Rule("admin", everything=True),
    ("POST", "/restore"): Rule("admin", everything=True),
    ("POST", "/restore/confirm"): Rule("admin", everything=True),
}
"""Every route but those that are open. Which accounts a caller sees, the routes look at: they know what is meant."""


_METHODS: Final = frozenset({"HEAD", "OPTIONS", "PATCH"}).union(method for method, _ in RULES)
_PATHS: Final = OPEN.union(path for _, path in RULES)


def rule_of(method: str, path: str) -> Rule | None:
    """The rule of a call; None where there is no such route, which is told to whoever has been recognised."""
    return RULES.get((method, template(path)))


def is_route(path: str) -> bool:
    """Whether it is a path of this table. The framework would take one with a line break at its end for the same."""
    return template(path) in _PATHS


def permit(caller: Caller, method: str, path: str) -> None:
    """Raises OutOfScope."""
    rule = rule_of(method, path)
    if rule and not (caller.may(rule.right) and (caller.accounts is None or not rule.everything)):
        raise OutOfScope


def template(path: str) -> str:
    """The path of the route that this path would be, if there is such a one."""
    parts = path.split("/")
    match parts:
        case ["", "login", _]:
            return "/login/{login_id}"
        case ["", "login", _, "callback"]:
            return "/login/{login_id}/callback"
        case ["", "keys", _]:
            return "/keys/{name}"
    return path


class Note(Protocol):
    """Keeps in mind that somebody was refused."""

    def __call__(self, deed: Deed, who: str, outcome: str, /, *, detail: str) -> None:
        """`outcome`: the code; `detail`: the call, as a route."""


def told_by_server(scope: Scope) -> Peer:
    """Whom the server has found at the other end of the connection. Nobody, where it has not looked."""
    peer = scope.get("state", {}).get("peer")
    return peer if isinstance(peer, Peer) else Peer()


class Callers:
    """Recognises who asks."""

    def __init__(
        self, keys: Keys, own_uid: int, note: Note, *, peer_of: Callable[[Scope], Peer] = told_by_server
    ) -> None:
        """`own_uid`: the user whom the service belongs to. He is served, and root: nobody else without a key.

        note: told of everybody who is refused. peer_of: who is at the other end of a request's connection.
        """
        self._keys = keys
        self._owners = {uid: owner(uid) for uid in (own_uid, _ROOT)}
        self.note = note
        self.peer_of = peer_of

    async def recognise(self, peer: Peer, authorization: tuple[bytes, ...], *, is_forwarded: bool) -> Caller:
        """Who asks. `authorization`: that header, as often as it was sent.

        Raises KeyRequired, WrongUser, StoreUnavailable.
        """
        presented = [value[6:] for value in authorization if value[:7].lower() in (b"bearer ", b"bearer")]
        if presented:
            return await self._holder(presented, authorization)
        if is_forwarded or peer.uid is None:  # whoever forwards is at the other end, not whom he forwards for
            raise KeyRequired
        caller = self._owners.get(peer.uid)
        if caller is None:
            raise WrongUser
        return caller

    async def holder(self, key: Secret) -> Caller:
        """Whose client key this is. Raises KeyRequired, StoreUnavailable."""
        caller = await self._keys.holder(key)
        if caller is None:
            raise KeyRequired(wrong=True)
        return caller

    async def _holder(self, presented: list[bytes], authorization: tuple[bytes, ...]) -> Caller:
        if len(authorization) != 1:  # which of them is meant, somebody in between might see otherwise
            raise KeyRequired(wrong=True)
        return await self.holder(Secret(presented[0].strip().decode("latin-1")))


def name_of(peer: Peer) -> str:
    """A peer that was not recognised, for the audit trail."""
    return "unknown" if peer.uid is None else f"uid {peer.uid}"


def call_of(scope: Scope) -> str:
    """The call, with `-` for a path that is none of ours: what was sent may hold anything."""
    method, path = scope["method"], template(scope["path"])
    return f"{method if method in _METHODS else '-'} {path if path in _PATHS else '-'}"
