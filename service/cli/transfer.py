"""`import` and `export`: logins that come from other programs, and tokens for those that read files.

Promises that no refresh token leaves that is refreshed here: whoever else held it would spend it, and end the login. A
client key may stand in for it; or the service gives the login up before.
"""

import base64
import json
import os
import re
import shlex
import stat
import sys
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

from service.cli.access import sendable, warn
from service.cli.accounts import status_lines
from service.cli.client import Body, Service
from service.cli.console import DONE, MISUSED, Failure, out, out_json, say
from service.cli.handover import Handover, not_lost
from service.cli.usage import nothing_typed_but
from service.domain.secret import Secret
from service.oauth.claims import unverified_claims

Format = Literal["codex", "pixir", "env"]

MAX_IMPORT: Final = 1024 * 1024
"""Bytes of a file to import: a thousand times an auth.json."""

TOKEN_ENDPOINT: Final = "/oauth/token"  # noqa: S105 - a path

_AUTH: Final = "https://api.openai.com/auth"


def import_credential(service: Service, source: str, *, account: str) -> int:
    """Hand a login to the service: a Codex or Pixir auth.json, or the service's own shape. `-` is stdin."""
    content = _read(source)
    try:
        is_object = isinstance(json.loads(content), dict)
    except (ValueError, RecursionError):
        is_object = False
    if not is_object:
        raise Failure("That is not a JSON object.")
    with nothing_typed_but(account):
        status = service.call("PUT", "/credential", query={"account": account}, body=content)
    say(*status_lines(status))
    if status.get("persisted") is False:
        say("An API key is kept in memory only: it is gone when the service stops.")
    if status.get("kind") == "subscription":
        say("The service now owns this login. Use it nowhere else: the next refresh makes every other copy worthless.")
    return DONE


def export_credential(service: Service, form: Format, *, account: str, stand_in: str | None = None) -> int:
    """The present token in another program's shape, without the refresh token.

    stand_in: where a client key is read that Codex is to refresh with.
    """
    if stand_in is not None and form != "codex":
        raise Failure("Only Codex refreshes with a client key: --format codex.", exit_code=MISUSED)
    held = _held(service, stand_in) if stand_in is not None else {}
    token = service.get("/token", {"account": account})
    status = service.get("/status", {"account": account})
    warn(token)
    access = Secret(sendable(token.get("access_token")))
    if held and (token.get("kind") == "api_key" or Secret(held["access_token"]) != access):
        raise Failure(
            "This key is not for a subscription of this account alone, and Codex does not say which it means.",
            f"Make one that is: pixir-auth keys add NAME --scope token --account {account}",
        )
    _warn_of_readers()
    _write(form, access, token, status, held)
    return DONE


def hand_over(service: Service, form: Format, *, account: str) -> int:
    """The whole login in another program's shape. The service gives it up before."""
    _warn_of_readers()
    handover = Handover(service, account)
    login = handover.login
    try:
        access, refresh = Secret(sendable(login.get("access_token"))), sendable(login.get("refresh_token"))
        held = {"refresh_token": refresh, **({"id_token": login["id_token"]} if login.get("id_token") else {})}
        _write(form, access, login, login, held)
    except Failure as exc:
        raise not_lost(exc) from exc
    handover.finish()
    return DONE


def _write(form: Format, access: Secret, token: Body, status: Body, held: Body) -> None:
    if form == "env":
        lines = _environment(access, token, status, held)
        out("\n".join(f"export {name}={shlex.quote(value)}" for name, value in lines))
    else:
        out_json(_codex(access, token, status, held) if form == "codex" else _pixir(access, token, status, held))


def _held(service: Service, source: str) -> Body:
    """What an `auth.json` holds of a client key: it, what it is given, and where it is good."""
    key = _read(source).decode("latin-1").strip()
    if not re.fullmatch(r"[!-~]+", key):
        raise Failure("That is no client key.")
    given = service.call("POST", TOKEN_ENDPOINT, body={"grant_type": "refresh_token", "refresh_token": key})
    access = sendable(given.get("access_token"))
    members = {"id_token": given.get("id_token"), "access_token": access, "refresh_token": key}
    # Codex before 0.169 reads no issuer here, and wants the variable.
    issuer = None if service.unix_socket else {"issuer": service.url, "client_id": "pixir-auth"}
    return {name: member for name, member in {**members, "oauth_provenance": issuer}.items() if member is not None}


