"""The claim: a durable intent, written by one, where nothing has changed since it was decided on."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from service.domain.credential import Attempt, Credential, Tokens, given_back, left_uncertain, put_off, refused, rotated
from service.domain.secret import Secret
from service.store.store import Store

from .crowd import Crowds, claims
from .samples import NOW, another_login, attempt, credential


async def test_a_claim_is_in_the_row_when_it_is_told(store: Store, another: Callable[..., Store]) -> None:
    seen = await store.install(credential())
    claim = await store.claim(seen, attempt())
    assert claim is not None
    assert (claim.attempt, claim.sends) == (attempt(), 1)
    assert await another().load("default") == claim


async def test_a_claim_leaves_the_tokens_as_they_are(store: Store) -> None:
    seen = await store.install(credential())
    claim = await store.claim(seen, attempt())
    assert claim is not None
    assert replace(claim, attempt=None, sends=0) == seen


async def test_one_of_many_claims_wins(store: Store, another: Callable[..., Store]) -> None:
    seen = await store.install(credential())
    stores = [store, another(), another()]
    outcomes = await asyncio.gather(*(each.claim(seen, attempt(f"{n}")) for n in range(20) for each in stores))
    (winner,) = [claim for claim in outcomes if claim is not None]
    assert await store.load("default") == winner


@pytest.mark.long
async def test_one_of_four_processes_wins(store: Store, address: str, crowd: Crowds) -> None:
    await store.install(credential())
    outcomes = await asyncio.to_thread(crowd, claims, 4, address)
    (winner,) = [name for name in outcomes if name is not None]
    row = await store.load("default")
    assert row is not None
    assert row.attempt is not None
    assert (row.attempt.attempt_id, row.sends) == (winner, 1)


async def test_accounts_are_claimed_independently(store: Store) -> None:
    one, other = await store.install(credential("one")), await store.install(credential("other"))
    assert await store.claim(one, attempt("a"))
    assert await store.claim(other, attempt("b"))


@pytest.mark.parametrize(
    "changed",
    [
        {"login_id": "another grant"},
        {"generation": 2},
        {"generation": 0},
        {"refresh_token": Secret("another refresh token")},
        {"account": "nobody"},
    ],
    ids=lambda changed: next(iter(changed)),
)
async def test_a_claim_on_what_is_not_in_the_row_is_refused(store: Store, changed: dict[str, object]) -> None:
    seen = await store.install(credential())
    assert await store.claim(replace(seen, **changed), attempt()) is None
    assert await store.load("default") == seen


async def test_a_claim_on_an_older_generation_of_the_same_token_is_refused(store: Store) -> None:
    seen = await store.install(credential())
    claim = await store.claim(seen, attempt())
    assert claim is not None
    kept_its_token = rotated(claim, Tokens(Secret("new access token"), None), sent_at=NOW, now=NOW, wait=0)
    assert kept_its_token.refresh_token == seen.refresh_token
    assert await store.settle(claim, kept_its_token)
    assert await store.claim(seen, attempt("late")) is None
    assert await store.claim(kept_its_token, attempt("fresh"))


async def test_a_claim_on_a_replaced_login_is_refused(store: Store) -> None:
    seen = await store.install(credential())
    newer = await store.install(another_login())
    assert await store.claim(seen, attempt()) is None
    assert await store.load("default") == newer


async def test_a_claim_beside_a_live_attempt_is_refused(store: Store) -> None:
    seen = await store.install(credential())
    first = await store.claim(seen, attempt("first"))
    assert first is not None
    assert await store.claim(seen, attempt("second")) is None
    assert await store.claim(first, attempt("third")) is None
    assert await store.load("default") == first


async def test_a_claim_after_logout_is_refused(store: Store) -> None:
    seen = await store.install(credential())
    await store.forget("default")
    after = await store.load("default")
    assert after is not None
    assert await store.claim(seen, attempt()) is None
    assert await store.claim(after, attempt()) is None
    assert await store.load("default") == after


async def test_a_claim_on_nothing_is_refused(store: Store) -> None:
    assert await store.claim(credential(), attempt()) is None
    assert await store.load("default") is None


def _uncertain(claim: Credential) -> Credential:
    return left_uncertain(claim, "read_timeout", now=NOW, until=NOW + 10)


def _dead(claim: Credential) -> Credential:
    return refused(claim, "refresh_token_revoked")


def _put_off(claim: Credential) -> Credential:
    return put_off(claim, "connect_error", until=NOW + 10)


def _counted(claim: Credential) -> Credential:
    return replace(claim, attempt=None)


def _ended(claim: Credential) -> Credential:
    return replace(given_back(claim), state="dead")


@pytest.mark.parametrize("outcome", [_uncertain, _dead, _put_off, _counted, _ended])
async def test_a_claim_that_missed_the_outcome_of_another_attempt_is_refused(
    store: Store, another: Callable[..., Store], outcome: Callable[[Credential], Credential]
) -> None:
    seen = await store.install(credential())
    claim = await another().claim(seen, Attempt("faster", "another process", NOW))
    assert claim is not None
    known = outcome(claim)
    assert await store.settle(claim, known)
    assert await store.claim(seen, attempt("slower")) is None
    assert await store.load("default") == known
