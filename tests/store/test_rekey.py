"""A new encryption key while everything runs: nothing is lost, nobody is disturbed, and the old one can go."""

import asyncio
import base64
import hashlib
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, update

from service.domain.credential import Credential, Tokens, given_back, left_uncertain, put_off, refused, rotated
from service.domain.errors import KeyNotReplaced, StoreUnavailable
from service.domain.login import Login
from service.domain.secret import Secret
from service.store import keys
from service.store.database import FINGERPRINTS
from service.store.keys import KeySource, KeyUnusable, OwnKey, alone_in
from service.store.rescue import Rescue
from service.store.schema import CredentialRow
from service.store.store import Store
from service.store.vault import Key

from .crowd import Crowds, dies_rekeying, refreshes_while_another_rekeys, rekeys
from .samples import (
    KEY,
    NOW,
    OTHER_KEY,
    another_login,
    attempt,
    backend_of,
    browser_login,
    credential,
    device_login,
    due,
    given,
    lines,
    path_of,
    query,
)
from .test_files import mode

pytestmark = pytest.mark.long

SEALED = {
    "credential": ("access_token_sealed", "refresh_token_sealed", "id_token_sealed"),
    "login": ("oauth_state_sealed", "verifier_sealed", "user_code_sealed", "device_auth_id_sealed"),
    "sealed": ("value",),
}
STATE = Secret("state of login-1")

Opener = Callable[..., Store]


@pytest.fixture
async def opened(address: str) -> AsyncIterator[Opener]:
    """Opens stores on the data of this test, each with a source of keys; KEY is the one that was used so far."""
    stores: list[Store] = []

    def open_with(source: KeySource, **named: Any) -> Store:
        stores.append(Store(backend_of(address), lambda _is_new: source, due, **named))
        return stores[-1]

    open_with(given(KEY))
    yield open_with
    for store in stores:
        await store.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A key file with one key in it, as somebody else would make it."""
    return written(tmp_path / "keys" / "encryption.key", KEY)


def written(path: Path, *keys: bytes) -> Path:
    """A file with these keys: replaced, as careful people do it."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    draft = path.with_name("draft")
    draft.touch(0o600)
    draft.write_bytes(lines(*keys))
    return draft.replace(path)


def foreign(path: Path) -> KeySource:
    """A file that the service only reads."""
    return KeySource(str(path), path=path)


def keys_in(path: Path) -> list[bytes]:
    """What a file holds."""
    return [base64.b64decode(line) for line in path.read_bytes().splitlines()]


def heads(address: str) -> set[bytes]:
    """How all the sealed values begin that are in the database: with which keys they are sealed."""
    return {
        bytes(value)[:9]
        for table, columns in SEALED.items()
        for row in query(address, f"SELECT {', '.join(columns)} FROM {table}")
        for value in row
        if value is not None
    }


async def filled(store: Store) -> None:
    """Accounts in several states, and logins that wait."""
    await store.install(credential())
    await store.claim(await store.install(credential("claimed")), attempt())
    await store.install(credential("out"))
    await store.forget("out")
    await store.add_login(browser_login())
    await store.add_login(device_login("login-2", "other"))


VALUES = 2 * 3 + 2 + 2 + 1
"""What is sealed of that, and the key of the fingerprints."""


async def everything(store: Store) -> list[Credential | Login | None]:
    """All that it can be asked for."""
    return [*await store.accounts("", 100), await store.login("login-1"), await store.login("login-2")]


# -- the service's own file ----------------------------------------------------------------------------------------


async def test_the_own_key_is_replaced_and_all_is_sealed_with_the_new_one(
    opened: Opener, address: str, file: Path
) -> None:
    if not address.startswith("sqlite:"):
        pytest.skip("there the operator gives each replica its key")
    store = opened(OwnKey(file))
    await filled(store)
    before = await everything(store)
    assert await store.rekey() == VALUES
    (new,) = keys_in(file)
    assert new != KEY
    assert mode(file) == "-rw-------"
    assert heads(address) == {Key(new).head}
    assert await everything(store) == before == await everything(opened(OwnKey(file)))


