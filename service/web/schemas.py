"""Shapes of requests and answers, as the OpenAPI document tells them. `*_at`: RFC 3339 UTC; `*_in`: whole seconds."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.domain.audit import Deed
from service.domain.backup import Line, Outcome
from service.domain.caller import Right
from service.domain.decide import RefreshState, Warning_
from service.domain.errors import Code, LoginReason
from service.domain.login import Flow, LoginState

_ACCOUNT = "[a-z0-9][a-z0-9._-]{0,62}"

Account = Annotated[str, Field(pattern=f"^{_ACCOUNT}$", description="Which login is meant.")]


class Strict(BaseModel):
    """A request: what we do not know is an error, because it may be a misspelt account."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, frozen=True)


class AccountQuery(Strict):
    """A credential is meant."""

    account: Account = "default"


class TokenQuery(AccountQuery):
    """What a token has to be good for."""

    min_ttl: float = Field(
        30, ge=0, le=10**9, allow_inf_nan=False, description="Seconds for which the token must be valid."
    )
    newer_than: int | None = Field(
        None, ge=0, le=2**53, description="Generation whose token was just rejected: give a newer one."
    )
    format: Literal["json", "text"] | None = Field(None, description="`text` for a shell; also by Accept.")


class AccountsQuery(Strict):
    """A page of accounts."""

    after: str = Field("", pattern=f"^({_ACCOUNT})?$", description="Accounts whose names come after this one.")
    limit: int = Field(100, ge=1, le=1000)


class LoginQuery(AccountQuery):
    """How to log in."""

    provider: str = Field("codex", max_length=64)
    flow: Literal["auto", "browser", "device"] = Field(
        "auto", description="`auto`: browser, or device code when the callback port cannot be had."
    )
    replace: bool = Field(False, description="May replace a login of another account.")


class NoBody(Strict):
    """An empty object."""


class LoginBody(LoginQuery):
    """Body of POST /login."""

    model_config = ConfigDict(strict=True)  # `"replace": 1` is no JSON boolean, whatever a query may say


class WaitQuery(Strict):
    """How long to wait for the end of a login."""

    wait: float = Field(0, ge=0, le=60, allow_inf_nan=False, description="Seconds, up to 60.")


class PastedBody(Strict):
    """What the address bar shows after a login whose return did not reach us."""

    url: str = Field(max_length=16384)


class SubscriptionBody(Strict):
    """A login made elsewhere, in our own shape (or Pixir's, whose `expires_at` is in milliseconds)."""

    kind: Literal["subscription"]
    access_token: str
    refresh_token: str
    expires_at: str | int | None = None
    account_id: str | None = None
    id_token: str | None = None
    obtained_at: str | None = None


class ApiKeyBody(Strict):
    """An API key: kept in memory only."""

    kind: Literal["api_key"]
    api_key: str