def _codex(access: Secret, token: Body, status: Body, held: Body) -> Body:
    """An `auth.json` that the Codex CLI reads; it works until the token expires, or, with a key, for good."""
    if token.get("kind") == "api_key":
        return {"auth_mode": "apikey", "OPENAI_API_KEY": access.reveal()}
    return {
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": None,
        "tokens": {
            "id_token": _id_token(access, token, status),
            "access_token": access.reveal(),
            "refresh_token": "",
            "account_id": status.get("account_id"),
            **held,
        },
        "last_refresh": status.get("obtained_at"),  # without it Codex does not count the tokens as usable
    }


def _pixir(access: Secret, token: Body, status: Body, held: Body) -> Body:
    """An `auth.json` that Pixir reads; it works until the token expires, or, with a refresh token, for good."""
    if token.get("kind") == "api_key":
        raise Failure(
            "Pixir keeps no API key in its auth.json; it reads OPENAI_API_KEY.",
            'Use: eval "$(pixir-auth export --format env)"',
        )
    expires_at = _instant(token.get("expires_at"))
    return {
        "kind": "subscription",
        "access_token": access.reveal(),
        "refresh_token": held.get("refresh_token", ""),
        "expires_at": None if expires_at is None else int(expires_at * 1000),
        "account_id": status.get("account_id"),
        "obtained_at": status.get("obtained_at"),
    }


def _environment(access: Secret, token: Body, status: Body, held: Body) -> list[tuple[str, str]]:
    if token.get("kind") == "api_key":
        return [("OPENAI_API_KEY", access.reveal())]
    values = {
        "OPENAI_ACCESS_TOKEN": access.reveal(),
        "OPENAI_REFRESH_TOKEN": held.get("refresh_token"),
        "OPENAI_ACCESS_TOKEN_EXPIRES_AT": token.get("expires_at"),
        "CHATGPT_ACCOUNT_ID": status.get("account_id"),
    }
    return [(name, value) for name, value in values.items() if isinstance(value, str)]


def _id_token(access: Secret, token: Body, status: Body) -> str:
    """An unsigned stand-in: Codex reads e-mail, plan and account from it, and verifies nothing (RFC 7519 section 6)."""
    claimed = unverified_claims(access)
    auth = claimed.get(_AUTH)
    known = {"chatgpt_account_id": status.get("account_id"), "chatgpt_plan_type": status.get("plan")}
    claims: dict[str, Any] = {
        "email": status.get("email"),
        "exp": _instant(token.get("expires_at")),
        _AUTH: {**(auth if isinstance(auth, dict) else {}), **{key: value for key, value in known.items() if value}},
    }
    parts = [{"alg": "none", "typ": "JWT"}, {name: value for name, value in claims.items() if value is not None}]
    # RFC 7519 leaves the signature of alg "none" empty; Codex refuses a token with an empty part.
    return ".".join([*(_base64url(json.dumps(part).encode()) for part in parts), _base64url(b"unsigned")])


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _instant(text: object) -> int | None:
    """Epoch seconds of an RFC 3339 instant."""
    try:
        return int(datetime.fromisoformat(text).timestamp()) if isinstance(text, str) else None
    except ValueError:
        return None


def _read(source: str) -> bytes:
    try:
        if source == "-":
            content = sys.stdin.buffer.read(MAX_IMPORT + 1)
        else:
            with Path(source).open("rb") as file:
                content = file.read(MAX_IMPORT + 1)
    except OSError as exc:
        # Not by name: somebody may have given the token itself.
        raise Failure(f"The file cannot be read ({exc.strerror}).") from exc
    if len(content) > MAX_IMPORT:
        raise Failure("That is larger than any credential.")
    return content


def _warn_of_readers() -> None:
    """The shell makes the file of a redirection, for everybody to read unless it was told otherwise."""
    try:
        found = os.fstat(sys.stdout.fileno())
    except (AttributeError, OSError, ValueError):
        return  # there is no file
    if stat.S_ISREG(found.st_mode) and found.st_mode & 0o077:
        say("warning: others may read this file; use umask 077 before, or chmod 600 after")
