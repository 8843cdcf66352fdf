"""Death, EIO and ENOSPC at the k-th system call of one refresh, k = 1, 2, 3 ... until a run passes untouched.

After each run: the database is whole; the refresh token was sent once at most; what was served is stored; and the login
lives on, unless the only copy of an answer is gone with its process or on its way.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from typing import Any

import pytest

from service.domain.errors import LoginRequired
from tests.crash.conftest import Begin
from tests.crash.scene import MUCH_LATER, Scene
from tests.crash.strace import Fault, Run, refresh_under

pytestmark = [pytest.mark.long, pytest.mark.strace]

DEATH = "signal=SIGKILL"
ONCE, FOR_A_WHILE, FOR_EVER = "{}", "{}..{}", "{}+"
WHILE = 20
"""Calls: each try to store a pair fails at its first one, so that is as many tries."""


def _run(scene: Scene, call: str, what: str, when: str, **how: Any) -> Run:
    return refresh_under(Fault(call, what, when), scene.machine.folder, scene.values, **how)


async def _sweep(
    begin: Callable[[], Awaitable[Scene]], call: str, what: str, when: str = ONCE, *, generation: int = 2, **how: Any
) -> AsyncIterator[tuple[Scene, Run]]:
    """Run after run, each on a scene of its own. generation: what is served where nothing goes wrong."""
    for k in count(1):
        scene = await begin()
        run = _run(scene, call, what, when.format(k, k + WHILE), **how)
        yield scene, run
        if not run.was_hit:
            assert run.told == generation
            assert k > 1, "the fault befell nothing"
            return


async def _judge(scene: Scene, run: Run, *, excused: bool) -> None:
    """excused: whether an answer that is not stored may be lost."""
    assert scene.is_sound
    taken = scene.family["generation"] == 2
    assert len(scene.sent()) == taken
    rescued = any(scene.machine.folder.rglob("*.rescue"))
    async with scene.successor() as heir:
        row = await heir.row()
        assert run.told in (None, row.generation)
        untried = row.attempt is None and row.sends == 0
        assert (await heir.token()).generation == (2 if untried or rescued else row.generation)
        assert len(scene.sent()) == (1 if untried else taken)
        heir.ahead = MUCH_LATER
        if row.generation == 1 and taken and not rescued:
            assert excused
            with pytest.raises(LoginRequired):
                await heir.token()
        else:
            assert (await heir.token()).generation > 1
            assert scene.is_current(await heir.row())


@pytest.mark.parametrize("call", ["pwrite64", "fdatasync", "ftruncate", "unlink", "connect", "write", "read"])
async def test_killed_at_any_call_the_login_is_lost_only_with_an_answer_that_was_not_stored(
    begin: Begin, call: str
) -> None:
    """With the server's event loop, `write` and `read` carry the bytes to the issuer and back."""
    async for scene, run in _sweep(begin, call, DEATH):
        await _judge(scene, run, excused=run.was_killed)


@pytest.mark.parametrize(("error", "when"), [("EIO", ONCE), ("ENOSPC", FOR_A_WHILE)], ids=["once", "for-a-while"])
@pytest.mark.parametrize("call", ["pwrite64", "fdatasync"])
async def test_a_disk_that_fails_and_recovers_loses_nothing(begin: Begin, call: str, error: str, when: str) -> None:
    async for scene, run in _sweep(begin, call, f"error={error}", when):
        assert not run.was_killed
        await _judge(scene, run, excused=False)


@pytest.mark.parametrize(("call", "error"), [("pwrite64", "ENOSPC"), ("fdatasync", "EIO")])
async def test_a_disk_that_fails_for_ever_loses_at_most_the_pair_that_it_never_took(
    begin: Begin, call: str, error: str
) -> None:
    """Before the claim nothing is sent; after it the process tries until it is killed. A rescue file outlives it."""
    async for scene, run in _sweep(begin, call, f"error={error}", FOR_EVER):
        await _judge(scene, run, excused=run.was_killed)


@pytest.mark.parametrize(("call", "is_lost"), [("sendto", False), ("recvfrom", True)])
async def test_a_reset_at_any_call_to_the_issuer_loses_only_an_answer(begin: Begin, call: str, is_lost: bool) -> None:
    """With the other event loop, where these calls are used for nothing else."""
    lost = 0
    async for scene, run in _sweep(begin, call, "error=ECONNRESET", loop="asyncio", threads=False):
        assert not run.was_killed
        lost += (await scene.row()).uncertain_since is not None and scene.family["generation"] == 2
        await _judge(scene, run, excused=is_lost)
    assert lost == is_lost


async def test_killed_at_any_write_while_it_clears_up_after_a_dead_owner(begin: Begin) -> None:
    """A crash in the recovery of a crash: the next one finds what the first one found."""

    async def after_a_death() -> Scene:
        scene = await begin()
        assert _run(scene, "connect", DEATH, "1").was_killed
        return scene

    async for scene, run in _sweep(after_a_death, "pwrite64", DEATH, generation=1):
        await _judge(scene, run, excused=False)


async def test_after_a_failed_sync_of_the_new_pair_it_is_written_again_before_it_counts_as_stored(begin: Begin) -> None:
    """The kernel has forgotten what it could not write: a second sync alone would succeed and prove nothing."""
    seen = "pwrite64,connect"
    untouched = _run(await begin(), "fdatasync", "error=EIO", "65535", beside=seen)
    before = untouched.record.partition("connect(")[0].count("fdatasync(")
    scene = await begin()
    run = _run(scene, "fdatasync", "error=EIO", f"{before + 1}..{before + 3}", beside=seen)
    assert run.told == 2
    commit = run.record.partition("connect(")[2]
    calls = [line for line in commit.splitlines() if "-wal>" in line]
    syncs = [at for at, line in enumerate(calls) if "fdatasync(" in line]
    failed = [at for at in syncs if "(INJECTED)" in calls[at]]
    assert len(failed) == 3
    assert syncs[3] > failed[2]
    for at, following in zip(failed, syncs[1:], strict=False):
        assert any("pwrite64(" in line for line in calls[at:following])
    await _judge(scene, run, excused=False)
