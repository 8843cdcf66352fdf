"""Power loss (the real store, a disk that forgets): what was acknowledged is there, and the database holds together.

No acknowledged rotation is ever rolled back, which would put a spent refresh token into the row; no acknowledged intent
is lost, which would send one twice. A seed that fails is named in the failure; `python -m tests.power SEED` plays it
again.
"""

import pytest

from service.store import sqlite
from tests.power.lives import KINDS, Damaged, Forgotten, RolledBack, play

pytestmark = pytest.mark.long

QUICK = range(6)
TEETH = range(60)
BLOCK = 250


def _synchronous(patch: pytest.MonkeyPatch, level: str) -> None:
    """Open every connection with another level than FULL."""
    weaker = tuple(f"synchronous = {level}" if each == "synchronous = FULL" else each for each in sqlite._PRAGMAS)
    assert weaker != sqlite._PRAGMAS
    patch.setattr(sqlite, "_PRAGMAS", weaker)


@pytest.mark.parametrize("seed", QUICK)
def test_nothing_that_was_acknowledged_is_lost(seed: int) -> None:
    play(seed)


@pytest.mark.no_cover
@pytest.mark.parametrize("first", range(0, 1000, BLOCK))
def test_nothing_that_was_acknowledged_is_lost_in_a_thousand_seeds(first: int) -> None:
    struck = {event for seed in range(first, first + BLOCK) for event in play(seed).struck}
    assert struck >= set(KINDS), "the power has to fail at every kind of change and sync"


def _is_broken(seed: int, law: type[AssertionError]) -> bool:
    """Whether this seed breaks the law in that way."""
    try:
        play(seed)
    except (Forgotten, Damaged) as exc:
        return isinstance(exc, law)
    return False


def test_with_less_than_full_an_acknowledged_rotation_is_rolled_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk and the law have teeth: NORMAL syncs no commit."""
    _synchronous(monkeypatch, "NORMAL")
    assert any(_is_broken(seed, RolledBack) for seed in TEETH)


def test_with_no_sync_at_all_the_database_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    _synchronous(monkeypatch, "OFF")
    assert any(_is_broken(seed, Damaged) for seed in TEETH)


def test_a_seed_plays_the_same_run_each_time() -> None:
    assert play(3) == play(3)
