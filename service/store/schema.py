"""The tables. Rows are private to the store: they do not validate, and they never travel.

Instants are seconds since the Unix epoch. Columns named *_sealed hold what `vault` made of a secret.
"""

from sqlalchemy import Index, text
from sqlmodel import Field, SQLModel


class CredentialRow(SQLModel, table=True):
    """One login per account; the intent to refresh it is in the same row.

    refresh_fingerprint names the refresh token, first_fingerprint the one that this login began with.
    """

    __tablename__ = "credential"

    account: str = Field(primary_key=True)
    provider: str
    login_id: str
    generation: int
    state: str
    reason: str | None = None
    access_token_sealed: bytes | None = None
    refresh_token_sealed: bytes | None = None
    id_token_sealed: bytes | None = None
    refresh_fingerprint: str | None = None
    first_fingerprint: str | None = None
    account_id: str | None = None
    email: str | None = None
    plan: str | None = None
    obtained_at: float = Field(index=True)
    expires_at: float
    lifetime: float | None = None
    attempt_id: str | None = None
    attempt_owner: str | None = None
    attempt_started_at: float | None = None
    sends: int = 0
    uncertain_since: float | None = None
    failures: int = 0
    next_attempt_at: float | None = None
    last_error: str | None = None
    last_success_at: float | None = None
    due_at: float | None = Field(default=None, index=True)


class LoginRow(SQLModel, table=True):
    """A started login. `state_digest` finds it when the browser comes back; `taken_at` says that somebody did."""

    __tablename__ = "login"
    __table_args__ = (
        Index(
            "one_pending_login_per_account",
            "account",
            unique=True,
            sqlite_where=text("state = 'pending'"),  # to say PostgreSQL's here would load all of its dialect
        ),
    )

    id: str = Field(primary_key=True)
    account: str
    provider: str
    flow: str
    state: str
    replace: bool
    created_at: float
    expires_at: float
    fallback: str | None = None
    error: str | None = None
    detail: str | None = None
    redirect_uri: str | None = None
    state_digest: str | None = Field(default=None, unique=True)
    binding_digest: str | None = None
    taken_at: float | None = None
    oauth_state_sealed: bytes | None = None
    verifier_sealed: bytes | None = None
    user_code_sealed: bytes | None = None
    device_auth_id_sealed: bytes | None = None
    verification_uri: str | None = None
    interval: float | None = None
    next_poll_at: float | None = None


class ClientKeyRow(SQLModel, table=True):
    """A client key: its SHA-256 and what it may be used for. `rights` and `accounts`: with commas; no accounts: all."""

    __tablename__ = "client_key"

    name: str = Field(primary_key=True)
    digest: str = Field(unique=True)
    rights: str
    accounts: str | None = None
    created_at: float
    expires_at: float | None = None
    last_used_at: float | None = None


class AuditRow(SQLModel, table=True):
    """Something that happened, `times` over. `event` is what, `who` the caller, `outcome` `done` or an error code."""

    __tablename__ = "audit"

    id: int | None = Field(default=None, primary_key=True)
    at: float
    event: str = Field(index=True)
    who: str
    account: str | None = None
    outcome: str
    detail: str | None = None
    times: int = 1


class SealedRow(SQLModel, table=True):
    """A secret of the store itself, sealed: the key of the fingerprints, which outlives encryption keys."""

    __tablename__ = "sealed"

    name: str = Field(primary_key=True)
    value: bytes


class SchemaRow(SQLModel, table=True):
    """One row: how far the migrations have come."""

    __tablename__ = "schema_version"

    version: int = Field(primary_key=True)
