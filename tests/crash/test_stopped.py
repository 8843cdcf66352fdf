"""SIGSTOP at every step of a refresh, for longer than any limit: nobody else sends, and nothing that came back is lost.

How long: until another process has waited for the stopped one in vain, which takes it 7 seconds.
"""

import asyncio
import signal

import pytest

from tests.crash.conftest import Begin
from tests.crash.failpoint import POINTS
from tests.crash.scene import Scene, ask, issue
from tests.kit.processes import Process

pytestmark = pytest.mark.long

UNCLAIMED = "before_claim"
TOO_LATE = "headers_sent"
"""The time for sending is over when it wakes, and the token would be the next thing to go out."""
HOLDING = [point for point in POINTS[1:9] if point != TOO_LATE]
"""With an intent in the row, which nobody may take from a living owner."""
STORED = POINTS[9:]


async def _stopped(scene: Scene, point: str) -> tuple[Process, "asyncio.Task[dict[str, object] | None]"]:
    owner = scene.service("tests.crash.failpoint", point, "stop")
    caller = ask(owner)
    await asyncio.to_thread(owner.stopped)
    return owner, caller


async def _woken(scene: Scene, owner: Process) -> None:
    """It goes on, and whoever asks it then gets the second generation, which was paid for once."""
    owner.signal(signal.SIGCONT)
    answer = await ask(owner)
    assert answer is not None
    assert (answer["status"], answer["generation"], answer.get("warning")) == (200, 2, None)
    assert len(scene.sent()) == 1
    assert await scene.is_alive()
    assert scene.is_sound


@pytest.mark.parametrize("point", HOLDING)
async def test_a_stopped_owner_keeps_its_intent_and_what_comes_back_late_is_stored(begin: Begin, point: str) -> None:
    """A fencing of late writers would throw the only copy of the next refresh token away."""
    scene = await begin()
    owner, caller = await _stopped(scene, point)
    other = await scene.token()
    assert (other.generation, other.warning) == (1, "issuer_unavailable")
    assert (await scene.row()).attempt is not None
    assert len(scene.sent()) == (1 if POINTS.index(point) >= POINTS.index("request_sent") else 0)
    await _woken(scene, owner)
    answer = await caller
    assert answer is not None
    assert answer["status"] == 200


async def test_stopped_before_the_token_is_sent_it_sends_nothing_late_and_the_refresh_is_made_anew(
    begin: Begin,
) -> None:
    """Others may have given this attempt up: a token that still went out then might be the second of its kind."""
    scene = await begin()
    owner, caller = await _stopped(scene, TOO_LATE)
    assert (await scene.token()).generation == 1
    owner.signal(signal.SIGCONT)
    answer = await caller
    assert answer is not None
    assert (answer["status"], answer["generation"]) == (200, 1)
    assert scene.sent() == []
    while (await scene.token()).generation == 1:
        pass  # the pause after a failure is not over yet
    assert len(scene.sent()) == 1
    assert await scene.is_alive()
    assert scene.is_sound


async def test_stopped_before_the_claim_another_process_refreshes_and_the_late_one_adopts_it(begin: Begin) -> None:
    scene = await begin()
    owner, caller = await _stopped(scene, UNCLAIMED)
    assert (await scene.token()).generation == 2
    await _woken(scene, owner)
    answer = await caller
    assert answer is not None
    assert answer["generation"] == 2


@pytest.mark.parametrize("point", STORED)
async def test_stopped_after_the_commit_nobody_waits(begin: Begin, point: str) -> None:
    scene = await begin()
    owner, caller = await _stopped(scene, point)
    async with asyncio.timeout(5):
        assert (await scene.token()).generation == 2
    await _woken(scene, owner)
    answer = await caller
    assert answer is not None
    assert answer["generation"] == 2


@pytest.mark.parametrize("point", ["request_sent", "answer_read", "before_commit"])
async def test_a_login_made_while_the_owner_was_stopped_is_untouched_and_the_late_one_is_ended(
    begin: Begin, point: str
) -> None:
    scene = await begin()
    owner, caller = await _stopped(scene, point)
    new = issue(scene.issuer)
    async with scene.successor() as heir:
        await heir.install(new)
    owner.signal(signal.SIGCONT)
    answer = await caller
    assert answer is not None
    assert answer["access_token"] == new["access_token"]
    owner.signal(signal.SIGTERM)
    assert owner.ended() == 0
    row = await scene.row()
    assert (row.generation, row.attempt, row.state) == (2, None, "active")
    assert row.refresh_token is not None
    assert row.refresh_token.reveal() == new["refresh_token"]
    assert (scene.family["alive"], scene.family["ended"]) == (False, "revoked")
    assert len(scene.sent()) == 1
    assert (await scene.token()).access_token.reveal() == new["access_token"]


@pytest.mark.parametrize("point", ["after_claim", "request_sent", "before_commit"])
async def test_a_logout_while_the_owner_was_stopped_stays_one(begin: Begin, point: str) -> None:
    scene = await begin()
    owner, caller = await _stopped(scene, point)
    async with scene.successor() as heir:
        assert (await heir.broker.logout("default"))[0]
    owner.signal(signal.SIGCONT)
    answer = await caller
    assert answer is not None
    assert (answer["status"], answer["reason"]) == (409, "logged_out")
    owner.signal(signal.SIGTERM)
    assert owner.ended() == 0
    row = await scene.row()
    assert (row.state, row.refresh_token, row.attempt) == ("logged_out", None, None)
    assert not scene.family["alive"]
    assert len(scene.sent()) == (0 if point == "after_claim" else 1)
