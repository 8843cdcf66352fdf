"""SIGKILL at every step of a refresh: what may be lost then, and what may not (table D.4 of docs/refresh.md).

A process that is killed where it has just stopped itself has done nothing since.
"""

import asyncio
import time

import pytest

from service.domain.errors import IssuerUnavailable, LoginRequired
from tests.crash.conftest import Begin
from tests.crash.failpoint import POINTS
from tests.crash.scene import ISSUER_TIMEOUT, MUCH_LATER, Scene, ask, refresh_of, turn, until

pytestmark = pytest.mark.long

NEVER_CLAIMED = ("before_claim",)
UNSENT = ("after_claim", "after_reload", "before_send", "headers_sent")
SPENT = ("request_sent", "answer_begun", "answer_read", "before_commit")
STORED = ("after_commit", "before_reply")


async def _killed(scene: Scene, point: str) -> None:
    """A service that died at this point of its first refresh; what it had sent, the issuer has acted upon."""
    owner = scene.service("tests.crash.failpoint", point, "stop")
    caller = ask(owner)
    await asyncio.to_thread(owner.stopped)
    await until(lambda: point not in SPENT or scene.family["generation"] == 2)
    owner.kill()
    assert await caller is None
    assert scene.is_sound


def test_every_point_is_of_one_kind() -> None:
    assert (*NEVER_CLAIMED, *UNSENT, *SPENT, *STORED) == POINTS


@pytest.mark.parametrize("point", NEVER_CLAIMED)
async def test_killed_before_the_claim_the_next_process_just_refreshes(begin: Begin, point: str) -> None:
    scene = await begin()
    await _killed(scene, point)
    assert (await scene.row()).attempt is None
    assert (await scene.token()).generation == 2
    assert len(scene.sent()) == 1
    assert await scene.is_alive()


@pytest.mark.parametrize("point", UNSENT)
async def test_killed_before_the_request_was_whole_the_login_is_saved_by_the_late_retry(
    begin: Begin, point: str
) -> None:
    """Nobody can see that it was never sent: so the token is served on, and sent once more when nothing is to lose."""
    scene = await begin()
    await _killed(scene, point)
    assert (await scene.row()).sends == 1
    meanwhile = await scene.token()
    assert (meanwhile.generation, meanwhile.warning) == (1, "refresh_uncertain")
    assert scene.sent() == []
    assert (await scene.token(ahead=MUCH_LATER)).generation == 2
    assert len(scene.sent()) == 1
    assert await scene.is_alive()


@pytest.mark.parametrize("point", SPENT)
async def test_killed_between_sending_and_storing_nothing_is_sent_until_the_one_late_retry(
    begin: Begin, point: str
) -> None:
    """The excused loss: the issuer never answers a spent token again, and the only answer died with the process."""
    scene = await begin()
    await _killed(scene, point)
    meanwhile = await scene.token()
    assert (meanwhile.generation, meanwhile.warning) == (1, "refresh_uncertain")
    assert len(scene.sent()) == 1
    async with scene.successor(ahead=MUCH_LATER) as heir:
        for _ in range(2):
            with pytest.raises(LoginRequired) as refusal:
                await heir.token()
            assert refusal.value.reason == "outcome_unknown"
        assert (await heir.row()).refresh_token is not None
    assert len(scene.sent()) == 2


@pytest.mark.parametrize("point", SPENT)
async def test_killed_between_sending_and_storing_a_retry_safe_issuer_loses_nothing(begin: Begin, point: str) -> None:
    scene = await begin()
    await _killed(scene, point)
    turn(scene.issuer, retry_window=3600)
    try:
        async with scene.successor(retry_within=600) as heir:
            assert (await heir.token()).warning == "refresh_uncertain"
            heir.ahead = 60
            assert (await heir.token()).generation == 2
    finally:
        turn(scene.issuer, retry_window=0)
    assert len(scene.sent()) == 2
    assert await scene.is_alive()


@pytest.mark.parametrize("point", STORED)
async def test_killed_after_the_commit_the_next_process_serves_the_new_token(begin: Begin, point: str) -> None:
    scene = await begin()
    await _killed(scene, point)
    served = await scene.token()
    assert (served.generation, served.warning) == (2, None)
    assert len(scene.sent()) == 1
    assert await scene.is_alive()


@pytest.mark.parametrize("point", ["after_claim", "request_sent"])
async def test_nothing_is_sent_again_before_the_bytes_of_the_dead_are_gone_from_the_kernel(
    begin: Begin, point: str
) -> None:
    """Ten seconds after the time that the dead process had for its call, although the access token has ended."""
    scene = await begin(access_lifetime=1)
    await _killed(scene, point)
    before = scene.sent()
    async with scene.successor() as heir:
        claimed = (await heir.row()).attempt
        assert claimed is not None
        over = claimed.started_at + ISSUER_TIMEOUT + 10
        for moment in (time.time(), over - 1):
            heir.ahead = moment - time.time()
            with pytest.raises(IssuerUnavailable):
                await heir.token()
        assert scene.sent() == before
        noted = (await heir.row()).next_attempt_at
    assert noted is not None
    assert noted >= over


@pytest.mark.parametrize("point", ["after_claim", "after_commit"])
async def test_a_service_that_is_started_again_finds_out_unasked(begin: Begin, point: str) -> None:
    scene = await begin()
    await _killed(scene, point)
    again = scene.service()
    expected = ("uncertain", 1) if point == "after_claim" else ("idle", 2)
    await until(lambda: refresh_of(again)["state"] != "in_flight")
    assert (refresh_of(again)["state"], refresh_of(again)["generation"]) == expected
    assert again.client.get("/token").json()["generation"] == expected[1]
    assert len(scene.sent()) == expected[1] - 1
