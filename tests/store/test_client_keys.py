"""Client keys in the store: given once, revoked for all, found good at the start only while they are."""

from collections.abc import Callable

import pytest

from service.domain.caller import RIGHTS, ClientKey, digest_of
from service.domain.secret import Secret
from service.store.store import Store

from .samples import NOW, query

KEY = ClientKey("ci", digest_of(Secret("a key")), frozenset({"token", "status"}), frozenset({"b", "a"}), NOW, NOW + 60)
EVERY = ClientKey("all", digest_of(Secret("another key")), frozenset(RIGHTS), None, NOW)


async def test_what_was_added_is_there(store: Store, another: Callable[..., Store]) -> None:
    assert await store.client_keys() == []
    assert await store.add_client_key(KEY)
    assert await store.add_client_key(EVERY)
    assert await another().client_keys() == [EVERY, KEY]


@pytest.mark.parametrize("field", ["name", "digest"])
async def test_a_name_and_a_digest_are_given_once(store: Store, field: str) -> None:
    assert await store.add_client_key(KEY)
    values = {"name": "other", "digest": "0" * 64, field: getattr(KEY, field)}
    assert not await store.add_client_key(ClientKey(**values, rights=EVERY.rights, accounts=None, created_at=NOW))
    assert await store.client_keys() == [KEY]


async def test_a_revoked_key_is_gone_once(store: Store, another: Callable[..., Store]) -> None:
    other = another()
    await store.add_client_key(KEY)
    assert await other.revoke_client_key("ci")
    assert await store.client_keys() == []
    assert not await store.revoke_client_key("ci")


async def test_adding_and_revoking_is_heard_of(store: Store, another: Callable[..., Store]) -> None:
    other = another()
    version = other.version()
    await store.add_client_key(KEY)
    assert await other.changed(version, within=5)
    version = other.version()
    await store.revoke_client_key("ci")
    assert await other.changed(version, within=1)


async def test_the_last_use_goes_forward_only(store: Store) -> None:
    await store.add_client_key(KEY)
    for at in (NOW + 5, NOW + 3, NOW + 4):
        await store.note_key_use({KEY.name: at, "never-heard-of": at})
    (key,) = await store.client_keys()
    assert key.last_used_at == NOW + 5


async def test_whether_any_key_is_good(store: Store) -> None:
    assert not store.has_client_key(NOW)
    await store.add_client_key(KEY)
    assert store.has_client_key(NOW + 59)
    assert not store.has_client_key(NOW + 60)
    await store.add_client_key(EVERY)
    assert store.has_client_key(NOW + 60)


async def test_no_key_is_kept(store: Store, address: str) -> None:
    await store.add_client_key(KEY)
    assert "a key" not in str(query(address, "SELECT * FROM client_key"))
