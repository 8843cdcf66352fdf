"""Started logins: one pending for an account, given to one browser or poller once, erased when they have ended."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from service.domain.credential import Identity
from service.domain.errors import AccountMismatch, LoginOver, StoreUnavailable
from service.domain.login import Login, LoginState, state_at
from service.domain.secret import Secret
from service.store.store import Store

from .crowd import Crowds, takes
from .samples import NOW, another_login, attempt, browser_login, credential, device_login, query, written
from .test_accounts import gone_over

STATE = Secret("state of login-1")
BINDING = Secret("binding of login-1")
ENDED: tuple[LoginState, ...] = ("failed", "expired", "cancelled")


def as_kept(login: Login) -> Login:
    """A login as it comes back: what binds it to a browser is kept as a digest only."""
    return replace(login, binding=None)


@pytest.mark.parametrize("login", [browser_login(), device_login()], ids=["browser", "device"])
async def test_what_is_added_is_found(store: Store, another: Callable[..., Store], login: Login) -> None:
    await store.add_login(login)
    for reader in (store, another()):
        assert await reader.login("login-1") == as_kept(login)
        assert await reader.pending_login("default", NOW) == as_kept(login)


async def test_a_login_nobody_started_is_not_found(store: Store) -> None:
    assert await store.login("login-1") is None
    assert await store.pending_login("default", NOW) is None
    assert await store.waiting_login(STATE, NOW) is None


@pytest.mark.parametrize("login_id", ["", "\0", "login-1\0", "\ufffd", "x" * 10_000])
async def test_whatever_is_sent_for_an_id_is_none(store: Store, login_id: str) -> None:
    await store.add_login(browser_login())
    assert await store.login(login_id) is None


async def test_a_newer_login_replaces_the_pending_one(store: Store) -> None:
    await store.add_login(browser_login("old"))
    newer = browser_login("new")
    await store.add_login(newer)
    old = await store.login("old")
    assert old is not None
    assert (old.state, old.error) == ("cancelled", "login_replaced")
    assert await store.pending_login("default", NOW) == as_kept(newer)
    assert await store.take_login(Secret("state of old"), Secret("binding of old"), NOW, bound=True) is None


async def test_accounts_have_pending_logins_of_their_own(store: Store) -> None:
    await store.add_login(browser_login("one", "one"))
    await store.add_login(browser_login("other", "other"))
    for name in ("one", "other"):
        pending = await store.pending_login(name, NOW)
        assert pending is not None
        assert pending.id == name


async def test_logins_started_at_the_same_moment_leave_one_pending(
    store: Store, another: Callable[..., Store], address: str
) -> None:
    stores = [store, another()]
    await asyncio.gather(*(each.add_login(browser_login(f"{each is store} {n}")) for n in range(8) for each in stores))
    assert query(address, "SELECT count(*), sum(CASE state WHEN 'pending' THEN 1 ELSE 0 END) FROM login") == [(16, 1)]


async def test_no_two_logins_share_a_state(store: Store) -> None:
    await store.add_login(browser_login("one", "one", oauth_state=STATE))
    with pytest.raises(StoreUnavailable):
        await store.add_login(browser_login("other", "other", oauth_state=STATE))
    waiting = await store.waiting_login(STATE, NOW)
    assert waiting is not None
    assert waiting.id == "one"


async def test_a_login_of_yesterday_is_swept_when_another_begins(store: Store) -> None:
    await store.add_login(browser_login("old", "old"))
    await store.add_login(browser_login("recent", "recent", created_at=NOW + 600, expires_at=NOW + 1200))
    await store.add_login(browser_login("new", "new", created_at=NOW + 600 + 86401))
    assert await store.login("old") is None
    assert await store.login("recent") is not None


# -- the browser comes back ----------------------------------------------------------------------------------------


async def test_looking_for_a_login_does_not_take_it(store: Store, address: str) -> None:
    login = browser_login()
    await store.add_login(login)
    before_this = written(store, address)
    assert await store.waiting_login(STATE, NOW) == as_kept(login)
    assert await store.waiting_login(STATE, NOW) == as_kept(login)
    assert written(store, address) == before_this


async def test_the_browser_that_started_a_login_takes_it_with_its_secrets(store: Store) -> None:
    login = browser_login()
    await store.add_login(login)
    assert await store.take_login(STATE, BINDING, NOW + 1, bound=True) == replace(as_kept(login), taken_at=NOW + 1)


async def test_a_login_is_taken_once(store: Store, another: Callable[..., Store]) -> None:
    await store.add_login(browser_login())
    stores = [store, another()]
    taken = await asyncio.gather(
        *(each.take_login(STATE, BINDING, NOW, bound=True) for _ in range(25) for each in stores)
    )
    assert len([login for login in taken if login is not None]) == 1
    assert await store.take_login(STATE, BINDING, NOW, bound=True) is None


@pytest.mark.long
async def test_one_of_four_processes_takes_a_login(store: Store, address: str, crowd: Crowds) -> None:
    await store.add_login(browser_login(binding=None))
    taken = await asyncio.to_thread(crowd, takes, 4, address, STATE.reveal())
    assert sorted(taken) == [False, False, False, True]


async def test_a_taken_login_waits_for_nobody(store: Store) -> None:
    await store.add_login(browser_login())
    await store.take_login(STATE, BINDING, NOW, bound=True)
    assert await store.waiting_login(STATE, NOW) is None
    assert await store.pending_login("default", NOW) is None
    login = await store.login("login-1")
    assert login is not None
    assert login.state == "pending"  # until it is known what became of the code


async def test_the_port_of_a_taken_login_stays_wanted_until_it_ends(store: Store) -> None:
    await store.add_login(browser_login())
    await store.take_login(STATE, BINDING, NOW, bound=True)
    assert await store.redirect_uris(NOW) == {"http://localhost:1455/auth/callback"}  # somebody is being answered there
    await store.end_login("login-1", "failed", "login_denied", None)
    assert await store.redirect_uris(NOW) == set()


@pytest.mark.parametrize("binding", [None, Secret(""), Secret("binding of another")], ids=["none", "empty", "foreign"])
async def test_another_browser_takes_nothing(store: Store, binding: Secret | None) -> None:
    await store.add_login(browser_login())
    assert await store.take_login(STATE, binding, NOW, bound=True) is None
    assert await store.take_login(STATE, BINDING, NOW, bound=True)


async def test_a_login_that_no_browser_started_needs_no_binding(store: Store) -> None:
    await store.add_login(browser_login(binding=None))
    assert await store.take_login(STATE, None, NOW, bound=True)


async def test_whoever_may_can_finish_a_login_without_the_binding(store: Store) -> None:
    await store.add_login(browser_login())
    assert await store.take_login(STATE, None, NOW, bound=False)


@pytest.mark.parametrize("state", [Secret(""), Secret("state of another"), Secret("STATE OF LOGIN-1")])
async def test_an_unknown_state_takes_nothing(store: Store, state: Secret) -> None:
    await store.add_login(browser_login())
    assert await store.take_login(state, BINDING, NOW, bound=True) is None
    assert await store.take_login(STATE, BINDING, NOW, bound=True)


async def test_a_state_known_from_the_database_takes_nothing(store: Store, address: str) -> None:
    await store.add_login(browser_login())
    ((digest,),) = query(address, "SELECT state_digest FROM login")
    assert await store.take_login(Secret(digest), None, NOW, bound=False) is None


async def test_an_expired_login_is_not_pending(store: Store) -> None:
    login = browser_login()
    await store.add_login(login)
    assert await store.take_login(STATE, BINDING, login.expires_at, bound=True) is None
    assert await store.waiting_login(STATE, login.expires_at) is None
    assert await store.pending_login("default", login.expires_at) is None
    assert await store.redirect_uris(login.expires_at) == set()
    kept = await store.login("login-1")
    assert kept is not None
    assert state_at(kept, login.expires_at) == "expired"


@pytest.mark.parametrize("state", ENDED)
async def test_an_ended_login_is_not_taken(store: Store, state: LoginState) -> None:
    await store.add_login(browser_login())
    await store.end_login("login-1", state, None, None)
    assert await store.take_login(STATE, BINDING, NOW, bound=True) is None


async def test_a_login_begun_with_another_key_is_nobodys(store: Store, another: Callable[..., Store]) -> None:
    other = await gone_over(another)
    await other.add_login(browser_login())
    assert await store.login("login-1") is None
    assert await store.pending_login("default", NOW) is None
    assert await store.take_login(STATE, BINDING, NOW, bound=True) is None
    assert await other.take_login(STATE, BINDING, NOW, bound=True)


async def test_a_device_login_begun_with_another_key_is_polled_by_who_has_it(
    store: Store, another: Callable[..., Store]
) -> None:
    other = await gone_over(another)
    await other.add_login(device_login())
    assert await store.claim_poll("login-1", NOW + 5, NOW + 60) is None
    assert await other.claim_poll("login-1", NOW + 5, NOW + 60)


async def test_secrets_of_a_login_moved_to_another_login_do_not_open(store: Store, address: str) -> None:
    await store.add_login(browser_login("one", "one"))
    await store.add_login(browser_login("other", "other"))
    query(
        address,
        "UPDATE login SET verifier_sealed = (SELECT verifier_sealed FROM login WHERE id = 'one') WHERE id = 'other'",
    )
    assert await store.login("other") is None
    assert await store.login("one") is not None


async def test_ports_are_wanted_for_pending_browser_logins(store: Store) -> None:
    await store.add_login(browser_login("one", "one", redirect_uri="http://localhost:1455/auth/callback"))
    await store.add_login(browser_login("two", "two", redirect_uri="http://localhost:1457/auth/callback"))
    await store.add_login(device_login("three", "three"))
    assert await store.redirect_uris(NOW) == {
        "http://localhost:1455/auth/callback",
        "http://localhost:1457/auth/callback",
    }
    await store.end_login("one", "cancelled", "login_cancelled", None)
    assert await store.redirect_uris(NOW) == {"http://localhost:1457/auth/callback"}


# -- device codes --------------------------------------------------------------------------------------------------


async def test_one_of_many_polls(store: Store, another: Callable[..., Store]) -> None:
    await store.add_login(device_login())
    stores = [store, another()]
    polling = await asyncio.gather(
        *(each.claim_poll("login-1", NOW + 5, NOW + 65) for _ in range(10) for each in stores)
    )
    (won,) = [login for login in polling if login is not None]
    assert won == replace(device_login(), next_poll_at=NOW + 65)


async def test_nobody_polls_too_early(store: Store) -> None:
    await store.add_login(device_login())
    assert await store.claim_poll("login-1", NOW + 4.9, NOW + 65) is None
    assert await store.due_polls(NOW + 4.9) == ([], NOW + 5)


async def test_a_poll_is_free_again_when_the_poller_has_died(store: Store) -> None:
    await store.add_login(device_login())
    await store.claim_poll("login-1", NOW + 5, NOW + 65)
    assert await store.claim_poll("login-1", NOW + 64, NOW + 124) is None
    assert await store.claim_poll("login-1", NOW + 65, NOW + 125)


async def test_the_next_poll_comes_when_and_as_often_as_was_asked(store: Store) -> None:
    await store.add_login(device_login())
    await store.claim_poll("login-1", NOW + 5, NOW + 65)
    await store.poll_again("login-1", 10.0, NOW + 15)
    assert await store.due_polls(NOW + 14) == ([], NOW + 15)
    login = await store.claim_poll("login-1", NOW + 15, NOW + 75)
    assert login is not None
    assert login.interval == 10.0


async def test_an_ended_login_is_not_polled_again(store: Store) -> None:
    await store.add_login(device_login())
    await store.end_login("login-1", "failed", "login_denied", None)
    await store.poll_again("login-1", 5.0, NOW + 5)
    assert await store.claim_poll("login-1", NOW + 5, NOW + 65) is None
    assert await store.due_polls(NOW + 5) == ([], None)


async def test_an_expired_login_is_not_polled(store: Store) -> None:
    login = device_login()
    await store.add_login(login)
    assert await store.claim_poll("login-1", login.expires_at, login.expires_at + 60) is None
    assert await store.due_polls(login.expires_at) == ([], None)


async def test_an_approved_login_is_taken_once_and_polled_no_more(store: Store, another: Callable[..., Store]) -> None:
    await store.add_login(device_login())
    stores = [store, another()]
    taken = await asyncio.gather(*(each.take_approved("login-1", NOW + 5) for _ in range(10) for each in stores))
    assert taken.count(True) == 1
    assert await store.claim_poll("login-1", NOW + 600, NOW + 660) is None
    assert await store.due_polls(NOW + 600) == ([], None)


@pytest.mark.parametrize("state", ENDED)
async def test_an_approval_after_the_end_takes_nothing(store: Store, state: LoginState) -> None:
    await store.add_login(device_login())
    await store.end_login("login-1", state, None, None)
    assert not await store.take_approved("login-1", NOW + 5)


async def test_an_approval_after_its_time_takes_nothing(store: Store) -> None:
    login = device_login()
    await store.add_login(login)
    assert not await store.take_approved("login-1", login.expires_at)


async def test_a_browser_login_is_not_polled(store: Store) -> None:
    await store.add_login(browser_login())
    assert await store.claim_poll("login-1", NOW, NOW + 60) is None
    assert await store.due_polls(NOW) == ([], None)


async def test_all_due_polls_are_given_and_the_next_one_after_them(store: Store) -> None:
    for name, at in (("a", 5), ("b", 6), ("c", 7), ("d", 8)):
        await store.add_login(device_login(name, name, next_poll_at=NOW + at))
    due, later = await store.due_polls(NOW + 6)
    assert (sorted(due), later) == (["a", "b"], NOW + 7)


# -- the end -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("login", [browser_login(), device_login()], ids=["browser", "device"])
async def test_an_ended_login_says_why_and_keeps_no_secret(store: Store, address: str, login: Login) -> None:
    await store.add_login(login)
    assert await store.end_login("login-1", "failed", "login_denied", "The login was refused at the issuer.")
    ended = await store.login("login-1")
    assert ended is not None
    assert (ended.state, ended.error) == ("failed", "login_denied")
    assert ended.detail == "The login was refused at the issuer."
    erased = "oauth_state_sealed, verifier_sealed, user_code_sealed, device_auth_id_sealed"
    assert query(address, f"SELECT {erased}, state_digest, binding_digest FROM login") == [(None,) * 6]


async def test_a_login_ends_once(store: Store) -> None:
    await store.add_login(browser_login())
    assert await store.end_login("login-1", "cancelled", "login_cancelled", None)
    assert not await store.end_login("login-1", "failed", "login_denied", "too late")
    ended = await store.login("login-1")
    assert ended is not None
    assert (ended.state, ended.detail) == ("cancelled", None)


async def test_a_login_nobody_started_does_not_end(store: Store) -> None:
    assert not await store.end_login("login-1", "cancelled", None, None)


async def test_a_completed_login_is_ended_and_its_credential_kept(store: Store, address: str) -> None:
    await store.add_login(browser_login())
    taken = await store.take_login(STATE, BINDING, NOW, bound=True)
    assert taken is not None
    stored = await store.complete_login(taken, credential())
    assert await store.load("default") == stored == credential()
    ended = await store.login("login-1")
    assert ended is not None
    assert (ended.state, ended.error) == ("complete", None)
    assert query(address, "SELECT oauth_state_sealed, verifier_sealed, state_digest FROM login") == [(None,) * 3]


async def test_a_login_is_completed_once(store: Store, another: Callable[..., Store]) -> None:
    await store.add_login(browser_login())
    work = (each.complete_login(browser_login(), credential()) for _ in range(5) for each in (store, another()))
    outcomes = await asyncio.gather(*work, return_exceptions=True)
    assert sum(isinstance(outcome, LoginOver) for outcome in outcomes) == 9
    stored = await store.load("default")
    assert stored is not None
    assert stored.generation == 1


@pytest.mark.parametrize("state", ENDED)
async def test_what_a_login_brings_after_its_end_is_not_installed(store: Store, state: LoginState) -> None:
    before = await store.install(credential())
    await store.add_login(browser_login())
    await store.end_login("login-1", state, None, None)
    with pytest.raises(LoginOver):
        await store.complete_login(browser_login(), another_login())
    assert await store.load("default") == before


async def test_what_a_replaced_login_brings_is_not_installed(store: Store) -> None:
    await store.add_login(browser_login("old"))
    await store.add_login(browser_login("new"))
    with pytest.raises(LoginOver):
        await store.complete_login(browser_login("old"), credential())
    assert await store.load("default") is None
    pending = await store.pending_login("default", NOW)
    assert pending is not None
    assert pending.id == "new"


async def test_a_login_of_another_account_changes_nothing(store: Store, address: str) -> None:
    stored = await store.install(credential())
    claim = await store.claim(stored, attempt())
    await store.add_login(browser_login())
    taken = await store.take_login(STATE, BINDING, NOW, bound=True)
    assert taken is not None
    before = [query(address, f"SELECT * FROM {table}") for table in ("credential", "login")]
    with pytest.raises(AccountMismatch):
        await store.complete_login(taken, another_login(identity=Identity("acc-2")))
    assert [query(address, f"SELECT * FROM {table}") for table in ("credential", "login")] == before
    assert await store.load("default") == claim
    assert await store.end_login("login-1", "failed", "account_mismatch", None)  # it was left for somebody to end


async def test_a_login_of_another_account_replaces_the_old_one_where_that_was_wanted(store: Store) -> None:
    await store.install(credential())
    login = browser_login(replace=True)
    await store.add_login(login)
    stored = await store.complete_login(login, another_login(identity=Identity("acc-2")))
    assert (stored.generation, stored.identity.account_id) == (2, "acc-2")
    assert await store.load("default") == stored


async def test_after_a_logout_any_account_may_log_in(store: Store) -> None:
    await store.install(credential())
    await store.forget("default")
    await store.add_login(browser_login())
    stored = await store.complete_login(browser_login(), credential(identity=Identity("acc-2")))
    assert stored.generation == 2


async def test_an_unknown_identity_may_replace_a_known_one(store: Store) -> None:
    await store.install(credential())
    await store.add_login(browser_login())
    assert (await store.complete_login(browser_login(), another_login(identity=Identity()))).generation == 2