async def test_the_own_old_key_is_kept_apart_for_backups_and_read_by_nobody(
    opened: Opener, address: str, file: Path
) -> None:
    if not address.startswith("sqlite:"):
        pytest.skip("there the operator gives each replica its key")
    store = opened(OwnKey(file))
    await filled(store)
    await store.rekey()
    await store.rekey()
    first = file.with_name(f"encryption.key.{Key(KEY).id.hex()}.old")
    assert keys_in(first) == [KEY]
    assert mode(first) == "-rw-------"
    assert len(list(file.parent.iterdir())) == 3  # the present one, and two old ones


async def test_a_backup_from_before_opens_again_with_the_old_key_put_back(
    opened: Opener, address: str, file: Path, tmp_path: Path
) -> None:
    if not address.startswith("sqlite:"):
        pytest.skip("a file is copied here")
    store = opened(OwnKey(file))
    await filled(store)
    before = await everything(store)
    query(address, "VACUUM INTO ?", [str(tmp_path / "copy.db")])
    await store.rekey()
    with pytest.raises(KeyUnusable, match=rf"\({Key(KEY).id.hex()}\): put that one back"):
        Store(backend_of(f"sqlite:{tmp_path / 'copy.db'}"), lambda _is_new: OwnKey(file), due)
    (old,) = file.parent.glob("*.old")
    written(file, *keys_in(file), *keys_in(old))
    restored = Store(backend_of(f"sqlite:{tmp_path / 'copy.db'}"), lambda _is_new: OwnKey(file), due)
    assert await everything(restored) == before
    await restored.close()


async def test_several_machines_are_not_given_a_key_that_one_of_them_made(
    opened: Opener, address: str, file: Path
) -> None:
    if address.startswith("sqlite:"):
        pytest.skip("all are on one machine")
    store = opened(OwnKey(file))
    with pytest.raises(KeyNotReplaced):
        await store.rekey()
    written(file, OTHER_KEY, KEY)
    assert await store.rekey() == 1
    assert keys_in(file) == [OTHER_KEY, KEY]  # and it is not for one of them to say that the old one is not needed


def test_a_key_is_made_once_for_all_who_want_it_replaced(file: Path) -> None:
    OwnKey(file).renew(Key(KEY).head)
    assert len(keys_in(file)) == 2
    OwnKey(file).renew(Key(KEY).head)
    assert len(keys_in(file)) == 2


def test_old_keys_stay_while_somebody_goes_over_to_a_newer_one(file: Path) -> None:
    OwnKey(file).renew(Key(KEY).head)
    OwnKey(file).retire(Key(KEY).head)
    assert keys_in(file)[1:] == [KEY]
    OwnKey(file).retire(Key(keys_in(file)[0]).head)
    assert len(keys_in(file)) == 1


async def test_who_comes_late_does_not_go_back_to_a_key_that_has_left_the_file(
    opened: Opener, address: str, file: Path
) -> None:
    if not address.startswith("sqlite:"):
        pytest.skip("there no key leaves the file by itself")
    late, store = opened(OwnKey(file)), opened(OwnKey(file))
    OwnKey(file).renew(Key(KEY).head)
    late._vault.learn(late._keys.read)
    await store.rekey()
    await store.rekey()
    late._go_over()
    assert heads(address) == {Key(keys_in(file)[0]).head}
    assert await late.rekey() == 1


async def test_a_key_that_was_seen_in_passing_opens_what_others_seal_with_it_later(
    opened: Opener, address: str, file: Path
) -> None:
    """Another change of the key began while one looked whether the old keys may go, and ended without touching the
    file again."""
    if not address.startswith("sqlite:"):
        pytest.skip("there no key leaves the file by itself")
    store, other = opened(OwnKey(file)), opened(foreign(file))
    before = await store.install(credential())

    def renew() -> None:
        OwnKey(file).renew(Key(keys_in(file)[0]).head)

    with meanwhile(store, renew):
        await store.rekey()
    assert len(keys_in(file)) == 3
    await other.rekey()
    assert await store.load("default") == before


