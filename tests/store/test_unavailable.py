"""A database that cannot be used: told by one error that holds no secret, and whatever is there stays as it is."""

import asyncio
import json
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.domain.credential import Credential
from service.domain.errors import StoreUnavailable
from service.domain.secret import Secret
from service.store import sqlite as our_sqlite
from service.store.files import UnsafePath
from service.store.migrations import NewerSchema
from service.store.store import Store

from .samples import NOW, ROOT, attempt, browser_login, credential, open_store, query
from .test_files import content
from .test_sqlite import somebody_writing

pytestmark = pytest.mark.long


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database file that is not there yet, in a folder that is."""
    (tmp_path / "data").mkdir(mode=0o700)
    return tmp_path / "data" / "x.db"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits longer than a moment for another writer."""
    pragmas = tuple("busy_timeout = 50" if each.startswith("busy_timeout") else each for each in our_sqlite._PRAGMAS)
    assert pragmas != our_sqlite._PRAGMAS
    monkeypatch.setattr(our_sqlite, "_PRAGMAS", pragmas)


# -- what is not a database ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [b"not a database\n" * 1000, b"SQLite format 3\0" + b"\xff" * 5000, b"SQLite format 3\0"],
    ids=["text", "header and noise", "header"],
)
def test_a_file_that_is_no_database_is_refused_and_kept(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StoreUnavailable, match=r"cannot be used as the database: SQLITE_NOTADB\.$"):
        open_store(f"sqlite:{path}")
    assert path.read_bytes() == content


def test_a_folder_in_place_of_the_database_is_refused_and_kept(path: Path) -> None:
    path.mkdir()
    (path / "precious").touch()
    with pytest.raises(UnsafePath):
        open_store(f"sqlite:{path}")
    assert [each.name for each in path.iterdir()] == ["precious"]


# -- another writer ------------------------------------------------------------------------------------------------

