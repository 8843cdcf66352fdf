"""What is kept apart from the database: how far a login had come (I9), and a pair that the database does not take."""

import asyncio
import logging
import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import pytest

from service.store.generations import Generations, open_record
from service.store.rescue import BALLAST_BYTES, Rescue
from service.store.store import Store
from tests.kit import House, house

pytestmark = pytest.mark.long

EXPIRED = 3601.0


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder apart from the data."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "pixir-auth"


def sent(h: House) -> int:
    """Refresh requests that the issuer has seen."""
    return len(h.sandbox.token_requests("refresh_token"))


# -- a restored copy (I9) ------------------------------------------------------------------------------------------


@asynccontextmanager
async def restored(folder: Path) -> AsyncIterator[House]:
    """A service on a copy of the database that is one refresh behind."""
    async with house(folder) as h:
        await h.log_in()
    shutil.copytree(folder / "data", folder / "backup")
    async with house(folder, sandbox=h.sandbox, clock=h.clock) as later:
        later.clock.advance(3500)
        assert (await later.token(min_ttl=3000))["generation"] == 2
    shutil.rmtree(folder / "data")
    shutil.copytree(folder / "backup", folder / "data")
    async with house(folder, sandbox=h.sandbox, clock=h.clock) as again:
        yield again


async def test_a_restored_copy_is_not_refreshed(tmp_path: Path) -> None:
    async with restored(tmp_path) as h:
        await h.app.background.round()
        await h.app.refresher.drain()
        answer = await h.token(newer_than=1)
        assert (answer["generation"], answer["warning"]) == (1, "refresh_uncertain")
        h.clock.advance(200)
        problem = (await h.client.get("/token")).json()
        assert (problem["code"], problem["reason"]) == ("login_required", "outcome_unknown")
        assert (sent(h), h.sandbox.reuse_count, h.sandbox.families[0].alive) == (1, 0, True)


async def test_status_says_that_it_was_restored(tmp_path: Path) -> None:
    async with restored(tmp_path) as h:
        refresh = (await h.status())["refresh"]
        assert (refresh["state"], refresh["last_error"], refresh["next_attempt_at"]) == (
            "uncertain",
            "restored_backup",
            None,
        )


async def test_the_background_looks_at_it_once(tmp_path: Path) -> None:
    async with restored(tmp_path) as h:
        for _ in range(2):
            await h.app.background.round()
        assert await h.app.services.store.due(h.clock.now + 10_000, 10) == ([], None)  # type: ignore[attr-defined]


async def test_a_new_login_mends_it(tmp_path: Path) -> None:
    async with restored(tmp_path) as h:
        assert (await h.log_in())["state"] == "complete"
        h.clock.advance(EXPIRED)
        assert (await h.token())["generation"] == 3


async def test_an_import_says_that_its_token_is_good(tmp_path: Path) -> None:
    async with restored(tmp_path) as h:
        old = {"kind": "subscription", "access_token": "a", "refresh_token": h.sandbox.families[0].refresh_token}
        assert (await h.client.put("/credential", json=old)).status_code == 200
        h.clock.advance(EXPIRED)
        assert (await h.client.get("/token")).status_code == 200
        assert h.sandbox.families[0].alive


async def test_it_can_be_logged_out(tmp_path: Path) -> None:
    async with restored(tmp_path) as h:
        assert (await h.client.post("/logout")).json()["authenticated"] is False


async def test_a_database_begun_anew_is_not_taken_for_an_old_one(tmp_path: Path) -> None:
    async with house(tmp_path, refresh_floor=0) as h:
        await h.log_in()
        await h.token(newer_than=1)
    shutil.rmtree(tmp_path / "data")
    async with house(tmp_path, sandbox=h.sandbox, clock=h.clock) as anew:
        await anew.log_in()
        anew.clock.advance(EXPIRED)
        assert (await anew.token())["generation"] == 2


async def test_the_record_holds_no_secret_and_is_ours_alone(tmp_path: Path, config: Path) -> None:
    async with house(tmp_path) as h:
        await h.log_in()
        family = h.sandbox.families[0]
    files = list(config.glob("generations.db*"))
    assert files
    for file in files:
        assert file.stat().st_mode & 0o777 == 0o600
        assert family.refresh_token.encode() not in file.read_bytes()


def test_a_record_only_grows(tmp_path: Path) -> None:
    record = Generations(tmp_path / "generations.db")
    for generation in (3, 1, 2):
        record.note("login", generation)
    assert (record.highest("login"), record.highest("another")) == (3, 0)
    record.close()


