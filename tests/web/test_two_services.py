"""Two services on one folder are one: whoever asks whichever, the issuer is asked once."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kit import Clock, House
from tests.web.home import home, install, refreshes

pytestmark = pytest.mark.long


@asynccontextmanager
async def two(folder: Path) -> AsyncIterator[tuple[House, House]]:
    async with home(folder) as first, home(folder, sandbox=first.sandbox, clock=first.clock) as second:
        await install(first)
        yield first, second


async def test_a_storm_on_both_is_one_refresh(tmp_path: Path) -> None:
    async with two(tmp_path) as both:
        storm = (both[n % 2].token(newer_than=1) for n in range(50))
        bodies = await asyncio.gather(*storm)
        assert refreshes(both[0]) == 1
        assert {body["generation"] for body in bodies} == {2}
        assert len({body["access_token"] for body in bodies}) == 1


async def test_an_expired_token_on_both_is_one_refresh(tmp_path: Path) -> None:
    async with two(tmp_path) as both:
        for generation in range(2, 6):
            both[0].clock.advance(4000)
            bodies = await asyncio.gather(*(house.token() for house in both))
            assert [body["generation"] for body in bodies] == [generation, generation]
        assert refreshes(both[0]) == 4


async def test_the_background_of_both_is_one_refresh(tmp_path: Path) -> None:
    async with two(tmp_path) as both:
        both[0].clock.advance(3500)
        await asyncio.gather(*(house.app.background.round() for house in both))
        for house in both:
            await house.app.refresher.drain()
        assert refreshes(both[0]) == 1


async def test_both_tell_the_same(tmp_path: Path) -> None:
    async with two(tmp_path) as (first, second):
        await first.token(newer_than=1)
        assert await first.status() == await second.status()
        assert (await first.client.get("/accounts")).json() == (await second.client.get("/accounts")).json()


async def test_a_logout_at_one_during_a_refresh_at_the_other(tmp_path: Path) -> None:
    async with two(tmp_path) as (first, second):
        first.gate.hold_after.clear()
        asking = asyncio.create_task(first.token(newer_than=1))
        await first.gate.arrived.wait()
        assert (await second.client.post("/logout")).json()["revoked"] is True
        first.gate.hold_after.set()
        assert (await asking)["reason"] == "logged_out"
        await first.app.refresher.drain()
        assert first.sandbox.families[0].ended == "revoked"


async def test_a_service_that_slept_between_claim_and_sending_sends_nothing(tmp_path: Path) -> None:
    clock = Clock()
    ticks = itertools.count(0, 3)  # three seconds pass whenever somebody looks
    sleepy = replace(clock.seams(), boot=lambda: float(next(ticks)))
    async with home(tmp_path, clock=clock, seams=sleepy) as h:
        await install(h)
        body = await h.token(newer_than=1)
        assert (body["generation"], body["warning"]) == (1, "issuer_unavailable")
        assert refreshes(h) == 0
        assert (await h.status())["refresh"]["state"] == "idle"
