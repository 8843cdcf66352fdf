"""A backup is whole, sealed and of one state; what comes back of it is not refreshed until somebody confirms it."""

import asyncio
import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.domain.backup import Batch, Line, Outcome
from service.domain.caller import ClientKey
from service.domain.credential import Credential, Tokens, claimed, left_uncertain, refused, rotated
from service.domain.decide import LoginNeeded, Policy, Use, Wish, decide, refresh_state
from service.domain.errors import InvalidCredential, InvalidRequest, LoginRequired, UnknownAccount
from service.domain.secret import Secret
from service.store.generations import Generations
from service.store.store import Store
from tests.kit.postgres import Server

from .samples import KEY, NOW, OTHER_KEY, another_login, attempt, backend_of, credential, due, given, open_store, query
from .test_scale import fill

Opener = Callable[..., Store]


@pytest.fixture
async def there(request: pytest.FixtureRequest, address: str, tmp_path: Path) -> Any:
    """Opens stores of a new installation, on a database of the same kind, empty at first."""
    elsewhere = f"sqlite:{tmp_path / 'elsewhere' / 'pixir-auth.db'}"
    if not address.startswith("sqlite:"):
        found: Server = request.getfixturevalue("postgres")
        elsewhere = found.beside().empty()
    opened: list[Store] = []

    def open_there(*keys: bytes, **named: Any) -> Store:
        opened.append(Store(backend_of(elsewhere), lambda _is_new: given(*keys or (KEY,)), due, **named))
        return opened[-1]

    yield open_there
    for store in opened:
        await store.close()


async def backup_of(store: Store) -> list[dict[str, Any]]:
    with await store.backup() as file:
        file.seek(0)
        return [json.loads(line) for line in file.read().splitlines()]


def batch_of(lines: list[dict[str, Any]], **options: Any) -> Batch:
    """A whole backup in one."""

    def rows(kind: str) -> list[Line]:
        return [Line(each["row"], each["mac"]) for each in lines if each.get("kind") == kind]

    return Batch(base64.b64decode(lines[0]["fingerprints"]), rows("credential"), rows("client_key"), **options)


async def restored(store: Store, lines: list[dict[str, Any]], **options: Any) -> list[Outcome]:
    """What became of the accounts."""
    return (await store.restore(batch_of(lines, **options)))[0]


async def loaded(store: Store, account: str = "default") -> Credential:
    found = await store.load(account)
    assert found
    return found


def fresh(number: int) -> Tokens:
    return Tokens(Secret(f"access {number}"), Secret(f"refresh {number}"), Secret(f"id {number}"), 3600.0)


async def refreshed(store: Store, account: str = "default", by: int = 1) -> Credential:
    for number in range(by):
        before = await loaded(store, account)
        claim = await store.claim(before, attempt(f"attempt {number}"))
        assert claim
        name = before.generation + 1
        assert await store.settle(claim, rotated(claim, fresh(name), sent_at=NOW, now=NOW, wait=0))
    return await loaded(store, account)


async def test_a_backup_names_its_key_and_holds_neither_key_nor_token(store: Store) -> None:
    await store.install(credential())
    await store.install(another_login(account="work"))
    lines = await backup_of(store)
    text = json.dumps(lines)
    assert lines[0]["pixir_auth_backup"] == 1
    assert lines[-1]["end"] == {"credentials": 2, "client_keys": 0, "keys": [lines[0]["key"]]}
    for secret in ("access token of", "refresh token of", "refresh_token login 1", KEY.hex(), base64.b64encode(KEY)):
        assert str(secret) not in text
    assert lines[0]["key"] not in KEY.hex()


async def test_more_than_a_page_is_there_once_and_in_order(store: Store, address: str) -> None:
    await store.install(credential())
    fill(address, 450)
    lines = await backup_of(store)
    names = sorted(["default", *(f"filler-{number}" for number in range(1, 451))])
    assert [each["row"]["account"] for each in lines[1:-1]] == names


