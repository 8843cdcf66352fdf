"""Memory runs out at every step of a refresh, and the service lives on: it knows what to make of its own intent."""

import asyncio

import pytest

from tests.crash.conftest import Begin
from tests.crash.failpoint import POINTS
from tests.crash.scene import MUCH_LATER, Scene, ask, until
from tests.kit.processes import Process

pytestmark = pytest.mark.long

HARMLESS = ("before_claim", "after_claim", "after_reload", "before_commit", "after_commit", "before_reply")
UNSENT = ("before_send", "headers_sent")
SPENT = ("request_sent", "answer_begun", "answer_read")


async def _failed(scene: Scene, point: str) -> tuple[Process, dict[str, object]]:
    """A service that has had the error, and what the next caller is told."""
    service = scene.service("tests.crash.failpoint", point, "fail")
    caller = ask(service)
    await asyncio.to_thread(service.said, rf"failed ({point})")
    assert await caller is not None
    answer = await ask(service)
    assert answer is not None
    return service, answer


def test_every_point_is_of_one_kind() -> None:
    assert {*HARMLESS, *UNSENT, *SPENT} == set(POINTS)


@pytest.mark.parametrize("point", HARMLESS)
async def test_where_nothing_was_sent_or_the_pair_is_in_memory_the_next_caller_gets_the_new_token(
    begin: Begin, point: str
) -> None:
    """After the commit that is the lost answer to it: it is found to have been stored, and is not stored again."""
    scene = await begin()
    _, answer = await _failed(scene, point)
    warnings = {None, "store_unavailable"} if point == "before_commit" else {None}  # served from memory, or a bit later
    assert (answer["status"], answer["generation"]) == (200, 2)
    assert answer.get("warning") in warnings
    assert len(scene.sent()) == 1
    assert await scene.is_alive()


@pytest.mark.parametrize("point", [*UNSENT, *SPENT])
async def test_where_it_was_sending_the_outcome_counts_as_unknown_and_is_not_tried_again_soon(
    begin: Begin, point: str
) -> None:
    scene = await begin()
    service, answer = await _failed(scene, point)
    assert (answer["generation"], answer["warning"]) == (1, "refresh_uncertain")
    await until(lambda: point in UNSENT or scene.family["generation"] == 2)
    service.kill()
    row = await scene.row()
    assert (row.attempt, row.sends) == (None, 1)
    assert len(scene.sent()) == (1 if point in SPENT else 0)
    if point in UNSENT:
        assert (await scene.token(ahead=MUCH_LATER)).generation == 2
        assert await scene.is_alive()