STATE = Secret(f"state of {browser_login().id}")
WORK: dict[str, Callable[[Store, Credential], Any]] = {
    "claim": lambda store, seen: store.claim(seen, attempt()),
    "settle": lambda store, seen: store.settle(seen, seen),
    "install": lambda store, seen: store.install(credential("new")),
    "forget": lambda store, seen: store.forget("default"),
    "add_login": lambda store, seen: store.add_login(browser_login("login-2", "new")),
    "take_login": lambda store, seen: store.take_login(STATE, None, NOW, bound=False),
    "complete_login": lambda store, seen: store.complete_login(browser_login(), credential()),
    "end_login": lambda store, seen: store.end_login("login-1", "failed", None, None),
    "check": lambda store, seen: store.check(),
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("work", WORK.values(), ids=list(WORK))
async def test_who_cannot_write_in_time_says_so_and_has_changed_nothing(
    path: Path, work: Callable[[Store, Credential], Any]
) -> None:
    address = f"sqlite:{path}"
    store = open_store(address)
    seen = await store.install(credential())
    await store.add_login(browser_login())
    before = [query(address, f"SELECT * FROM {table}") for table in ("credential", "login")]
    with somebody_writing(path):
        with pytest.raises(StoreUnavailable):
            await work(store, seen)
        assert await store.load("default") == seen  # reading goes on
    assert [query(address, f"SELECT * FROM {table}") for table in ("credential", "login")] == before
    await work(store, seen)  # and so does writing, when the other has gone
    await store.close()


@pytest.mark.usefixtures("impatient")
def test_a_start_beside_a_long_writer_is_refused(path: Path) -> None:
    asyncio.run(open_store(f"sqlite:{path}").close())
    with somebody_writing(path), pytest.raises(StoreUnavailable, match=r": SQLITE_BUSY\.$"):
        open_store(f"sqlite:{path}")


@pytest.mark.usefixtures("impatient")
async def test_a_reader_who_stays_delays_only_the_erasing(path: Path) -> None:
    """What he may still read cannot be erased under him; the next to empty the log does it."""
    address = f"sqlite:{path}"
    store = open_store(address)
    await store.install(credential())
    ((ciphertext,),) = query(address, "SELECT refresh_token_sealed FROM credential")
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM credential").fetchall()
    assert await store.forget("default")
    after = await store.load("default")
    assert after is not None
    assert after.state == "logged_out"
    reader.close()
    await store.close()
    assert ciphertext not in content(path)


# -- no room, no right ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """What became of each step of each scene."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no mount namespace can be made here (unshare -rm)")
    command = [unshare, "-rm", sys.executable, "-m", "tests.store.narrow", str(tmp_path_factory.mktemp("narrow"))]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    told: dict[str, dict[str, str]] = json.loads(ended.stdout)
    return told


def test_on_a_full_disk_nothing_is_claimed_and_nothing_is_lost(scenes: dict[str, dict[str, str]]) -> None:
    assert scenes["full"] == {
        "claim": "StoreUnavailable",
        "load": "done",
        "check": "StoreUnavailable",
        "forget": "StoreUnavailable",
        "unchanged": "done",
        "claim with room": "done",
        "close": "done",
    }


def test_a_log_that_cannot_be_emptied_does_not_spoil_the_end(scenes: dict[str, dict[str, str]]) -> None:
    """Emptying it is a courtesy: what was committed is committed."""
    assert scenes["full_at_the_end"] == {"close": "done", "kept": "done"}


def test_without_room_there_is_no_backup(scenes: dict[str, dict[str, str]]) -> None:
    assert scenes["full_for_a_backup"] == {"backup": "StoreUnavailable", "backup with room": "done"}


def test_a_read_only_folder_is_refused_and_kept(scenes: dict[str, dict[str, str]]) -> None:
    told = scenes["read_only"]
    assert told["used"] == "StoreUnavailable"
    assert {told["new"], told["new folder"]} <= {"OSError", "StoreUnavailable"}  # as the service tells it at its start


# -- damage --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database in use, and its log, as a crash would leave them."""
    folder = tmp_path_factory.mktemp("healthy") / "data"
    address = f"sqlite:{folder / 'x.db'}"

    async def fill() -> Path:
        store = open_store(address)
        for name in ("one", "other"):
            await store.install(credential(name))
        await store.add_login(browser_login("login-1", "one"))
        await asyncio.to_thread(shutil.copytree, folder, folder.with_name("crashed"))
        await store.close()
        return folder.with_name("crashed")

    return asyncio.run(fill())


async def visit(path: Path) -> set[str]:
    """Use everything that is readable; what errors there were."""
    errors = set()
    try:
        store = open_store(f"sqlite:{path}")
    except (StoreUnavailable, NewerSchema, UnicodeDecodeError) as refused:
        return {type(refused).__name__}
    visits = [
        lambda: store.accounts("", 10),
        lambda: store.load("one"),
        lambda: store.login("login-1"),
        lambda: store.due(NOW, 10),
        lambda: store.due_polls(NOW),
        store.check,
    ]
    for each in visits:
        try:
            await each()
        except StoreUnavailable:
            errors.add("StoreUnavailable")
    await store.close()
    return errors


@pytest.fixture
def damaged(healthy: Path, tmp_path: Path) -> Callable[[], Path]:
    """Makes fresh copies to damage."""
    copies = iter(range(1000))

    def copy() -> Path:
        folder = tmp_path / f"{next(copies)}"
        shutil.copytree(healthy, folder)
        (folder / "x.db-shm").unlink(missing_ok=True)
        return folder / "x.db"

    return copy


async def test_what_a_crash_leaves_is_whole(damaged: Callable[[], Path]) -> None:
    path = damaged()
    store = open_store(f"sqlite:{path}")
    assert [each.state for each in await store.accounts("", 10)] == ["active", "active"]
    await store.close()


async def test_a_log_cut_anywhere_gives_an_earlier_state_or_none(damaged: Callable[[], Path]) -> None:
    length = damaged().with_name("x.db-wal").stat().st_size
    for at in range(0, length, length // 8):
        path = damaged()
        with path.with_name("x.db-wal").open("rb+") as log:
            log.truncate(at)
        assert await visit(path) == set()
        assert query(f"sqlite:{path}", "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("seed", range(4))
async def test_a_damaged_log_is_ignored_from_there_on(damaged: Callable[[], Path], seed: int) -> None:
    path = damaged()
    damage(path.with_name("x.db-wal"), seed)
    assert await visit(path) == set()
    assert query(f"sqlite:{path}", "PRAGMA integrity_check") == [("ok",)]


def damage(path: Path, seed: int) -> None:
    """Write noise over sixteen bytes somewhere."""
    chance = random.Random(seed)
    content = bytearray(path.read_bytes())
    at = chance.randrange(len(content) - 16)
    content[at : at + 16] = chance.randbytes(16)
    path.write_bytes(content)


async def whole(path: Path) -> Path:
    """With the log worked into the database."""
    await open_store(f"sqlite:{path}").close()
    return path


@pytest.mark.parametrize("seeds", [range(8), pytest.param(range(8, 208), marks=pytest.mark.long)], ids=["few", "many"])
async def test_a_damaged_database_is_refused_or_unreadable_and_never_a_surprise(
    damaged: Callable[[], Path], seeds: range
) -> None:
    for seed in seeds:
        path = await whole(damaged())
        damage(path, seed)
        assert await visit(path) <= {"StoreUnavailable", "NewerSchema", "UnicodeDecodeError"}, seed


@pytest.mark.parametrize("pages", [0.2, 0.5, 0.9])
async def test_a_database_cut_short_is_refused_and_kept(damaged: Callable[[], Path], pages: float) -> None:
    path = await whole(damaged())
    content = path.read_bytes()
    with path.open("rb+") as file:
        file.truncate(int(len(content) * pages))
    assert await visit(path) == {"StoreUnavailable"}
    assert content.startswith(path.read_bytes())


def test_a_database_whose_damage_is_not_even_text_is_refused(path: Path) -> None:
    address = f"sqlite:{path}"
    asyncio.run(open_store(address).close())
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("UPDATE sqlite_master SET name = CAST(x'ff' AS TEXT), sql = 'CREATE' WHERE name = 'login'")
    connection.close()
    with pytest.raises(StoreUnavailable):
        open_store(address)


# -- the error -----------------------------------------------------------------------------------------------------


def everything_told(error: BaseException) -> str:
    """What any log or debugger could show of an error and of its causes, with the variables of every frame."""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    causes: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        causes.append(f"{cause!r} {cause} {vars(cause)}")
        cause = cause.__cause__ or cause.__context__
    return "".join(shown.format()) + "".join(causes)


KINDS = ("access token", "refresh token", "id token", "state", "verifier", "binding")


def secrets_in(text: str) -> list[str]:
    """Which of the secrets of these tests stand in a text; written here in two halves, as tracebacks show source."""
    return [kind for kind in KINDS for name in ("default", "new", "login-") if f"{kind} of " + name in text]


def test_a_secret_would_be_found_in_an_error() -> None:
    with pytest.raises(ValueError, match="secret") as leaky:
        raise ValueError(f"a secret: {credential().access_token.reveal()}")  # type: ignore[union-attr]
    assert secrets_in(everything_told(leaky.value)) == ["access token"]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("work", WORK.values(), ids=list(WORK))
async def test_the_error_of_a_busy_database_holds_no_secret(
    path: Path, work: Callable[[Store, Credential], Any]
) -> None:
    store = open_store(f"sqlite:{path}")
    seen = await store.install(credential())
    await store.add_login(browser_login())
    with somebody_writing(path), pytest.raises(StoreUnavailable) as refused:
        await work(store, seen)
    await store.close()
    told = everything_told(refused.value)
    assert "OperationalError" in told
    assert secrets_in(told) == []


async def test_the_error_of_a_violated_rule_holds_no_secret(path: Path) -> None:
    """A constraint is violated after the values are bound: libraries like to show them then."""
    store = open_store(f"sqlite:{path}")
    await store.add_login(browser_login("login-1", "one"))
    with pytest.raises(StoreUnavailable) as refused:
        await store.add_login(browser_login("login-1", "other"))
    await store.close()
    told = everything_told(refused.value)
    assert "IntegrityError" in told
    assert secrets_in(told) == []
    assert "/auth/callback" not in str(refused.value.__cause__)  # nor any other value


async def test_the_error_says_nothing_of_the_database_library(path: Path) -> None:
    store = open_store(f"sqlite:{path}")
    await store.install(credential())
    query(f"sqlite:{path}", "DROP TABLE credential")
    with pytest.raises(StoreUnavailable) as refused:
        await store.load("default")
    assert refused.value.detail == "The database cannot be read or written just now."
    await store.close()


# -- whoever asks whether it works ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("impatient")
async def test_any_number_who_ask_at_once_keep_one_thread_busy(path: Path) -> None:
    store = open_store(f"sqlite:{path}")
    before = threading.active_count()
    with somebody_writing(path):
        asking = [asyncio.create_task(store.check()) for _ in range(100)]
        await asyncio.sleep(0)
        asking[0].cancel()  # who leaves spoils it for nobody
        told = await asyncio.gather(*asking, return_exceptions=True)
        assert threading.active_count() == before + 1
    assert {type(each) for each in told[1:]} == {StoreUnavailable}
    await store.check()
    await store.close()


async def test_and_who_asks_again_and_again_has_to_wait(path: Path) -> None:
    store = open_store(f"sqlite:{path}")
    began = time.monotonic()
    for _ in range(11):
        await store.check()
    assert time.monotonic() - began > 0.49
    await store.close()