def test_no_key_is_pushed_out_of_a_full_file(file: Path) -> None:
    full = [hashlib.sha256(b"%d" % number).digest() for number in range(8)]
    written(file, *full)
    with pytest.raises(KeyUnusable, match="holds 8 keys already"):
        OwnKey(file).renew(Key(full[0]).head)
    assert keys_in(file) == full


def test_somebody_who_was_stopped_while_he_replaced_a_key_is_not_waited_for(
    file: Path, nothing_hangs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each who asks would take a thread of the store with him, and the service could not end."""
    monkeypatch.setitem(vars(keys), "_PATIENCE", 0.1)
    with alone_in(file.parent), pytest.raises(KeyUnusable, match="cannot be replaced"):
        OwnKey(file).renew(Key(KEY).head)
    assert keys_in(file) == [KEY]


def test_what_a_killed_writer_left_is_taken_away(file: Path) -> None:
    file.with_name("encryption.key.new").write_bytes(b"half a k")
    OwnKey(file).renew(Key(KEY).head)
    assert [path.name for path in file.parent.iterdir()] == ["encryption.key"]


# -- any other source ----------------------------------------------------------------------------------------------


async def test_without_a_new_key_nothing_happens(opened: Opener, address: str, file: Path) -> None:
    store = opened(foreign(file))
    await filled(store)
    before = [query(address, f"SELECT * FROM {table}") for table in SEALED]
    with pytest.raises(KeyNotReplaced) as refusal:
        await store.rekey()
    assert refusal.value.code == "no_new_key"
    assert "first line" in refusal.value.next_actions[0]
    assert keys_in(file) == [KEY]
    assert [query(address, f"SELECT * FROM {table}") for table in SEALED] == before


async def test_a_key_on_the_first_line_is_gone_over_to_without_a_restart(
    opened: Opener, address: str, file: Path
) -> None:
    store = opened(foreign(file))
    await filled(store)
    before = await everything(store)
    written(file, OTHER_KEY, KEY)
    assert await store.rekey() == VALUES
    assert keys_in(file) == [OTHER_KEY, KEY]
    assert heads(address) == {Key(OTHER_KEY).head}
    assert await everything(store) == before
    with pytest.raises(KeyNotReplaced):
        await store.rekey()  # nothing was left
    written(file, OTHER_KEY)
    assert await everything(opened(foreign(file))) == before


async def test_a_source_that_cannot_be_read_again_changes_nothing(opened: Opener, address: str, file: Path) -> None:
    store = opened(foreign(file))
    await filled(store)
    file.chmod(0o644)
    with pytest.raises(KeyNotReplaced, match="the log says why"):
        await store.rekey()
    assert heads(address) == {Key(KEY).head}


async def test_a_new_key_seals_nothing_before_it_was_gone_over_to(opened: Opener, address: str) -> None:
    """So that replicas can be given it one after the other."""
    early, late = opened(given(OTHER_KEY, KEY)), opened(given(KEY))
    await filled(early)
    assert heads(address) == {Key(KEY).head}
    assert await everything(late) == await everything(early)


async def test_who_does_not_have_the_key_in_use_cannot_go_over_to_his(opened: Opener, address: str) -> None:
    behind = opened(given(KEY))
    await filled(behind)
    await opened(given(OTHER_KEY, KEY)).rekey()
    with pytest.raises(KeyNotReplaced):
        await behind.rekey()
    assert heads(address) == {Key(OTHER_KEY).head}


async def test_others_pick_the_new_key_up_from_the_file_they_share(opened: Opener, file: Path) -> None:
    store, other = opened(foreign(file)), opened(foreign(file))
    await filled(store)
    before = await everything(other)
    written(file, OTHER_KEY, KEY)
    await store.rekey()
    assert await everything(other) == before


@pytest.mark.parametrize("keys", [(OTHER_KEY,), (OTHER_KEY, hashlib.sha256(b"a third").digest())])
async def test_an_old_key_taken_away_too_early_makes_a_row_unreadable_until_it_is_put_back(
    opened: Opener, address: str, keys: tuple[bytes, ...]
) -> None:
    store = opened(given(OTHER_KEY, KEY))
    stored, other = await store.install(credential()), await store.install(credential("other"))
    (old,) = query(address, f"SELECT {', '.join(SEALED['credential'])} FROM credential WHERE account = 'default'")
    await store.rekey()
    columns = " = ?, ".join(SEALED["credential"])
    query(address, f"UPDATE credential SET {columns} = ? WHERE account = 'default'", old)  # as if it had been missed
    early = opened(given(*keys))
    assert [each.state for each in await early.accounts("", 10)] == ["unreadable", "active"]
    with pytest.raises(KeyNotReplaced):
        await early.rekey()
    back = opened(given(OTHER_KEY, KEY))
    assert await back.accounts("", 10) == [stored, other]
    assert await back.rekey() == 3
    assert await early.accounts("", 10) == [stored, other]


# -- what must not change ------------------------------------------------------------------------------------------


async def test_the_token_that_a_login_began_with_is_known_by_its_name_ever_after(opened: Opener) -> None:
    """It is spent: to store it again would look like theft at the next refresh."""
    store = opened(given(KEY))
    moved_on = await refreshed(store, await store.install(credential()))
    await opened(given(OTHER_KEY, KEY)).rekey()
    later = opened(given(OTHER_KEY))
    assert await later.install(credential()) == moved_on


async def test_a_browser_that_comes_back_with_a_state_from_before_finds_its_login(opened: Opener) -> None:
    await opened(given(KEY)).add_login(browser_login(binding=None))
    await opened(given(OTHER_KEY, KEY)).rekey()
    taken = await opened(given(OTHER_KEY)).take_login(STATE, None, NOW, bound=True)
    assert taken is not None
    assert taken.verifier == browser_login().verifier


async def test_an_older_generation_under_the_old_key_does_not_open(opened: Opener, address: str) -> None:
    store = opened(given(OTHER_KEY, KEY))
    stored = await store.install(credential())
    ((old,),) = query(address, "SELECT refresh_token_sealed FROM credential")
    await refreshed(store, stored)
    await store.rekey()
    query(address, "UPDATE credential SET refresh_token_sealed = ?", [old])
    seen = await store.load("default")
    assert seen is not None
    assert seen.state == "unreadable"


async def test_what_does_not_open_stays_as_it_is_and_holds_nobody_up(opened: Opener, address: str, file: Path) -> None:
    store = opened(OwnKey(file))
    await store.install(credential())
    await store.install(credential("other"))
    swap = "(SELECT access_token_sealed FROM credential WHERE account = 'other')"
    query(address, f"UPDATE credential SET access_token_sealed = {swap} WHERE account = 'default'")
    before = query(address, "SELECT * FROM credential WHERE account = 'default'")
    if address.startswith("postgresql:"):
        written(file, OTHER_KEY, KEY)
    assert await store.rekey() == 1 + 3
    assert query(address, "SELECT * FROM credential WHERE account = 'default'") == before
    assert len(keys_in(file)) == (1 if address.startswith("sqlite:") else 2)


# -- refreshes under way -------------------------------------------------------------------------------------------

OUTCOMES: dict[str, Callable[[Credential], Credential]] = {
    "rotated": lambda claim: rotated(claim, NEXT, sent_at=NOW, now=NOW, wait=0),
    "refused": lambda claim: refused(claim, "refresh_token_reused"),
    "put off": lambda claim: put_off(claim, "connect_error", until=NOW + 30),
    "uncertain": lambda claim: left_uncertain(claim, "read_timeout", now=NOW, until=NOW + 10),
    "given back": given_back,
}
NEXT = Tokens(Secret("next access token"), Secret("next refresh token"))


async def refreshed(store: Store, seen: Credential) -> Credential:
    """One refresh."""
    claim = await store.claim(seen, attempt())
    assert claim is not None
    after = rotated(claim, NEXT, sent_at=NOW, now=NOW, wait=0)
    assert await store.settle(claim, after)
    return after


@pytest.mark.parametrize("outcome", OUTCOMES.values(), ids=list(OUTCOMES))
async def test_what_was_sent_before_is_settled_after(
    opened: Opener, address: str, file: Path, outcome: Callable[[Credential], Credential]
) -> None:
    """By who has not read a thing since: what he writes is sealed with the new key all the same."""
    store, sender = opened(OwnKey(file)), opened(OwnKey(file))
    claim = await sender.claim(await sender.install(credential()), attempt())
    assert claim is not None
    if address.startswith("postgresql:"):
        written(file, OTHER_KEY, KEY)
    await store.rekey()
    assert await store.load("default") == claim
    assert await sender.settle(claim, outcome(claim))
    assert heads(address) == {Key(keys_in(file)[0]).head}
    assert await store.load("default") == outcome(claim) == await opened(OwnKey(file)).load("default")


async def test_a_login_and_an_import_after_it_are_sealed_with_the_new_key(
    opened: Opener, address: str, file: Path
) -> None:
    store, other = opened(foreign(file)), opened(foreign(file))
    written(file, OTHER_KEY, KEY)
    await store.rekey()
    await other.add_login(browser_login())
    await other.install(credential())
    assert heads(address) == {Key(OTHER_KEY).head}


async def test_who_cannot_get_at_the_new_key_loses_no_pair(opened: Opener) -> None:
    """He holds the only copy: sealed with the old key it can still be read by all who have both."""
    sender, store = opened(given(KEY)), opened(given(OTHER_KEY, KEY))
    claim = await sender.claim(await sender.install(credential()), attempt())
    assert claim is not None
    await store.rekey()
    after = OUTCOMES["rotated"](claim)
    assert await sender.settle(claim, after)
    assert await store.load("default") == after
    assert await store.rekey() == 3
    assert await opened(given(OTHER_KEY)).load("default") == after


@contextmanager
def meanwhile(store: Store, act: Callable[[], Any]) -> Iterator[list[Any]]:
    """Do something once, after the store has read a credential to seal it anew and before it writes it."""
    done: list[Any] = []

    def look(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "FROM credential" in statement and "WHERE credential.account = " in statement and not done:
            done.append(None)
            done[0] = act()

    event.listen(store._backend.engine, "after_cursor_execute", look)
    yield done
    event.remove(store._backend.engine, "after_cursor_execute", look)


async def test_a_pair_stored_between_the_reading_and_the_writing_of_its_row_is_not_written_over(
    opened: Opener, address: str, file: Path
) -> None:
    store, sender = opened(foreign(file)), opened(foreign(file))
    claim = await sender.claim(await sender.install(credential()), attempt())
    assert claim is not None
    after = OUTCOMES["rotated"](claim)
    written(file, OTHER_KEY, KEY)
    with meanwhile(store, lambda: sender._update(claim, after, late=True)) as done:
        assert await store.rekey() == 1  # the key of the fingerprints: the row was new by then
    assert done == [True]
    assert await store.load("default") == after
    assert heads(address) == {Key(OTHER_KEY).head}


async def test_an_outcome_without_tokens_in_between_is_kept_too(opened: Opener, address: str, file: Path) -> None:
    store, sender = opened(foreign(file)), opened(foreign(file))
    claim = await sender.claim(await sender.install(credential()), attempt())
    assert claim is not None
    after = OUTCOMES["uncertain"](claim)
    written(file, OTHER_KEY, KEY)
    with meanwhile(store, lambda: sender._update(claim, after, late=False)) as done:
        assert await store.rekey() == 4
    assert done == [True]
    assert await store.load("default") == after
    assert heads(address) == {Key(OTHER_KEY).head}


async def test_the_old_bytes_under_another_generation_are_not_sealed_for_it(
    opened: Opener, address: str, file: Path
) -> None:
    store = opened(foreign(file))
    await store.install(credential())
    before = query(address, f"SELECT {', '.join(SEALED['credential'])} FROM credential")
    written(file, OTHER_KEY, KEY)
    with meanwhile(store, lambda: query(address, "UPDATE credential SET generation = 2")):
        await store.rekey()
    assert query(address, f"SELECT {', '.join(SEALED['credential'])} FROM credential") == before


async def test_a_row_that_somebody_was_faster_with_is_looked_at_again_before_the_old_key_goes(
    opened: Opener, address: str, file: Path
) -> None:
    store = opened(OwnKey(file))
    await store.install(credential())
    if address.startswith("postgresql:"):
        written(file, OTHER_KEY, KEY)
    with meanwhile(store, lambda: query(address, "UPDATE credential SET id_token_sealed = NULL")) as done:
        assert await store.rekey() == 1 + 2
    assert done == [[]]
    assert heads(address) == {Key(keys_in(file)[0]).head}
    assert await opened(OwnKey(file)).load("default") == credential(id_token=None)


async def test_nothing_is_sealed_with_the_old_key_after_the_new_one_is_in_use(
    opened: Opener, address: str, file: Path
) -> None:
    """Who has begun to write is waited for: what he commits is then found, and sealed anew."""
    store, slow = opened(foreign(file)), opened(foreign(file))
    stored = await slow.install(credential())
    written(file, OTHER_KEY, KEY)
    begun, go_on = threading.Event(), threading.Event()

    def writes_slowly() -> None:
        with slow._backend.writing() as connection:
            columns = slow._all(connection, replace(stored, id_token=None))
            begun.set()
            assert go_on.wait(10)
            connection.execute(update(CredentialRow).values(columns))

    writing = asyncio.create_task(asyncio.to_thread(writes_slowly))
    assert await asyncio.to_thread(begun.wait, 10)
    rekeying = asyncio.create_task(store.rekey())
    await waits_or_is_done(address, rekeying)
    go_on.set()
    await writing
    await rekeying
    assert heads(address) == {Key(OTHER_KEY).head}


async def waits_or_is_done(address: str, task: asyncio.Task[int]) -> None:
    """Until it waits for a lock in the database. SQLite does not tell: there a moment has to do."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    for _ in range(500):
        if task.done() or (address.startswith("postgresql:") and query(address, waiting) != [(0,)]):
            return
        await asyncio.wait({task}, timeout=0.01)
        if address.startswith("sqlite:"):
            return
    pytest.fail("it neither waits nor ends")


async def test_the_end_of_the_service_does_not_wait_for_every_row(opened: Opener, address: str, file: Path) -> None:
    """A hundred thousand take half an hour: what is left is for the next time."""
    await filled(opened(foreign(file)))
    store = Store(backend_of(address), lambda _is_new: foreign(file), due)
    written(file, OTHER_KEY, KEY)
    loop, ending = asyncio.get_running_loop(), list[asyncio.Task[None]]()

    async def end() -> None:
        ending.append(asyncio.create_task(store.close()))
        await asyncio.sleep(0)  # it has begun

    at_once = meanwhile(store, lambda: asyncio.run_coroutine_threadsafe(end(), loop).result(10))
    with at_once, pytest.raises(StoreUnavailable, match="goes on where it was"):
        await store.rekey()
    await ending[0]
    assert heads(address) == {Key(KEY).head, Key(OTHER_KEY).head}
    await opened(given(OTHER_KEY, KEY)).rekey()
    assert heads(address) == {Key(OTHER_KEY).head}


# -- rescue files --------------------------------------------------------------------------------------------------


async def test_a_rescued_pair_is_stored_by_who_has_only_the_new_key(opened: Opener, file: Path, tmp_path: Path) -> None:
    rescue = Rescue(tmp_path / "rescue")
    store = opened(foreign(file), rescue=rescue)
    claim = await store.claim(await store.install(credential(login_id="a1")), attempt())
    assert claim is not None
    after = OUTCOMES["rotated"](claim)
    assert await store.rescue(after)
    written(file, OTHER_KEY, KEY)
    assert await store.rekey() == 1 + 3 + 1
    (kept,) = (tmp_path / "rescue").glob("*")
    assert (kept.name, mode(kept)) == ("a1-2.rescue", "-rw-------")
    later = opened(given(OTHER_KEY), rescue=rescue)
    assert await later.recover() == 1
    assert await later.load("default") == after
    assert list((tmp_path / "rescue").glob("*.rescue")) == []


async def test_a_pair_is_rescued_with_the_key_that_will_be_there(opened: Opener, file: Path, tmp_path: Path) -> None:
    """The database cannot be asked then: the source can."""
    rescue = Rescue(tmp_path / "rescue")
    store = opened(foreign(file), rescue=rescue)
    claim = await store.claim(await store.install(credential(login_id="a1")), attempt())
    assert claim is not None
    written(file, OTHER_KEY)
    assert await store.rescue(OUTCOMES["rotated"](claim))
    (kept,) = (tmp_path / "rescue").glob("*.rescue")
    assert kept.read_bytes().startswith(Key(OTHER_KEY).head)


# -- a database that does not say yet which key it is sealed with --------------------------------------------------


async def test_a_database_from_before_keeps_its_fingerprints(opened: Opener, address: str) -> None:
    """They were made with the key that sealed its rows, whichever line that is on."""
    store = opened(given(KEY))
    stored = await store.install(credential())
    query(address, "DELETE FROM sealed")
    later = opened(given(OTHER_KEY, KEY))
    assert await later.claim(stored, attempt())
    assert heads(address) == {Key(KEY).head}


async def test_a_database_from_before_is_refused_with_another_key_and_not_changed(opened: Opener, address: str) -> None:
    await opened(given(KEY)).install(credential())
    query(address, "DELETE FROM sealed")
    before = query(address, "SELECT * FROM credential")
    with pytest.raises(KeyUnusable, match="1 keys have sealed what is in the database, 0 of them are in"):
        opened(given(OTHER_KEY))
    assert query(address, "SELECT * FROM credential") == before
    assert query(address, "SELECT * FROM sealed") == []


async def test_logins_begun_with_a_key_that_is_gone_hold_up_no_start(opened: Opener, address: str) -> None:
    store = opened(given(KEY))
    await store.add_login(browser_login())
    stored = await opened(given(KEY)).install(credential())
    query(address, "DELETE FROM sealed")
    ((sealed,),) = query(address, "SELECT verifier_sealed FROM login")
    query(address, "UPDATE login SET verifier_sealed = ?", [Key(OTHER_KEY).head + bytes(sealed)[9:]])
    later = opened(given(KEY))
    assert await later.claim(stored, attempt())
    assert await later.login("login-1") is None


async def test_where_nobody_has_logged_in_a_login_that_waits_says_which_key_it_was(
    opened: Opener, address: str
) -> None:
    await opened(given(KEY)).add_login(browser_login(binding=None))
    query(address, "DELETE FROM sealed")
    assert await opened(given(OTHER_KEY, KEY)).take_login(STATE, None, NOW, bound=True)
    query(address, "DELETE FROM sealed")
    assert await opened(given(OTHER_KEY)).login("login-1") is None  # begun with a key that is gone: nobody waits for it


@pytest.mark.parametrize("damage", ["moved", "cut"])
async def test_a_damaged_key_of_the_fingerprints_is_refused_and_kept(opened: Opener, address: str, damage: str) -> None:
    await opened(given(KEY)).install(credential())
    other = Key(KEY).seal(Secret("00" * 32), replace(FINGERPRINTS, row="another"))
    query(address, "UPDATE sealed SET value = ?", [other if damage == "moved" else b"\x01"])
    before = query(address, "SELECT * FROM sealed")
    with pytest.raises(KeyUnusable):
        opened(given(KEY))
    assert query(address, "SELECT * FROM sealed") == before


# -- killed, and all at once ---------------------------------------------------------------------------------------


async def test_killed_at_any_write_everything_is_readable_and_the_next_finishes(tmp_path: Path, crowd: Crowds) -> None:
    template = tmp_path / "template"
    template.mkdir()
    key = written(template / "pixir-auth" / "encryption.key", KEY)
    store = Store(backend_of(f"sqlite:{template / 'data' / 'x.db'}"), lambda _is_new: OwnKey(key), due)
    await store.install(credential())
    await store.add_login(browser_login())
    before = [await store.load("default"), await store.login("login-1")]
    await store.close()
    for point in range(1, 200):
        home = tmp_path / f"{point}"
        shutil.copytree(template, home)
        address = f"sqlite:{home / 'data' / 'x.db'}"
        ended = crowd(dies_rekeying, 1, address, str(home), point, may_die=True) == [True]
        own = home / "pixir-auth" / "encryption.key"
        after = Store(backend_of(address), lambda _is_new, own=own: OwnKey(own), due)  # type: ignore[misc]
        assert [await after.load("default"), await after.login("login-1")] == before
        assert await after.claim(await after.load("default") or credential(), attempt())
        if not ended:
            await after.rekey()
        assert heads(address) == {Key(keys_in(own)[0]).head}
        assert len(keys_in(own)) == 1
        await after.close()
        shutil.rmtree(home)
        if ended:
            break
    assert ended
    assert point > 20


async def test_processes_that_replace_the_key_at_once_end_with_one(
    opened: Opener, address: str, tmp_path: Path, crowd: Crowds
) -> None:
    own = written(tmp_path / "pixir-auth" / "encryption.key", KEY)
    store = opened(OwnKey(own))
    await filled(store)
    before = await everything(store)
    if address.startswith("postgresql:"):
        written(own, OTHER_KEY, KEY)
    await asyncio.to_thread(crowd, rekeys, 4, address, str(tmp_path))
    assert heads(address) == {Key(keys_in(own)[0]).head}
    assert await everything(store) == before == await everything(opened(OwnKey(own)))
    assert len(keys_in(own)) == (1 if address.startswith("sqlite:") else 2)


async def test_refreshes_in_other_processes_go_on_and_lose_nothing(
    opened: Opener, address: str, tmp_path: Path, crowd: Crowds
) -> None:
    own = written(tmp_path / "pixir-auth" / "encryption.key", KEY)
    store = opened(OwnKey(own))
    for me in range(1, 4):
        await store.install(another_login(me, f"account-{me}"))
    if address.startswith("postgresql:"):
        written(own, OTHER_KEY, KEY)
    generations = await asyncio.to_thread(crowd, refreshes_while_another_rekeys, 4, address, str(tmp_path))
    found = await opened(OwnKey(own)).accounts("", 10)
    assert [(each.account, each.state, each.generation) for each in found] == [
        (f"account-{me}", "active", generations[me]) for me in range(1, 4)
    ]
    assert [each.refresh_token for each in found] == [Secret(f"refresh token {generations[me]}") for me in range(1, 4)]
    assert heads(address) == {Key(keys_in(own)[0]).head}
    assert path_of(address).exists() if address.startswith("sqlite:") else len(keys_in(own)) == 2
