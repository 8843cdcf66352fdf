"""A credential to change, and strategies for whatever a row, a caller and the settings can hold."""

from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from service.domain.credential import Attempt, Credential, Identity, State, Tokens
from service.domain.decide import Policy, Wish
from service.domain.errors import LoginReason
from service.domain.secret import Secret

NOW = 1_800_000_000.0
LIFE = 3600.0
ATTEMPT = Attempt("attempt-1", "owner-1", NOW)
examples = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
"""For laws: a slow machine is no failure, and what few examples miss the exploration of all rows finds."""

ALICE = Identity("acct-alice", "alice@example.org", "pro")
MALLORY = Identity("acct-mallory", "mallory@example.org", "free")

_FRESH = Credential(
    account="default",
    provider="codex",
    login_id="login-1",
    generation=3,
    state="active",
    access_token=Secret("access-3"),
    refresh_token=Secret("refresh-3"),
    id_token=Secret("id-3"),
    identity=ALICE,
    obtained_at=NOW,
    expires_at=NOW + LIFE,
    lifetime=LIFE,
)


def credential(**changes: Any) -> Credential:
    """Generation 3 of Alice's login, obtained now and good for an hour, but for the changes."""
    return replace(_FRESH, **changes)


def tokens(**changes: Any) -> Tokens:
    """A whole answer for Alice, but for the changes."""
    whole = Tokens(Secret("access-4"), Secret("refresh-4"), Secret("id-4"), LIFE, ALICE)
    return replace(whole, **changes)


lengths = st.integers(1, 7200).map(float)
instants = st.integers(-7200, 7200).map(lambda seconds: NOW + seconds / 2)
lately = st.integers(-20, 120).map(lambda ago: NOW - ago / 2)
REASONS: list[LoginReason | None] = ["refresh_token_expired", "outcome_unknown", "account_mismatch", None]
STATES: list[State] = ["active", "active", "active", "dead", "logged_out", "unreadable"]
pauses = st.integers(-3600, 7200).map(lambda seconds: NOW + seconds)
reasons = st.sampled_from(REASONS)
errors = st.sampled_from([None, "timeout", "issuer_refused: invalid_client", "store_unavailable"])


@st.composite
def credentials(draw: st.DrawFn) -> Credential:
    """Any row: only an active login is in flight or uncertain, only one that failed has to wait."""
    state: State = draw(st.sampled_from(STATES))
    has_tokens, active = state in ("active", "dead"), state == "active"
    in_flight, uncertain = active and draw(st.booleans()), active and draw(st.booleans())
    waiting = draw(pauses) if active and draw(st.booleans()) else None
    present = credential() if has_tokens else credential(access_token=None, refresh_token=None, id_token=None)
    return replace(
        present,
        state=state,
        generation=draw(st.integers(1, 4)),
        obtained_at=draw(instants),
        expires_at=draw(instants),
        lifetime=draw(st.none() | lengths),
        reason=None if active else draw(reasons),
        attempt=replace(ATTEMPT, started_at=draw(instants)) if in_flight else None,
        sends=in_flight + uncertain,
        uncertain_since=draw(instants) if uncertain else None,
        failures=draw(st.integers(uncertain or waiting is not None, 3)),
        next_attempt_at=waiting,
        last_error=draw(errors),
        last_success_at=draw(st.none() | lately),
    )


wishes = st.builds(
    Wish,
    min_ttl=st.sampled_from([0.0, 30.0, 1800.0, 3600.0, 1e9]),
    newer_than=st.none() | st.integers(1, 4),
    ahead=st.booleans(),
)
policies = st.builds(
    Policy,
    margin=st.sampled_from([None, 0.1, 60.0, 900.0, 1e5]),
    floor=st.sampled_from([0.0, 5.0, 30.0]),
    retry_within=st.sampled_from([None, 0.0, 60.0, 3600.0]),
)
