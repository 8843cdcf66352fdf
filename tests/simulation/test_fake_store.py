"""The database of the simulation does what the real one does: the same statements have the same effects."""

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from service.domain.credential import Credential, Tokens, given_back, left_uncertain, put_off, refused, rotated
from service.domain.errors import AuthError
from service.domain.secret import Secret
from service.store.store import Store
from tests.simulation.disk import Disk
from tests.store.samples import NOW, another_login, attempt, due, open_store

pytestmark = pytest.mark.long

STATEMENTS = 120
ACCOUNTS = ("a", "b")


class Both:
    """Each statement to the real store and to the fake; the answers must be the same."""

    def __init__(self, real: Store) -> None:
        self.real = real
        self.fake = Disk(due, lambda: 0.0)
        self.effects = 0

    async def do(self, name: str, *arguments: Any) -> Any:
        versions = self.real.version(), self.fake.commits
        expected, got = await answer(self.real, name, arguments), self.fake_answer(name, arguments)
        assert got == expected, name
        changed = self.real.version() != versions[0], self.fake.commits != versions[1]
        assert changed[0] == changed[1], f"whether {name} is news to those who wait"
        self.effects += changed[1]
        return got

    def fake_answer(self, name: str, arguments: tuple[Any, ...]) -> Any:
        try:
            return getattr(self.fake, name)(*arguments)
        except AuthError as exc:
            return exc.code


async def answer(store: Store, name: str, arguments: tuple[Any, ...]) -> Any:
    """What the real store says."""
    try:
        return await getattr(store, name)(*arguments)
    except AuthError as exc:
        return exc.code


def outcome(random: Random, claim: Credential) -> Credential:
    """One of the things that can come of an attempt."""
    pair = Tokens(Secret(f"at{random.random()}"), Secret(f"rt{random.random()}"), lifetime=600 + random.random())
    return random.choice(
        [
            given_back(claim),
            put_off(claim, "busy", until=NOW + 5),
            left_uncertain(claim, "lost", now=NOW, until=None),
            refused(claim, "refresh_token_revoked"),
            rotated(claim, pair, sent_at=NOW, now=NOW, wait=1.0),
        ]
    )


@pytest.mark.parametrize("seed", range(4))
async def test_same_statements_same_effects(seed: int, tmp_path: Path) -> None:
    random = Random(seed)
    store = open_store(f"sqlite:{tmp_path / 'data' / 'pixir-auth.db'}")
    both = Both(store)
    seen: list[Credential] = []
    for number in range(STATEMENTS):
        account = random.choice(ACCOUNTS)
        old = random.choice(seen[-6:]) if seen else None
        match random.choice(("install", "forget", "load", "load", "claim", "claim", "settle", "settle", "note", "due")):
            case "install":
                # No two are due at one instant: their order would be nobody's promise.
                login = another_login(random.randrange(6), account, expires_at=NOW + 3600 + random.random())
                shared = replace(login, refresh_token=Secret(f"shared {random.randrange(3)}"))
                await both.do("install", random.choice((login, shared)))
            case "forget" if random.random() < 0.3:
                await both.do("forget", account)
            case "load":
                seen += [one for one in [await both.do("load", account)] if one]
            case "claim" if old:
                seen += [one for one in [await both.do("claim", old, attempt(f"{number}"))] if one]
            case "settle" if old:
                await both.do("settle", old, outcome(random, old))
            case "note" if old:
                await both.do("note_due", replace(old, expires_at=NOW + random.choice((0, 30, 4000)) + random.random()))
            case "due":
                await both.do("due", NOW + random.choice((-4000, 0, 400, 5000)), random.choice((1, 10)))
    await store.close()
    assert both.effects > 15
