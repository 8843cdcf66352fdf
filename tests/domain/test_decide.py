"""The decision table, case by case."""

from typing import Any

import pytest
from hypothesis import given, settings

from service.domain.backoff import LONGEST
from service.domain.credential import Credential, logged_out
from service.domain.decide import (
    LOOK_AGAIN,
    UNSAVED,
    Decision,
    LoginNeeded,
    Policy,
    Refresh,
    RefreshState,
    Rest,
    Unavailable,
    Unreadable,
    Use,
    Wait,
    Wish,
    decide,
    due_at,
    is_valid,
    last_chance,
    margin,
    next_attempt_at,
    refresh_state,
    trouble,
)
from tests.domain.laws import LAWS
from tests.domain.values import ATTEMPT, LIFE, NOW, credential, credentials, examples, policies, wishes

REJECTED = Wish(newer_than=3)
"""The caller's request was answered with 401 for the present token."""

AHEAD = Wish(ahead=True)
DEFAULT = Policy()
RETRY_SAFE = Policy(retry_within=60)


def left(seconds: float, **changes: Any) -> Credential:
    """A credential whose access token has so many seconds left."""
    return credential(expires_at=NOW + seconds, **changes)


REFUSED = "issuer_refused: invalid_client"
FAILED = {"failures": 1, "next_attempt_at": NOW + 9}
UNCERTAIN = {"sends": 1, "failures": 1, "uncertain_since": NOW - 100}
TABLE: dict[str, tuple[Credential | None, Wish, Policy, Decision]] = {
    # nothing to serve
    "nobody": (None, Wish(), DEFAULT, LoginNeeded("never_logged_in")),
    "logged out": (logged_out(credential()), Wish(), DEFAULT, LoginNeeded("logged_out")),
    "unreadable": (credential(state="unreadable", access_token=None), Wish(), DEFAULT, Unreadable()),
    # enough
    "fresh": (credential(), Wish(), DEFAULT, Use()),
    "just enough": (left(30), Wish(), DEFAULT, Use()),
    "just not enough": (left(29.9), Wish(), DEFAULT, Refresh()),
    "a second left, any token will do": (left(1), Wish(min_ttl=0), DEFAULT, Use()),
    "expired this instant": (left(0), Wish(min_ttl=0), DEFAULT, Refresh()),
    "expired long ago": (left(-1e6), Wish(), DEFAULT, Refresh()),
    "more than the issuer gives": (credential(), Wish(min_ttl=LIFE + 1), DEFAULT, Use()),
    "as much as the issuer gives, a while ago": (left(3300), Wish(min_ttl=LIFE), DEFAULT, Use()),
    "more than the issuer gives, old token": (left(3200), Wish(min_ttl=1e9), DEFAULT, Refresh()),
    "more than an imported token has": (credential(lifetime=None), Wish(min_ttl=1e9), DEFAULT, Refresh()),
    # rejected
    "an older token was rejected": (credential(), Wish(newer_than=2), DEFAULT, Use()),
    "this token was rejected": (credential(), REJECTED, DEFAULT, Refresh()),
    # ahead of time
    "not due": (left(361), AHEAD, DEFAULT, Rest()),
    "due this instant": (left(360), AHEAD, DEFAULT, Refresh()),
    "due": (left(359), AHEAD, DEFAULT, Refresh()),
    "due by the settings": (left(899), AHEAD, Policy(margin=900), Refresh()),
    "not due by the settings": (left(901), AHEAD, Policy(margin=900), Rest()),
    "ahead does not ask for a minimum": (left(20), AHEAD, Policy(margin=10), Rest()),
    "ahead is not held back by the floor": (left(300, last_success_at=NOW - 1), AHEAD, DEFAULT, Refresh()),
    "expired, ahead": (left(-9), AHEAD, DEFAULT, Refresh()),
    "ahead, nobody": (None, AHEAD, DEFAULT, LoginNeeded("never_logged_in")),
    "ahead, logged out": (logged_out(credential()), AHEAD, DEFAULT, LoginNeeded("logged_out")),
    "ahead, unreadable": (credential(state="unreadable"), AHEAD, DEFAULT, Unreadable()),
    "ahead, dead": (left(0, state="dead"), AHEAD, DEFAULT, Rest()),
    "ahead, a token from the future": (credential(obtained_at=NOW + 61), AHEAD, DEFAULT, Refresh()),
    "ahead, a clock that was corrected": (credential(obtained_at=NOW + 60), AHEAD, DEFAULT, Rest()),
    # dead
    "dead, still what was asked for": (credential(state="dead"), Wish(), DEFAULT, Use("login_required")),
    "dead, last seconds": (left(5, state="dead"), Wish(), DEFAULT, Use("login_required")),
    "dead, rejected": (credential(state="dead"), REJECTED, DEFAULT, Use("login_required")),
    "dead, expired": (
        left(0, state="dead", reason="refresh_token_reused"),
        Wish(),
        DEFAULT,
        LoginNeeded("refresh_token_reused"),
    ),
    "dead, nobody knows why": (left(0, state="dead"), Wish(), DEFAULT, LoginNeeded("outcome_unknown")),
    # in flight
    "in flight, still what was asked for": (credential(attempt=ATTEMPT, sends=1), Wish(), DEFAULT, Use()),
    "in flight, rejected": (credential(attempt=ATTEMPT, sends=1), REJECTED, DEFAULT, Wait()),
    "in flight, expired": (left(0, attempt=ATTEMPT, sends=1), Wish(), DEFAULT, Wait()),
    "in flight, due": (left(300, attempt=ATTEMPT, sends=1), AHEAD, DEFAULT, Wait()),
    "in flight after a failure": (left(0, attempt=ATTEMPT, next_attempt_at=NOW + 9), Wish(), DEFAULT, Wait()),
    # backing off
    "failed, still what was asked for": (credential(**FAILED), Wish(), DEFAULT, Use("issuer_unavailable")),
    "failed, rejected": (credential(**FAILED), REJECTED, DEFAULT, Use("issuer_unavailable")),
    "failed, due": (left(359, **FAILED), AHEAD, DEFAULT, Rest()),
    "failed, and the clock was set back": (
        credential(failures=1, next_attempt_at=NOW + LONGEST + 1),
        REJECTED,
        DEFAULT,
        Refresh(),
    ),
    "told to wait as long as can be": (
        credential(failures=1, next_attempt_at=NOW + LONGEST),
        REJECTED,
        DEFAULT,
        Use("issuer_unavailable"),
    ),
    "failed, expired": (left(0, **FAILED), Wish(), DEFAULT, Unavailable(NOW + 9, "issuer_unavailable")),
    "refused, still what was asked for": (
        credential(**FAILED, last_error=REFUSED),
        Wish(),
        DEFAULT,
        Use("issuer_refused"),
    ),
    "refused, rejected": (credential(**FAILED, last_error=REFUSED), REJECTED, DEFAULT, Use("issuer_refused")),
    "refused, expired": (
        left(0, **FAILED, last_error=REFUSED),
        Wish(),
        DEFAULT,
        Unavailable(NOW + 9, "issuer_refused"),
    ),
    "backed off": (left(0, next_attempt_at=NOW, failures=3), Wish(), DEFAULT, Refresh()),
    # uncertain
    "uncertain, still what was asked for": (credential(**UNCERTAIN), Wish(), DEFAULT, Use("refresh_uncertain")),
    "uncertain, rejected": (credential(**UNCERTAIN), REJECTED, DEFAULT, Use("refresh_uncertain")),
    "uncertain, ahead": (left(61, **UNCERTAIN), AHEAD, DEFAULT, Rest()),
    "uncertain, last chance, ahead": (left(60, **UNCERTAIN), AHEAD, DEFAULT, Refresh()),
    "uncertain, last chance before it would be due": (left(50, **UNCERTAIN), AHEAD, Policy(margin=10), Refresh()),
    "uncertain, the issuer forgives, ahead": (
        credential(sends=1, failures=1, uncertain_since=NOW - 9),
        AHEAD,
        RETRY_SAFE,
        Refresh(),
    ),
    "uncertain, before the last chance": (left(60.1, **UNCERTAIN), REJECTED, DEFAULT, Use("refresh_uncertain")),
    "uncertain, last chance": (left(60, **UNCERTAIN), REJECTED, DEFAULT, Refresh()),
    "uncertain, last chance of a short life": (
        left(15.1, lifetime=300.0, **UNCERTAIN),
        REJECTED,
        DEFAULT,
        Use("refresh_uncertain"),
    ),
    "uncertain, expired": (left(0, **UNCERTAIN), Wish(), DEFAULT, Refresh()),
    "uncertain and quiet, rejected": (
        left(5, next_attempt_at=NOW + 9, **UNCERTAIN),
        REJECTED,
        DEFAULT,
        Use("refresh_uncertain"),
    ),
    "uncertain and quiet, expired": (
        left(0, next_attempt_at=NOW + 9, **UNCERTAIN),
        Wish(),
        DEFAULT,
        Unavailable(NOW + 9, "refresh_uncertain"),
    ),
    "uncertain, the issuer forgives": (credential(sends=1, uncertain_since=NOW - 60), REJECTED, RETRY_SAFE, Refresh()),
    "uncertain, the issuer forgave": (
        credential(sends=1, uncertain_since=NOW - 60.1),
        REJECTED,
        RETRY_SAFE,
        Use("refresh_uncertain"),
    ),
    "uncertain, the issuer forgave, expired": (left(0, **UNCERTAIN), Wish(), RETRY_SAFE, Refresh()),
    # the floor
    "rejected within the floor": (credential(last_success_at=NOW - 4.9), REJECTED, DEFAULT, Use("refresh_floor")),
    "rejected after the floor": (credential(last_success_at=NOW - 5), REJECTED, DEFAULT, Refresh()),
    "too short within the floor": (left(9, last_success_at=NOW), Wish(), DEFAULT, Use("refresh_floor")),
    "expired within the floor": (left(0, last_success_at=NOW - 1), Wish(), DEFAULT, Refresh()),
    "rejected, floor of nothing": (credential(last_success_at=NOW), REJECTED, Policy(floor=0), Refresh()),
    "rejected, clock set back": (credential(last_success_at=NOW + 3600), REJECTED, DEFAULT, Refresh()),
}