async def test_a_restored_login_is_served_and_never_refreshed(store: Store, there: Opener) -> None:
    await store.install(credential())
    new = there()
    assert await restored(new, await backup_of(store)) == ["restored"]
    found = await loaded(new)
    assert (found.state, found.last_error, found.generation) == ("restored", "restored_backup", 1)
    assert found.access_token == credential().access_token
    assert decide(found, Wish(), NOW, Policy()) == Use("refresh_uncertain")
    for wish in (Wish(), Wish(newer_than=1), Wish(min_ttl=0)):
        assert decide(found, wish, NOW + 3600, Policy()) == LoginNeeded("outcome_unknown")
    assert refresh_state(found, NOW, Policy()) == "uncertain"
    assert await new.due(NOW + 10**6, 10) == ([], None)


async def test_who_knows_nothing_of_it_leaves_it_to_be_confirmed(store: Store, there: Opener) -> None:
    """A background that looks at it all the same does not end it."""
    await store.install(credential())
    new = there()
    await restored(new, await backup_of(store))
    await new.note_due(await loaded(new))
    assert (await loaded(new)).state == "restored"


async def test_a_claim_that_was_under_way_is_not_restored(store: Store, there: Opener) -> None:
    await store.install(credential())
    await store.claim(await loaded(store), attempt())
    new = there()
    await restored(new, await backup_of(store))
    found = await loaded(new)
    assert (found.attempt, found.state, found.sends) == (None, "restored", 1)


async def test_a_send_that_was_under_way_still_counts_when_it_is_confirmed(store: Store, there: Opener) -> None:
    """I1: at most one retry, ever. Who confirms cannot know what became of a send during the backup."""
    await store.install(credential())
    await store.claim(await loaded(store), attempt())
    new = there()
    await restored(new, await backup_of(store))
    found = await new.confirm_unspent("default", "a new name")
    assert (found.state, found.sends, found.uncertain_since) == ("active", 1, NOW)
    assert decide(found, Wish(newer_than=2), NOW, Policy()) == Use("refresh_uncertain")
    claim = await new.claim(found, attempt("the retry"))
    assert claim
    assert refused(claim, "refresh_token_reused").reason == "outcome_unknown"


async def test_what_may_have_been_sent_twice_is_never_confirmed(store: Store, there: Opener) -> None:
    await store.install(credential())
    claim = await store.claim(await loaded(store), attempt("first"))
    assert claim
    unknown = left_uncertain(claim, "timeout", now=NOW, until=None)
    assert await store.settle(claim, unknown)
    assert await store.claim(unknown, attempt("second"))
    new = there()
    assert await restored(new, await backup_of(store)) == ["spent"]
    with pytest.raises(LoginRequired):
        await new.confirm_unspent("default", "a new name")


async def test_confirmed_it_is_a_new_login_that_is_refreshed(store: Store, there: Opener) -> None:
    await store.install(credential())
    new = there()
    await restored(new, await backup_of(store))
    old = await loaded(new)
    now = await new.confirm_unspent("default", "a new name")
    found = await loaded(new)
    assert now == found
    assert (found.state, found.generation, found.login_id) == ("active", 2, "a new name")
    assert found.refresh_token == old.refresh_token
    assert found.last_error is None
    claim = claimed(old, attempt())
    after = rotated(claim, fresh(2), sent_at=NOW, now=NOW, wait=0)
    assert not await new.settle(claim, after), "who acted for the old login has nothing to do with the new one"
    assert (await refreshed(new)).generation == 3


async def test_only_what_was_restored_can_be_confirmed(store: Store, there: Opener) -> None:
    with pytest.raises(UnknownAccount):
        await store.confirm_unspent("default", "a new name")
    await store.install(credential())
    with pytest.raises(InvalidRequest):
        await store.confirm_unspent("default", "a new name")
    new = there()
    await restored(new, await backup_of(store))
    await new.confirm_unspent("default", "a new name")
    with pytest.raises(InvalidRequest):
        await new.confirm_unspent("default", "another name")


async def test_what_the_record_knows_to_be_spent_is_never_confirmed(
    store: Store, there: Opener, tmp_path: Path
) -> None:
    await store.install(credential())
    lines = await backup_of(store)
    record = Generations(tmp_path / "record" / "generations.db")
    record.note(credential().login_id, 3)
    new = there(generations=record)
    assert await restored(new, lines) == ["spent"]
    assert await restored(new, lines) == ["spent"]
    found = await loaded(new)
    assert (found.state, found.reason, found.last_error) == ("dead", "outcome_unknown", "restored_backup")
    assert decide(found, Wish(), NOW, Policy()) == Use("login_required")
    with pytest.raises(LoginRequired):
        await new.confirm_unspent("default", "a new name")


