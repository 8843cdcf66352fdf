"""A short soak with each issuer: everything befalls the service, and no login is lost that could have been kept."""

import sys
from pathlib import Path

import pytest

from tests.soak.flat import THREADS_BOUND, Sample, grown
from tests.soak.soak import FAULTS, Plan, complaint, soak

SECONDS = 75


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc, and limits the files of other processes")
@pytest.mark.parametrize("issuer", ["sandbox", pytest.param("oidc-provider", marks=pytest.mark.node)])
async def test_logins_are_lost_only_where_nobody_could_have_kept_them(issuer: str, tmp_path: Path) -> None:
    plan = Plan(seconds=SECONDS, issuer=issuer, seed=1, faults=frozenset(FAULTS))
    outcome = await soak(plan, tmp_path)
    if outcome.violations:
        pytest.fail(complaint(plan, outcome, tmp_path))
    assert {"wire", "down", *(one.name for one in outcome.history.faults)} == {"down", *FAULTS}
    assert len(outcome.history.final) == plan.accounts


WARM = Sample(rss=100_000, fds=30, threads=5, wal=800)


def test_what_stays_as_it_is_has_not_grown() -> None:
    assert list(grown([WARM] * 30)) == []


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("rss", Sample(120_000, 30, 5, 800)),
        ("fds", Sample(100_000, 40, 5, 800)),
        ("threads", Sample(100_000, 30, THREADS_BOUND + 1, 800)),
        ("wal", Sample(100_000, 30, 5, 9000)),
    ],
)
def test_what_grows_after_the_warm_up_is_found(name: str, last: Sample) -> None:
    (found,) = grown([*[WARM] * 20, *[last] * 10])
    assert found.startswith(name)
