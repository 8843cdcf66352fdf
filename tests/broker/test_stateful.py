"""Any order of logins, waits, refreshes, faults, logouts and restarts: the invariants hold after every step."""

import asyncio
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import httpx
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from service.sandbox import Fault, Knobs, Sandbox, faults
from tests.kit import Clock, House, house
from tests.kit.house import ISSUER

T = TypeVar("T")

HARMLESS: list[Fault] = [
    faults.rate_limited(retry_after="3"),
    faults.server_error(status=503, retry_after="2"),
    faults.invalid_client(status=403),
    faults.html(status=403),
]
"""The issuer answers so without having looked at the refresh token."""

NOT_LOOKED_AT = {403, 429, 503}

UNCLEAR: list[Fault] = [faults.server_error(status=500), faults.html(status=200), faults.drop(), faults.lost_answer()]
"""Nobody can tell from these whether the refresh token was spent; for the last it was."""


class Life(RuleBasedStateMachine):
    """One account, one issuer that ends a login on reuse, and two services on one database."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="life"))
        self.clock = Clock()
        self.sandbox = Sandbox(issuer=ISSUER, knobs=Knobs(), now=lambda: self.clock.now)
        self.unclear = 0
        self.unclear_ahead = False
        self.excused = False
        self.stack = AsyncExitStack()
        self.services: list[House] = [self.run(self.start()) for _ in range(2)]
        self.newest = 0
        self.tokens: dict[int, str] = {}

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    async def start(self) -> House:
        return await self.stack.enter_async_context(
            house(self.folder, clock=self.clock, sandbox=self.sandbox, refresh_floor=0)
        )

    @rule(which=st.integers(0, 1))
    def log_in(self, which: int) -> None:
        assert self.run(self.services[which].log_in())["state"] == "complete"
        self.excused = self.unclear_ahead and self.sandbox.faults_left > 0

    @rule(which=st.integers(0, 1))
    def log_out(self, which: int) -> None:
        self.run(self.services[which].client.post("/logout"))

    @rule(seconds=st.sampled_from([1, 12, 70, 400, 3500, 4000]))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule(which=st.integers(0, 1))
    def background(self, which: int) -> None:
        self.run(self.services[which].app.background.round())
        self.run(self.services[which].app.refresher.drain())

    @rule(which=st.integers(0, 1), callers=st.integers(1, 5), reject=st.booleans())
    def ask(self, which: int, callers: int, reject: bool) -> None:
        query = {"newer_than": self.newest} if reject and self.newest else {}
        client = self.services[which].client
        answers = self.run(_all([client.get("/token", params=query) for _ in range(callers)]))
        for answer in answers:
            self.check_answer(answer)

    @rule(fault=st.sampled_from(HARMLESS))
    def harmless_fault(self, fault: Fault) -> None:
        self.sandbox.clear_faults()
        self.sandbox.fail_next(fault, grant_type="refresh_token")
        self.unclear_ahead = False

    @precondition(lambda self: self.unclear < 3)
    @rule(fault=st.sampled_from(UNCLEAR))
    def unclear_fault(self, fault: Fault) -> None:
        self.sandbox.clear_faults()
        self.sandbox.fail_next(fault, grant_type="refresh_token")
        self.unclear += 1
        self.unclear_ahead = self.excused = True

    @rule(which=st.integers(0, 1))
    def restart(self, which: int) -> None:
        self.run(self.services[which].app.close())
        self.services[which] = self.run(self.start())

    @rule()
    def session_ends_at_the_issuer(self) -> None:
        self.sandbox.end_session()
        self.excused = True

    def check_answer(self, answer: httpx.Response) -> None:
        body = answer.json()
        if answer.status_code != 200:
            assert body["code"] in {"login_required", "issuer_unavailable", "issuer_refused"}
            return
        assert body["expires_in"] >= 0
        assert body["generation"] >= self.newest, "generations went back"
        assert self.tokens.setdefault(body["generation"], body["access_token"]) == body["access_token"]
        self.newest = body["generation"]

    @invariant()
    def each_refresh_token_is_spent_once(self) -> None:
        """At most one send that may have been acted upon; one more only where an outcome was unclear."""
        sent = self.sandbox.token_requests("refresh_token")
        acted_upon = Counter(one.form["refresh_token"] for one in sent if one.status not in NOT_LOOKED_AT)
        assert max(acted_upon.values(), default=0) <= (2 if self.unclear else 1)
        assert self.unclear or self.sandbox.reuse_count == 0

    @invariant()
    def a_login_that_lives_at_the_issuer_is_held_here(self) -> None:
        credential = self.run(self.services[0].app.services.broker.standing("default")).credential
        alive = [family for family in self.sandbox.families if family.alive]
        if credential is None or credential.refresh_token is None or self.excused:
            return
        assert credential.state == "active"
        assert credential.refresh_token.reveal() in {family.refresh_token for family in alive}

    def teardown(self) -> None:
        async def end() -> None:
            for one in self.services:
                await one.client.aclose()
                await one.browser.aclose()
                await one.app.close()

        self.run(end())
        self.loop.close()
        shutil.rmtree(self.folder)


async def _all(work: list[Coroutine[Any, Any, httpx.Response]]) -> list[httpx.Response]:
    return list(await asyncio.gather(*work))


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=40 if os.environ.get("CI") else 5,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
