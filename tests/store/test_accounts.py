"""Which accounts there are, which of them are due, and what becomes of one that cannot be read."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from service.domain.credential import given_back, left_uncertain, refused
from service.store.store import Store

from .samples import KEY, NOW, OTHER_KEY, another_login, attempt, credential, query, written


async def names(store: Store, after: str, limit: int) -> list[str]:
    return [each.account for each in await store.accounts(after, limit)]


async def test_accounts_are_listed_by_name(store: Store) -> None:
    for name in ("work", "default", "home"):
        await store.install(credential(name))
    assert await names(store, "", 10) == ["default", "home", "work"]


async def test_a_page_begins_after_a_name_and_ends_at_the_limit(store: Store) -> None:
    for name in ("a", "b", "c", "d"):
        await store.install(credential(name))
    assert await names(store, "", 2) == ["a", "b"]
    assert await names(store, "b", 2) == ["c", "d"]
    assert await names(store, "bb", 1) == ["c"]
    assert await names(store, "d", 2) == []


async def test_the_pages_together_are_all_accounts_once(store: Store) -> None:
    added = sorted(["a", "a.b", "a-b", "a_b", "ab", "b", "0", "zz"])
    for name in added:
        await store.install(credential(name))
    for limit in range(1, len(added) + 2):
        paged: list[str] = []
        while page := await names(store, paged[-1] if paged else "", limit):
            assert len(page) <= limit
            paged += page
        assert paged == added


async def test_an_account_that_was_logged_out_stays_listed(store: Store) -> None:
    await store.install(credential())
    await store.forget("default")
    assert [each.state for each in await store.accounts("", 10)] == ["logged_out"]


async def test_due_accounts_come_oldest_first_up_to_a_limit(store: Store) -> None:
    for name, at in (("late", 20), ("early", 10), ("later", 30), ("future", 31)):
        await store.install(credential(name, expires_at=NOW + 300 + at))
    assert await store.due(NOW + 30, 10) == (["early", "late", "later"], NOW + 31)
    assert await store.due(NOW + 30, 2) == (["early", "late"], NOW + 31)
    assert await store.due(NOW + 9, 10) == ([], NOW + 10)
    assert await store.due(NOW + 31, 1) == (["early"], None)


async def test_what_was_noted_by_a_clock_set_back_since_is_due_now(store: Store) -> None:
    """When it really expires is not known, and by this clock it would not be looked at for years."""
    years = 10 * 366 * 86400
    await store.install(credential("ahead", obtained_at=NOW + years, expires_at=NOW + years + 3600))
    await store.install(credential("corrected", obtained_at=NOW + 30, expires_at=NOW + 3630))
    await store.install(credential("dead", state="dead", obtained_at=NOW + years))
    due, later = await store.due(NOW, 10)
    assert due == ["ahead"]
    assert later == NOW + 3330


async def test_nothing_is_due_where_nothing_is(store: Store) -> None:
    assert await store.due(NOW, 10) == ([], None)


async def test_an_ended_login_is_never_due(store: Store) -> None:
    await store.install(credential("dead", state="dead"))
    await store.install(credential("out"))
    await store.forget("out")
    assert await store.due(NOW + 1e6, 10) == ([], None)


async def test_when_an_account_is_due_follows_every_change(store: Store) -> None:
    seen = await store.install(credential(expires_at=NOW + 310))
    claim = await store.claim(seen, attempt())
    assert claim is not None
    assert await store.due(NOW, 10) == ([], NOW + 10)
    after = replace(given_back(claim), generation=2, expires_at=NOW + 320)
    await store.settle(claim, after)
    assert await store.due(NOW, 10) == ([], NOW + 20)
    claim = await store.claim(after, attempt())
    assert claim is not None
    await store.settle(claim, refused(claim, "refresh_token_revoked"))
    assert await store.due(NOW, 10) == ([], None)


async def test_when_an_account_is_due_can_be_noted_again(store: Store, address: str) -> None:
    seen = await store.install(credential(expires_at=NOW + 310))
    query(address, "UPDATE credential SET due_at = 1")  # by other settings
    assert await store.due(NOW, 10) == (["default"], None)
    await store.note_due(seen)
    assert await store.due(NOW, 10) == ([], NOW + 10)
    assert await store.load("default") == seen


@pytest.mark.parametrize("change", [{"generation": 2}, {"login_id": "another"}, {"sends": 1}, {"failures": 1}])
async def test_what_is_due_is_not_noted_over_what_has_changed(
    store: Store, address: str, change: dict[str, object]
) -> None:
    seen = await store.install(credential())
    query(address, "UPDATE credential SET due_at = 1")
    await store.note_due(replace(seen, **change))
    await store.note_due(replace(seen, attempt=attempt()))
    assert await store.due(NOW, 10) == (["default"], None)


@pytest.mark.parametrize(("noted", "after"), [(-60, -60), (-61, 0), (0, 0), (60, 60), (61, 0), (None, 0)])
async def test_only_news_of_what_is_due_is_worth_a_commit(
    store: Store, address: str, noted: int | None, after: int
) -> None:
    """Every commit wakes the background, which would come here again."""
    seen = await store.install(credential(expires_at=NOW + 310))
    query(address, "UPDATE credential SET due_at = ?", [None if noted is None else NOW + 10 + noted])
    before_this = written(store, address)
    await store.note_due(seen)
    assert query(address, "SELECT due_at FROM credential") == [(NOW + 10 + after,)]
    assert (written(store, address) == before_this) == (noted == after)


async def test_what_is_never_due_is_noted_once(store: Store, address: str) -> None:
    seen = await store.install(credential(state="dead"))
    before_this = written(store, address)
    await store.note_due(seen)
    assert written(store, address) == before_this
    query(address, "UPDATE credential SET due_at = 1")
    await store.note_due(seen)
    assert query(address, "SELECT due_at FROM credential") == [(None,)]


async def test_where_an_unreadable_account_is_only_ours_it_is_noted(
    store: Store, another: Callable[..., Store], address: str
) -> None:
    """Else the background would look at it again and again. Another machine may have the key: there it stays due."""
    stored = await store.install(credential(expires_at=NOW))
    other = await gone_over(another)
    unreadable = await store.load("default")
    assert unreadable is not None
    await store.note_due(unreadable)
    still_due = ["default"] if address.startswith("postgresql:") else []
    assert await other.due(NOW, 10) == (still_due, None)
    assert await other.load("default") == stored


async def gone_over(another: Callable[..., Store]) -> Store:
    """A store that has sealed everything with a key that the others do not have."""
    other = another(OTHER_KEY, KEY)
    await other.rekey()
    return other


# -- what cannot be read -------------------------------------------------------------------------------------------

TAMPERING = {
    "end replaced": "UPDATE credential SET refresh_token_sealed = ?",
    "erased": "UPDATE credential SET refresh_token_sealed = ?",
    "text": "UPDATE credential SET refresh_token_sealed = 'refresh token'",
    "columns swapped": "UPDATE credential SET refresh_token_sealed = access_token_sealed",
    "older generation": "UPDATE credential SET generation = generation + 1",
    "rows swapped": "UPDATE credential SET refresh_token_sealed ="
    " (SELECT refresh_token_sealed FROM credential WHERE account = 'other')",
}


@pytest.mark.parametrize("tampering", list(TAMPERING))
async def test_a_tampered_account_is_unreadable_and_the_others_are_not(
    store: Store, address: str, tampering: str
) -> None:
    stored = await store.install(credential())
    other = await store.install(credential("other"))
    ((sealed,),) = query(address, "SELECT refresh_token_sealed FROM credential WHERE account = 'default'")
    given = {"end replaced": [bytes(sealed)[:30] + b"\0"], "erased": [b""]}.get(tampering, [])
    query(address, TAMPERING[tampering] + " WHERE account = 'default'", given)
    tampered, untouched = await store.accounts("", 10)
    assert tampered == await store.load("default")
    assert (tampered.state, tampered.last_error) == ("unreadable", "credential_unreadable")
    assert tampered.access_token is tampered.refresh_token is tampered.id_token is None
    assert tampered.identity == stored.identity
    assert untouched == other == await store.load("other")


async def test_an_account_sealed_with_another_key_is_unreadable(store: Store, another: Callable[..., Store]) -> None:
    other = await gone_over(another)
    await other.install(credential("theirs"))
    await store.install(credential("mine"))
    assert [each.state for each in await store.accounts("", 10)] == ["active", "unreadable"]


async def test_an_unreadable_account_is_readable_again_with_its_key(
    store: Store, another: Callable[..., Store]
) -> None:
    stored = await store.install(credential())
    other = await gone_over(another)
    assert (await store.accounts("", 10))[0].state == "unreadable"
    await store.due(NOW, 10)
    assert await other.load("default") == stored


@pytest.mark.parametrize("change", ["claim", "settle", "settle with tokens"])
async def test_nothing_is_written_over_what_cannot_be_read(
    store: Store, another: Callable[..., Store], change: str
) -> None:
    stored = await store.install(credential())
    other = await gone_over(another)
    unreadable = await store.load("default")
    assert unreadable is not None
    if change == "claim":
        assert await store.claim(unreadable, attempt()) is None
    elif change == "settle":
        assert not await store.settle(unreadable, left_uncertain(unreadable, "owner_died", now=NOW, until=NOW))
    else:
        assert not await store.settle(unreadable, credential(generation=2))
    assert await other.load("default") == stored


@pytest.mark.parametrize("generation", ["-1", "'two'", "2.5", "x'00'"])
async def test_a_row_with_an_impossible_generation_is_unreadable_and_the_others_are_not(
    store: Store, address: str, generation: str
) -> None:
    await store.install(credential())
    other = await store.install(credential("other"))
    if not address.startswith("sqlite:") and generation not in ("-1", "2.5"):
        return  # PostgreSQL takes numbers only
    query(address, f"UPDATE credential SET generation = {generation} WHERE account = 'default'")
    tampered, untouched = await store.accounts("", 10)
    assert (tampered.state, untouched) == ("unreadable", other)
    assert (await store.install(another_login())).generation > 0  # and a new login mends it
