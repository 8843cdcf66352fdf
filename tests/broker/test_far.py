"""Owners on other machines, clocks that are set while tokens age, and logins that nobody uses."""

from dataclasses import replace
from pathlib import Path

import pytest

from service.domain.credential import Attempt
from service.domain.decide import Policy, Refresh, Use, Wish, decide, due_at
from service.store.owner import Owners
from service.store.store import Store
from tests.domain.values import NOW, credential
from tests.kit import House, house

pytestmark = pytest.mark.long

EXPIRED = 3601.0
FAR = "another-kernel:1.2/a-process"


def store_of(h: House) -> Store:
    """The store, whole."""
    store = h.app.services.store
    assert isinstance(store, Store)
    return store


async def claimed_elsewhere(h: House) -> None:
    """A process of another machine has written its intent."""
    h.app.refresher._owners._all_here = False  # as with a database that other machines reach
    seen = await store_of(h).load("default")
    assert seen is not None
    assert await store_of(h).claim(seen, Attempt("theirs", FAR, h.clock.now))


async def moved_on(h: House) -> dict[str, object]:
    """A round of the background, to its end; how the refresh stands."""
    await h.app.background.round()
    await h.app.refresher.drain()
    return (await h.status())["refresh"]  # type: ignore[no-any-return]


def sent(h: House) -> int:
    """Refresh requests that the issuer has seen."""
    return len(h.sandbox.token_requests("refresh_token"))


async def test_nothing_is_done_about_an_owner_elsewhere_while_his_time_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.broker.refresher._WAIT_FOR_OWNER", 0.0)
    async with house(tmp_path, issuer_timeout=30) as h:
        await h.log_in()
        await claimed_elsewhere(h)
        h.clock.advance(49)
        assert (await moved_on(h))["state"] == "in_flight"


async def test_an_owner_elsewhere_who_stays_silent_leaves_it_uncertain(tmp_path: Path) -> None:
    async with house(tmp_path, issuer_timeout=30) as h:
        await h.log_in()
        await claimed_elsewhere(h)
        h.clock.advance(51)
        refresh = await moved_on(h)
        assert (refresh["state"], refresh["last_error"]) == ("uncertain", "owner_silent")
        assert sent(h) == 0


async def test_he_may_live_so_the_retry_waits_until_the_token_has_ended(tmp_path: Path) -> None:
    async with house(tmp_path, issuer_timeout=30) as h:
        await h.log_in()
        await claimed_elsewhere(h)
        h.clock.advance(51)
        await moved_on(h)
        h.clock.advance(3600 - 51 - 1)
        assert (await h.token(min_ttl=0))["warning"] == "refresh_uncertain"
        h.clock.advance(5)
        assert (await h.client.get("/token")).json()["code"] == "issuer_unavailable"
        assert sent(h) == 0
        h.clock.advance(7)
        assert (await h.token())["generation"] == 2


async def test_his_late_success_is_stored_all_the_same(tmp_path: Path) -> None:
    async with house(tmp_path, issuer_timeout=30) as h:
        await h.log_in()
        seen = await store_of(h).load("default")
        assert seen is not None
        await claimed_elsewhere(h)
        theirs = await store_of(h).load("default")
        assert theirs is not None
        h.clock.advance(51)
        assert (await moved_on(h))["state"] == "uncertain"
        assert await store_of(h).settle(theirs, replace(theirs, generation=2, attempt=None, sends=0))
        assert (await moved_on(h))["state"] == "idle"


@pytest.mark.parametrize(("all_here", "fate"), [(True, "dead"), (False, "unknown")])
def test_of_an_owner_elsewhere_nothing_is_known_unless_all_are_here(tmp_path: Path, all_here: bool, fate: str) -> None:
    """With a SQLite file all are here: another kernel is the one before the machine was started anew."""
    owners = Owners(tmp_path / "owners", all_here=all_here)
    assert owners.fate(FAR) == fate
    owners.close()


# -- clocks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("years", [-10, -1])
async def test_a_token_that_was_seen_to_age_is_not_served_beyond_its_age(tmp_path: Path, years: int) -> None:
    async with house(tmp_path) as h:
        await h.log_in()
        await h.token()
        h.clock.now += years * 365 * 86400
        h.clock.advance(EXPIRED)
        assert (await h.token())["generation"] == 2
        assert sent(h) == 1


@pytest.mark.parametrize("years", [-10, 10])
async def test_a_clock_that_is_set_causes_no_storm(tmp_path: Path, years: int) -> None:
    async with house(tmp_path) as h:
        await h.log_in()
        h.clock.now += years * 365 * 86400
        for _ in range(20):
            await h.token()
            await moved_on(h)
            h.clock.advance(30)
        assert sent(h) <= 1
        assert h.sandbox.families[0].alive


async def test_after_sleep_an_expired_token_is_refreshed_before_it_is_served(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.log_in()
        await h.token()
        h.clock.advance(3 * 3600)  # the machine slept: both clocks count that
        assert (await h.token())["generation"] == 2


# -- many logins, and idle ones ------------------------------------------------------------------------------------


def test_logins_made_together_are_not_due_together() -> None:
    policy = Policy(spread=0.1)
    due = {due_at(credential(login_id=f"{number}"), NOW, policy) for number in range(100)}
    assert len(due) == 100


def test_a_login_is_used_before_it_dies_of_age_though_its_token_lives_on() -> None:
    policy = Policy(keep_alive=30 * 86400.0)
    long = credential(obtained_at=0, expires_at=90 * 86400.0, lifetime=90 * 86400.0)
    assert due_at(long, 0, policy) == 30 * 86400
    assert due_at(replace(long, expires_at=86400.0, lifetime=86400.0), 0, policy) == 0.9 * 86400


def test_an_answer_that_was_lost_is_asked_for_once_more_before_the_login_dies_of_age() -> None:
    policy = Policy(keep_alive=30 * 86400.0)
    lost = credential(obtained_at=0, expires_at=9e9, lifetime=None, sends=1, uncertain_since=60.0)
    assert due_at(lost, 60, policy) == 30 * 86400
    rejected = Wish(newer_than=lost.generation)
    assert decide(lost, rejected, 30 * 86400 - 1, policy) == Use("refresh_uncertain")
    assert decide(lost, rejected, 30 * 86400, policy) == Refresh()