@pytest.mark.parametrize("case", TABLE)
def test_decision(case: str) -> None:
    present, wish, policy, decision = TABLE[case]
    assert decide(present, wish, NOW, policy) == decision


@settings(examples, max_examples=250)
@given(credentials(), wishes, policies)
def test_every_law_holds_for_any_row_wish_and_policy(one: Credential, wish: Wish, policy: Policy) -> None:
    for law in LAWS:
        law(one, wish, NOW, policy)


@pytest.mark.parametrize(
    ("lifetime", "wanted", "seconds"),
    [
        (3600.0, None, 360.0),  # a tenth
        (864_000.0, None, 86_400.0),
        (1000.0, None, 300.0),  # at least five minutes
        (400.0, None, 200.0),  # at most half
        (3600.0, 60.0, 60.0),
        (3600.0, 1e9, 1800.0),
    ],
)
def test_margin(lifetime: float, wanted: float | None, seconds: float) -> None:
    assert margin(credential(lifetime=lifetime), Policy(margin=wanted)) == seconds


@pytest.mark.parametrize(
    ("left_then", "wanted", "seconds"),
    [
        (864_000.0, None, 86_400.0),
        (1000.0, None, 300.0),
        (120.0, None, 60.0),
        (120.0, 90.0, 60.0),
        (120.0, 10.0, 10.0),
        (0.0, None, 0.5),
        (-1e9, 60.0, 0.5),
    ],
)
def test_margin_of_a_token_made_elsewhere(left_then: float, wanted: float | None, seconds: float) -> None:
    came = credential(lifetime=None, obtained_at=NOW, expires_at=NOW + left_then)
    assert margin(came, Policy(margin=wanted)) == seconds


