"""Backups, one after the other, while several processes refresh: each is whole, and none is in anybody's way."""

import asyncio
import base64
import json
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from service.cli.backup import back_up
from service.cli.client import Service
from service.domain.backup import Batch, Line
from service.domain.credential import Credential
from tests.kit.postgres import Server
from tests.kit.processes import Machine, Process, machine
from tests.store.samples import open_store, query

from .test_backup import state
from .test_many_processes import _ask, _clients

pytestmark = pytest.mark.long

BACKUPS = 12
ACCOUNTS = ("default", "work")


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the data of the services is kept."""
    if request.param == "sqlite":
        return f"sqlite:{tmp_path / 'data' / 'pixir-auth.db'}"
    found: Server = request.getfixturevalue("postgres")
    return found.empty()


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """The encryption key of all of them."""
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_bytes(base64.b64encode(secrets.token_bytes(32)))
    return path


def started(m: Machine, issuer: Process, address: str, key: Path) -> list[Process]:
    """Services on one database; on PostgreSQL each with a folder of its own."""
    given = {"refresh_floor": 0, "encryption_key_file": key}
    if address.startswith("sqlite:"):
        return [m.service(issuer, **given) for _ in range(3)]
    folders = [m.folder / f"machine-{number}" for number in range(3)]
    return [m.service(issuer, database_url=address, data_dir=folder, **given) for folder in folders]


async def storm(services: list[Process], account: str, over: asyncio.Event) -> None:
    """Everybody rejects every token at once."""
    clients = _clients(services)
    newest = 1
    while not over.is_set():
        answers = await _ask(clients, 6, account=account, newer_than=newest)
        newest = max(answer["generation"] for answer in answers)
    for client in clients:
        await client.aclose()


async def brought_back(file: Path, key: Path) -> list[Credential]:
    """What is in a backup, by way of an empty store that has its key."""
    head, *rows, end = map(json.loads, file.read_bytes().splitlines())
    assert end["end"] == {"credentials": len(rows), "client_keys": 0, "keys": [head["key"]]}
    database = file.with_suffix(".db")
    store = open_store(f"sqlite:{database}", base64.b64decode(key.read_bytes()))
    batch = Batch(base64.b64decode(head["fingerprints"]), [Line(each["row"], each["mac"]) for each in rows])
    assert await store.restore(batch) == (["restored"] * len(rows), [])
    found = await store.accounts("", 10)
    await store.close()
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    return found


def is_pair(credential: Credential) -> bool:
    """Whether both tokens are of one login and of the generation that the row says."""
    assert credential.access_token
    assert credential.refresh_token
    payload = credential.access_token.reveal().split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    login, number, _ = credential.refresh_token.reveal().removeprefix("rt_").split(".")
    return claims["session_id"] == login and claims["sandbox_generation"] == int(number) == credential.generation


async def test_every_backup_holds_pairs_that_the_issuer_gave_and_no_refresh_is_disturbed(
    tmp_path: Path, address: str, key: Path
) -> None:
    with machine(tmp_path) as m:
        issuer = m.issuer(access_lifetime=3)
        services = started(m, issuer, address, key)
        for account in ACCOUNTS:
            m.install(services[0], issuer, account, subject=account)
        over = asyncio.Event()
        storms = [asyncio.create_task(storm(services, account, over)) for account in ACCOUNTS]
        files = [tmp_path / f"{number}.backup" for number in range(BACKUPS)]
        for number, file in enumerate(files):
            assert await asyncio.to_thread(back_up, Service(services[number % 3].url), str(file)) == 0
        over.set()
        await asyncio.gather(*storms)
        for service in services:
            service.close()

        newest = [number for (number,) in query(address, "SELECT generation FROM credential ORDER BY account")]
        after = state(issuer)
        assert (after["refresh_count"], after["reuse_count"]) == (sum(newest) - len(newest), 0)
        assert [family["generation"] for family in after["families"]] == newest
        assert all(family["alive"] for family in after["families"])
        requests = issuer.client.get("/_sandbox/requests").json()
        given = {each["form"].get("refresh_token") for each in requests}
        given |= {family["refresh_token"] for family in after["families"]}
        seen = [await brought_back(file, key) for file in files]
        for found in seen:
            assert [each.account for each in found] == sorted(ACCOUNTS)
            assert all(is_pair(each) for each in found), "a torn pair"
            assert {each.refresh_token.reveal() for each in found if each.refresh_token} <= given
        for account in zip(*seen, strict=True):
            numbers = [each.generation for each in account]
            assert numbers == sorted(numbers), "a later backup of an older state"
            assert len(set(numbers)) > 2, "nobody was busy"
