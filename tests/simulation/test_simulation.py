"""Whatever the seed brings, the refresh core keeps its laws; and a worse lock is found out by the same seeds.

The laws (`World`): a refresh token is sent once, twice only after an unknown outcome, never twice at a time; a login
that the issuer would still take is held here, or its loss has one of the excuses of docs/refresh.md; what a caller gets
is durable and never goes back; in the end everybody has his answer and nothing is under way, without a hot loop.
"""

from collections import Counter
from collections.abc import Iterable

import pytest

from tests.simulation.disk import Disk
from tests.simulation.strategies import LeaseBlind, LeaseFence, RowLock
from tests.simulation.world import Course, World

pytestmark = pytest.mark.long

QUICK = 54
"""Seeds of the quick suite: each profile with each issuer, three times."""

CHUNK = 1250
CHUNKS = 8

HARMLESS = ("calm", "stalls", "issuer", "store")
"""Profiles in which nobody dies and no answer is lost: there is no excuse for a lost login."""


def broken(courses: Iterable[Course]) -> list[str]:
    """Every course that broke a law, and how to see it again."""
    return [f"{one}\n  replay: python -m tests.simulation {one.seed}" for one in courses if one.broken]


def loses(seed: int, profile: str, disk: type[Disk]) -> bool:
    """Whether a login is lost without an excuse, with an issuer that punishes reuse."""
    course = World(seed, profile=profile, strict=True, disk=disk).run()
    return "lost" in {one.law for one in course.broken}


def test_laws_hold_for_a_few_seeds() -> None:
    assert broken(World(seed).run() for seed in range(QUICK)) == []


@pytest.mark.no_cover
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_laws_hold_for_ten_thousand_seeds(chunk: int) -> None:
    assert broken(World(seed).run() for seed in range(chunk * CHUNK, (chunk + 1) * CHUNK)) == []


@pytest.mark.parametrize("profile", HARMLESS)
@pytest.mark.parametrize("strict", [True, False], ids=["strict", "lenient"])
def test_no_login_is_lost_where_nobody_dies_and_no_answer_is_lost(profile: str, strict: bool) -> None:
    courses = [World(seed, profile=profile, strict=strict).run() for seed in range(4)]
    assert broken(courses) == []
    assert [one.excused for one in courses] == [None] * 4


@pytest.mark.no_cover
@pytest.mark.parametrize("profile", HARMLESS)
def test_no_login_is_lost_by_stalls_in_many_seeds(profile: str) -> None:
    courses = [World(seed, profile=profile, strict=True).run() for seed in range(500)]
    assert broken(courses) == []
    assert [str(one) for one in courses if one.excused] == []


@pytest.mark.parametrize("profile", ["crashes", "logins", "all"])
def test_a_seed_has_one_history(profile: str) -> None:
    first, second = World(7, profile=profile).run(), World(7, profile=profile).run()
    assert first == second
    assert len(first.events) > 10


def test_faults_do_happen() -> None:
    """A simulation in which nothing goes wrong shows nothing."""
    seen = Counter[str]()
    for seed in range(12):
        for profile in ("all", "answers"):
            history = "\n".join(World(seed, profile=profile).run().events)
            seen.update(word for word in EVENTS if word in history)
    assert set(seen) == set(EVENTS)


EVENTS = (
    *("is stopped", "is killed", "sets the clock", "the database goes away", "brings the login", "logs out"),
    *("the answer is lost", "answers nothing", ": busy", ": reset", ": silent", ": error", ": error_spent", ": lost"),
)


@pytest.mark.parametrize(
    ("disk", "profile"),
    [(LeaseBlind, "stalls"), (LeaseFence, "stalls"), (RowLock, "store")],
    ids=["lease, blind write", "lease with fencing", "row lock in a transaction"],
)
def test_a_worse_lock_loses_a_login_without_excuse(disk: type[Disk], profile: str) -> None:
    found = next((seed for seed in range(60) if loses(seed, profile, disk)), None)
    assert found is not None
    assert not loses(found, profile, Disk), "with the lock of the product the same seed loses nothing"
