"""Logging in and out: generations only grow, and what is erased is gone."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from secrets import token_hex
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.domain.credential import Attempt, Credential, Identity, Tokens, refused, rotated
from service.domain.errors import InvalidCredential
from service.domain.secret import Secret
from service.store.store import Store

from .crowd import Crowds, installs
from .samples import NOW, another_login, attempt, browser_login, credential, path_of, query, written
from .test_accounts import gone_over

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
secrets = st.none() | st.builds(Secret, texts)
instants = st.floats(0, 1e11)
credentials = st.builds(
    Credential,
    account=st.just("default"),
    provider=texts,
    login_id=texts,
    generation=st.integers(1, 2**62),
    state=st.sampled_from(["active", "dead"]),
    access_token=secrets,
    refresh_token=secrets,
    id_token=secrets,
    identity=st.builds(Identity, st.none() | texts, st.none() | texts, st.none() | texts),
    obtained_at=instants,
    expires_at=instants,
    lifetime=st.none() | instants,
    reason=st.none() | st.just("outcome_unknown"),
    attempt=st.none() | st.builds(Attempt, texts, texts, instants),
    sends=st.integers(0, 2),
    uncertain_since=st.none() | instants,
    failures=st.integers(0, 2**31 - 1),  # a 32-bit column
    next_attempt_at=st.none() | instants,
    last_error=st.none() | texts,
    last_success_at=st.none() | instants,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(credentials)
async def test_what_is_installed_is_what_is_loaded(store: Store, anything: Credential) -> None:
    login = replace(anything, refresh_token=Secret(token_hex() + anything.provider))  # never the same as the last one
    stored = await store.install(login)
    assert await store.load("default") == stored == replace(login, generation=stored.generation)


async def test_nothing_is_there_before_the_first_login(store: Store) -> None:
    assert await store.load("default") is None
    assert await store.accounts("", 10) == []


async def test_every_login_is_one_generation_more(store: Store) -> None:
    assert [(await store.install(another_login(n, generation=50))).generation for n in range(3)] == [1, 2, 3]


async def test_generations_go_on_after_a_logout(store: Store) -> None:
    await store.install(credential())
    await store.forget("default")
    assert (await store.install(credential())).generation == 2


async def test_each_account_counts_for_itself(store: Store) -> None:
    await store.install(another_login(1, "one"))
    await store.install(another_login(2, "one"))
    assert (await store.install(credential("other"))).generation == 1


async def test_logins_at_the_same_moment_get_different_generations(store: Store, another: Callable[..., Store]) -> None:
    stores = [store, another()]
    stored = await asyncio.gather(*(each.install(another_login(n)) for n, each in enumerate(stores * 10)))
    assert sorted(each.generation for each in stored) == list(range(1, 21))


@pytest.mark.long
async def test_processes_that_log_in_at_the_same_moment_get_different_generations(
    store: Store, address: str, crowd: Crowds
) -> None:
    generations = await asyncio.to_thread(crowd, installs, 4, address)
    assert sorted(generations) == [1, 2, 3, 4]


async def test_a_login_ends_a_refresh_that_is_under_way(store: Store) -> None:
    seen = await store.install(credential())
    await store.claim(seen, attempt())
    newer = await store.install(another_login())
    assert newer.attempt is None
    assert await store.load("default") == newer


async def test_a_login_may_replace_what_cannot_be_read(store: Store, another: Callable[..., Store]) -> None:
    other = await gone_over(another)
    await other.install(credential(access_token=Secret("sealed with another key")))
    stored = await store.install(credential())
    assert stored.generation == 2
    assert await store.load("default") == stored


# -- a login that is here already ----------------------------------------------------------------------------------


async def moved_on(store: Store, account: str = "default") -> Credential:
    """A login whose first token has been exchanged for a second."""
    claim = await store.claim(await store.install(credential(account)), attempt())
    assert claim is not None
    after = rotated(claim, Tokens(Secret("second access"), Secret("second refresh")), sent_at=NOW, now=NOW, wait=0)
    assert await store.settle(claim, after)
    return after


@pytest.mark.parametrize("token", ["refresh token of default", "second refresh"], ids=["its first", "its present"])
async def test_a_login_that_is_here_already_stays_as_far_as_it_has_come(store: Store, token: str) -> None:
    """Putting its spent token back into the row would look like theft at the next refresh."""
    current = await moved_on(store)
    assert await store.install(another_login(refresh_token=Secret(token))) == current
    assert await store.load("default") == current


async def test_a_login_that_is_being_refreshed_stays(store: Store) -> None:
    claim = await store.claim(await store.install(credential()), attempt())
    assert await store.install(credential()) == claim
    assert await store.load("default") == claim


async def test_a_dead_login_may_be_installed_again(store: Store) -> None:
    claim = await store.claim(await store.install(credential()), attempt())
    assert claim is not None
    await store.settle(claim, refused(claim, "refresh_token_revoked"))
    stored = await store.install(credential())
    assert (stored.generation, stored.state, stored.sends) == (2, "active", 0)
    assert await store.load("default") == stored


async def test_after_a_logout_the_same_login_may_be_installed_again(store: Store) -> None:
    await moved_on(store)
    await store.forget("default")
    stored = await store.install(credential())
    assert stored.generation == 3
    assert await store.load("default") == stored


@pytest.mark.parametrize("token", ["refresh token of default", "second refresh"], ids=["its first", "its present"])
async def test_no_two_accounts_hold_one_login(store: Store, token: str) -> None:
    """They would spend its token twice."""
    current = await moved_on(store)
    mine = await store.install(credential("other"))
    for account in ("other", "new"):
        with pytest.raises(InvalidCredential):
            await store.install(another_login(1, account, refresh_token=Secret(token)))
    assert await store.accounts("", 10) == [current, mine]


async def test_a_login_that_another_account_holds_is_not_completed(store: Store) -> None:
    current = await moved_on(store)
    login = browser_login("login-1", "other")
    await store.add_login(login)
    with pytest.raises(InvalidCredential):
        await store.complete_login(login, another_login(1, "other", refresh_token=Secret("second refresh")))
    assert await store.accounts("", 10) == [current]
    pending = await store.login("login-1")
    assert pending is not None
    assert pending.state == "pending"


async def test_a_login_may_move_to_another_account_after_a_logout(store: Store) -> None:
    await moved_on(store)
    await store.forget("default")
    assert (await store.install(another_login(1, "other", refresh_token=Secret("second refresh")))).generation == 1


# -- logging out ---------------------------------------------------------------------------------------------------


async def test_logout_gives_what_was_there(store: Store) -> None:
    stored = await store.install(credential())
    assert await store.forget("default") == stored


async def test_logout_keeps_the_generation_and_nothing_else(store: Store) -> None:
    await store.install(credential())
    stored = await store.install(another_login())
    claim = await store.claim(stored, attempt())
    assert claim is not None
    await store.forget("default")
    assert await store.load("default") == replace(
        stored,
        state="logged_out",
        reason="logged_out",
        access_token=None,
        refresh_token=None,
        id_token=None,
        identity=Identity(),
    )


async def test_logout_leaves_other_accounts_alone(store: Store) -> None:
    await store.install(credential("one"))
    other = await store.install(credential("other"))
    await store.forget("one")
    assert await store.load("other") == other


async def test_there_is_nothing_to_log_out_of_twice(store: Store) -> None:
    await store.install(credential())
    await store.forget("default")
    before = await store.forget("default")
    assert before is not None
    assert (before.state, before.refresh_token, before.generation) == ("logged_out", None, 1)


async def test_logging_out_of_nothing_changes_nothing(store: Store, address: str) -> None:
    before_this = written(store, address)
    assert await store.forget("default") is None
    assert await store.load("default") is None
    assert written(store, address) == before_this


async def test_what_cannot_be_read_can_be_logged_out_of(store: Store, another: Callable[..., Store]) -> None:
    other = await gone_over(another)
    await other.install(credential())
    before = await store.forget("default")
    assert before is not None
    assert before.state == "unreadable"
    after = await store.load("default")
    assert after is not None
    assert (after.state, after.generation) == ("logged_out", 1)


def sealed(address: str, table: str = "credential") -> list[bytes]:
    """Every ciphertext in a table."""
    rows = query(address, f"SELECT * FROM {table}")
    return [value for row in rows for value in row if isinstance(value, bytes)]


def found(address: str, needles: list[bytes]) -> list[Any]:
    """Where any of the byte strings stands in the files of the data folder."""
    files = [path for path in path_of(address).parent.rglob("*") if path.is_file()]
    return [(path.name, needle) for path in files for needle in needles if needle in path.read_bytes()]


async def test_erased_ciphertexts_are_in_no_file(store: Store, address: str) -> None:
    if not address.startswith("sqlite:"):
        pytest.skip("only here are the files ours")
    seen = await store.install(credential())
    ciphertexts = sealed(address)
    assert len(ciphertexts) == 3
    assert len({needle for _, needle in found(address, ciphertexts)}) == 3  # they would be found
    claim = await store.claim(seen, attempt())
    assert claim is not None
    await store.forget("default")
    assert found(address, ciphertexts) == []


async def test_replaced_ciphertexts_are_in_no_file_after_logout(store: Store, address: str) -> None:
    if not address.startswith("sqlite:"):
        pytest.skip("only here are the files ours")
    ciphertexts = []
    for number in range(3):
        await store.install(another_login(number))
        ciphertexts += sealed(address)
    await store.forget("default")
    assert found(address, ciphertexts) == []
