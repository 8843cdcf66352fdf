"""Credentials and logins to keep, a key for tests only, and how to open a store, in this process or another."""

import base64
import hashlib
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg

from service.domain.credential import Attempt, Credential, Identity
from service.domain.login import Login
from service.domain.secret import Secret
from service.store.backend import Backend
from service.store.keys import KeySource
from service.store.postgres import Postgres
from service.store.sqlite import SQLite
from service.store.store import Store

ROOT = Path(__file__).parent.parent.parent

NOW = 1_800_000_000.0
KEY = hashlib.sha256(b"a key for tests only").digest()
OTHER_KEY = hashlib.sha256(b"another key for tests only").digest()


def due(credential: Credential) -> float | None:
    """A rule as simple as can be: five minutes before expiry, while it is active."""
    return credential.expires_at - 300 if credential.state == "active" else None


def given(*keys: bytes) -> KeySource:
    """Keys from nowhere: nobody can change them."""
    return KeySource("the source of the tests", text=lines(*keys))


def lines(*keys: bytes) -> bytes:
    """Keys as a source holds them."""
    return b"".join(base64.b64encode(key) + b"\n" for key in keys)


def open_store(address: str, *keys: bytes) -> Store:
    """A store at an address: `sqlite:` and a path, or the URL of a PostgreSQL database."""
    return Store(backend_of(address), lambda _is_new: given(*keys or (KEY,)), due)


def backend_of(address: str) -> Backend:
    """The database at an address."""
    return SQLite(path_of(address)) if address.startswith("sqlite:") else Postgres(address)


def path_of(address: str) -> Path:
    """The database file of an address."""
    kind, _, path = address.partition(":")
    assert kind == "sqlite"
    return Path(path)


def bare(owner: str) -> str:
    """The last part of an owner's name: what his lock file is called."""
    return owner.rpartition("/")[2]


def query(address: str, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Run one statement beside every store and commit: what somebody else could read or write."""
    if address.startswith("sqlite:"):
        with closing(sqlite3.connect(path_of(address), isolation_level=None)) as connection:
            return connection.execute(sql, parameters).fetchall()
    with psycopg.connect(address, autocommit=True) as session:
        cursor = session.execute(sql.replace("%", "%%").replace("?", "%s").encode(), parameters)
        return cursor.fetchall() if cursor.description else []


def credential(account: str = "default", **changes: Any) -> Credential:
    """A login as it comes from the issuer."""
    values: dict[str, Any] = {
        "account": account,
        "provider": "codex",
        "login_id": f"grant of {account}",
        "generation": 1,
        "state": "active",
        "access_token": Secret(f"access token of {account}"),
        "refresh_token": Secret(f"refresh token of {account}"),
        "id_token": Secret(f"id token of {account}"),
        "identity": Identity("acc-1", "who@example.test", "plus"),
        "obtained_at": NOW,
        "expires_at": NOW + 3600,
        "lifetime": 3600.0,
        **changes,
    }
    return Credential(**values)


def another_login(number: int = 1, account: str = "default", **changes: Any) -> Credential:
    """A later login of the same account: another grant, other tokens."""
    name = f"login {number} of {account}"
    tokens = {kind: Secret(f"{kind} {name}") for kind in ("access_token", "refresh_token", "id_token")}
    return credential(account, **{"login_id": f"grant of {name}", **tokens, **changes})


def attempt(name: str = "attempt-1", owner: str = "owner-1") -> Attempt:
    """An intent to refresh."""
    return Attempt(name, owner, NOW)


def browser_login(login_id: str = "login-1", account: str = "default", **changes: Any) -> Login:
    """A pending browser login that a browser started."""
    values: dict[str, Any] = {
        "id": login_id,
        "account": account,
        "provider": "codex",
        "flow": "browser",
        "created_at": NOW,
        "expires_at": NOW + 600,
        "redirect_uri": "http://localhost:1455/auth/callback",
        "oauth_state": Secret(f"state of {login_id}"),
        "verifier": Secret(f"verifier of {login_id}"),
        "binding": Secret(f"binding of {login_id}"),
        **changes,
    }
    return Login(**values)


def device_login(login_id: str = "login-1", account: str = "default", **changes: Any) -> Login:
    """A pending device login, to be polled in five seconds."""
    values: dict[str, Any] = {
        "id": login_id,
        "account": account,
        "provider": "codex",
        "flow": "device",
        "created_at": NOW,
        "expires_at": NOW + 900,
        "user_code": Secret(f"user code of {login_id}"),
        "device_auth_id": Secret(f"device auth id of {login_id}"),
        "verification_uri": "https://issuer.test/device",
        "interval": 5.0,
        "next_poll_at": NOW + 5,
        **changes,
    }
    return Login(**values)


def written(store: Store, address: str) -> object:
    """Something that differs after every change of a row, and stays when there was none."""
    if address.startswith("sqlite:"):
        return store.version()
    return [query(address, f"SELECT ctid, xmin::text FROM {table} ORDER BY 1") for table in ("credential", "login")]
