"""Backup and restore over HTTP: what is given out is sealed, what is refused changes nothing, all is noted."""

import base64
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from service.store.store import Store
from tests.kit import House
from tests.web.expect import problem
from tests.web.home import BOB, client_key, home, install
from tests.web.seen import forms
from tests.web.wire import send

KEY = ("Content-Type", "application/json")
WHO = f"uid {os.geteuid()}"


@pytest.fixture
async def h(tmp_path: Path) -> AsyncIterator[House]:
    async with home(tmp_path, refresh_floor=0) as made:
        yield made


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[House]:
    """Another installation that has the same encryption key."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "encryption.key").touch(mode=0o600)
    (tmp_path / "there" / "encryption.key").write_bytes((tmp_path / "encryption.key").read_bytes())
    async with home(tmp_path / "there") as made:
        yield made


async def taken(h: House) -> list[dict[str, Any]]:
    """The lines of a backup."""
    return [json.loads(line) for line in (await h.client.get("/backup")).text.splitlines()]


def body(lines: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """All of a backup as POST /restore takes it."""
    rows = {
        name: [{"row": each["row"], "mac": each["mac"]} for each in lines if each.get("kind") == kind]
        for kind, name in (("credential", "credentials"), ("client_key", "client_keys"))
    }
    return {"pixir_auth_backup": 1, "fingerprints": lines[0]["fingerprints"], **rows, **changes}


async def trail(h: House, *deeds: str) -> list[tuple[str, str, str | None, str, str | None]]:
    """What is told of these deeds, oldest first."""
    entries = reversed((await h.client.get("/audit", params={"limit": 100})).json()["entries"])
    members = ("deed", "who", "account", "outcome", "detail")
    return [tuple(each[name] for name in members) for each in entries if each["deed"] in deeds]  # type: ignore[misc]


def state(h: House) -> tuple[int, int]:
    """Differs after any change to what is kept, and after any request to the issuer."""
    store = h.app.services.store
    assert isinstance(store, Store)
    return store.version(), len(h.sandbox.requests)


# what is handed out


async def test_a_backup_is_lines_of_json_that_hold_no_secret_in_clear(h: House, tmp_path: Path) -> None:
    tokens = await install(h)
    key = await client_key(h, "ci")
    answer = await h.client.get("/backup")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/jsonl")
    assert int(answer.headers["content-length"]) == len(answer.content)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines[-1]["end"] == {"credentials": 1, "client_keys": 1, "keys": [lines[0]["key"]]}
    members = ("access_token", "refresh_token", "id_token")
    hidden = {key, (tmp_path / "encryption.key").read_text(), *(tokens[name] for name in members)}
    assert not [form for each in hidden for form in forms(each) if form in answer.content]


async def test_a_backup_is_closed_when_whoever_takes_it_leaves(h: House) -> None:
    if sys.platform != "linux":
        pytest.skip("there is no other way to see which files are open")

    def nameless() -> list[str]:
        links = Path("/proc/self/fd").iterdir()
        return [
            link
            for each in links
            if each.is_symlink() and (link := str(each.readlink())).endswith(" (deleted)") and "/data/" in link
        ]

    async def leaving(message: Any) -> None:
        if message["type"] == "http.response.body":
            seen.extend(nameless())
            raise OSError("nobody is there")

    async def app(scope: Any, receive: Any, _send: Any) -> None:
        await h.app(scope, receive, leaving)

    seen: list[str] = []
    with pytest.raises(OSError, match="nobody is there"):
        await send(app, "GET", "/backup")
    assert (len(seen), nameless()) == (1, [])


# what is refused


def cut(text: str) -> str:
    """A base64 text that lacks the end of what it says."""
    return base64.b64encode(base64.b64decode(text)[:-7]).decode()


NO_BODY = [
    ("junk", b"\x00\xff not json", 422, "invalid_request"),
    ("nothing", b"", 422, "invalid_request"),
    ("a backup file as it is", b'{"pixir_auth_backup": 1}\n{"kind": "credential"}\n', 422, "invalid_request"),
    ("too much", b" " * (256 * 1024 + 1), 413, "payload_too_large"),
]


@pytest.mark.parametrize(
    ("content", "status", "code"), [each[1:] for each in NO_BODY], ids=[each[0] for each in NO_BODY]
)
async def test_what_cannot_be_read_changes_nothing(h: House, content: bytes, status: int, code: str) -> None:
    await install(h)
    before, now = state(h), await h.status()
    problem(await send(h.app, "POST", "/restore", [KEY], content), status, code)
    assert (state(h), await h.status()) == (before, now)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a newer version": ({"pixir_auth_backup": 2}, "body.pixir_auth_backup: Input should be 1"),
    "no version": ({"pixir_auth_backup": None}, "body.pixir_auth_backup: "),
    "a member that we do not know": ({"planted": []}, "body: Extra inputs are not permitted"),
    "a row that is none": ({"credentials": [{"row": {"planted": ["x"]}, "mac": "0" * 64}]}, "body.credentials.row: "),
    "no proof": ({"credentials": [{"row": {"account": "planted"}, "mac": "x"}]}, "body.credentials.mac: "),
    "too many rows": ({"client_keys": [{"row": {}, "mac": "0" * 64}] * 1001}, "body.client_keys: "),
    "no base64": ({"fingerprints": "{planted}"}, "body.fingerprints: "),
}
"""What is changed in a good body, and how the answer begins."""


@pytest.mark.parametrize("name", WRONG)
async def test_what_is_no_backup_of_ours_changes_nothing_and_is_not_echoed(h: House, name: str) -> None:
    await install(h)
    lines = await taken(h)
    before, now = state(h), await h.status()
    changes, begins = WRONG[name]
    told = problem(await h.client.post("/restore", json=body(lines, **changes)), 422, "invalid_request")
    assert told["detail"].startswith(begins)
    assert "planted" not in told["detail"]
    assert (state(h), await h.status()) == (before, now)


async def test_of_another_key_or_cut_off_it_is_refused_as_a_whole_and_says_what_to_do(h: House, tmp_path: Path) -> None:
    await install(h)
    lines = await taken(h)
    (tmp_path / "stranger").mkdir()
    async with home(tmp_path / "stranger") as stranger:
        await install(stranger)
        theirs = body(await taken(stranger), replace=True)
    before, now = state(h), await h.status()
    mine = body(lines, replace=True)
    for each in (theirs, {**mine, "fingerprints": cut(mine["fingerprints"])}, {**mine, "fingerprints": "AAAA"}):
        told = problem(await h.client.post("/restore", json=each), 422, "invalid_credential")
        assert "encryption key" in told["detail"]
        assert "nothing was changed" in told["detail"]
        assert "Add that key" in told["next_actions"][0]
    assert (state(h), await h.status()) == (before, now)
    assert (await h.client.post("/restore", json={**theirs, "fingerprints": mine["fingerprints"]})).json() == {
        "credentials": ["damaged"],
        "client_keys": [],
    }
    assert await h.status() == now
    refused = ("restore", WHO, None, "invalid_credential", None)
    assert await trail(h, "restore") == [refused, ("restore", WHO, None, "done", "accounts: 1 damaged")]


async def test_who_is_logged_in_stays_unless_told_otherwise(h: House, there: House) -> None:
    await install(h)
    lines = await taken(h)
    mine = await install(there, user=BOB)
    answer = await there.client.post("/restore", json=body(lines))
    assert answer.json() == {"credentials": ["here"], "client_keys": []}
    assert (await there.token())["access_token"] == mine["access_token"]
    answer = await there.client.post("/restore", json=body(lines, replace=True))
    assert answer.json() == {"credentials": ["restored"], "client_keys": []}
    assert (await there.status())["email"] != BOB.email


async def test_only_what_was_restored_is_confirmed(h: House) -> None:
    await install(h)
    await install(h, "gone")
    await h.client.post("/logout", params={"account": "gone"})
    before, now = state(h), await h.status()
    problem(await h.client.post("/restore/confirm", params={"account": "nobody"}), 404, "unknown_account")
    for account in ("default", "gone"):
        told = problem(await h.client.post("/restore/confirm", params={"account": account}), 422, "invalid_request")
        assert "not restored" in told["detail"]
    problem(await h.client.post("/restore/confirm", json={"account": "default"}), 422, "invalid_request")
    problem(await h.client.post("/restore/confirm", params={"account": "../x"}), 422, "invalid_request")
    assert (state(h), await h.status()) == (before, now)


# from one to the other


async def test_a_restored_login_waits_until_it_is_confirmed_and_is_then_refreshed(h: House, there: House) -> None:
    there.gate, there.sandbox = h.gate, h.sandbox
    tokens = await install(h)
    await there.client.post("/restore", json=body(await taken(h)))
    served = await there.token(newer_than=1)
    assert (served["access_token"], served["warning"]) == (tokens["access_token"], "refresh_uncertain")
    told = (await there.client.post("/restore/confirm")).json()
    assert (told["account"], told["refresh"]["state"], told["refresh"]["generation"]) == ("default", "idle", 2)
    problem(await there.client.post("/restore/confirm"), 422, "invalid_request")


async def test_the_trail_tells_who_took_what_and_put_what_back(h: House, there: House) -> None:
    await install(h)
    await install(h, "gone")
    await h.client.post("/logout", params={"account": "gone"})
    revoked = await client_key(h, "revoked", scope=["status"])
    key = await client_key(h, "robot", scope=["admin"])
    asked = [("Authorization", f"Bearer {key}")]
    lines = [json.loads(line) for line in (await send(h.app, "GET", "/backup", asked)).text.splitlines()]
    assert await trail(h, "backup") == [("backup", "key robot", None, "done", None)]

    await there.client.post("/restore", json=body(lines))
    for account in ("default", "default", "nobody"):
        await there.client.post("/restore/confirm", params={"account": account})
    assert await trail(there, "restore", "key_added") == [
        (
            *("restore", WHO, None, "done"),
            "accounts: 1 ended, 1 restored; client keys: 2 restored",
        ),
        ("key_added", WHO, None, "done", "revoked"),
        ("key_added", WHO, None, "done", "robot"),
        ("restore", WHO, "default", "done", "confirmed"),
        ("restore", WHO, "default", "invalid_request", "confirmed"),
        ("restore", WHO, "nobody", "unknown_account", "confirmed"),
    ]
    assert (await send(there.app, "GET", "/status", [("Authorization", f"Bearer {revoked}")])).status_code == 200


async def test_a_backup_that_cannot_be_made_is_told_and_noted(h: House, tmp_path: Path) -> None:
    (tmp_path / "data").rename(tmp_path / "away")
    problem(await h.client.get("/backup"), 503, "store_unavailable", "retry_after")
    (tmp_path / "away").rename(tmp_path / "data")
    assert await trail(h, "backup") == [("backup", WHO, None, "store_unavailable", None)]