def test_a_record_that_cannot_be_kept_in_one_folder_is_kept_in_the_next(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a file").touch()
    record = open_record(tmp_path / "a file", tmp_path / "good")
    assert record is not None
    record.close()
    assert (tmp_path / "good" / "generations.db").exists()
    assert "no record of generations can be kept" in caplog.text


async def test_a_record_that_breaks_stops_nothing(
    tmp_path: Path, config: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with house(tmp_path, refresh_floor=0) as h:
        await h.log_in()
        with closing(sqlite3.connect(config / "generations.db")) as database:
            database.execute("DROP TABLE seen")
        assert (await h.token(newer_than=1))["generation"] == 2
    assert "the record of generations cannot be written" in caplog.text


# -- a pair that the database does not take ------------------------------------------------------------------------


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """The database takes no change."""
    with closing(sqlite3.connect(folder / "data" / "pixir-auth.db")) as database:
        database.execute("CREATE TRIGGER full BEFORE UPDATE ON credential BEGIN SELECT RAISE(ABORT, 'full'); END")
        yield
        database.execute("DROP TRIGGER full")


async def refreshed_in_vain(h: House, folder: Path) -> asyncio.Task[object]:
    """A refresh whose pair is in memory and in a rescue file only; the caller who waits for it."""
    await h.log_in()
    h.clock.advance(EXPIRED)
    h.gate.hold_after.clear()
    caller: asyncio.Task[object] = asyncio.create_task(h.token())
    await h.gate.arrived.wait()
    return caller


async def in_a_file(folder: Path) -> Path:
    """Wait for the rescue file."""
    async with asyncio.timeout(20):
        while not (found := list(folder.rglob("*.rescue"))):  # noqa: ASYNC110 - nothing tells of it but itself
            await asyncio.sleep(0.01)
    return found[0]


async def test_a_pair_that_is_not_stored_is_served_told_of_and_kept_in_a_sealed_file(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        caller = await refreshed_in_vain(h, tmp_path)
        with full(tmp_path):
            h.gate.hold_after.set()
            file = await in_a_file(tmp_path)
            assert file.stat().st_mode & 0o777 == 0o600
            assert h.sandbox.families[0].refresh_token.encode() not in file.read_bytes()
            answer = await h.token()
            assert (answer["generation"], answer["warning"]) == (2, "store_unavailable")
            assert (await h.client.get("/readyz")).json()["code"] == "store_unavailable"
            assert (await h.status())["refresh"]["last_error"] == "store_unavailable"
            assert not (tmp_path / "data" / "ballast").exists()
        await caller
        await h.app.refresher.drain()
        assert (await h.token())["generation"] == 2
        assert "warning" not in await h.token()
        assert (await h.client.get("/readyz")).status_code == 200
        assert list(tmp_path.rglob("*.rescue")) == []
        assert (tmp_path / "data" / "ballast").stat().st_size == BALLAST_BYTES
        assert (sent(h), h.sandbox.reuse_count) == (1, 0)


async def left_behind(folder: Path) -> House:
    """A process ended while the database took no change: its pair is in a file only."""
    async with house(folder) as h:
        caller = await refreshed_in_vain(h, folder)
        with full(folder):
            h.gate.hold_after.set()
            await in_a_file(folder)
            ending = asyncio.create_task(h.app.refresher.drain())
            await asyncio.sleep(0)  # the end begins
            h.clock.advance(21)
            await ending
        await caller
    return h


async def test_the_next_start_stores_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    h = await left_behind(tmp_path)
    assert "left in a rescue file for the next start" in caplog.text
    async with house(tmp_path, sandbox=h.sandbox, clock=h.clock, background=True) as again:
        assert (await again.token())["generation"] == 2
        again.clock.advance(EXPIRED)
        assert (await again.token())["generation"] == 3
    assert list(tmp_path.rglob("*.rescue")) == []
    assert (len(h.sandbox.token_requests("refresh_token")), h.sandbox.reuse_count) == (2, 0)


async def test_who_finds_a_dead_owners_claim_looks_for_a_rescue_file_first(tmp_path: Path) -> None:
    h = await left_behind(tmp_path)
    async with house(tmp_path, sandbox=h.sandbox, clock=h.clock) as again:
        assert (await again.token())["generation"] == 2
    assert h.sandbox.reuse_count == 0


@pytest.mark.parametrize("damage", ["torn", "another key", "another name", "not a name"])
async def test_a_file_that_cannot_be_used_is_kept_and_the_row_counts(tmp_path: Path, damage: str) -> None:
    h = await left_behind(tmp_path)
    (file,) = tmp_path.rglob("*.rescue")
    if damage == "torn":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif damage == "another key":
        file.write_bytes(b"\x01" + bytes(8) + file.read_bytes()[9:])
    elif damage == "another name":
        file = file.rename(file.with_name(f"{'0' * 32}-2.rescue"))
    else:
        file = file.rename(file.with_name("name.rescue"))
    async with house(tmp_path, sandbox=h.sandbox, clock=h.clock, background=True) as again:
        assert (await again.status())["refresh"]["generation"] == 1
    assert file.exists()


async def test_a_file_of_another_login_is_left_alone(tmp_path: Path) -> None:
    """It may be of another database: folders and keys are shared by all services of one user."""
    h = await left_behind(tmp_path)
    (file,) = tmp_path.rglob("*.rescue")
    kept = file.rename(tmp_path / "kept")
    async with house(tmp_path, sandbox=h.sandbox, clock=h.clock) as again:
        await again.log_in()
        before = await again.token()
    kept.rename(file)
    async with house(tmp_path, sandbox=h.sandbox, clock=h.clock, background=True) as again:
        assert await again.token() == before
    assert file.exists()


async def test_a_file_of_a_login_that_has_come_further_is_set_aside(tmp_path: Path) -> None:
    h = await left_behind(tmp_path)
    (file,) = tmp_path.rglob("*.rescue")
    copy = file.read_bytes()
    async with house(tmp_path, sandbox=h.sandbox, clock=h.clock, background=True) as again:
        again.clock.advance(EXPIRED)
        assert (await again.token())["generation"] == 3
    file.touch(mode=0o600)
    file.write_bytes(copy)
    async with house(tmp_path, sandbox=h.sandbox, clock=h.clock, background=True) as again:
        assert (await again.token())["generation"] == 3
    assert [path.suffix for path in file.parent.glob(f"{file.stem}.*")] == [".superseded"]


async def test_a_folder_for_temporary_files_is_better_than_nothing_but_not_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir(mode=0o700)
    async with house(tmp_path) as h:
        await h.log_in()
        store = h.app.services.store
        (found,) = await store.accounts("", 1)  # type: ignore[attr-defined]
        rescue = Rescue(tmp_path / "encryption.key")  # a file: nothing can be in it
        assert not rescue.save(found, store._vault)  # type: ignore[attr-defined]
        assert [each.credential for each in rescue.found(store._vault)] == [found]  # type: ignore[attr-defined]
        assert not rescue.save(found, store._vault)  # type: ignore[attr-defined]
        assert len(list((tmp_path / "temporary").iterdir())) == 1, "once is enough"
        rescue.discard(found)
        assert list((tmp_path / "temporary").iterdir()) == []


async def test_trouble_with_rescue_files_does_not_stop_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_self: Store) -> int:
        raise PermissionError("as ordered")

    monkeypatch.setattr(Store, "recover", broken)
    async with house(tmp_path, background=True) as h:
        assert (await h.log_in())["state"] == "complete"


async def test_a_file_whose_pair_is_stored_already_is_removed(tmp_path: Path) -> None:
    h = await left_behind(tmp_path)
    (file,) = tmp_path.rglob("*.rescue")
    copy = file.read_bytes()
    for _ in range(2):
        async with house(tmp_path, sandbox=h.sandbox, clock=h.clock, background=True) as again:
            assert (await again.token())["generation"] == 2
        assert not file.exists()
        file.touch(mode=0o600)
        file.write_bytes(copy)


async def test_without_the_data_folder_the_file_goes_to_the_next(tmp_path: Path, config: Path) -> None:
    async with house(tmp_path) as h:
        await h.log_in()
        (found,) = await h.app.services.store.accounts("", 1)  # type: ignore[attr-defined]
        (tmp_path / "data").chmod(0o777)  # others could change what is in it: not used
        try:
            assert await h.app.services.store.rescue(found)  # type: ignore[attr-defined]
        finally:
            (tmp_path / "data").chmod(0o700)
    assert len(list(config.glob("*.rescue"))) == 1


async def test_where_no_folder_takes_it_that_is_said(
    tmp_path: Path, config: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path) as h:
        await h.log_in()
        store = h.app.services.store
        (found,) = await store.accounts("", 1)  # type: ignore[attr-defined]
        store._rescue._durable = (tmp_path / "encryption.key",)  # type: ignore[attr-defined]
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "encryption.key"))
        assert not await store.rescue(found)  # type: ignore[attr-defined]
    assert "no rescue file can be made" in caplog.text


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """What is logged can be looked at."""
    caplog.set_level(logging.INFO)


async def test_a_row_that_moves_on_while_it_is_judged_is_not_taken_for_an_old_one(tmp_path: Path) -> None:
    """Read at generation 1, then refreshed and noted by another process, then compared with the record."""
    async with house(tmp_path, refresh_floor=0) as h, house(tmp_path, sandbox=h.sandbox, clock=h.clock) as other:
        await h.log_in()
        store = h.app.services.store
        old = store._read("default")  # type: ignore[attr-defined]
        assert old is not None
        h.clock.advance(EXPIRED)
        assert (await other.token())["generation"] == 2
        judged = store._judged(old)  # type: ignore[attr-defined]
        assert (judged.state, judged.generation) == ("active", 2)
