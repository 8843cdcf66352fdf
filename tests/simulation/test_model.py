"""Three ways to share a refresh token can lose a login though nobody died and no answer was lost. Ours cannot."""

import pytest

from tests.simulation.model import Strategy, explore

BAD: tuple[Strategy, ...] = ("lease_blind", "lease_fence", "rowlock_tx")
FAULTS = [(0, 0), (1, 0), (0, 1), (1, 1)]
"""Processes killed, answers lost; processes may be delayed for ever in any case."""


@pytest.mark.parametrize("strategy", BAD)
def test_a_lock_that_runs_out_loses_a_login_by_delays_alone(strategy: Strategy) -> None:
    assert explore(strategy)["lost"] > 0


@pytest.mark.parametrize("strategy", ["lease_fence", "rowlock_tx"])
def test_fencing_the_late_writer_loses_a_login_even_where_a_retry_is_safe(strategy: Strategy) -> None:
    assert explore(strategy, lenient=True, crashes=1)["lost"] > 0


@pytest.mark.parametrize(("crashes", "losses"), FAULTS)
def test_the_chosen_way_never_loses_a_login_without_excuse(crashes: int, losses: int) -> None:
    ends = explore("intent_cas_takeover", crashes=crashes, losses=losses)
    assert ends["safe"] > 0
    assert ends["lost"] == 0
    assert (ends["excused"] > 0) == (crashes + losses > 0), "two generals: no client can help that"


@pytest.mark.parametrize(("crashes", "losses"), FAULTS)
def test_the_chosen_way_loses_nothing_where_a_retry_is_safe(crashes: int, losses: int) -> None:
    ends = explore("intent_cas_takeover", lenient=True, crashes=crashes, losses=losses)
    assert set(ends) == {"safe"}


def test_without_a_retry_a_login_is_lost_even_where_a_retry_is_safe() -> None:
    assert explore("intent_cas", lenient=True, losses=1)["excused"] > 0