class CodexBody(BaseModel):
    """A Codex `auth.json`."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    tokens: dict[str, Any] | None = None
    OPENAI_API_KEY: str | None = None


CredentialBody = SubscriptionBody | ApiKeyBody | CodexBody


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$", description="Name of a client key.")]


class KeyBody(Strict):
    """A client key to be let in: its SHA-256, never the key itself."""

    digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the key, in hex.")
    scope: frozenset[Right] = Field(
        frozenset({"token", "headers", "status"}), min_length=1, description="What it may be used for."
    )
    accounts: frozenset[Account] | None = Field(None, min_length=1, description="Which logins it is for; all, if null.")
    expires_in: int | None = Field(None, ge=1, le=10**10, description="Seconds for which it is good.")


class AuditQuery(Strict):
    """A page of the audit trail, newest first."""

    before: int | None = Field(None, ge=0, le=2**53, description="Entries older than the one of this number.")
    limit: int = Field(100, ge=1, le=1000)


class LineBody(Strict):
    """A row of a backup, just as it is there."""

    row: dict[str, str | int | float | bool | None]
    mac: str = Field(pattern=r"^[0-9a-f]{64}$")

    @property
    def line(self) -> Line:
        """As a value."""
        return Line(self.row, self.mac)


class RestoreBody(Strict):
    """Some of a backup: as many rows as fit into a body. What GET /backup gives has them all, and `fingerprints`."""

    model_config = ConfigDict(strict=True)

    pixir_auth_backup: Literal[1]
    fingerprints: str = Field(max_length=1024, pattern=r"^[A-Za-z0-9+/]+={0,2}$")
    credentials: list[LineBody] = Field([], max_length=1000)
    client_keys: list[LineBody] = Field([], max_length=1000, description="Left out: no client key is restored.")
    replace: bool = Field(False, description="May replace logins that are here.")


class ExportBody(Strict):
    """Whom the login is sealed for."""

    public_key: str = Field(
        pattern=r"^[A-Za-z0-9+/]{43}=$", description="X25519, its 32 bytes in base64; made for this call."
    )


class ConfirmExportBody(Strict):
    """Which export has arrived."""

    model_config = ConfigDict(strict=True)

    generation: int = Field(ge=0, le=2**53, description="As POST /export said.")


class LoginAnswer(BaseModel):
    """How a login stands; what the person needs is there while it is pending. Members without a value are left out."""

    id: str
    account: str
    provider: str
    flow: Flow
    state: LoginState
    expires_at: str
    expires_in: int
    fallback: str | None = None
    error: Code | None = None
    detail: str | None = None
    authorize_url: str | None = None
    user_code: str | None = None
    verification_uri: str | None = None
    verification_uri_complete: str | None = None
    interval: int | None = None


class PendingLogin(BaseModel):
    """The login that waits for somebody to finish it; GET /login/{id} has the rest."""

    id: str
    flow: Flow
    state: LoginState
    expires_at: str
    expires_in: int


class RefreshAnswer(BaseModel):
    """How the refreshing of an account stands."""

    state: RefreshState
    generation: int
    last_success_at: str | None
    next_attempt_at: str | None
    last_error: str | None


class StatusAnswer(BaseModel):
    """How an account stands."""

    authenticated: bool
    kind: Literal["subscription", "api_key"] | None
    account: str
    provider: str | None
    account_id: str | None
    email: str | None
    plan: str | None
    expires_at: str | None
    expires_in: int | None
    obtained_at: str | None
    refresh: RefreshAnswer
    login: PendingLogin | None
    version: str


class InstalledAnswer(StatusAnswer):
    """The status after PUT /credential. `persisted`: whether it is in the database."""

    persisted: bool


class LoggedOutAnswer(StatusAnswer):
    """The status after POST /logout. `revoked`: what the issuer said; null if there was nothing to revoke."""

    revoked: bool | None


class AccountsAnswer(BaseModel):
    """A page of accounts; `next` is the `after` of the following page, null at the end."""

    accounts: list[StatusAnswer]
    next: str | None


class TokenAnswer(BaseModel):
    """A token. An API key has no expiry, and generation 0."""

    access_token: str
    token_type: Literal["Bearer"]
    expires_at: str | None = None
    expires_in: int | None = None
    account: str
    kind: Literal["subscription", "api_key"]
    generation: int
    warning: Warning_ | None = None


class RefreshBody(BaseModel):
    """What an OAuth client sends to its token endpoint (RFC 6749 section 6), as a form or as JSON; more is ignored."""

    grant_type: Literal["refresh_token"]
    refresh_token: str = Field(pattern="^[ -~]+$", description="A client key, which stands in for it.")
    client_id: str | None = Field(None, description="Of no meaning here.")


class RefreshedAnswer(BaseModel):
    """RFC 6749 section 5.1. The refresh token is the one that was sent. An API key has no expiry."""

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int | None = None
    refresh_token: str
    id_token: str | None = None


class KeyAnswer(BaseModel):
    """A client key, without the key. `is_first`: a file held it at the start, and it is good until the end."""

    name: str
    scope: list[Right]
    accounts: list[str] | None
    created_at: str | None
    expires_at: str | None
    expires_in: int | None
    last_used_at: str | None
    is_first: bool


class KeysAnswer(BaseModel):
    """All client keys."""

    keys: list[KeyAnswer]


class AuditEntry(BaseModel):
    """What happened, `times` over since `at`. `outcome`: `done`, or a code."""

    number: int
    at: str = Field(description="RFC 3339 UTC.")
    deed: Deed
    who: str
    account: str | None
    outcome: str
    detail: str | None
    times: int


class AuditAnswer(BaseModel):
    """A page of the audit trail; `next` is the `before` of the following page, null at the end."""

    entries: list[AuditEntry]
    next: int | None


class ExportAnswer(BaseModel):
    """A login that is not ours any more."""

    account: str
    generation: int
    again: bool = Field(description="It had been given before: if that copy was used, this one is spent.")
    sealed: str = Field(description="For the public key: a body of PUT /credential, with `obtained_at`.")


class RekeyAnswer(BaseModel):
    """How many values were sealed anew."""

    resealed: int


class RestoreAnswer(BaseModel):
    """What became of each row, in the order in which they were sent."""

    credentials: list[Outcome]
    client_keys: list[Outcome]


class Health(BaseModel):
    """It answers."""

    status: Literal["ok"]


class Problem(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    code: Code
    next_actions: list[str]
    account: str | None = None
    retry_after: int | None = None
    login_url: str | None = None
    reason: LoginReason | None = None


class OAuthError(Problem):
    """RFC 6749 section 5.2, with the problem beside it."""

    error: Literal[
        "invalid_grant",
        "invalid_request",
        "server_error",
        "temporarily_unavailable",
        "unauthorized_client",
        "unsupported_grant_type",
    ]
    error_description: str


def instant(at: float | None) -> str | None:
    """RFC 3339 UTC, whole seconds, never later than it is."""
    return None if at is None else datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_until(at: float, now: float) -> int:
    """Whole seconds, never more than there are."""
    return max(0, int(at - now))
