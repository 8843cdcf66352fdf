"""A login that is given up: by whom it may be, what every store makes of the row, and how its tokens go in the end."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from service.domain.credential import Credential, given_back, is_released, is_unspent, left_uncertain, logged_out
from service.domain.errors import InvalidCredential
from service.store.generations import Generations
from service.store.store import Store

from .samples import KEY, NOW, OTHER_KEY, another_login, attempt, backend_of, credential, due, given, query, written
from .test_accounts import gone_over
from .test_settle import claimed, next_pair


async def loaded(store: Store, account: str = "default") -> Credential:
    found = await store.load(account)
    assert found is not None
    return found


async def test_what_is_released_is_what_was_there(store: Store) -> None:
    stored = await store.install(credential())
    assert await store.release("default") == stored
    assert is_unspent(stored)


async def test_after_that_everybody_sees_a_logout_that_keeps_the_pair(
    store: Store, another: Callable[..., Store]
) -> None:
    stored = await store.install(credential())
    await store.release("default")
    after = await loaded(another())
    assert after == replace(stored, state="logged_out", reason="logged_out")
    assert is_released(after)


async def test_a_store_that_has_read_it_before_sees_that_it_has_changed(
    store: Store, another: Callable[..., Store]
) -> None:
    await store.install(credential())
    other = another()
    await other.load("default")
    before = other.version()
    await store.release("default")
    assert await other.changed(before, within=10)


async def test_nobody_claims_it_any_more(store: Store, another: Callable[..., Store]) -> None:
    stored = await store.install(credential())
    await store.release("default")
    for each in (store, another()):
        assert await each.claim(stored, attempt()) is None
        assert await each.claim(await loaded(each), attempt()) is None
        assert (await each.due(NOW + 10**9, 10)) == ([], None)


async def test_what_is_being_sent_is_not_released(store: Store, address: str) -> None:
    claim = await claimed(store)
    before = written(store, address)
    assert await store.release("default") == claim
    assert written(store, address) == before


async def test_the_pair_that_a_refresh_brought_is(store: Store) -> None:
    claim = await claimed(store)
    after = next_pair(claim)
    assert await store.settle(claim, after)
    assert await store.release("default") == after


async def test_what_was_not_sent_after_all_is(store: Store) -> None:
    claim = await claimed(store)
    assert await store.settle(claim, given_back(claim))
    await store.release("default")
    assert is_released(await loaded(store))


async def test_what_may_be_spent_is_not(store: Store, address: str) -> None:
    claim = await claimed(store)
    uncertain = left_uncertain(claim, "read_timeout", now=NOW, until=NOW + 10)
    assert await store.settle(claim, uncertain)
    before = written(store, address)
    assert await store.release("default") == uncertain
    assert written(store, address) == before


async def test_of_a_claim_and_a_release_at_once_one_wins(store: Store, another: Callable[..., Store]) -> None:
    other = another()
    for number in range(10):
        stored = await store.install(another_login(number))
        released, claim = await asyncio.gather(store.release("default"), other.claim(stored, attempt(f"of {number}")))
        assert released is not None
        assert is_unspent(released) is (claim is None)
        assert is_released(await loaded(store)) is (claim is None)


async def test_it_is_given_again_and_stays_as_it_is(store: Store, another: Callable[..., Store], address: str) -> None:
    stored = await store.install(credential())
    await store.release("default")
    before = written(store, address)
    again = await another().release("default")
    assert again is not None
    assert is_released(again)
    assert (again.access_token, again.refresh_token, again.id_token, again.identity) == (
        *(stored.access_token, stored.refresh_token, stored.id_token),
        stored.identity,
    )
    assert written(store, address) == before


async def test_it_is_not_given_again_once_another_account_holds_it(store: Store) -> None:
    await store.install(credential())
    await store.release("default")
    await store.install(replace(credential(), account="work", login_id="the same, imported"))
    with pytest.raises(InvalidCredential):
        await store.release("default")


async def test_its_tokens_go_when_they_are_said_to_have_arrived(store: Store) -> None:
    stored = await store.install(credential())
    await store.release("default")
    await store.forget_released("default", stored.generation)
    assert await loaded(store) == logged_out(stored)
    assert await store.release("default") == logged_out(stored)


@pytest.mark.parametrize("generation", [0, 2])
async def test_another_release_is_left_alone(store: Store, address: str, generation: int) -> None:
    await store.install(credential())
    await store.release("default")
    before = written(store, address)
    await store.forget_released("default", generation)
    await store.forget_released("nobody", 1)
    assert written(store, address) == before


async def test_a_login_of_ours_is_left_alone(store: Store) -> None:
    stored = await store.install(credential())
    await store.forget_released("default", stored.generation)
    assert await loaded(store) == stored


async def test_nothing_is_released_of_nobody_nor_of_what_does_not_open(
    store: Store, another: Callable[..., Store], address: str
) -> None:
    assert await store.release("nobody") is None
    await store.install(credential())
    await store.forget("default")
    before = written(store, address)
    gone = await store.release("default")
    assert gone is not None
    assert not is_unspent(gone)
    assert not is_released(gone)
    assert written(store, address) == before
    await (await gone_over(another)).install(credential())
    unreadable = await store.release("default")
    assert unreadable is not None
    assert unreadable.state == "unreadable"
    assert (await loaded(another(KEY, OTHER_KEY))).state == "active"


async def refreshed(store: Store) -> Credential:
    claim = await claimed(store)
    await store.settle(claim, next_pair(claim))
    return await loaded(store)


@pytest.mark.parametrize("account", ["default", "another"])
@pytest.mark.parametrize("end", ["kept", "confirmed", "logged out"])
async def test_what_it_began_with_is_spent_and_comes_back_nowhere(store: Store, account: str, end: str) -> None:
    await store.install(credential())
    after = await refreshed(store)
    await store.release("default")
    if end == "confirmed":
        await store.forget_released("default", after.generation)
    elif end == "logged out":
        await store.forget("default")
    with pytest.raises(InvalidCredential, match="spent"):
        await store.install(replace(credential(), account=account))
    assert is_released(await loaded(store)) == (end == "kept")


@pytest.mark.parametrize("confirmed", [False, True])
async def test_what_was_given_comes_back(store: Store, confirmed: bool) -> None:
    await store.install(credential())
    given = await refreshed(store)
    await store.release("default")
    if confirmed:
        await store.forget_released("default", given.generation)
    assert (await store.install(given)).refresh_token == given.refresh_token
    assert (await loaded(store)).state == "active"


async def test_what_was_never_refreshed_comes_back_too(store: Store) -> None:
    await store.install(credential())
    await store.release("default")
    assert (await store.install(credential())).state == "active"


async def test_one_that_does_not_open_is_still_not_ours(store: Store, address: str) -> None:
    await store.install(credential())
    await store.release("default")
    query(address, "UPDATE credential SET refresh_token_sealed = access_token_sealed")
    found = await loaded(store)
    assert (found.state, found.refresh_token) == ("logged_out", None)


@pytest.mark.parametrize("has_seen", [False, True])
async def test_whoever_has_seen_it_given_away_refreshes_no_copy_from_before(
    store: Store, address: str, tmp_path: Path, has_seen: bool
) -> None:
    """I9 at a replica that has a record of its own."""
    record = Generations(tmp_path / "record" / "generations.db")
    replica = Store(backend_of(address), lambda _is_new: given(KEY), due, generations=record)
    await store.install(credential())
    await store.release("default")
    if has_seen:
        await loaded(replica)
    query(address, "UPDATE credential SET state = 'active', reason = NULL")  # as when a copy is put back
    assert (await loaded(replica)).state == ("restored" if has_seen else "active")
    await replica.close()
