"""Every credential that can come about by decisions and outcomes, and what the decisions cost over time.

The exploration starts from a login and follows every caller, every outcome, every death of an owner and every passage
of time until nothing new appears. `unknown` counts, beside the credential and not believing it, how many sends of the
present refresh token may have been acted upon without our knowing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.credential import (
    Attempt,
    Credential,
    claimed,
    given_back,
    left_uncertain,
    logged_in,
    logged_out,
    put_off,
    refused,
    rotated,
)
from service.domain.decide import Policy, Refresh, Use, Wait, Wish, decide, due_at
from service.domain.secret import Secret
from tests.domain.laws import LAWS
from tests.domain.values import ALICE, ATTEMPT, MALLORY, NOW, credential, examples, tokens

LIFE = 630.0
"""Ten steps of a minute and half a last one, which is the last chance."""
CHECKED_WISHES = (Wish(), Wish(min_ttl=0), Wish(min_ttl=1e9), Wish(newer_than=1), Wish(ahead=True))
STRICT, FORGIVING = Policy(), Policy(retry_within=60)


@dataclass(frozen=True)
class World:
    """A credential at NOW. `unknown`: sends of its refresh token with an unknown outcome."""

    credential: Credential
    unknown: int = 0


def beginning() -> World:
    whole = tokens(lifetime=LIFE)
    return World(logged_in(whole, account="default", provider="codex", login_id="login-1", now=NOW))


def later(world: World, seconds: float) -> World:
    """The same, seconds later: everything else moves into the past."""
    one = world.credential
    moved: dict[str, Any] = {
        name: None if getattr(one, name) is None else getattr(one, name) - seconds
        for name in ("obtained_at", "expires_at", "uncertain_since", "next_attempt_at", "last_success_at")
    }
    return replace(world, credential=replace(one, **moved))


def outcomes(world: World) -> Iterator[World]:
    """Whatever can become of the attempt that is in the row."""
    claim, unknown = world.credential, world.unknown
    for answer in (
        tokens(lifetime=LIFE),
        tokens(lifetime=LIFE, refresh_token=None),
        tokens(access_token=None),
        tokens(fault="unsupported_token_type"),
        tokens(identity=MALLORY),
    ):
        yield World(rotated(claim, answer, sent_at=NOW, now=NOW, wait=60))
    yield World(refused(claim, "refresh_token_reused"), unknown)
    yield World(put_off(claim, "http_503", until=NOW + 40), unknown)
    yield World(put_off(claim, "issuer_refused: invalid_client", until=NOW + 60), unknown)
    yield World(given_back(claim), unknown)
    yield World(left_uncertain(claim, "timeout", now=NOW, until=NOW + 10), unknown + 1)


def steps(world: World, policy: Policy) -> Iterator[World]:
    """Everything that may happen next."""
    one = world.credential
    yield from (later(world, seconds) for seconds in (60.0, 300.0))
    yield World(logged_out(one))
    if one.attempt is not None:
        yield from outcomes(world)
        return
    asked = (
        decide(one, replace(wish, newer_than=wish.newer_than and one.generation), NOW, policy)
        for wish in CHECKED_WISHES
    )
    if Refresh() in asked:
        yield World(claimed(one, ATTEMPT), world.unknown)


def since(instant: float | None, ago: float) -> float | None:
    """An instant, but not longer ago than that."""
    return None if instant is None else max(instant, NOW - ago)


def shape(world: World) -> World:
    """What matters of a world: how many rotations ago it began does not, nor how long past the past is."""
    one = world.credential
    waiting = one.next_attempt_at is not None and one.next_attempt_at > NOW
    return replace(
        world,
        credential=replace(
            one,
            generation=1,
            obtained_at=NOW,
            expires_at=max(one.expires_at, NOW - 1),
            failures=min(one.failures, 1),
            uncertain_since=since(one.uncertain_since, 61),
            last_success_at=since(one.last_success_at, 6),
            next_attempt_at=one.next_attempt_at if waiting else None,
        ),
    )


def reachable(policy: Policy) -> Iterator[tuple[World, World]]:
    """Every pair of a world and what may come next, from a login on."""
    seen, frontier = {shape(beginning())}, [beginning()]
    while frontier:
        before = frontier.pop()
        for after in steps(before, policy):
            yield before, after
            if shape(after) not in seen:
                seen.add(shape(after))
                frontier.append(shape(after))


@pytest.fixture(scope="module", params=[STRICT, FORGIVING], ids=["strict issuer", "forgiving issuer"])
def explored(request: pytest.FixtureRequest) -> tuple[Policy, list[tuple[World, World]]]:
    return request.param, list(reachable(request.param))


Explored = tuple[Policy, list[tuple[World, World]]]


def test_the_exploration_sees_everything(explored: Explored) -> None:
    _, pairs = explored
    worlds = [after.credential for _, after in pairs]
    assert {one.state for one in worlds} == {"active", "dead", "logged_out"}
    assert {one.sends for one in worlds} == {0, 1, 2}
    assert {one.reason for one in worlds} == {
        *(None, "logged_out", "account_mismatch", "refresh_token_reused", "outcome_unknown"),
    }


def test_a_refresh_token_is_sent_at_most_twice(explored: Explored) -> None:
    for _, after in explored[1]:
        assert after.credential.sends <= 2
        assert after.unknown <= 2


def test_the_row_counts_every_send_that_may_have_been_acted_upon(explored: Explored) -> None:
    for _, after in explored[1]:
        if after.credential.state == "active":
            assert after.credential.sends == after.unknown + (after.credential.attempt is not None)


def test_a_second_unknown_outcome_is_the_last(explored: Explored) -> None:
    for _, after in explored[1]:
        if after.unknown == 2:
            assert after.credential.state != "active"


def test_a_generation_never_goes_back(explored: Explored) -> None:
    for before, after in explored[1]:
        assert after.credential.generation in (before.credential.generation, before.credential.generation + 1)


def test_the_dead_stay_dead(explored: Explored) -> None:
    for before, after in explored[1]:
        if before.credential.state == "dead":
            assert after.credential.state in ("dead", "logged_out")


def test_no_refresh_token_is_lost_but_by_logout(explored: Explored) -> None:
    for _, after in explored[1]:
        if after.credential.state != "logged_out":
            assert after.credential.refresh_token is not None
            assert after.credential.access_token is not None


def test_nobody_elses_identity_is_taken_on(explored: Explored) -> None:
    for _, after in explored[1]:
        if after.credential.state != "logged_out":
            assert after.credential.identity == ALICE


def test_the_dead_know_why(explored: Explored) -> None:
    for _, after in explored[1]:
        assert (after.credential.reason is None) is (after.credential.state == "active")


def test_every_law_holds_wherever_one_can_get(explored: Explored) -> None:
    policy, pairs = explored
    for after in {shape(after) for _, after in pairs}:
        for wish in (Wish(), Wish(newer_than=1), Wish(ahead=True)):
            for law in LAWS:
                law(after.credential, wish, NOW, policy)


# -- what it costs over time -------------------------------------------------------------------------------------


@dataclass
class Clockwork:
    """A login that is asked for again and again, and the instants at which its refresh token was sent."""

    policy: Policy
    present: Credential
    now: float = NOW
    step: float = 1.0
    trace: tuple[float, ...] = ()

    def run(self, wish: Wish, lifetime: float, seconds: int) -> None:
        """Callers with this wish, and the background, at an issuer whose tokens live that long."""
        end = self.now + seconds
        while self.now < end:
            due = due_at(self.present, self.now, self.policy)
            if due is not None and due <= self.now:
                self.ask(Wish(ahead=True), lifetime)
            self.ask(replace(wish, newer_than=wish.newer_than and self.present.generation), lifetime)
            self.now += self.step

    def ask(self, wish: Wish, lifetime: float) -> None:
        if not isinstance(decide(self.present, wish, self.now, self.policy), Refresh):
            return
        self.trace += (self.now,)
        answer = tokens(lifetime=lifetime, refresh_token=Secret(f"refresh-{len(self.trace)}"))
        claim = claimed(self.present, Attempt("a", "o", self.now))
        self.present = rotated(claim, answer, sent_at=self.now, now=self.now, wait=60)

    def gaps(self) -> list[float]:
        """Seconds between two sends."""
        return [after - before for before, after in pairwise(self.trace)]


@settings(examples, max_examples=25)
@given(
    st.sampled_from([Wish(), Wish(min_ttl=0), Wish(min_ttl=1e9), Wish(newer_than=1)]),
    st.sampled_from([10.0, 30.0, 60.0, 300.0, 3600.0, 864_000.0]),
    st.sampled_from([5.0, 20.0]),
    st.none() | st.sampled_from([1.0, 60.0, 1e6]),
)
def test_ten_minutes_of_callers_never_burn_refresh_tokens(
    wish: Wish, lifetime: float, floor: float, wanted: float | None
) -> None:
    clockwork = Clockwork(Policy(margin=wanted, floor=floor), credential(lifetime=lifetime, expires_at=NOW + lifetime))
    clockwork.run(wish, lifetime, 600)
    assert all(gap >= min(floor, lifetime / 2) for gap in clockwork.gaps())


@pytest.mark.parametrize("min_ttl", [0, 30, 300])
def test_without_trouble_a_token_is_refreshed_once_in_its_life(min_ttl: float) -> None:
    clockwork = Clockwork(Policy(), credential(), step=10)
    clockwork.run(Wish(min_ttl=min_ttl), 3600.0, 10 * 3600)
    assert set(clockwork.gaps()) == {3600.0 - 360}


@pytest.mark.parametrize("min_ttl", [3600, 1e9])
def test_whoever_asks_for_all_the_issuer_gives_refreshes_once_in_a_tenth_of_a_life(min_ttl: float) -> None:
    clockwork = Clockwork(Policy(), credential(), step=10)
    clockwork.run(Wish(min_ttl=min_ttl), 3600.0, 3600)
    assert set(clockwork.gaps()) == {360.0 + 10}


def test_a_caller_whose_token_is_always_rejected_refreshes_once_per_floor() -> None:
    clockwork = Clockwork(Policy(floor=20), credential())
    clockwork.run(Wish(newer_than=1), 3600.0, 600)
    assert set(clockwork.gaps()) == {20.0}


def test_a_clock_set_back_neither_locks_out_nor_runs_wild() -> None:
    clockwork = Clockwork(Policy(), credential(last_success_at=NOW))
    clockwork.now -= 3600
    clockwork.run(Wish(newer_than=1), 3600.0, 600)
    assert clockwork.trace[0] == NOW - 3600
    assert min(clockwork.gaps()) >= 5


def test_a_clock_set_back_after_a_failure_locks_nobody_out() -> None:
    clockwork = Clockwork(Policy(), put_off(credential(attempt=ATTEMPT), "http_503", until=NOW + 1))
    clockwork.now -= 10 * 365 * 86400
    clockwork.run(Wish(newer_than=1), 3600.0, 60)
    assert clockwork.trace[0] == clockwork.now - 60


def test_a_clock_set_ahead_costs_one_refresh() -> None:
    clockwork = Clockwork(Policy(), credential())
    clockwork.now += 10 * 365 * 86400
    clockwork.run(Wish(), 3600.0, 600)
    assert len(clockwork.trace) == 1


def test_whoever_waits_for_an_attempt_is_served_when_it_ends() -> None:
    claim = claimed(credential(expires_at=NOW), ATTEMPT)
    assert decide(claim, Wish(), NOW, Policy()) == Wait()
    after = rotated(claim, tokens(), sent_at=NOW, now=NOW, wait=60)
    assert decide(after, Wish(newer_than=claim.generation), NOW, Policy()) == Use()
