"""What the simulation has found, each made to happen by itself."""

import asyncio
from random import Random

from service.domain.credential import Attempt, Credential, Tokens, claimed, left_uncertain, logged_in
from service.domain.decide import Policy, Refresh, Wait, Wish, decide
from service.domain.secret import Secret
from service.oauth import requests
from service.oauth.provider import Provider
from service.oauth.wire import Answer, Outcome
from tests.simulation.issuer import FakeIssuer, Network, Wire
from tests.simulation.loop import Loop
from tests.simulation.plan import CallFate

NOW = 1_800_000_000.0
PROVIDER = Provider("codex", "https://issuer.test", "client", "")
ATTEMPT = Attempt("attempt", "owner", NOW + 100)


def credential() -> Credential:
    """A login whose access token lives for two minutes."""
    tokens = Tokens(Secret("at1"), Secret("rt1"), lifetime=120.0)
    return logged_in(tokens, account="default", provider="codex", login_id="login", now=NOW)


class Stopped:
    """A process that is stopped for a minute, longer than a call may take, just before its first byte."""

    name = "p1"
    is_dead = False

    def __init__(self, seed: int) -> None:
        self.loop = Loop(Random(seed))
        self.lane = self.loop.lane(self.name)

    async def moment(self, what: str) -> None:
        if what == "before the first byte":
            self.loop.stop_lane(self.lane)
            self.loop.call_later(60, self.loop.resume_lane, self.lane, context=self.loop.context_of(self.loop.world))
            await asyncio.sleep(0)

    def call_fate(self) -> CallFate:
        return CallFate(connect=0.1, arrive=0.1, answer=1.0)

    def unclear(self, token: str) -> None:
        raise AssertionError("it is clear what becomes of it")

    def broke(self, law: str, what: str) -> None:
        raise AssertionError(what)

    def trace(self, what: str) -> None:
        """Nobody reads it."""

    def refresh(self) -> Outcome:
        """What becomes of a refresh."""
        issuer = FakeIssuer(lifetime=120, window=None)
        _, token = issuer.log_in()
        wire = Wire(Network(issuer, self.loop), self, timeout=30)
        task = self.loop.spawn(self.lane, wire.send(requests.refresh(PROVIDER, Secret(token))))
        self.loop.run_until_complete(asyncio.wait({task}))
        self.loop.end()
        outcome: Outcome = task.result()
        return outcome


def test_what_a_stopped_process_sends_on_waking_gets_time_for_its_answer() -> None:
    assert [type(Stopped(seed).refresh()) for seed in range(6)] == [Answer] * 6


def test_a_clock_that_was_set_back_does_not_put_off_the_retry_of_an_uncertain_login() -> None:
    uncertain = left_uncertain(claimed(credential(), ATTEMPT), "lost", now=NOW + 100, until=NOW + 110)
    assert decide(uncertain, Wish(ahead=True), NOW - 86400, Policy()) == Refresh()


def test_a_clock_that_was_set_back_does_not_put_off_the_look_after_an_owner() -> None:
    in_flight = claimed(credential(), ATTEMPT)
    assert decide(in_flight, Wish(ahead=True), NOW - 86400, Policy()) == Wait()
