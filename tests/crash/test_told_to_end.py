"""SIGTERM, SIGINT twice, and a caller who leaves, at every step of a refresh: it is finished and stored.

The refresh waits at the step, the rest of the service goes on: so signals are dealt with there, and not only later.
"""

import asyncio
import contextlib
import signal
import socket
import subprocess

import httpx
import pytest

from tests.crash.conftest import Begin
from tests.crash.failpoint import POINTS
from tests.crash.scene import Scene, ask, until
from tests.kit.processes import Process

pytestmark = pytest.mark.long

GO_ON = signal.SIGUSR1


async def _held(scene: Scene, point: str) -> tuple[Process, "asyncio.Task[dict[str, object] | None]"]:
    owner = scene.service("tests.crash.failpoint", point, "hold")
    caller = ask(owner)
    await asyncio.to_thread(owner.said, rf"held ({point})")
    return owner, caller


async def _closed(service: Process) -> None:
    """Until it listens no more: it has begun to end."""
    address = ("127.0.0.1", httpx.URL(service.url).port or 0)

    def is_refused() -> bool:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(address, timeout=5):
            return False
        return True

    await until(is_refused)


async def _is_stored_once(scene: Scene) -> None:
    row = await scene.row()
    assert (row.generation, row.attempt, row.uncertain_since) == (2, None, None)
    assert len(scene.sent()) == 1
    assert await scene.is_alive()
    assert scene.is_sound


async def _told_to_end(owner: Process) -> None:
    """By somebody in a hurry: the second and third signal must cut nothing off."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGINT):
        owner.signal(number)
        await _closed(owner)
    with pytest.raises(subprocess.TimeoutExpired):
        await asyncio.to_thread(owner.ended, 1)
    owner.signal(GO_ON)
    assert await asyncio.to_thread(owner.ended) == 0


@pytest.mark.parametrize("point", POINTS[:-1])
async def test_told_to_end_it_stores_what_it_has_begun_unasked(begin: Begin, point: str) -> None:
    """Nobody waits for it: so the server has no request to finish before it ends."""
    scene = await begin(access_lifetime=2)  # due within a second, and so refreshed unasked
    owner = scene.service("tests.crash.failpoint", point, "hold")
    await asyncio.to_thread(owner.said, rf"held ({point})")
    await _told_to_end(owner)
    await _is_stored_once(scene)


@pytest.mark.parametrize("point", ["request_sent", "before_commit"])
async def test_told_to_end_it_answers_who_waits(begin: Begin, point: str) -> None:
    scene = await begin()
    owner, caller = await _held(scene, point)
    await _told_to_end(owner)
    answer = await caller
    assert answer is not None
    assert (answer["status"], answer["generation"]) == (200, 2)


async def test_a_caller_who_leaves_at_any_step_ends_nothing(begin: Begin) -> None:
    """One service; its n-th refresh is held at the n-th point."""
    scene = await begin()
    owner = scene.service("tests.crash.failpoint", ",".join(POINTS), "hold")
    for generation, point in enumerate(POINTS, 1):
        caller = ask(owner, newer_than=generation)
        await asyncio.to_thread(owner.said, rf"held ({point})")
        caller.cancel()
        await asyncio.wait({caller})
        owner.client.get("/healthz").raise_for_status()  # came after the end of his connection: that is known by now
        owner.signal(GO_ON)
        answer = await ask(owner, newer_than=generation)
        assert answer is not None
        assert (answer["generation"], answer.get("warning")) == (generation + 1, None), point
    assert scene.family["generation"] == len(POINTS) + 1
    assert len(scene.sent()) == 1
    assert await scene.is_alive()
