"""What a test may turn: who signs in, how long rights last, how strict the issuer is.

Promises plain values that may be changed while the sandbox runs; every request reads them afresh.
Must not know HTTP or the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CODEX_CLIENT_ID = "app_EMoamEEZ73f0CkXaXp7hrann"
# The Codex issuer's allow-list; a client that binds another port must fail here as it would there.
CODEX_PORTS = frozenset({1455, 1457})


@dataclass(frozen=True, slots=True)
class User:
    """A person with a subscription. An empty `account_id` leaves that claim out of every token."""

    subject: str = "user-sandbox0001"
    email: str = "ada@example.com"
    plan: str = "plus"
    account_id: str = "7b1c9c1e-0000-4000-8000-000000000001"
    fedramp: bool = False


@dataclass(slots=True)
class Knobs:
    """Lifetimes and delays in seconds. The defaults are the strict issuer with short lives."""

    # rights
    access_lifetime: float = 3600
    id_lifetime: float = 3600
    refresh_lifetime: float | None = None  # None: a refresh token lives until it is spent or revoked
    code_lifetime: float = 60
    # the token endpoint
    latency: float = 0  # between processing a grant and answering it
    rotate: bool = True
    revoke_family: bool = True  # a spent refresh token ends the whole login (RFC 9700 4.14.2)
    retry_window: float = 0  # seconds in which the just-spent refresh token yields the same answer again
    drop_fields: set[str] = field(default_factory=set)
    override_fields: dict[str, Any] = field(default_factory=dict)
    # the authorization endpoint
    user: User = field(default_factory=User)
    auto_approve: bool = True
    authorize_error: str = ""  # answered instead of a code, e.g. "access_denied"
    authorize_error_description: str = ""
    redirect_ports: frozenset[int] | None = CODEX_PORTS  # None: any port of the loopback host
    client_ids: frozenset[str] = frozenset({CODEX_CLIENT_ID})
    # device login
    device_login: bool = True
    device_interval: str = "5"  # a decimal string: Codex refuses a number
    device_lifetime: float = 900
    # the API
    latest_access_only: bool = True  # an access token stops working once a newer one was issued
    # in-process only: what a dropped connection raises, e.g. lambda: httpx.ReadError("dropped")
    drop_error: Callable[[], Exception] = ConnectionResetError


def user_from(value: Any) -> User:
    """A user from decoded JSON. Raises TypeError."""
    if not all(isinstance(each, str | bool) for each in value.values()):
        raise TypeError
    return User(**value)


def _names(value: Any) -> set[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise TypeError
    return set(value)


def _ports(value: Any) -> frozenset[int] | None:
    return None if value is None else frozenset(int(port) for port in value)


_FROM_JSON: dict[str, Callable[[Any], Any]] = {
    "drop_fields": _names,
    "override_fields": dict,
    "client_ids": lambda value: frozenset(_names(value)),
    "redirect_ports": _ports,
    "refresh_lifetime": lambda value: None if value is None else float(value),
    "user": user_from,
}


def turn(knobs: Knobs, changes: Mapping[str, Any]) -> None:
    """Apply `changes` (decoded JSON) to `knobs`, all or none. Raises ValueError naming the bad one."""
    turned = {name: _converted(knobs, name, value) for name, value in changes.items()}
    for name, value in turned.items():
        setattr(knobs, name, value)


def _converted(knobs: Knobs, name: str, value: Any) -> Any:
    if name not in {each.name for each in fields(knobs)} - {"drop_error"}:
        raise ValueError(f"no such knob: {name}")
    try:
        return _FROM_JSON.get(name, _like(getattr(knobs, name)))(value)
    except (AttributeError, TypeError, ValueError) as exc:
        raise ValueError(f"not a value for the knob {name}") from exc


def _like(current: Any) -> Callable[[Any], Any]:
    """A converter that accepts only what has the kind of `current`: true, a number or a text."""

    def convert(value: Any) -> Any:
        number = isinstance(current, int | float) and not isinstance(current, bool)
        if number and isinstance(value, int | float) and not isinstance(value, bool):
            return value
        if not number and isinstance(value, type(current)):
            return value
        raise TypeError

    return convert