async def test_the_record_speaks_up_when_it_is_confirmed_too(store: Store, there: Opener, tmp_path: Path) -> None:
    """Another replica may have told meanwhile how far the login had come."""
    await store.install(credential())
    record = Generations(tmp_path / "record" / "generations.db")
    new = there(generations=record)
    assert await restored(new, await backup_of(store)) == ["restored"]
    record.note(credential().login_id, 2)
    with pytest.raises(LoginRequired):
        await new.confirm_unspent("default", "a new name")


async def test_it_may_be_done_again(store: Store, there: Opener) -> None:
    await store.install(credential())
    lines = await backup_of(store)
    new = there()
    assert await restored(new, lines) == ["restored"]
    before = await loaded(new)
    assert await restored(new, lines) == ["restored"]
    assert await loaded(new) == before
    await new.confirm_unspent("default", "a new name")
    assert await restored(new, lines) == ["here"]


async def test_who_is_logged_in_here_stays_unless_told_otherwise(store: Store, there: Opener) -> None:
    await store.install(credential())
    lines = await backup_of(store)
    new = there()
    await new.install(another_login())
    assert await restored(new, lines) == ["here"]
    assert (await loaded(new)).login_id == another_login().login_id
    assert await restored(new, lines, replace=True) == ["restored"]
    found = await loaded(new)
    assert (found.login_id, found.state, found.generation) == (credential().login_id, "restored", 2)


@pytest.mark.parametrize("by", [0, 1, 3])
async def test_an_older_copy_never_replaces_the_login_that_it_was_made_of(store: Store, by: int) -> None:
    await store.install(credential())
    lines = await backup_of(store)
    now = await refreshed(store, by=by)
    for is_asked in (False, True):
        assert await restored(store, lines, replace=is_asked) == ["here"]
    assert await loaded(store) == now


async def test_a_logout_is_not_undone(store: Store) -> None:
    await store.install(credential())
    lines = await backup_of(store)
    await store.forget("default")
    assert await restored(store, lines, replace=True) == ["here"]
    assert (await loaded(store)).state == "logged_out"


async def test_numbers_are_not_used_twice(store: Store, there: Opener) -> None:
    await store.install(credential())
    new = there()
    await new.install(another_login())
    await refreshed(new, by=4)
    await new.forget("default")
    assert await restored(new, await backup_of(store)) == ["restored"]
    assert (await loaded(new)).generation == 6


async def test_what_had_ended_comes_back_ended(store: Store, there: Opener) -> None:
    await store.install(credential("dead"))
    claim = await store.claim(await loaded(store, "dead"), attempt())
    assert claim
    await store.settle(claim, refused(claim, "refresh_token_revoked"))
    await store.install(credential("out"))
    await store.forget("out")
    new = there()
    assert await restored(new, await backup_of(store)) == ["ended", "ended"]
    dead, out = await loaded(new, "dead"), await loaded(new, "out")
    assert (dead.state, dead.reason) == ("dead", "refresh_token_revoked")
    assert (out.state, out.refresh_token, out.generation) == ("logged_out", None, 1)
    with pytest.raises(InvalidRequest):
        await new.confirm_unspent("dead", "a new name")


async def test_two_accounts_do_not_hold_one_login(store: Store, there: Opener) -> None:
    await store.install(credential())
    lines = await backup_of(store)
    new = there()
    await new.install(credential("other", refresh_token=credential().refresh_token))
    await refreshed(new, "other", by=2)
    assert await restored(new, lines) == ["held"]
    assert await new.load("default") is None


async def test_what_does_not_open_here_but_had_come_further_is_spent(store: Store, there: Opener, address: str) -> None:
    """There is no record, and the key is lost: the row itself tells how far the login had come."""
    await store.install(credential())
    lines = await backup_of(store)
    await refreshed(store)
    query(address, "UPDATE credential SET refresh_token_sealed = access_token_sealed")
    assert (await loaded(store)).state == "unreadable"
    assert await restored(store, lines) == ["here"]
    assert await restored(store, lines, replace=True) == ["spent"]
    with pytest.raises(LoginRequired):
        await store.confirm_unspent("default", "a new name")


# on a service that goes on