@pytest.mark.parametrize(("lifetime", "seconds"), [(864_000.0, 60.0), (1200.0, 60.0), (600.0, 30.0), (None, 15.0)])
def test_last_chance(lifetime: float | None, seconds: float) -> None:
    assert last_chance(credential(lifetime=lifetime)) == seconds


DUE: dict[str, tuple[Credential, Policy, float | None]] = {
    "dead": (credential(state="dead"), DEFAULT, None),
    "logged out": (logged_out(credential()), DEFAULT, None),
    "unreadable": (credential(state="unreadable"), DEFAULT, NOW + LOOK_AGAIN),
    "nothing to refresh with": (credential(refresh_token=None), DEFAULT, None),
    "idle": (credential(), DEFAULT, NOW + LIFE - 360),
    "idle by the settings": (credential(), Policy(margin=60), NOW + LIFE - 60),
    "in flight": (credential(attempt=ATTEMPT, next_attempt_at=NOW + 9), DEFAULT, NOW),
    "backing off until after it would be due": (left(0, next_attempt_at=NOW + 9), DEFAULT, NOW + 9),
    "backing off until before it will be due": (credential(next_attempt_at=NOW + 9), DEFAULT, NOW + LIFE - 360),
    "backing off by a clock that was ahead": (left(0, next_attempt_at=NOW + 86400), DEFAULT, NOW - 360),
    "a token from the future": (credential(obtained_at=NOW + 61), DEFAULT, NOW),
    "a short life, just begun": (left(1, lifetime=1.0, last_success_at=NOW), DEFAULT, NOW + 1),
    "a short life, and the clock was set back": (left(1, lifetime=1.0, last_success_at=NOW + 9), DEFAULT, NOW + 0.5),
    "a token from the future, backing off": (
        credential(obtained_at=NOW + 61, next_attempt_at=NOW + 9),
        DEFAULT,
        NOW + 9,
    ),
    "uncertain": (credential(**UNCERTAIN), DEFAULT, NOW + LIFE - 60),
    "uncertain and quiet at the end": (left(0, next_attempt_at=NOW + 9, **UNCERTAIN), DEFAULT, NOW + 9),
    "uncertain, the issuer forgives": (credential(sends=1, uncertain_since=NOW - 1), RETRY_SAFE, NOW),
    "uncertain, the issuer forgave": (credential(**UNCERTAIN), RETRY_SAFE, NOW + LIFE - 60),
}


