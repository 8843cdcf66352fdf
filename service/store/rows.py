"""Rows to values and back: the only place where secrets are sealed and opened."""

from dataclasses import replace
from typing import Any, Final, cast

from service.domain.credential import Attempt, Credential, Identity, State
from service.domain.errors import Code, LoginReason
from service.domain.login import Flow, Login, LoginState
from service.domain.secret import Secret
from service.store.schema import CredentialRow, LoginRow, SealedRow
from service.store.vault import Key, Place, Unopenable, Vault

_TOKENS: Final = ("access_token", "refresh_token", "id_token")
_LOGIN_SECRETS: Final = ("oauth_state", "verifier", "user_code", "device_auth_id")

LOGIN_OVER: Final[dict[str, None]] = dict.fromkeys(
    ("state_digest", "binding_digest", "next_poll_at", *(f"{name}_sealed" for name in _LOGIN_SECRETS))
)
"""What a login that has ended no longer needs."""

SEALED_COLUMNS: Final[dict[type[CredentialRow | LoginRow | SealedRow], tuple[str, ...]]] = {
    CredentialRow: tuple(f"{name}_sealed" for name in _TOKENS),
    LoginRow: tuple(f"{name}_sealed" for name in _LOGIN_SECRETS),
    SealedRow: ("value",),
}
"""Every column that holds something sealed, by table."""


def credential_of(row: CredentialRow, vault: Vault) -> Credential:
    """The credential in a row; `unreadable` when a token in it does not open."""
    generation = _generation(row)
    attempt = None
    if row.attempt_id is not None:
        attempt = Attempt(row.attempt_id, row.attempt_owner or "", row.attempt_started_at or 0.0)
    bare = Credential(
        account=row.account,
        provider=row.provider,
        login_id=row.login_id,
        generation=generation,
        state=cast("State", row.state),
        access_token=None,
        refresh_token=None,
        id_token=None,
        identity=Identity(row.account_id, row.email, row.plan),
        obtained_at=row.obtained_at,
        expires_at=row.expires_at,
        lifetime=row.lifetime,
        reason=cast("LoginReason | None", row.reason),
        attempt=attempt,
        sends=row.sends,
        uncertain_since=row.uncertain_since,
        failures=row.failures,
        next_attempt_at=row.next_attempt_at,
        last_error=row.last_error,
        last_success_at=row.last_success_at,
    )
    try:
        tokens: dict[str, Any] = {name: _opened(row, f"{name}_sealed", vault) for name in _TOKENS}
    except Unopenable:
        if row.state == "logged_out":
            return bare  # a login that is not ours any more: it is only that it cannot be given once more
        return replace(bare, state="unreadable", last_error="credential_unreadable")
    return replace(bare, **tokens)


def state_columns(credential: Credential, due_at: float | None) -> dict[str, Any]:
    """Every column that can change while the tokens stay."""
    attempt = credential.attempt
    return {
        "state": credential.state,
        "reason": credential.reason,
        "attempt_id": attempt.attempt_id if attempt else None,
        "attempt_owner": attempt.owner if attempt else None,
        "attempt_started_at": attempt.started_at if attempt else None,
        "sends": credential.sends,
        "uncertain_since": credential.uncertain_since,
        "failures": credential.failures,
        "next_attempt_at": credential.next_attempt_at,
        "last_error": credential.last_error,
        "last_success_at": credential.last_success_at,
        "due_at": due_at,
    }


def all_columns(credential: Credential, vault: Vault, key: Key, due_at: float | None) -> dict[str, Any]:
    """Every column, with the tokens sealed for this account and generation."""
    refresh_token = credential.refresh_token
    return {
        **state_columns(credential, due_at),
        "account": credential.account,
        "provider": credential.provider,
        "login_id": credential.login_id,
        "generation": credential.generation,
        "refresh_fingerprint": vault.fingerprint(refresh_token) if refresh_token else None,
        "account_id": credential.identity.account_id,
        "email": credential.identity.email,
        "plan": credential.identity.plan,
        "obtained_at": credential.obtained_at,
        "expires_at": credential.expires_at,
        "lifetime": credential.lifetime,
        **{
            f"{name}_sealed": _sealed(
                getattr(credential, name),
                key,
                Place(CredentialRow.__tablename__, name, credential.account, credential.generation),
            )
            for name in _TOKENS
        },
    }


def login_of(row: LoginRow, vault: Vault) -> Login:
    """The login in a row. Raises Unopenable. The binding is kept as a digest only and does not come back."""
    return Login(
        id=row.id,
        account=row.account,
        provider=row.provider,
        flow=cast("Flow", row.flow),
        created_at=row.created_at,
        expires_at=row.expires_at,
        replace=row.replace,
        fallback=row.fallback,
        state=cast("LoginState", row.state),
        error=cast("Code | None", row.error),
        detail=row.detail,
        redirect_uri=row.redirect_uri,
        verification_uri=row.verification_uri,
        interval=row.interval,
        next_poll_at=row.next_poll_at,
        taken_at=row.taken_at,
        **{name: _opened(row, f"{name}_sealed", vault) for name in _LOGIN_SECRETS},
    )


def row_of_login(login: Login, vault: Vault, key: Key) -> LoginRow:
    """A new row for a pending login."""
    table = LoginRow.__tablename__
    sealed: dict[str, Any] = {
        f"{name}_sealed": _sealed(getattr(login, name), key, Place(table, name, login.id)) for name in _LOGIN_SECRETS
    }
    return LoginRow(
        id=login.id,
        account=login.account,
        provider=login.provider,
        flow=login.flow,
        state=login.state,
        replace=login.replace,
        created_at=login.created_at,
        expires_at=login.expires_at,
        fallback=login.fallback,
        redirect_uri=login.redirect_uri,
        state_digest=vault.fingerprint(login.oauth_state) if login.oauth_state else None,
        binding_digest=vault.fingerprint(login.binding) if login.binding else None,
        verification_uri=login.verification_uri,
        interval=login.interval,
        next_poll_at=login.next_poll_at,
        **sealed,
    )


def sealed_anew(row: CredentialRow | LoginRow | SealedRow, vault: Vault, key: Key) -> dict[str, bytes]:
    """The columns of a row that another key has sealed, sealed with this one. Raises Unopenable, for any of them."""
    return {
        column: key.seal(secret, _place(row, column))
        for column in SEALED_COLUMNS[type(row)]
        if (secret := _opened(row, column, vault)) is not None and not getattr(row, column).startswith(key.head)
    }


def _place(row: CredentialRow | LoginRow | SealedRow, column: str) -> Place:
    name = column.removesuffix("_sealed")
    if isinstance(row, CredentialRow):
        return Place(CredentialRow.__tablename__, name, row.account, _generation(row))
    if isinstance(row, LoginRow):
        return Place(LoginRow.__tablename__, name, row.id)
    return Place(SealedRow.__tablename__, name, row.name)


def _generation(row: CredentialRow) -> int:
    """A number that nobody of ours can have written seals nothing: the row is unreadable, and harms no other."""
    kept: Any = row.generation
    return kept if isinstance(kept, int) and 0 <= kept < 2**63 else 0


def _opened(row: CredentialRow | LoginRow | SealedRow, column: str, vault: Vault) -> Secret | None:
    sealed = getattr(row, column)
    return None if sealed is None else vault.open(sealed, _place(row, column))


def _sealed(secret: Secret | None, key: Key, place: Place) -> bytes | None:
    return None if secret is None else key.seal(secret, place)
