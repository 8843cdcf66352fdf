"""Every change that a login, a refresh and a logout can make to a credential."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given

from service.domain.credential import (
    DEFAULT_LIFETIME,
    Attempt,
    Credential,
    Identity,
    Tokens,
    claimed,
    confirmed,
    given_back,
    imported,
    is_other_account,
    left_uncertain,
    logged_in,
    logged_out,
    put_off,
    refused,
    restored,
    rotated,
)
from service.domain.errors import LoginReason
from service.domain.secret import Secret
from tests.domain.values import ALICE, ATTEMPT, LIFE, MALLORY, NOW, credential, credentials, examples, tokens

IN_TROUBLE = credential(
    attempt=ATTEMPT,
    sends=2,
    uncertain_since=NOW - 100,
    failures=4,
    next_attempt_at=NOW - 1,
    last_error="timeout",
    last_success_at=NOW - 999,
)


def changes(before: Credential, after: Credential) -> dict[str, Any]:
    """The members that are not as they were."""
    return {
        one.name: getattr(after, one.name)
        for one in fields(Credential)
        if getattr(after, one.name) != getattr(before, one.name)
    }


def renewed(
    before: Credential = IN_TROUBLE, *, sent_at: float = NOW, now: float = NOW + 2, **answer: Any
) -> Credential:
    """A credential after an answer."""
    return rotated(before, tokens(**answer), sent_at=sent_at, now=now, wait=60)


# -- login -------------------------------------------------------------------------------------------------------


def log_in(answer: Tokens) -> Credential:
    return logged_in(answer, account="work", provider="codex", login_id="login-9", now=NOW)


def test_a_login_holds_what_the_answer_gave() -> None:
    new = log_in(tokens())
    assert (new.access_token, new.refresh_token, new.id_token) == (
        Secret("access-4"),
        Secret("refresh-4"),
        Secret("id-4"),
    )
    assert (new.account, new.provider, new.login_id, new.identity) == ("work", "codex", "login-9", ALICE)
    assert (new.obtained_at, new.expires_at, new.lifetime) == (NOW, NOW + LIFE, LIFE)


def test_a_login_begins_active_and_without_a_past() -> None:
    new = log_in(tokens())
    assert (new.state, new.reason, new.generation, new.sends, new.failures) == ("active", None, 1, 0, 0)
    assert (new.attempt, new.uncertain_since, new.next_attempt_at) == (None, None, None)
    assert (new.last_error, new.last_success_at) == (None, None)


def test_a_login_of_unknown_lifetime_is_short() -> None:
    new = log_in(tokens(lifetime=None))
    assert (new.expires_at, new.lifetime) == (NOW + DEFAULT_LIFETIME, DEFAULT_LIFETIME)


def test_a_lifetime_of_nothing_is_not_an_unknown_one() -> None:
    assert log_in(tokens(lifetime=0.0)).expires_at == NOW


@pytest.mark.parametrize(("told", "end"), [(NOW + 77, NOW + 77), (NOW - 77, NOW - 77), (0.0, 0.0), (None, NOW)])
def test_an_import_keeps_its_end_and_claims_no_lifetime(told: float | None, end: float) -> None:
    """One whose end is not known is due at once, so that the first caller finds out."""
    given = tokens(lifetime=None, expires_at=told)
    new = imported(given, account="work", provider="codex", login_id="login-9", now=NOW)
    assert changes(log_in(given), new) == {"lifetime": None, "expires_at": end}


# -- claim -------------------------------------------------------------------------------------------------------


def test_a_claim_counts_the_send_before_it_is_sent() -> None:
    assert changes(credential(), claimed(credential(), ATTEMPT)) == {"attempt": ATTEMPT, "sends": 1}


def test_the_claim_of_a_retry_is_the_second_send() -> None:
    uncertain = credential(sends=1, uncertain_since=NOW)
    assert claimed(uncertain, ATTEMPT).sends == 2


# -- a good answer -----------------------------------------------------------------------------------------------


def test_an_answer_is_the_next_generation() -> None:
    after = renewed()
    assert after.generation == IN_TROUBLE.generation + 1
    assert (after.access_token, after.refresh_token, after.id_token) == (
        Secret("access-4"),
        Secret("refresh-4"),
        Secret("id-4"),
    )
    assert after.state == "active"


def test_an_answer_clears_all_trouble() -> None:
    after = renewed()
    assert (after.attempt, after.sends, after.uncertain_since, after.failures) == (None, 0, None, 0)
    assert (after.next_attempt_at, after.last_error) == (None, None)
    assert (after.obtained_at, after.last_success_at) == (NOW + 2, NOW + 2)


def test_a_life_counts_from_before_the_request_was_sent() -> None:
    after = renewed(sent_at=NOW - 20, now=NOW + 9, lifetime=1800.0)
    assert (after.expires_at, after.lifetime) == (NOW - 20 + 1800, 1800)


def test_an_unknown_life_is_short() -> None:
    after = renewed(lifetime=None)
    assert (after.expires_at, after.lifetime) == (NOW + DEFAULT_LIFETIME, DEFAULT_LIFETIME)


def test_an_answer_stays_in_its_login() -> None:
    after = renewed()
    assert (after.account, after.provider, after.login_id) == ("default", "codex", "login-1")


@pytest.mark.parametrize("absent", [None, Secret("")], ids=["absent", "empty"])
def test_without_a_new_refresh_token_the_old_one_is_kept(absent: Secret | None) -> None:
    after = renewed(refresh_token=absent)
    assert after.refresh_token == Secret("refresh-3")
    assert (after.access_token, after.generation, after.sends) == (Secret("access-4"), 4, 0)


@pytest.mark.parametrize("absent", [None, Secret("")], ids=["absent", "empty"])
def test_without_a_new_id_token_the_old_one_is_kept(absent: Secret | None) -> None:
    assert renewed(id_token=absent).id_token == Secret("id-3")


def test_what_an_answer_does_not_claim_stays_known() -> None:
    assert renewed(identity=Identity(plan="team")).identity == Identity("acct-alice", "alice@example.org", "team")


def test_an_identity_that_was_unknown_is_learnt() -> None:
    assert renewed(credential(identity=Identity()), identity=ALICE).identity == ALICE


# -- an answer that must not be served ---------------------------------------------------------------------------

UNSERVABLE = [
    ({"access_token": None}, "no_access_token"),
    ({"fault": "unsupported_token_type"}, "unsupported_token_type"),
    ({"access_token": None, "fault": "unsupported_token_type"}, "unsupported_token_type"),
]


@pytest.mark.parametrize(("answer", "error"), UNSERVABLE)
def test_an_unservable_answer_still_moves_the_refresh_token_on(answer: dict[str, Any], error: str) -> None:
    after = renewed(**answer)
    assert (after.refresh_token, after.generation, after.sends) == (Secret("refresh-4"), 4, 0)
    assert (after.attempt, after.uncertain_since) == (None, None)
    assert after.last_error == error


@pytest.mark.parametrize(("answer", "error"), UNSERVABLE)
def test_an_unservable_answer_leaves_the_access_token_as_it_was(answer: dict[str, Any], error: str) -> None:
    after = renewed(**answer)
    kept = ("access_token", "expires_at", "obtained_at", "lifetime", "identity", "last_success_at", "state")
    assert not changes(IN_TROUBLE, after).keys() & set(kept)


@pytest.mark.parametrize(("answer", "error"), UNSERVABLE)
def test_an_unservable_answer_is_not_asked_for_again_at_once(answer: dict[str, Any], error: str) -> None:
    after = renewed(now=NOW + 2, **answer)
    assert (after.next_attempt_at, after.failures) == (NOW + 62, IN_TROUBLE.failures + 1)


def test_the_tokens_of_another_account_end_the_login() -> None:
    after = renewed(identity=MALLORY)
    assert (after.state, after.reason, after.last_error) == ("dead", "account_mismatch", "account_mismatch")
    assert after.next_attempt_at is None


def test_the_tokens_of_another_account_are_kept_but_not_served() -> None:
    after = renewed(identity=MALLORY)
    assert (after.refresh_token, after.generation) == (Secret("refresh-4"), 4)
    assert (after.access_token, after.expires_at) == (Secret("access-3"), NOW + LIFE)
    assert after.identity == ALICE


def test_another_account_weighs_more_than_a_fault() -> None:
    assert renewed(identity=MALLORY, fault="unsupported_token_type").reason == "account_mismatch"


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (ALICE, Identity("acct-alice")),
        (ALICE, Identity()),
        (Identity(), MALLORY),
        (ALICE, Identity(email="x@y.example")),
    ],
)
def test_an_account_is_another_only_when_both_are_known(mine: Identity, theirs: Identity) -> None:
    assert renewed(credential(identity=mine), identity=theirs).state == "active"


# -- a refusal ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["refresh_token_expired", "refresh_token_reused", "refresh_token_revoked"])
def test_a_refusal_ends_the_login_and_erases_nothing(reason: LoginReason) -> None:
    claim = claimed(credential(failures=2), ATTEMPT)
    assert changes(claim, refused(claim, reason)) == {
        "state": "dead",
        "reason": reason,
        "attempt": None,
        "last_error": reason,
    }


def test_a_refusal_of_the_second_send_is_the_price_of_a_lost_answer() -> None:
    after = refused(IN_TROUBLE, "refresh_token_reused")
    assert (after.state, after.reason, after.last_error) == ("dead", "outcome_unknown", "refresh_token_reused")


def test_a_refused_login_has_no_next_attempt() -> None:
    assert refused(IN_TROUBLE, "refresh_token_expired").next_attempt_at is None


# -- an outcome without effect -----------------------------------------------------------------------------------


def test_what_had_no_effect_is_not_counted_as_a_send() -> None:
    claim = claimed(credential(failures=2), ATTEMPT)
    assert changes(claim, put_off(claim, "http_503", until=NOW + 9)) == {
        "attempt": None,
        "sends": 0,
        "failures": 3,
        "next_attempt_at": NOW + 9,
        "last_error": "http_503",
    }


def test_a_retry_without_effect_leaves_the_first_send_uncertain() -> None:
    after = put_off(IN_TROUBLE, "connect_error", until=NOW + 9)
    assert (after.sends, after.uncertain_since, after.state) == (1, NOW - 100, "active")


def test_an_intent_given_back_never_was() -> None:
    for before in (credential(), credential(sends=1, uncertain_since=NOW, failures=1, next_attempt_at=NOW)):
        assert given_back(claimed(before, ATTEMPT)) == before


def test_sends_are_never_negative() -> None:
    assert put_off(credential(), "timeout", until=NOW).sends == 0
    assert given_back(credential()).sends == 0


# -- an unknown outcome ------------------------------------------------------------------------------------------


def test_the_first_unknown_outcome_waits_for_one_retry() -> None:
    claim = claimed(credential(), ATTEMPT)
    assert changes(claim, left_uncertain(claim, "timeout", now=NOW + 5, until=NOW + 15)) == {
        "attempt": None,
        "uncertain_since": NOW + 5,
        "failures": 1,
        "next_attempt_at": NOW + 15,
        "last_error": "timeout",
    }


def test_the_first_unknown_outcome_still_counts_its_send() -> None:
    assert left_uncertain(claimed(credential(), ATTEMPT), "timeout", now=NOW, until=None).sends == 1


def test_the_second_unknown_outcome_ends_the_login() -> None:
    after = left_uncertain(IN_TROUBLE, "read_error", now=NOW, until=NOW + 9)
    assert (after.state, after.reason, after.last_error) == ("dead", "outcome_unknown", "read_error")
    assert (after.attempt, after.next_attempt_at) == (None, None)
    assert after.refresh_token == IN_TROUBLE.refresh_token


def test_uncertainty_counts_from_its_beginning() -> None:
    claim = credential(attempt=ATTEMPT, sends=1, uncertain_since=NOW - 50)
    assert left_uncertain(claim, "timeout", now=NOW, until=None).uncertain_since == NOW - 50


# -- logout ------------------------------------------------------------------------------------------------------


def test_a_logout_keeps_the_generation_and_nothing_else() -> None:
    after = logged_out(IN_TROUBLE)
    assert after.generation == IN_TROUBLE.generation
    assert (after.state, after.reason) == ("logged_out", "logged_out")
    assert (after.access_token, after.refresh_token, after.id_token) == (None, None, None)
    assert after.identity == Identity()
    assert (after.attempt, after.sends, after.uncertain_since, after.failures) == (None, 0, None, 0)
    assert (after.next_attempt_at, after.last_error) == (None, None)


@examples
@given(credentials())
def test_no_secret_outlives_a_logout(before: Credential) -> None:
    assert not [one.name for one in fields(Credential) if isinstance(getattr(logged_out(before), one.name), Secret)]


# -- whose login -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "identity", "other"),
    [
        (None, ALICE, False),
        (credential(), ALICE, False),
        (credential(), MALLORY, True),
        (credential(), Identity(email="mallory@example.org"), False),
        (credential(identity=Identity()), MALLORY, False),
        (credential(state="dead"), MALLORY, True),
        (credential(state="unreadable"), MALLORY, True),
        (credential(state="logged_out"), MALLORY, False),
        (logged_out(credential()), MALLORY, False),
    ],
)
def test_only_a_login_that_is_there_can_be_another_account(
    stored: Credential | None, identity: Identity, other: bool
) -> None:
    assert is_other_account(stored, identity) is other


# -- laws --------------------------------------------------------------------------------------------------------

STEPS: dict[str, Callable[[Credential], Credential]] = {
    "claimed": lambda one: claimed(one, Attempt("a", "o", NOW)),
    "rotated": lambda one: rotated(one, tokens(), sent_at=NOW, now=NOW, wait=60),
    "rotated without a refresh token": lambda one: renewed(one, refresh_token=None),
    "rotated without an access token": lambda one: renewed(one, access_token=None),
    "rotated to another account": lambda one: renewed(one, identity=MALLORY),
    "refused": lambda one: refused(one, "refresh_token_expired"),
    "put off": lambda one: put_off(one, "http_503", until=NOW + 1),
    "given back": given_back,
    "left uncertain": lambda one: left_uncertain(one, "timeout", now=NOW, until=None),
}


@examples
@given(credentials())
def test_no_outcome_loses_a_refresh_token(before: Credential) -> None:
    for step in STEPS.values():
        assert step(before).refresh_token in (before.refresh_token, Secret("refresh-4"))


@examples
@given(credentials())
def test_a_generation_never_goes_back(before: Credential) -> None:
    for name, step in {**STEPS, "logged out": logged_out}.items():
        assert step(before).generation == before.generation + ("rotated" in name)


@examples
@given(credentials())
def test_every_outcome_ends_the_attempt(before: Credential) -> None:
    assert not [name for name, step in STEPS.items() if name != "claimed" and step(before).attempt is not None]


# -- backup ------------------------------------------------------------------------------------------------------


@examples
@given(saved=credentials())
def test_a_backup_forgets_no_send_and_revives_no_login(saved: Credential) -> None:
    """I1: what was sent before the backup counts after it. I9: nothing is refreshed before somebody confirms."""
    after = restored(saved, generation=7, is_spent=False)
    assert (after.generation, after.attempt, after.sends) == (7, None, saved.sends)
    if saved.state == "active":
        assert after.state == ("dead" if saved.sends > 1 else "restored")
        assert (after.uncertain_since is not None) == (saved.sends > 0)
    else:
        assert after.state == saved.state
    assert restored(saved, generation=7, is_spent=True).state not in ("active", "restored")


def test_confirmed_it_is_as_it_was_under_another_name() -> None:
    saved = credential()
    after = confirmed(restored(saved, generation=7, is_spent=False), login_id="login-2")
    assert changes(saved, after) == {"login_id": "login-2", "generation": 8}