@pytest.mark.parametrize("case", DUE)
def test_due(case: str) -> None:
    present, policy, due = DUE[case]
    assert due_at(present, NOW, policy) == due


STATES: dict[str, tuple[Credential, RefreshState]] = {
    "logged out": (logged_out(credential()), "idle"),
    "dead": (credential(state="dead"), "dead"),
    "unreadable": (credential(state="unreadable"), "dead"),
    "in flight": (left(0, attempt=ATTEMPT, **UNCERTAIN), "in_flight"),
    "uncertain": (credential(next_attempt_at=NOW + 9, **UNCERTAIN), "uncertain"),
    "backing off": (left(0, next_attempt_at=NOW + 9), "backing_off"),
    "backed off": (left(0, next_attempt_at=NOW), "due"),
    "backing off by a clock that was ahead": (left(0, next_attempt_at=NOW + 86400), "due"),
    "due": (left(360), "due"),
    "idle": (left(361), "idle"),
}


NEXT: dict[str, tuple[Credential, Policy, float | None]] = {
    "idle": (credential(), DEFAULT, None),
    "due": (left(0), DEFAULT, None),
    "failed": (credential(**FAILED), DEFAULT, NOW + 9),
    "failed, and the pause is over": (credential(failures=1, next_attempt_at=NOW), DEFAULT, None),
    "failed, and the clock was set back": (credential(failures=1, next_attempt_at=NOW + 86400), DEFAULT, None),
    "in flight after a failure": (credential(attempt=ATTEMPT, **FAILED), DEFAULT, None),
    "uncertain": (credential(**UNCERTAIN), DEFAULT, NOW + LIFE - 60),
    "uncertain and quiet at the end": (left(0, next_attempt_at=NOW + 9, **UNCERTAIN), DEFAULT, NOW + 9),
    "uncertain, the issuer forgives": (credential(sends=1, uncertain_since=NOW - 1), RETRY_SAFE, NOW),
    "dead": (credential(state="dead", **FAILED), DEFAULT, None),
    "logged out": (logged_out(credential(**FAILED)), DEFAULT, None),
}


@pytest.mark.parametrize("case", NEXT)
def test_next_attempt(case: str) -> None:
    present, policy, at = NEXT[case]
    assert next_attempt_at(present, NOW, policy) == at


@pytest.mark.parametrize("case", STATES)
def test_refresh_state(case: str) -> None:
    present, word = STATES[case]
    assert refresh_state(present, NOW, DEFAULT) == word


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({}, None),
        ({"last_error": "http_503"}, None),
        ({"failures": 1}, None),
        (FAILED, "issuer_unavailable"),
        ({**FAILED, "last_error": "http_503"}, "issuer_unavailable"),
        ({**FAILED, "last_error": REFUSED}, "issuer_refused"),
        ({"failures": 1, "expires_at": NOW + 60}, "issuer_unavailable"),
        ({"failures": 1, "last_error": UNSAVED}, "store_unavailable"),
        ({"last_error": REFUSED, **UNCERTAIN}, "refresh_uncertain"),
        ({"state": "dead"}, "login_required"),
        ({"state": "dead", **UNCERTAIN}, "login_required"),
    ],
)
def test_trouble_as_a_caller_hears_it(changes: dict[str, Any], warning: str | None) -> None:
    assert trouble(credential(**changes), NOW, DEFAULT) == warning


@pytest.mark.parametrize(
    ("present", "valid"),
    [(credential(), True), (left(0.1), True), (left(0), False), (credential(access_token=None), False)],
)
def test_validity(present: Credential, valid: bool) -> None:
    assert is_valid(present, NOW) is valid
