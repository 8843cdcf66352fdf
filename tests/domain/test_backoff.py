"""Backoff is bounded, grows, is never in step, and obeys the issuer up to a cap."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.backoff import CAP, CONFIGURATION, FIRST, LONGEST, RETRY_AFTER_CAP, backoff
from tests.domain.values import examples

failures = st.integers(0, 10_000)
jitters = st.floats(0, 1)
demands = st.floats(-1e12, 1e12) | st.sampled_from([0.0, 1e9, math.inf, -math.inf, math.nan])


@examples
@given(failures, jitters, demands)
def test_pause_is_never_negative_and_bounded(count: int, jitter: float, at_least: float) -> None:
    assert FIRST / 2 <= backoff(count, jitter, at_least=at_least) <= LONGEST


@examples
@given(failures, jitters)
def test_pause_after_failures_alone_is_at_most_the_cap(count: int, jitter: float) -> None:
    assert backoff(count, jitter) <= CAP


@examples
@given(failures, jitters, st.floats(0, 1e9))
def test_pause_never_shrinks_with_another_failure(count: int, jitter: float, at_least: float) -> None:
    assert backoff(count + 1, jitter, at_least=at_least) >= backoff(count, jitter, at_least=at_least)


@examples
@given(failures, jitters, jitters, st.floats(0, 1e9))
def test_pause_never_shrinks_with_more_jitter(count: int, one: float, other: float, at_least: float) -> None:
    less, more = sorted((one, other))
    assert backoff(count, less, at_least=at_least) <= backoff(count, more, at_least=at_least)


@pytest.mark.parametrize("count", range(9))
def test_pause_doubles(count: int) -> None:
    assert backoff(count, 1.0) == min(FIRST * 2**count, CAP)


@pytest.mark.parametrize("count", range(12))
def test_jitter_takes_off_up_to_half(count: int) -> None:
    whole = backoff(count, 1.0)
    assert backoff(count, 0.0) == whole / 2
    assert backoff(count, 0.5) == whole * 0.75


def test_pause_reaches_the_cap_and_stays() -> None:
    assert [backoff(count, 1.0) for count in (8, 9, 16, 17, 10**9)] == [256.0, CAP, CAP, CAP, CAP]


@examples
@given(failures, jitters, st.floats(0, RETRY_AFTER_CAP))
def test_retry_after_is_obeyed(count: int, jitter: float, at_least: float) -> None:
    assert backoff(count, jitter, at_least=at_least) >= at_least


@pytest.mark.parametrize("at_least", [RETRY_AFTER_CAP, RETRY_AFTER_CAP + 1, 1e9, math.inf])
def test_retry_after_is_obeyed_up_to_the_cap(at_least: float) -> None:
    assert backoff(0, 0.0, at_least=at_least) == RETRY_AFTER_CAP


def test_no_pause_of_ours_is_longer_than_the_longest() -> None:
    assert backoff(10**9, 1.0, at_least=math.inf) == LONGEST


def test_callers_sent_away_together_do_not_come_back_together() -> None:
    assert backoff(0, 0.0, at_least=100) == 100
    assert backoff(0, 1.0, at_least=100) == pytest.approx(110)


@pytest.mark.parametrize("at_least", [-1.0, -1e9, -math.inf, math.nan])
def test_nonsense_demands_change_nothing(at_least: float) -> None:
    assert backoff(3, 0.25, at_least=at_least) == backoff(3, 0.25)


def test_a_refused_configuration_is_left_alone_for_a_minute() -> None:
    assert CONFIGURATION <= backoff(0, 0.0, at_least=CONFIGURATION) < CAP
