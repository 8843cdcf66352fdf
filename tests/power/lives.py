"""A store on a disk whose power fails, again and again, and what must be there each time.

The store is the real one, with its own engine, pragmas, migrations and watch; only the driver below SQLAlchemy and
SQLite's way to the disk are ours. One seed is one run: several lives on one disk, each ended by a loss of power at some
change or sync (also while a database is made, migrated or recovered), and a last one that only looks.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from sqlalchemy import create_engine

from service.domain.credential import (
    Attempt,
    Credential,
    Tokens,
    claimed,
    left_uncertain,
    logged_out,
    put_off,
    refused,
    rotated,
)
from service.domain.errors import AuthError
from service.domain.secret import Secret
from service.store import sqlite
from service.store.store import Store
from tests.power.disk import Disk, Loss
from tests.power.driver import Driver
from tests.power.vfs import NotedVFS
from tests.store.samples import NOW, another_login, browser_login, open_store

LIVES = 3
KINDS = (
    *("create x.db", "write x.db", "sync x.db", "truncate x.db"),
    *("create x.db-wal", "write x.db-wal", "sync x.db-wal", "truncate x.db-wal", "delete x.db-wal"),
    *("create x.db-journal", "write x.db-journal", "sync x.db-journal", "delete x.db-journal"),
    "sync the folder",
)
"""All changes and syncs there are (the log is kept, the journal is only there when a database is made)."""

SPANS = (40, 150, 600)
"""Changes and syncs until the power fails, at most: while a database is made, in its youth, after some checkpoints."""

ACCOUNTS = ("one", "two", "three")
DATABASE = "x.db"

Rows = dict[str, Credential | str]
"""`account NAME` -> its credential, `login ID` -> its state."""


class Forgotten(AssertionError):
    """The law is broken: what was acknowledged is not there, or half of what was not."""


class RolledBack(Forgotten):
    """The same, and the worst of it: an older generation is in the row, its refresh token spent."""


class Damaged(AssertionError):
    """The law is broken: the database does not hold together."""


@dataclass
class Run:
    """All changes and syncs of a run, and those among them at which the power failed."""

    events: list[str] = field(default_factory=list)
    struck: list[str] = field(default_factory=list)


@dataclass
class Ledger:
    """What the store has acknowledged, and what it was asked for when the power failed."""

    told: Rows = field(default_factory=dict)
    asked: Rows = field(default_factory=dict)

    def credential(self, account: str) -> Credential | None:
        """What was acknowledged of an account."""
        known = self.told.get(f"account {account}")
        return known if isinstance(known, Credential) else None

    def check(self, found: Rows) -> None:
        """All that was acknowledged is there; what was not is there as a whole or not at all."""
        if found not in (self.told, self.told | self.asked):
            raise self._difference(found)
        self.told, self.asked = found, {}

    def _difference(self, found: Rows) -> Forgotten:
        rows = [key for key in sorted(self.told | self.asked | found) if found.get(key) != self.told.get(key)]
        sides = {"acknowledged": self.told, "asked for": self.asked, "found": found}
        text = "\n".join(f"{key}, {side}: {there.get(key)}" for key in rows for side, there in sides.items())
        older = any(_generation(found.get(key)) < _generation(self.told.get(key)) for key in rows)
        return RolledBack(text) if older else Forgotten(text)


def _generation(row: Credential | str | None) -> int:
    return row.generation if isinstance(row, Credential) else 0


def play(seed: int) -> Run:
    """Play one seed. Raises Forgotten, Damaged."""
    try:
        with TemporaryDirectory(prefix="power") as folder:
            return asyncio.run(_play(Random(seed), Path(folder)))
    except (AssertionError, AuthError, sqlite3.Error) as exc:
        exc.add_note(f"seed {seed}; once more: python -m tests.power {seed}")
        raise


async def _play(rng: Random, folder: Path) -> Run:
    files: dict[str, bytes] = {}
    ledger, run = Ledger(), Run()
    sector = rng.choice((512, 4096))
    for life in range(LIVES):
        disk = Disk(files, rng=rng, sector=sector, loss=_loss(rng))
        await _live(disk, _laid_out(files, folder / f"{life}"), ledger, rng)
        assert disk.survivors is not None
        assert disk.struck is not None
        files = disk.survivors
        _check_integrity(_laid_out(files, folder / f"{life}-afterwards"))
        run.events += disk.events
        run.struck.append(disk.struck)
    await _look(Disk(files, rng=rng, sector=sector), _laid_out(files, folder / "last"), ledger)
    return run


def _loss(rng: Random) -> Loss:
    """Half of the time anywhere, else at something that is rare."""
    latest = rng.choice(SPANS)
    if rng.random() < 0.5:
        return Loss(rng.randrange(1, latest))
    return Loss(rng.randrange(1, rng.choice((2, 6))), rng.choice(KINDS), at_latest=latest)


async def _live(disk: Disk, path: Path, ledger: Ledger, rng: Random) -> None:
    """Open the store, find what has to be there, and use it until the power fails."""
    with _powered_by(disk):
        while not disk.has_failed():
            stores = [open_store(f"sqlite:{path}") for _ in range(2)]  # as two processes
            ledger.check(await _found(stores[0], ledger))
            while not disk.has_failed() and rng.random() < 0.99:
                await _step(rng.choice(stores), disk, ledger, rng)
            for store in stores:
                await store.close()


async def _look(disk: Disk, path: Path, ledger: Ledger) -> None:
    with _powered_by(disk):
        store = open_store(f"sqlite:{path}")
        ledger.check(await _found(store, ledger))
        await store.close()


@contextmanager
def _powered_by(disk: Disk) -> Iterator[None]:
    """Stores that are opened in here are on that disk. The only place that reaches into the product."""
    vfs = NotedVFS(disk)
    driver = Driver(vfs.name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite, "create_engine", partial(create_engine, module=driver))
        patch.setattr(sqlite, "sqlite3", driver)
        try:
            yield
        finally:
            vfs.unregister()


def _laid_out(files: dict[str, bytes], folder: Path) -> Path:
    """Real files with that content in a new folder; the path of the database."""
    folder.mkdir(mode=0o700)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder / DATABASE


def _check_integrity(path: Path) -> None:
    """By another copy of SQLite, on files that nobody else opens."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            verdict = connection.execute("PRAGMA integrity_check").fetchall()
    except sqlite3.DatabaseError as exc:
        raise Damaged("integrity: cannot be read") from exc
    if verdict != [("ok",)]:
        raise Damaged(f"integrity: {verdict}")


