"""`keys`, `audit` and `rekey`: who else may ask, what happened, and another encryption key.

Promises that a client key is made here, printed once and never sent: the service gets its SHA-256 and keeps that.
"""

import secrets
from collections.abc import Collection
from typing import Any, Final

from service.cli.accounts import duration
from service.cli.client import Body, Service
from service.cli.console import DONE, MISUSED, Failure, is_for_people, out, out_json, out_rows, say
from service.cli.usage import is_name
from service.domain.caller import KEY_PREFIX, digest_of
from service.domain.secret import Secret

_KEY_ROW: Final = ("name", "scope", "accounts", "expires_at", "last_used_at")
_ENTRY_ROW: Final = ("at", "who", "deed", "outcome", "account", "detail", "times")
"""What scripts read of each, in this order for good."""

_MAX_PAGE: Final = 1000
"""Entries of the audit trail in one answer."""


def add_key(
    service: Service, name: str, *, accounts: Collection[str], scope: Collection[str], expires_in: int | None
) -> int:
    """Make a key, have it let in, and print it: the only time."""
    key = Secret(KEY_PREFIX + secrets.token_urlsafe(32))
    wish: Body = {"digest": digest_of(key), "expires_in": expires_in}
    wish |= {"accounts": sorted(set(accounts))} if accounts else {}
    wish |= {"scope": sorted(set(scope))} if scope else {}
    made = service.call("PUT", _path(name), body=wish)
    try:
        out(key.reveal())
    except Failure:
        service.call("DELETE", _path(name))  # nobody has it
        raise
    say(_line(made), "It is shown this once. Whoever holds it sends it as: Authorization: Bearer KEY")
    return DONE


def list_keys(service: Service, *, as_json: bool) -> int:
    """All keys, without the keys."""
    answer = service.get("/keys")
    if as_json:
        out_json(answer)
    elif not (keys := answer.get("keys")):
        say("There is no client key yet: pixir-auth keys add NAME")
    elif is_for_people():
        say(*map(_line, keys))
    else:
        out_rows([key.get(name) for name in _KEY_ROW] for key in keys)
    return DONE


def revoke_key(service: Service, name: str) -> int:
    """Whoever asks with this key from now on is refused."""
    service.call("DELETE", _path(name))
    say(f"Revoked the client key {name}.")
    return DONE


def show_audit(service: Service, *, limit: int, as_json: bool) -> int:
    """The newest entries of the audit trail, newest first."""
    entries: list[Body] = []
    before: object = None
    while len(entries) < limit:
        page = service.get("/audit", {"before": before, "limit": min(limit - len(entries), _MAX_PAGE)})
        entries += page.get("entries") or ()
        before = page.get("next")
        if before is None:
            break
    if as_json:
        out_json({"entries": entries, "next": before})
    elif not entries:
        say("Nothing has happened yet.")
    elif is_for_people():
        say(*map(_entry, entries))
    else:
        out_rows([entry.get(name) for name in _ENTRY_ROW] for entry in entries)
    return DONE


def seal_anew(service: Service) -> int:
    """Have everything sealed with another encryption key."""
    answer = service.call("POST", "/rekey")
    say(f"Everything that is kept is sealed with the new key ({answer.get('resealed')} values).")
    return DONE


def _path(name: str) -> str:
    """Where a key lives. Raises Failure for a name that is more than one part of a path, or none at all."""
    if not is_name(name):
        raise Failure(
            "There can be no client key of that name: 1 to 63 of a-z, 0-9, '.', '_' and '-', no sign in front.",
            exit_code=MISUSED,
        )
    return f"/keys/{name}"


def _line(key: Body) -> str:
    accounts = key.get("accounts")
    parts = [
        f"{key.get('name', '?'):<16}",
        ",".join(key.get("scope") or ()),
        "all accounts" if accounts is None else "accounts " + ",".join(accounts),
        _expiry(key.get("expires_in")),
        f"last used {key['last_used_at']}" if key.get("last_used_at") else "never used",
        "from PIXIR_AUTH_CLIENT_KEY_FILE" if key.get("is_first") else "",
    ]
    return "  ".join(filter(None, parts))


def _expiry(left: Any) -> str:
    if not isinstance(left, int):
        return "no expiry"
    return f"expires in {duration(left)}" if left > 0 else "expired"


def _entry(entry: Body) -> str:
    times = entry.get("times")
    parts = [
        str(entry.get("at", "?")),
        f"{entry.get('who', '?'):<12}",
        f"{entry.get('deed', '?'):<13}",
        str(entry.get("outcome", "?")),
        f"account {entry['account']}" if entry.get("account") else "",
        str(entry.get("detail") or ""),
        f"{times} times" if isinstance(times, int) and times > 1 else "",
    ]
    return "  ".join(filter(None, parts))
