"""What holds for every credential, wish, instant and policy. Each law asserts; LAWS has them all."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final, get_args

from service.domain.backoff import LONGEST
from service.domain.credential import Credential
from service.domain.decide import (
    CLOCK_SLACK,
    LOOK_AGAIN,
    LoginNeeded,
    Policy,
    Refresh,
    Rest,
    Unavailable,
    Unreadable,
    Use,
    Wait,
    Warning_,
    Wish,
    decide,
    due_at,
    is_valid,
    last_chance,
    margin,
    refresh_state,
)

Law = Callable[[Credential, Wish, float, Policy], None]


def an_expired_token_is_never_used(credential: Credential, wish: Wish, now: float, policy: Policy) -> None:
    if now >= credential.expires_at:
        assert not isinstance(decide(credential, wish, now, policy), Use)


def an_absent_token_is_never_used(credential: Credential, wish: Wish, now: float, policy: Policy) -> None:
    if credential.access_token is None:
        assert not isinstance(decide(credential, wish, now, policy), Use)


def a_rejected_token_is_never_used_without_a_warning(
    credential: Credential, wish: Wish, now: float, policy: Policy
) -> None:
    rejecting = replace(wish, newer_than=credential.generation, ahead=False)
    assert decide(credential, rejecting, now, policy) != Use()


def a_token_used_without_a_warning_is_what_was_asked_for(
    credential: Credential, wish: Wish, now: float, policy: Policy
) -> None:
    if not wish.ahead and decide(credential, wish, now, policy) == Use():
        can_be_met = credential.lifetime is None or wish.min_ttl < credential.lifetime
        given = wish.min_ttl if can_be_met else (credential.lifetime or 0) * 0.9
        assert credential.expires_at - now >= given
        assert wish.newer_than != credential.generation


def a_token_from_a_login_in_trouble_is_never_used_without_a_warning(
    credential: Credential, wish: Wish, now: float, policy: Policy
) -> None:
    paused = credential.next_attempt_at is not None and now < credential.next_attempt_at <= now + LONGEST
    recently = bool(credential.failures) and paused
    if credential.state == "dead" or credential.uncertain_since is not None or recently:
        assert decide(credential, wish, now, policy) != Use()


def a_warning_is_from_the_list(credential: Credential, wish: Wish, now: float, policy: Policy) -> None:
    decision = decide(credential, wish, now, policy)
    if isinstance(decision, Use):
        assert decision.warning in (None, *get_args(Warning_))


def the_same_question_has_the_same_answer(credential: Credential, wish: Wish, now: float, policy: Policy) -> None:
    again = decide(replace(credential), replace(wish), now, replace(policy))
    assert decide(credential, wish, now, policy) == again


def only_an_active_login_is_refreshed(credential: Credential, wish: Wish, now: float, policy: Policy) -> None:
    if credential.state != "active":
        assert not isinstance(decide(credential, wish, now, policy), Refresh | Wait)


def what_does_not_open_is_left_alone(credential: Credential, wish: Wish, now: float, policy: Policy) -> None:
    unreadable = isinstance(decide(credential, wish, now, policy), Unreadable)
    assert unreadable is (credential.state == "unreadable")


def nothing_is_sent_beside_a_live_attempt(credential: Credential, wish: Wish, now: float, policy: Policy) -> None:
    if credential.attempt is not None:
        assert not isinstance(decide(credential, wish, now, policy), Refresh)
    else:
        assert not isinstance(decide(credential, wish, now, policy), Wait)


def is_paused(credential: Credential, now: float) -> bool:
    """Whether the issuer is to be left alone."""
    return credential.next_attempt_at is not None and 0 < credential.next_attempt_at - now <= LONGEST


def nothing_is_sent_during_a_pause(credential: Credential, wish: Wish, now: float, policy: Policy) -> None:
    if is_paused(credential, now):
        assert not isinstance(decide(credential, wish, now, policy), Refresh)


def a_pause_longer_than_any_of_ours_locks_nobody_out(
    credential: Credential, wish: Wish, now: float, policy: Policy
) -> None:
    set_back = replace(credential, attempt=None, sends=0, uncertain_since=None, next_attempt_at=now + LONGEST + 1)
    if credential.state == "active" and not is_within_floor(credential, now, policy):
        assert decide(set_back, Wish(newer_than=credential.generation), now, policy) == Refresh()


def is_within_floor(credential: Credential, now: float, policy: Policy) -> bool:
    """Whether the last refresh was just now."""
    last = credential.last_success_at
    return last is not None and 0 <= now - last < policy.floor


def nothing_is_sent_a_third_time(credential: Credential, wish: Wish, now: float, policy: Policy) -> None:
    if credential.sends >= 2:
        assert not isinstance(decide(credential, wish, now, policy), Refresh)


def an_uncertain_token_is_sent_again_only_when_it_is_safe_or_nothing_is_left(
    credential: Credential, wish: Wish, now: float, policy: Policy
) -> None:
    since = credential.uncertain_since
    if since is None or not isinstance(decide(credential, wish, now, policy), Refresh):
        return
    safe = policy.retry_within is not None and now - since <= policy.retry_within
    is_unknowable = now < credential.obtained_at - CLOCK_SLACK  # the clock was set back: how much is left?
    assert safe or is_unknowable or credential.expires_at - now <= last_chance(credential) + 1e-3


def a_valid_token_is_never_withheld(credential: Credential, wish: Wish, now: float, policy: Policy) -> None:
    if credential.state in ("active", "dead") and is_valid(credential, now):
        assert not isinstance(decide(credential, wish, now, policy), LoginNeeded | Unavailable)


def whoever_asks_for_any_token_gets_the_valid_one(
    credential: Credential, wish: Wish, now: float, policy: Policy
) -> None:
    if credential.state in ("active", "dead") and is_valid(credential, now):
        assert isinstance(decide(credential, Wish(min_ttl=0), now, policy), Use)


def a_wish_for_more_than_the_issuer_gives_does_not_refresh_a_new_token(
    credential: Credential, wish: Wish, now: float, policy: Policy
) -> None:
    if credential.lifetime is None or wish.ahead or wish.newer_than == credential.generation:
        return
    if wish.min_ttl < credential.lifetime:
        return
    if is_valid(credential, now) and credential.expires_at - now >= credential.lifetime * 0.9:
        assert not isinstance(decide(credential, wish, now, policy), Refresh)


def callers_refresh_a_valid_token_at_most_once_within_the_floor(
    credential: Credential, wish: Wish, now: float, policy: Policy
) -> None:
    if is_within_floor(credential, now, policy) and is_valid(credential, now) and not wish.ahead:
        assert not isinstance(decide(credential, wish, now, policy), Refresh)


def a_success_in_the_future_locks_nobody_out(credential: Credential, wish: Wish, now: float, policy: Policy) -> None:
    idle = replace(credential, attempt=None, sends=0, uncertain_since=None, next_attempt_at=None)
    set_back = replace(idle, last_success_at=now + 1e9)
    if credential.state == "active":
        assert decide(set_back, Wish(newer_than=credential.generation), now, policy) == Refresh()


def whoever_must_come_back_is_told_when(credential: Credential, wish: Wish, now: float, policy: Policy) -> None:
    decision = decide(credential, wish, now, policy)
    if isinstance(decision, Unavailable):
        assert decision.until == credential.next_attempt_at
        assert now < decision.until <= now + LONGEST


def nothing_is_due_during_a_pause(credential: Credential, wish: Wish, now: float, policy: Policy) -> None:
    due = due_at(credential, now, policy)
    if credential.attempt is None and is_paused(credential, now):
        assert due is None or due >= (credential.next_attempt_at or 0)


def what_is_not_due_is_left_at_rest(credential: Credential, wish: Wish, now: float, policy: Policy) -> None:
    due = due_at(credential, now, policy)
    rests = isinstance(decide(credential, Wish(ahead=True), now, policy), Rest)
    if credential.state in ("active", "dead"):
        assert rests is (due is None or now < due)


def only_the_background_is_told_to_rest(credential: Credential, wish: Wish, now: float, policy: Policy) -> None:
    assert wish.ahead or not isinstance(decide(credential, wish, now, policy), Rest)


def what_is_due_is_refreshed(credential: Credential, wish: Wish, now: float, policy: Policy) -> None:
    due = due_at(credential, now, policy)
    if due is None or now < due or credential.attempt is not None:
        return
    assert decide(credential, Wish(ahead=True), now, policy) == Refresh()


def a_token_from_the_future_is_due_now(credential: Credential, wish: Wish, now: float, policy: Policy) -> None:
    idle = credential.state == "active" and credential.attempt is None and credential.uncertain_since is None
    idle = idle and not is_paused(credential, now)
    if idle and credential.obtained_at > now + CLOCK_SLACK:
        assert due_at(credential, now, policy) == now


def only_an_active_login_is_ever_due(credential: Credential, wish: Wish, now: float, policy: Policy) -> None:
    due = due_at(credential, now, policy)
    assert (due is None) is (credential.state in ("dead", "logged_out"))


def what_does_not_open_is_looked_at_again_much_later(
    credential: Credential, wish: Wish, now: float, policy: Policy
) -> None:
    if credential.state == "unreadable":
        assert due_at(credential, now, policy) == now + LOOK_AGAIN


def an_attempt_is_looked_after_at_once(credential: Credential, wish: Wish, now: float, policy: Policy) -> None:
    if credential.attempt is not None:
        assert due_at(credential, now, policy) == min(now, credential.attempt.started_at)


def a_margin_is_positive_and_at_most_half_of_a_life(
    credential: Credential, wish: Wish, now: float, policy: Policy
) -> None:
    assert margin(credential, policy) > 0
    left_at_import = max(credential.expires_at - credential.obtained_at, 1)
    assert margin(credential, policy) <= (credential.lifetime or left_at_import) / 2


def the_last_chance_is_within_the_last_minute(credential: Credential, wish: Wish, now: float, policy: Policy) -> None:
    assert 0 < last_chance(credential) <= min(60, (credential.lifetime or 300) / 20)


def the_word_for_status_agrees_with_the_decision(
    credential: Credential, wish: Wish, now: float, policy: Policy
) -> None:
    word, decision = refresh_state(credential, now, policy), decide(credential, wish, now, policy)
    if isinstance(decision, Refresh):
        assert word in ("idle", "due", "uncertain")
    if isinstance(decision, Wait):
        assert word == "in_flight"
    if isinstance(decision, LoginNeeded):
        assert word in ("idle", "dead")
    if isinstance(decision, Unavailable):
        assert word in ("backing_off", "uncertain")


LAWS: Final[tuple[Law, ...]] = (
    an_expired_token_is_never_used,
    an_absent_token_is_never_used,
    a_rejected_token_is_never_used_without_a_warning,
    a_token_used_without_a_warning_is_what_was_asked_for,
    a_token_from_a_login_in_trouble_is_never_used_without_a_warning,
    a_warning_is_from_the_list,
    the_same_question_has_the_same_answer,
    only_an_active_login_is_refreshed,
    what_does_not_open_is_left_alone,
    nothing_is_sent_beside_a_live_attempt,
    nothing_is_sent_during_a_pause,
    a_pause_longer_than_any_of_ours_locks_nobody_out,
    nothing_is_sent_a_third_time,
    an_uncertain_token_is_sent_again_only_when_it_is_safe_or_nothing_is_left,
    a_valid_token_is_never_withheld,
    whoever_asks_for_any_token_gets_the_valid_one,
    a_wish_for_more_than_the_issuer_gives_does_not_refresh_a_new_token,
    callers_refresh_a_valid_token_at_most_once_within_the_floor,
    a_success_in_the_future_locks_nobody_out,
    whoever_must_come_back_is_told_when,
    nothing_is_due_during_a_pause,
    what_is_not_due_is_left_at_rest,
    only_the_background_is_told_to_rest,
    what_is_due_is_refreshed,
    a_token_from_the_future_is_due_now,
    only_an_active_login_is_ever_due,
    what_does_not_open_is_looked_at_again_much_later,
    an_attempt_is_looked_after_at_once,
    a_margin_is_positive_and_at_most_half_of_a_life,
    the_last_chance_is_within_the_last_minute,
    the_word_for_status_agrees_with_the_decision,
)
