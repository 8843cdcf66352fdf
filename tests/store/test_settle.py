"""The outcome: written where the row still holds the token that was exchanged, and nowhere else."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from service.domain.credential import (
    Attempt,
    Credential,
    Identity,
    Tokens,
    given_back,
    left_uncertain,
    put_off,
    refused,
    rotated,
)
from service.domain.secret import Secret
from service.store.store import Store

from .samples import NOW, another_login, attempt, browser_login, credential


async def claimed(store: Store, name: str = "attempt-1") -> Credential:
    """A login whose refresh token is being sent."""
    seen = await store.load("default") or await store.install(credential())
    claim = await store.claim(seen, attempt(name))
    assert claim is not None
    return claim


def next_pair(claim: Credential, name: str = "next") -> Credential:
    """What became of the claim: a new token pair."""
    tokens = Tokens(
        access_token=Secret(f"{name} access token"),
        refresh_token=Secret(f"{name} refresh token"),
        id_token=Secret(f"{name} id token"),
        lifetime=1800.0,
        identity=Identity("acc-1", "new@example.test", "pro"),
    )
    return rotated(claim, tokens, sent_at=NOW + 60, now=NOW + 61, wait=0)


OUTCOMES = {
    "rotated": next_pair,
    "refused": lambda claim: refused(claim, "refresh_token_reused"),
    "put off": lambda claim: put_off(claim, "connect_error", until=NOW + 30),
    "uncertain": lambda claim: left_uncertain(claim, "read_timeout", now=NOW, until=NOW + 10),
    "given back": given_back,
}
WITHOUT_TOKENS = {name: outcome for name, outcome in OUTCOMES.items() if name != "rotated"}


@pytest.mark.parametrize("outcome", OUTCOMES.values(), ids=list(OUTCOMES))
async def test_the_owner_writes_the_outcome(
    store: Store, another: Callable[..., Store], outcome: Callable[[Credential], Credential]
) -> None:
    claim = await claimed(store)
    after = outcome(claim)
    assert await store.settle(claim, after)
    assert await another().load("default") == after


@pytest.mark.parametrize("outcome", OUTCOMES.values(), ids=list(OUTCOMES))
async def test_an_outcome_is_written_once(store: Store, outcome: Callable[[Credential], Credential]) -> None:
    claim = await claimed(store)
    outcomes = await asyncio.gather(*(store.settle(claim, outcome(claim)) for _ in range(10)))
    assert outcomes.count(True) == 1


@pytest.mark.parametrize("outcome", WITHOUT_TOKENS.values(), ids=list(WITHOUT_TOKENS))
async def test_an_outcome_of_somebody_elses_attempt_is_refused(
    store: Store, outcome: Callable[[Credential], Credential]
) -> None:
    mine = await claimed(store, "mine")
    assert await store.settle(mine, given_back(mine))
    theirs = await claimed(store, "theirs")
    assert not await store.settle(mine, outcome(mine))
    assert await store.load("default") == theirs


async def test_an_outcome_of_an_attempt_that_was_cleared_is_refused(store: Store) -> None:
    claim = await claimed(store)
    cleared = left_uncertain(claim, "owner_died", now=NOW, until=NOW + 10)
    assert await store.settle(claim, cleared)
    assert not await store.settle(claim, refused(claim, "refresh_token_revoked"))
    assert await store.load("default") == cleared


@pytest.mark.parametrize(
    "meanwhile",
    [
        lambda claim: left_uncertain(claim, "owner_died", now=NOW, until=NOW + 10),
        lambda claim: refused(replace(claim, sends=2), "refresh_token_reused"),
        lambda claim: replace(claim, attempt=Attempt("theirs", "owner-2", NOW), sends=2),
        given_back,
    ],
    ids=["uncertain", "dead", "another attempt", "given back"],
)
async def test_a_late_pair_is_stored_without_owning_the_attempt(
    store: Store, another: Callable[..., Store], meanwhile: Callable[[Credential], Credential]
) -> None:
    """Whoever exchanged the token holds the only copy of its successor: refusing him would lose the login."""
    claim = await claimed(store)
    assert await another().settle(claim, meanwhile(claim))
    after = next_pair(claim)
    assert await store.settle(claim, after)
    assert await store.load("default") == after


async def test_a_late_writer_loses_against_a_new_login(store: Store, another: Callable[..., Store]) -> None:
    claim = await claimed(store)
    newer = await another().install(another_login())
    assert not await store.settle(claim, next_pair(claim))
    assert not await store.settle(claim, refused(claim, "refresh_token_revoked"))
    assert await store.load("default") == newer


async def test_a_late_writer_loses_against_a_login_that_was_finished(store: Store) -> None:
    claim = await claimed(store)
    login = browser_login()
    await store.add_login(login)
    newer = await store.complete_login(login, another_login())
    assert not await store.settle(claim, next_pair(claim))
    assert await store.load("default") == newer


async def test_a_late_writer_loses_against_a_logout(store: Store) -> None:
    claim = await claimed(store)
    await store.forget("default")
    after = await store.load("default")
    assert not await store.settle(claim, next_pair(claim))
    assert not await store.settle(claim, given_back(claim))
    assert await store.load("default") == after


async def test_a_late_pair_loses_against_the_next_generation(store: Store) -> None:
    claim = await claimed(store)
    first = next_pair(claim, "first")
    assert await store.settle(claim, first)
    assert not await store.settle(claim, next_pair(claim, "second"))
    assert await store.load("default") == first


@pytest.mark.parametrize(
    "changed",
    [{"login_id": "another grant"}, {"generation": 7}, {"refresh_token": Secret("another token")}],
    ids=lambda changed: next(iter(changed)),
)
async def test_a_pair_for_another_token_than_the_stored_one_is_refused(
    store: Store, changed: dict[str, object]
) -> None:
    claim = await claimed(store)
    other = replace(claim, **changed)
    assert not await store.settle(other, next_pair(other))
    assert await store.load("default") == claim


async def test_the_next_claim_is_on_the_new_token_only(store: Store) -> None:
    claim = await claimed(store)
    after = next_pair(claim)
    await store.settle(claim, after)
    assert await store.claim(replace(after, refresh_token=claim.refresh_token), attempt("old token")) is None
    assert await store.claim(after, attempt("new token"))


async def test_a_credential_without_a_refresh_token_can_be_settled(store: Store) -> None:
    seen = await store.install(credential(refresh_token=None))
    claim = await store.claim(seen, attempt())
    assert claim is not None
    assert await store.settle(claim, given_back(claim))


async def test_an_outcome_without_an_attempt_does_not_undo_what_was_learned_since(store: Store) -> None:
    seen = await store.install(credential())
    claim = await claimed(store)
    known = left_uncertain(claim, "read_timeout", now=NOW, until=NOW + 10)
    assert await store.settle(claim, known)
    assert not await store.settle(seen, seen)
    assert await store.load("default") == known


async def test_an_outcome_for_nobody_is_refused(store: Store) -> None:
    assert not await store.settle(credential(), next_pair(credential()))
    assert await store.load("default") is None