async def _found(store: Store, ledger: Ledger) -> Rows:
    """All accounts, and the logins that were ever asked for."""
    found: Rows = {f"account {credential.account}": credential for credential in await store.accounts("", 100)}
    logins = [key for key in ledger.told | ledger.asked if key.startswith("login ")]
    for key in logins:
        login = await store.login(key.removeprefix("login "))
        if login is not None:
            found[key] = login.state
    return found


# -- what the store is asked for -------------------------------------------------------------------------------------


async def _step(store: Store, disk: Disk, ledger: Ledger, rng: Random) -> None:
    """One thing that the use cases do, chosen by what the account has come to."""
    account = rng.choice(ACCOUNTS)
    seen = ledger.credential(account)
    change = Change(store, ledger, account, rng)
    if seen is None or seen.state != "active":
        asked, work = rng.choice((change.install, change.log_in))(seen)
    elif seen.attempt is None:
        asked, work = rng.choices((change.claim, change.log_in, change.forget), (12, 1, 1))[0](seen)
    else:
        asked, work = change.settle(seen)
    ledger.asked = asked
    assert await work() not in (None, False), "refused, though nobody else has written"
    if not disk.has_failed():
        ledger.told, ledger.asked = ledger.told | ledger.asked, {}


Asked = tuple[Rows, Callable[[], Awaitable[Any]]]
"""What will be there afterwards, and what brings it about."""


class Change:
    """What can be asked of the store for an account."""

    def __init__(self, store: Store, ledger: Ledger, account: str, rng: Random) -> None:
        self._store = store
        self._ledger = ledger
        self._account = account
        self._rng = rng

    def install(self, seen: Credential | None) -> Asked:
        """A login made elsewhere."""
        new = self._new(seen)
        return self._becomes(new), partial(self._store.install, new)

    def log_in(self, seen: Credential | None) -> Asked:
        """A login is started; or the one that was started is finished."""
        login = browser_login(f"{self._account}-{len(self._ledger.told)}", self._account)
        pending = [
            key for key, state in self._ledger.told.items() if state == "pending" and f" {self._account}-" in key
        ]
        if not pending:
            return {f"login {login.id}": "pending"}, partial(_done, self._store.add_login, login)
        login, new = replace(login, id=pending[0].removeprefix("login ")), self._new(seen)
        return {pending[0]: "complete", **self._becomes(new)}, partial(self._store.complete_login, login, new)

    def claim(self, seen: Credential) -> Asked:
        """The intent to refresh."""
        attempt = Attempt(self._rng.randbytes(16).hex(), "owner", NOW)
        return self._becomes(claimed(seen, attempt)), partial(self._store.claim, seen, attempt)

    def settle(self, seen: Credential) -> Asked:
        """What became of it, most often a new pair."""
        after = self._rng.choices(
            (
                rotated(seen, self._tokens(), sent_at=NOW, now=NOW, wait=0),
                put_off(seen, "connect_error", until=NOW + 10),
                left_uncertain(seen, "read_timeout", now=NOW, until=NOW + 10),
                refused(seen, "refresh_token_revoked"),
            ),
            (12, 1, 1, 1),
        )[0]
        return self._becomes(after), partial(self._store.settle, seen, after)

    def forget(self, seen: Credential) -> Asked:
        """A logout, which empties the log as well."""
        return self._becomes(logged_out(seen)), partial(self._store.forget, self._account)

    def _new(self, seen: Credential | None) -> Credential:
        tokens = self._tokens()
        return replace(
            another_login(self._rng.getrandbits(64), self._account),
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token,
            generation=seen.generation + 1 if seen else 1,
        )

    def _tokens(self) -> Tokens:
        """Of a length that spreads a row over several pages."""
        access, refresh = (
            Secret(self._rng.randbytes(size).hex()) for size in (self._rng.choice((100, 1500, 4000)), 48)
        )
        return Tokens(access, refresh, lifetime=3600.0)

    def _becomes(self, credential: Credential) -> Rows:
        return {f"account {self._account}": credential}


async def _done(work: Callable[..., Awaitable[None]], *arguments: Any) -> bool:
    await work(*arguments)
    return True