async def test_of_two_who_confirm_at_once_one_does(store: Store, another: Opener, address: str) -> None:
    for number in range(5):
        await store.install(credential(f"a{number}"))
    lines = await backup_of(store)
    query(address, "DELETE FROM credential")
    assert await restored(store, lines) == ["restored"] * 5
    other = another()
    for number in range(5):
        asked = (each.confirm_unspent(f"a{number}", f"name {each is other}") for each in (store, other))
        won, lost = sorted(await asyncio.gather(*asked, return_exceptions=True), key=lambda each: type(each).__name__)
        assert isinstance(won, Credential)
        assert isinstance(lost, InvalidRequest)
        assert await loaded(store, f"a{number}") == won


async def test_what_was_replaced_is_not_brought_back_by_a_refresh_that_was_under_way(
    store: Store, there: Opener
) -> None:
    await store.install(credential())
    lines = await backup_of(store)
    new = there()
    await new.install(another_login())
    claim = await new.claim(await loaded(new), attempt())
    assert claim
    assert await restored(new, lines, replace=True) == ["restored"]
    assert not await new.settle(claim, rotated(claim, fresh(2), sent_at=NOW, now=NOW, wait=0))
    found = await loaded(new)
    assert (found.state, found.login_id) == ("restored", credential().login_id)


async def test_a_refresh_that_was_decided_on_before_the_restore_is_not_claimed(store: Store, there: Opener) -> None:
    await store.install(credential())
    lines = await backup_of(store)
    new = there()
    await new.install(another_login())
    before = await loaded(new)
    await restored(new, lines, replace=True)
    assert await new.claim(before, attempt()) is None
    assert await new.claim(await loaded(store), attempt()) is None, "nor by who knew that login elsewhere"


# the keys


async def test_without_its_key_it_is_refused_as_a_whole(store: Store, there: Opener) -> None:
    await store.install(credential())
    lines = await backup_of(store)
    new = there(OTHER_KEY)
    with pytest.raises(InvalidCredential):
        await restored(new, lines)
    assert await new.load("default") is None


async def test_it_is_sealed_and_named_anew_for_who_has_another_key_by_now(store: Store, there: Opener) -> None:
    await store.install(credential())
    lines = await backup_of(store)
    new = there(OTHER_KEY, KEY)
    assert await restored(new, lines) == ["restored"]
    again = await backup_of(new)
    assert again[0]["key"] == again[-1]["end"]["keys"][0] != lines[0]["key"]
    assert again[1]["row"]["refresh_fingerprint"] != lines[1]["row"]["refresh_fingerprint"]
    await new.confirm_unspent("default", "a new name")
    assert (await refreshed(new)).generation == 3


# what somebody has changed


def changed(lines: list[dict[str, Any]], number: int, **row: Any) -> list[dict[str, Any]]:
    copy: list[dict[str, Any]] = json.loads(json.dumps(lines))
    copy[number]["row"].update(row)
    return copy


async def test_a_value_that_was_changed_or_moved_is_not_restored_and_the_others_are(
    store: Store, there: Opener
) -> None:
    await store.install(credential("a"))
    await store.install(another_login(account="b"))
    lines = await backup_of(store)
    other = lines[2]["row"]
    new = there()
    for row in (
        {"account": "c"},
        {"generation": 2},
        {"email": "mallory@example.test"},
        {"expires_at": NOW + 10**6},
        {"state": "dead"},
        {"login_id": "another"},
        {"refresh_token_sealed": other["refresh_token_sealed"]},
        {"unknown": 1},
    ):
        assert (await restored(new, changed(lines, 1, **row)))[0] == "damaged", row
    assert await restored(new, changed(lines, 1, email=None)) == ["damaged", "restored"]
    assert await new.load("a") is None
    swapped = json.loads(json.dumps(lines))
    swapped[1]["mac"], swapped[2]["mac"] = lines[2]["mac"], lines[1]["mac"]
    assert await restored(there(), swapped) == ["damaged", "damaged"]


async def test_a_token_that_was_moved_before_the_backup_is_not_restored(
    store: Store, there: Opener, address: str
) -> None:
    await store.install(credential("a"))
    await store.install(another_login(account="b"))
    query(
        address,
        "UPDATE credential SET refresh_token_sealed = (SELECT refresh_token_sealed FROM credential WHERE account = 'b')"
        " WHERE account = 'a'",
    )
    assert await restored(there(), await backup_of(store)) == ["damaged", "restored"]


