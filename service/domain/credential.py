"""The credential of one account as a value, and every change a refresh or login can make to it.

Instants are seconds since the Unix epoch (UTC); lengths are seconds. Each function returns a new value; which
of them may be written, and over what, is the store's compare-and-set.
"""

from dataclasses import dataclass, replace
from typing import Literal

from service.domain.errors import LoginReason
from service.domain.secret import Secret

State = Literal["active", "dead", "logged_out", "unreadable", "restored"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """The durable intent: written before the first byte of a refresh is sent, cleared when its outcome is known."""

    attempt_id: str
    owner: str
    started_at: float


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose login it is, as the issuer's tokens claim."""

    account_id: str | None = None
    email: str | None = None
    plan: str | None = None


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a token endpoint gave, or a file. A None member was absent, null, empty or unusable there.

    `lifetime` is seconds from the moment *before* the request was sent, so that no delay lengthens a token's life. A
    file says when the token ends instead: `expires_at`.
    """

    access_token: Secret | None
    refresh_token: Secret | None
    id_token: Secret | None = None
    lifetime: float | None = None
    identity: Identity = Identity()
    fault: str | None = None  # why the access token must not be served, though the refresh token must be kept
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Credential:
    """One row: the login of one account.

    `generation` counts the token pairs this account has had, over all its logins, and never goes back.
    `login_id` names the grant: a new login, a new name. `sends` counts how often the present refresh token may have
    reached the issuer; more than one send needs an unknown outcome, more than two never happen.
    `uncertain_since` is set while the outcome of the last send is unknown. An `unreadable` row is there but does not
    open with our keys: its tokens are None here, and nothing is ever written over it but a new login or a logout.
    A `logged_out` row that holds its tokens was released: somebody else refreshes them, and they are kept for no other
    use than to be given again.
    A `restored` row is from a backup, or older than one that was here before: its refresh token may be spent, and is
    not sent (I9) unless somebody says that it was not.
    """

    account: str
    provider: str
    login_id: str
    generation: int
    state: State
    access_token: Secret | None
    refresh_token: Secret | None
    id_token: Secret | None
    identity: Identity
    obtained_at: float
    expires_at: float
    lifetime: float | None = None
    reason: LoginReason | None = None
    attempt: Attempt | None = None
    sends: int = 0
    uncertain_since: float | None = None
    failures: int = 0
    next_attempt_at: float | None = None
    last_error: str | None = None
    last_success_at: float | None = None


DEFAULT_LIFETIME = 300.0
"""Seconds a token counts as valid when neither the answer nor the token says. Short: wrong costs one refresh."""


def logged_in(tokens: Tokens, *, account: str, provider: str, login_id: str, now: float) -> Credential:
    """A new login. Its generation is provisional: the store makes it one more than the account has ever had."""
    lifetime = tokens.lifetime if tokens.lifetime is not None else DEFAULT_LIFETIME
    return Credential(
        account=account,
        provider=provider,
        login_id=login_id,
        generation=1,
        state="active",
        access_token=tokens.access_token,
        refresh_token=tokens.refresh_token,
        id_token=tokens.id_token,
        identity=tokens.identity,
        obtained_at=now,
        expires_at=now + lifetime,
        lifetime=lifetime,
    )


def imported(tokens: Tokens, *, account: str, provider: str, login_id: str, now: float) -> Credential:
    """A login made elsewhere: how long its access token was given for is not known, only when it ends.

    Not even that: due at once, so that the first caller finds out.
    """
    ends = now if tokens.expires_at is None else tokens.expires_at
    new = logged_in(tokens, account=account, provider=provider, login_id=login_id, now=now)
    return replace(new, expires_at=ends, lifetime=None)


def claimed(credential: Credential, attempt: Attempt) -> Credential:
    """The intent to send the present refresh token, counted before it is sent."""
    return replace(credential, attempt=attempt, sends=credential.sends + 1)


def rotated(credential: Credential, tokens: Tokens, *, sent_at: float, now: float, wait: float) -> Credential:
    """The next generation. What is missing in the answer is kept from the old (RFC 6749 section 6).

    An answer whose access token is absent or must not be served still moves the refresh token on; `wait` seconds then
    pass before the next try, so that such an issuer cannot cause a hot loop. Tokens of another account are
    kept, never served.
    """
    foreign = _is_foreign(credential.identity, tokens.identity)
    fault = "account_mismatch" if foreign else tokens.fault
    usable = tokens.access_token is not None and fault is None
    lifetime = tokens.lifetime if tokens.lifetime is not None else DEFAULT_LIFETIME
    renewed = replace(
        credential,
        generation=credential.generation + 1,
        refresh_token=tokens.refresh_token or credential.refresh_token,
        id_token=tokens.id_token or credential.id_token,
        attempt=None,
        sends=0,
        uncertain_since=None,
    )
    if not usable:
        return replace(
            renewed,
            state="dead" if foreign else "active",
            reason="account_mismatch" if foreign else None,
            failures=credential.failures + 1,
            next_attempt_at=None if foreign else now + wait,
            last_error=fault or "no_access_token",
        )
    return replace(
        renewed,
        access_token=tokens.access_token,
        identity=_merged(credential.identity, tokens.identity),
        obtained_at=now,
        expires_at=sent_at + lifetime,
        lifetime=lifetime,
        failures=0,
        next_attempt_at=None,
        last_error=None,
        last_success_at=now,
    )


def refused(credential: Credential, reason: LoginReason) -> Credential:
    """The issuer says this refresh token is no good. Nothing is erased; only a new login helps.

    A refusal of the second send is the known price of a lost answer, and says so.
    """
    final: LoginReason = "outcome_unknown" if credential.sends > 1 else reason
    return replace(credential, state="dead", reason=final, attempt=None, next_attempt_at=None, last_error=reason)


def put_off(credential: Credential, error: str, *, until: float) -> Credential:
    """The send surely had no effect at the issuer: it is not counted, and may be repeated after `until`."""
    return replace(
        credential,
        attempt=None,
        sends=max(0, credential.sends - 1),
        failures=credential.failures + 1,
        next_attempt_at=until,
        last_error=error,
    )


def given_back(credential: Credential) -> Credential:
    """An intent that was never acted upon."""
    return replace(credential, attempt=None, sends=max(0, credential.sends - 1))


def left_uncertain(credential: Credential, error: str, *, now: float, until: float | None) -> Credential:
    """The refresh token may or may not be spent. The first time it waits for one decisive retry; the second ends it."""
    if credential.sends > 1:
        return replace(refused(credential, "outcome_unknown"), last_error=error)
    return replace(
        credential,
        attempt=None,
        uncertain_since=credential.uncertain_since or now,
        failures=credential.failures + 1,
        next_attempt_at=until,
        last_error=error,
    )


def logged_out(credential: Credential) -> Credential:
    """What remains of a login that was ended here: its generation, so that numbers never repeat."""
    return replace(
        credential,
        state="logged_out",
        reason="logged_out",
        access_token=None,
        refresh_token=None,
        id_token=None,
        identity=Identity(),
        attempt=None,
        sends=0,
        uncertain_since=None,
        failures=0,
        next_attempt_at=None,
        last_error=None,
    )


def is_unspent(credential: Credential) -> bool:
    """Whether the refresh token was surely never sent, and nobody is about to: whoever is given it may send it."""
    return (
        credential.state == "active"
        and credential.refresh_token is not None
        and credential.attempt is None
        and credential.sends == 0
        and credential.uncertain_since is None
    )


def released(credential: Credential) -> Credential:
    """A login that somebody else refreshes from now on. Here it counts as logged out, and keeps its tokens to be given
    again in case an answer was lost."""
    return replace(
        credential, state="logged_out", reason="logged_out", failures=0, next_attempt_at=None, last_error=None
    )


def is_released(credential: Credential) -> bool:
    """Whether the tokens of a login that is not ours any more are still here."""
    return credential.state == "logged_out" and credential.refresh_token is not None


RESTORED = "restored_backup"
"""`last_error` of what was restored."""


def restored(credential: Credential, *, generation: int, is_spent: bool) -> Credential:
    """What a login of a backup is worth: its access token while that is valid, its refresh token not yet or never.

    is_spent: it is known to have been refreshed since the backup. A send that was under way or unknown when the backup
    was made still counts (I1): what became of it, nobody who confirms can know. One that was released by then is not
    given again.
    """
    kept = replace(credential, generation=generation, attempt=None, next_attempt_at=None)
    if kept.state == "logged_out":
        return logged_out(kept)
    if kept.state not in ("active", "restored"):
        return kept
    begun = credential.attempt.started_at if credential.attempt else None
    since = credential.uncertain_since or begun
    waits = replace(kept, state="restored", uncertain_since=since, failures=0, last_error=RESTORED)
    return replace(waits, state="dead", reason="outcome_unknown") if is_spent or kept.sends > 1 else waits


def confirmed(credential: Credential, *, login_id: str) -> Credential:
    """A restored login whose refresh token is unspent, as somebody says. It counts as a new one, as an import does: who
    still acts for the old one has nothing to do with it."""
    return replace(credential, login_id=login_id, generation=credential.generation + 1, state="active", last_error=None)


def is_other_account(stored: Credential | None, identity: Identity) -> bool:
    """Whether tokens with this identity would replace somebody else's login."""
    return stored is not None and stored.state != "logged_out" and _is_foreign(stored.identity, identity)


def _is_foreign(mine: Identity, theirs: Identity) -> bool:
    return None not in (mine.account_id, theirs.account_id) and mine.account_id != theirs.account_id


def _merged(old: Identity, new: Identity) -> Identity:
    return Identity(new.account_id or old.account_id, new.email or old.email, new.plan or old.plan)
