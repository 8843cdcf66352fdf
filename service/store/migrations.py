"""Schema changes, in order. Each runs in the one transaction that also counts it: all or nothing, at any kill.

A step is frozen once released: it says what the tables were then, not what `schema` says now.
"""

from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection


class NewerSchema(Exception):
    """The database was written by a newer version; nothing was changed."""


def _step_1(connection: Connection) -> None:
    """Credentials and pending logins."""
    frozen = sa.MetaData()
    pending: dict[str, Any] = {f"{connection.dialect.name}_where": sa.text("state = 'pending'")}
    sa.Table(
        "credential",
        frozen,
        sa.Column("account", sa.String, primary_key=True),
        sa.Column("provider", sa.String, nullable=False),
        sa.Column("login_id", sa.String, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("reason", sa.String),
        sa.Column("access_token_sealed", sa.LargeBinary),
        sa.Column("refresh_token_sealed", sa.LargeBinary),
        sa.Column("id_token_sealed", sa.LargeBinary),
        sa.Column("refresh_fingerprint", sa.String),
        sa.Column("first_fingerprint", sa.String),
        sa.Column("account_id", sa.String),
        sa.Column("email", sa.String),
        sa.Column("plan", sa.String),
        sa.Column("obtained_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float, nullable=False),
        sa.Column("lifetime", sa.Float),
        sa.Column("attempt_id", sa.String),
        sa.Column("attempt_owner", sa.String),
        sa.Column("attempt_started_at", sa.Float),
        sa.Column("sends", sa.Integer, nullable=False),
        sa.Column("uncertain_since", sa.Float),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("next_attempt_at", sa.Float),
        sa.Column("last_error", sa.String),
        sa.Column("last_success_at", sa.Float),
        sa.Column("due_at", sa.Float, index=True),
    )
    sa.Table(
        "login",
        frozen,
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("account", sa.String, nullable=False),
        sa.Column("provider", sa.String, nullable=False),
        sa.Column("flow", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("replace", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float, nullable=False),
        sa.Column("fallback", sa.String),
        sa.Column("error", sa.String),
        sa.Column("detail", sa.String),
        sa.Column("redirect_uri", sa.String),
        sa.Column("state_digest", sa.String, unique=True),
        sa.Column("binding_digest", sa.String),
        sa.Column("taken_at", sa.Float),
        sa.Column("oauth_state_sealed", sa.LargeBinary),
        sa.Column("verifier_sealed", sa.LargeBinary),
        sa.Column("user_code_sealed", sa.LargeBinary),
        sa.Column("device_auth_id_sealed", sa.LargeBinary),
        sa.Column("verification_uri", sa.String),
        sa.Column("interval", sa.Float),
        sa.Column("next_poll_at", sa.Float),
        sa.Index(
            "one_pending_login_per_account",
            "account",
            unique=True,
            **pending,
        ),
    )
    frozen.create_all(connection, checkfirst=False)


def _step_2(connection: Connection) -> None:
    """Tokens of a clock that has been set back are found without reading every row."""
    connection.exec_driver_sql("CREATE INDEX ix_credential_obtained_at ON credential (obtained_at)")


def _step_3(connection: Connection) -> None:
    """Client keys, the audit trail, and secrets of the store itself."""
    frozen = sa.MetaData()
    sa.Table(
        "client_key",
        frozen,
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("digest", sa.String, nullable=False, unique=True),
        sa.Column("rights", sa.String, nullable=False),
        sa.Column("accounts", sa.String),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float),
        sa.Column("last_used_at", sa.Float),
    )
    sa.Table(
        "audit",
        frozen,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("event", sa.String, nullable=False, index=True),
        sa.Column("who", sa.String, nullable=False),
        sa.Column("account", sa.String),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("detail", sa.String),
        sa.Column("times", sa.Integer, nullable=False),
    )
    sa.Table(
        "sealed",
        frozen,
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
    )
    frozen.create_all(connection, checkfirst=False)


STEPS: Final[tuple[Callable[[Connection], None], ...]] = (_step_1, _step_2, _step_3)


def migrate(connection: Connection) -> None:
    """Bring the schema up to date inside the caller's write transaction. Raises NewerSchema."""
    version = schema_version(connection)
    if version > len(STEPS):
        raise NewerSchema(f"the database has schema {version}, this version knows {len(STEPS)}")
    if version == len(STEPS):
        return
    if version == 0:
        connection.exec_driver_sql("CREATE TABLE schema_version (version INTEGER NOT NULL PRIMARY KEY)")
        connection.exec_driver_sql("INSERT INTO schema_version (version) VALUES (0)")
    for step in STEPS[version:]:
        step(connection)
    connection.execute(sa.text("UPDATE schema_version SET version = :version"), {"version": len(STEPS)})


def schema_version(connection: Connection) -> int:
    """How far the migrations have come; 0 for a new database."""
    if not sa.inspect(connection).has_table("schema_version"):
        return 0
    return int(connection.execute(sa.text("SELECT version FROM schema_version")).scalar_one())