def client_key(name: str) -> ClientKey:
    return ClientKey(name, name.encode().hex().rjust(64, "0"), frozenset({"token"}), frozenset({"a"}), NOW)


async def test_client_keys_come_back_only_as_they_were(store: Store, there: Opener) -> None:
    for name in ("one", "two"):
        await store.add_client_key(client_key(name))
    lines = await backup_of(store)
    new = there()
    widened = changed(lines, 1, rights="admin,token")
    assert await new.restore(batch_of(widened)) == ([], ["damaged", "restored"])
    assert await new.restore(batch_of(lines)) == ([], ["restored", "here"])
    assert await new.client_keys() == await store.client_keys()


async def test_a_revoked_client_key_is_good_again_when_keys_are_asked_for(store: Store) -> None:
    """A backup is from before: docs/storage.md and the command say so."""
    await store.add_client_key(client_key("one"))
    lines = await backup_of(store)
    await store.revoke_client_key("one")
    assert await store.restore(batch_of([line for line in lines if line.get("kind") != "client_key"])) == ([], [])
    assert await store.client_keys() == []
    assert await store.restore(batch_of(lines)) == ([], ["restored"])
    assert await store.client_keys() == [client_key("one")]


async def test_a_client_key_is_neither_taken_over_nor_there_twice(store: Store, there: Opener) -> None:
    await store.add_client_key(client_key("one"))
    lines = await backup_of(store)
    new = there()
    for present in (replace(client_key("one"), digest="f" * 64), replace(client_key("one"), name="other")):
        await new.add_client_key(present)
        assert await new.restore(batch_of(lines)) == ([], ["here"])
        assert await new.client_keys() == [present]
        await new.revoke_client_key(present.name)


async def test_a_credential_is_no_client_key(store: Store, there: Opener) -> None:
    await store.install(credential())
    lines = await backup_of(store)
    lines[1]["kind"] = "client_key"
    assert await there().restore(batch_of(lines)) == ([], ["damaged"])


# while others refresh


async def test_it_is_of_one_state(store: Store, another: Opener, address: str) -> None:
    """Two accounts that move on in turn are never further apart than in the database itself."""
    await store.install(credential())
    fill(address, 500)
    first, last, other = "a", "z", another()
    for name in (first, last):
        await store.install(another_login(account=name))
    stop = asyncio.Event()

    async def moving() -> int:
        moved = 0
        while not stop.is_set():
            await refreshed(other, first)
            await refreshed(other, last)
            moved += 1
        return moved

    task = asyncio.create_task(moving())
    for _ in range(3):
        rows = [line["row"] for line in (await backup_of(store))[1:-1]]
        assert rows[0]["generation"] - rows[-1]["generation"] in (0, 1)
    stop.set()
    assert await task > 1


# elsewhere, and later


async def restored_elsewhere(store: Store, other: Store) -> None:
    await store.install(credential("a", expires_at=NOW + 1 / 3, lifetime=None))
    await store.install(another_login(account="b"))
    await store.add_client_key(client_key("one"))
    assert await other.restore(batch_of(await backup_of(store))) == (["restored", "restored"], ["restored"])
    for account in ("a", "b"):
        before, after = await loaded(store, account), await loaded(other, account)
        assert after == replace(before, state="restored", last_error="restored_backup")
    assert await other.client_keys() == await store.client_keys()


@pytest.mark.long
@pytest.mark.parametrize("is_back", [False, True])
async def test_it_opens_on_the_other_kind_of_database(postgres: Server, tmp_path: Path, is_back: bool) -> None:
    stores = [open_store(f"sqlite:{tmp_path / 'data' / 'x.db'}"), open_store(postgres.empty())]
    await restored_elsewhere(*(reversed(stores) if is_back else stores))
    for each in stores:
        await each.close()


async def test_a_backup_of_the_first_version_opens(store: Store) -> None:
    """Made by 0.1.0 with the key of the tests: whoever changes a column has to read what was written before."""
    written = (Path(__file__).parent / "fixtures" / "backup_1.jsonl").read_bytes()
    batch = batch_of([json.loads(line) for line in written.splitlines()])
    assert await store.restore(batch) == (["restored", "ended"], ["restored"])
    assert (await loaded(store)) == replace(credential(), state="restored", last_error="restored_backup")
    assert await store.client_keys() == [client_key("one")]
