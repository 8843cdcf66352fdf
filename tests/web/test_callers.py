"""Who may do what: every caller, on every route, on every account. One cell a test."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from service.domain.caller import RIGHTS, Peer
from service.sealing import Opener
from service.store.store import Store
from service.web.callers import OPEN, RULES, told_by_server
from tests.kit import House, house
from tests.web.expect import is_let_in, lawful, problem
from tests.web.home import client_key, home, install, sealed
from tests.web.routes import CALLS, NOWHERE, TABLE
from tests.web.wire import send

pytestmark = pytest.mark.asyncio(loop_scope="module")

OWN, ROOT, OTHER = os.geteuid(), 0, 65533

NEEDS: dict[tuple[str, str], str | None] = {
    ("GET", "/token"): "token",
    ("GET", "/headers"): "headers",
    ("GET", "/forward-auth"): "headers",
    ("POST", "/oauth/token"): "token",
    ("GET", "/status"): "status",
    ("GET", "/accounts"): "status",
    ("GET", "/"): "status",
    ("GET", "/metrics"): "status",
    ("POST", "/login"): "login",
    ("GET", "/login"): "login",
    ("GET", "/login/nothing"): "login",
    ("DELETE", "/login/nothing"): "login",
    ("POST", "/login/nothing/callback"): "login",
    ("PUT", "/credential"): "admin",
    ("POST", "/logout"): "admin",
    ("POST", "/export"): "admin",
    ("POST", "/export/confirm"): "admin",
    ("GET", "/keys"): "admin",
    ("PUT", "/keys/nothing"): "admin",
    ("DELETE", "/keys/nothing"): "admin",
    ("GET", "/audit"): "admin",
    ("POST", "/rekey"): "admin",
    ("GET", "/backup"): "admin",
    ("POST", "/restore"): "admin",
    ("POST", "/restore/confirm"): "admin",
    ("GET", "/callback"): None,
    ("GET", "/auth/callback"): None,
    ("GET", "/healthz"): None,
    ("GET", "/readyz"): None,
}
"""What the contract says; None: open to anybody."""

BY_BODY = ("POST", "/oauth/token")
"""Where nothing but the key in the body says who asks."""

GUARDED = [call for call in CALLS if NEEDS[call] and call != BY_BODY]
OPEN_CALLS = [call for call in CALLS if not NEEDS[call]]

FORWARDING = [
    "Forwarded",
    "Via",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded",
    "X-Forwarded-User",
    "X_Forwarded_For",
    "x-forwarded_for",
    "X-FORWARDED-FOR",
]


@dataclass(frozen=True)
class Keys:
    """Client keys in the shared house: one for each right, and one that may do everything."""

    by_right: dict[str, str]
    every: str
    work: str
    """Everything, but for the account `work` only."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def keys(shared: House) -> Keys:
    by_right = {right: await client_key(shared, f"only-{right}", scope=[right]) for right in RIGHTS}
    every = await client_key(shared, "every", scope=list(RIGHTS))
    work = await client_key(shared, "work", scope=list(RIGHTS), accounts=["work"])
    return Keys(by_right, every, work)


@pytest_asyncio.fixture
async def untouched(h: House) -> AsyncIterator[None]:
    """Nothing that is kept changes, and the issuer is not asked."""
    store = h.app.services.store
    assert isinstance(store, Store)
    before = store.version(), len(h.sandbox.requests)
    yield
    assert (store.version(), len(h.sandbox.requests)) == before


async def ask(
    h: House, method: str, path: str, *headers: tuple[str, str], peer: Peer | None = None, body: bytes | None = None
) -> httpx.Response:
    """A request by whoever is at the other end; the owner if nobody is named."""

    async def app(scope: Any, receive: Any, send_on: Any) -> None:
        await h.app({**scope, "state": {} if peer is None else {"peer": peer}}, receive, send_on)

    json = [("Content-Type", "application/json")] if body is not None else []
    return await send(app, method, path, [*headers, *json], body)


def bearer(key: str) -> tuple[str, str]:
    return "Authorization", f"Bearer {key}"


# the table


async def test_the_table_knows_every_route_and_no_other() -> None:
    routes = {(method, route.path) for route in TABLE for method in route.methods or ()}
    assert set(RULES) | {("GET", path) for path in OPEN} == routes
    assert set(NEEDS) >= set(CALLS)


async def test_no_row_of_it_can_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        RULES["GET", "/token"].right = "admin"  # type: ignore[misc]


async def test_the_server_says_who_is_at_the_other_end_or_nobody_does() -> None:
    assert told_by_server({"state": {"peer": Peer(5, is_unix=True)}}) == Peer(5, is_unix=True)
    for scope in ({}, {"state": {}}, {"state": {"peer": 0}}, {"peer": Peer(0)}, {"state": {"caller": Peer(0)}}):
        assert told_by_server(scope) == Peer(None)


@pytest.mark.parametrize(("method", "path"), GUARDED)
@pytest.mark.parametrize("right", RIGHTS)
async def test_a_key_with_one_right(h: House, keys: Keys, method: str, path: str, right: str) -> None:
    answer = await ask(h, method, path, bearer(keys.by_right[right]))
    await lawful(answer)
    if right == NEEDS[method, path]:
        assert is_let_in(answer)
    else:
        problem(answer, 403, "scope")
        assert answer.headers["www-authenticate"] == 'Bearer error="insufficient_scope"'
    if answer.status_code == 201 and path == "/login":
        await h.client.delete(answer.headers["location"])


@pytest.mark.parametrize(("method", "path"), GUARDED)
@pytest.mark.parametrize("uid", sorted({OWN, ROOT}))
async def test_the_owner_and_root_may_do_everything(h: House, method: str, path: str, uid: int) -> None:
    answer = await ask(h, method, path, peer=Peer(uid))
    assert is_let_in(answer)
    if answer.status_code == 201 and path == "/login":
        await h.client.delete(answer.headers["location"])


@pytest.mark.parametrize(("method", "path"), [*GUARDED, *NOWHERE])
async def test_another_user_may_do_nothing(h: House, untouched: None, method: str, path: str) -> None:
    for is_unix in (False, True):
        problem(await ask(h, method, path, peer=Peer(OTHER, is_unix=is_unix)), 403, "wrong_user")


@pytest.mark.parametrize(("method", "path"), [*GUARDED, *NOWHERE])
async def test_nobody_knows_who_asks(h: House, untouched: None, method: str, path: str) -> None:
    answer = await ask(h, method, path, peer=Peer(None))
    problem(answer, 401, "key_required")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path"), [*GUARDED, *NOWHERE])
async def test_a_wrong_key_is_not_made_good_by_who_sends_it(h: House, untouched: None, method: str, path: str) -> None:
    for peer in (Peer(OWN), Peer(ROOT), Peer(OTHER), Peer(None), Peer(OWN, is_unix=True)):
        answer = await ask(h, method, path, bearer("pixir_" + "x" * 43), peer=peer)
        problem(answer, 401, "key_required")
        assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


@pytest.mark.parametrize(("method", "path"), OPEN_CALLS)
async def test_what_is_open_is_open_to_all(h: House, method: str, path: str) -> None:
    for peer in (Peer(OWN), Peer(OTHER), Peer(None)):
        for headers in ([], [bearer("wrong")], [("X-Forwarded-For", "10.0.0.1")]):
            answer = await ask(h, method, path, *headers, peer=peer)
            assert answer.status_code == (400 if "callback" in path else 200)


@pytest.mark.parametrize("path", ["/token/", "//token", "/token;x", "/TOKEN", "/login/a/b", "/keys/", "/healthz/"])
async def test_an_odd_path_is_as_guarded_as_any(h: House, path: str) -> None:
    problem(await ask(h, "GET", path, peer=Peer(OTHER)), 403, "wrong_user")
    problem(await ask(h, "GET", path, peer=Peer(None)), 401, "key_required")


async def test_a_key_of_no_right_for_it_is_told_of_no_route_that_is_not_there(h: House, keys: Keys) -> None:
    problem(await ask(h, "GET", "/nowhere", bearer(keys.by_right["token"])), 404, "not_found")
    problem(await ask(h, "POST", "/token", bearer(keys.by_right["status"])), 405, "method_not_allowed")


@pytest.mark.parametrize(("method", "path"), [*GUARDED, *OPEN_CALLS])
@pytest.mark.parametrize("tail", ["%0A", "%0a%0a", "%0D", "%00", "%E2%80%A8", "/", "%20"])
async def test_what_the_table_does_not_know_the_router_does_not_serve(
    h: House, untouched: None, method: str, path: str, tail: str
) -> None:
    problem(await ask(h, method, path + tail, peer=Peer(None)), 401, "key_required")
    if NEEDS[method, path] and not path.endswith("/nothing"):  # there it is a name, and the rule is the same
        problem(await ask(h, method, path + tail, peer=Peer(OWN)), 404, "not_found")


# who forwards is not whom he forwards for


@pytest.mark.parametrize("header", FORWARDING)
async def test_who_asks_for_somebody_else_needs_a_key(h: House, keys: Keys, header: str) -> None:
    for value in ("127.0.0.1", "", "for=localhost"):
        for peer in (Peer(OWN), Peer(ROOT), Peer(OWN, is_unix=True)):
            problem(await ask(h, "GET", "/status", (header, value), peer=peer), 401, "key_required")
        assert (await ask(h, "GET", "/status", (header, value), bearer(keys.every))).status_code == 200


@pytest.mark.parametrize("header", ["X-Forward", "Forwarded-For", "Viaduct", "X-Real-Name", "Xforwarded-For", "Vi"])
async def test_what_only_looks_like_it_is_nothing(h: House, header: str) -> None:
    assert (await ask(h, "GET", "/status", (header, "x"), peer=Peer(OWN))).status_code == 200


# how a key is sent


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER {}", "Bearer  {}", "Bearer {} "])
async def test_a_key_is_sent_as_a_bearer_token(h: House, keys: Keys, form: str) -> None:
    header = "Authorization", form.format(keys.every)
    assert (await ask(h, "GET", "/status", header, peer=Peer(None))).status_code == 200


@pytest.mark.parametrize("form", ["{}", "Basic {}", "Token {}", "Bearer{}", "Negotiate x", ""])
async def test_what_is_no_bearer_token_is_no_key(h: House, keys: Keys, form: str) -> None:
    header = "Authorization", form.format(keys.every)
    problem(await ask(h, "GET", "/status", header, peer=Peer(None)), 401, "key_required")
    problem(await ask(h, "GET", "/status", header, peer=Peer(OTHER)), 403, "wrong_user")
    assert (await ask(h, "GET", "/status", header, peer=Peer(OWN))).status_code == 200


@pytest.mark.parametrize("key", ["", " ", "x", "\xff\xfe", "a b", "0" * 30_000])
async def test_odd_keys_are_wrong_keys(h: House, key: str) -> None:
    header = b"Authorization", f"Bearer {key}".encode("latin-1")
    problem(await ask(h, "GET", "/status", header, peer=Peer(OWN)), 401, "key_required")  # type: ignore[arg-type]


async def test_a_key_that_is_missing_is_a_wrong_one(h: House) -> None:
    """Many clients take away the space behind `Bearer` when the variable with the key is empty."""
    problem(await ask(h, "GET", "/status", ("Authorization", "Bearer"), peer=Peer(OWN)), 401, "key_required")


async def test_two_keys_are_none(h: House, keys: Keys) -> None:
    for second in (keys.every, "wrong", keys.work):
        answer = await ask(h, "GET", "/status", bearer(keys.every), bearer(second))
        problem(answer, 401, "key_required")
        assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    problem(await ask(h, "GET", "/status", bearer(keys.every), ("Authorization", "Basic eA==")), 401, "key_required")


async def test_no_other_place_holds_a_key(h: House, keys: Keys) -> None:
    key = keys.every
    for headers in (
        [("X-Api-Key", key)],
        [("Cookie", f"key={key}; Authorization=Bearer {key}")],
        [("Proxy-Authorization", f"Bearer {key}")],
    ):
        problem(await ask(h, "GET", "/status", *headers, peer=Peer(None)), 401, "key_required")
    for query in ("access_token", "key", "authorization"):
        problem(await ask(h, "GET", f"/status?{query}={key}", peer=Peer(None)), 401, "key_required")


# accounts


@pytest.mark.parametrize("path", ["/token", "/headers", "/status"])
async def test_a_key_of_one_account_is_for_that_account(h: House, keys: Keys, path: str) -> None:
    await install(h, "work")
    assert (await ask(h, "GET", f"{path}?account=work", bearer(keys.work))).status_code == 200


@pytest.mark.parametrize("account", ["default", "home", "never-heard-of"])
async def test_and_of_others_it_learns_nothing(h: House, keys: Keys, account: str) -> None:
    await install(h, "default")
    await install(h, "home")
    texts = set()
    calls = [("GET", path) for path in ("/token", "/headers", "/status", "/login")]
    sent = {"/export": {"public_key": Opener().public_key}, "/export/confirm": {"generation": 1}}
    for path, content in sent.items():
        answer = await ask(h, "POST", f"{path}?account={account}", bearer(keys.work), body=json.dumps(content).encode())
        texts.add(str(problem(answer, 403, "scope")))
    for method, path in [*calls, ("POST", "/login"), ("POST", "/logout")]:
        answer = await ask(h, method, f"{path}?account={account}", bearer(keys.work))
        texts.add(str(problem(answer, 403, "scope")))
    body = b'{"kind":"api_key","api_key":"sk-1"}'
    texts.add(
        str(problem(await ask(h, "PUT", f"/credential?account={account}", bearer(keys.work), body=body), 403, "scope"))
    )
    assert len(texts) == 1, "whether the account exists can be told"
    assert account not in texts.pop()


async def test_nor_by_a_body(h: House, keys: Keys) -> None:
    problem(await ask(h, "POST", "/login?account=work", bearer(keys.work), body=b'{"account":"home"}'), 403, "scope")
    answer = await ask(h, "POST", "/login?account=home", bearer(keys.work), body=b'{"account":"work"}')
    assert answer.json()["account"] == "work"
    await h.client.delete(answer.headers["location"])


async def test_a_list_holds_only_what_is_the_callers_business(h: House, keys: Keys) -> None:
    await install(h, "work")
    await install(h, "home")
    both = await client_key(h, "both", accounts=["work", "home", "never-heard-of"])
    seen = [one["account"] for one in (await ask(h, "GET", "/accounts", bearer(keys.work))).json()["accounts"]]
    assert seen == ["work"]
    page = (await ask(h, "GET", "/accounts?limit=1", bearer(both))).json()
    assert ([one["account"] for one in page["accounts"]], page["next"]) == (["home"], "home")
    rest = (await ask(h, "GET", "/accounts?limit=1&after=home", bearer(both))).json()
    assert ([one["account"] for one in rest["accounts"]], rest["next"]) == (["work"], None)


async def test_a_login_of_another_account_is_not_there(h: House, keys: Keys) -> None:
    started = (await h.client.post("/login", json={"account": "home"})).json()
    path = f"/login/{started['id']}"
    for method, where, body in (
        ("GET", path, None),
        ("GET", f"{path}?wait=30", None),
        ("DELETE", path, None),
        ("POST", f"{path}/callback", b'{"url":"?code=a&state=b"}'),
    ):
        problem(await ask(h, method, where, bearer(keys.work), body=body), 404, "unknown_login")
    assert (await h.client.get(path)).json()["state"] == "pending"
    assert (await ask(h, "GET", path, bearer(keys.every))).status_code == 200
    await h.client.delete(path)


@pytest.mark.parametrize(
    ("method", "path"),
    [call for call in GUARDED if call[1].startswith(("/keys", "/audit", "/rekey", "/metrics", "/backup", "/restore"))],
)
async def test_who_sees_one_account_makes_himself_no_key_for_all(
    h: House, keys: Keys, untouched: None, method: str, path: str
) -> None:
    problem(await ask(h, method, path, bearer(keys.work)), 403, "scope")


# keys come and go


async def test_a_key_is_good_until_it_is_revoked(h: House) -> None:
    key = await client_key(h, "passing")
    assert (await ask(h, "GET", "/status", bearer(key))).status_code == 200
    assert (await h.client.delete("/keys/passing")).status_code == 204
    problem(await ask(h, "GET", "/status", bearer(key)), 401, "key_required")
    problem(await h.client.delete("/keys/passing"), 404, "unknown_key")


async def test_a_key_runs_out(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        key = await client_key(h, "short", expires_in=60)
        h.clock.now += 59.9
        assert (await ask(h, "GET", "/status", bearer(key))).status_code == 200
        h.clock.now += 0.2
        problem(await ask(h, "GET", "/status", bearer(key)), 401, "key_required")
        (told,) = (await h.client.get("/keys")).json()["keys"]
        assert (told["name"], told["expires_in"]) == ("short", 0)


async def test_revoked_here_is_revoked_there(tmp_path: Path) -> None:
    async with home(tmp_path) as here, home(tmp_path) as there:
        key = await client_key(here, "both")
        assert (await ask(there, "GET", "/status", bearer(key))).status_code == 200
        await there.client.delete("/keys/both")
        problem(await ask(here, "GET", "/status", bearer(key)), 401, "key_required")


async def test_fifty_askers_with_a_new_key_are_one_look_at_the_database(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        key = await client_key(h, "many")
        answers = await asyncio.gather(*(ask(h, "GET", "/status", bearer(key)) for _ in range(50)))
        assert {answer.status_code for answer in answers} == {200}


async def test_a_name_is_given_once(h: House) -> None:
    await client_key(h, "taken")
    problem(await h.client.put("/keys/taken", json={"digest": "0" * 64}), 409, "key_exists")
    digest = "1" * 64
    assert (await h.client.put("/keys/first-of-it", json={"digest": digest})).status_code == 201
    problem(await h.client.put("/keys/second-of-it", json={"digest": digest}), 409, "key_exists")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"digest": ""},
        {"digest": "0" * 63},
        {"digest": "G" * 64},
        {"digest": "0" * 64, "scope": []},
        {"digest": "0" * 64, "scope": ["everything"]},
        {"digest": "0" * 64, "accounts": []},
        {"digest": "0" * 64, "accounts": ["../x"]},
        {"digest": "0" * 64, "accounts": ["a,b"]},
        {"digest": "0" * 64, "expires_in": 0},
        {"digest": "0" * 64, "key": "secret"},
    ],
)
async def test_a_key_that_cannot_be_is_not_made(h: House, body: dict[str, Any]) -> None:
    answer = await h.client.put("/keys/impossible", json=body)
    problem(answer, 422, "invalid_request")
    assert "secret" not in answer.text


@pytest.mark.parametrize("name", ["A", "-x", "a b", "a" * 64, "%2e%2e", "x%0ay"])
async def test_a_name_that_cannot_be(h: House, name: str) -> None:
    assert (await h.client.put(f"/keys/{name}", json={"digest": "2" * 64})).status_code in (404, 422)


async def test_what_is_told_of_keys(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        key = await client_key(h, "ci", scope=["status", "token"], accounts=["b", "a"], expires_in=3600)
        await client_key(h, "all")
        await ask(h, "GET", "/status?account=a", bearer(key))
        answer = await h.client.get("/keys")
        every, ci = answer.json()["keys"]
        assert (ci["name"], ci["scope"], ci["accounts"]) == ("ci", ["token", "status"], ["a", "b"])
        assert (ci["expires_in"], ci["is_first"]) == (3600, False)
        assert ci["last_used_at"] == ci["created_at"]
        assert (every["scope"], every["accounts"]) == (["token", "headers", "status"], None)
        assert every["expires_at"] is every["last_used_at"] is None
        assert key not in answer.text


async def test_nothing_of_a_key_is_kept(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        key = await client_key(h, "secret")
        await ask(h, "GET", "/status", bearer(key))
        kept = sealed(tmp_path / "data")
        assert key.encode() not in kept
        assert key.removeprefix("test-").encode() not in kept


# the first key, from a file


def key_file(folder: Path, content: str) -> Path:
    path = folder / "client.key"
    path.touch(mode=0o600)
    path.write_text(content)
    return path


FIRST = "first-" + "k" * 32


async def test_the_key_of_the_file_may_do_everything(tmp_path: Path) -> None:
    async with home(tmp_path, client_key_file=key_file(tmp_path, FIRST + "\n")) as h:
        for method, path in GUARDED:
            answer = await ask(h, method, path, bearer(FIRST), peer=Peer(None))
            assert is_let_in(answer)
        problem(await ask(h, "GET", "/status", bearer(FIRST + "x"), peer=Peer(None)), 401, "key_required")
        (told,) = (await h.client.get("/keys")).json()["keys"]
        assert (told["name"], told["is_first"], told["accounts"]) == ("first", True, None)
        problem(await h.client.delete("/keys/first"), 404, "unknown_key")
        problem(await h.client.put("/keys/first", json={"digest": "0" * 64}), 409, "key_exists")
        assert FIRST.encode() not in sealed(tmp_path / "data")


async def test_it_is_good_only_while_the_file_holds_it(tmp_path: Path) -> None:
    async with home(tmp_path, client_key_file=key_file(tmp_path, FIRST)) as h:
        assert (await ask(h, "GET", "/status", bearer(FIRST))).status_code == 200
    async with home(tmp_path, client_key_file=key_file(tmp_path, "another-" + FIRST)) as h:
        problem(await ask(h, "GET", "/status", bearer(FIRST)), 401, "key_required")
    async with home(tmp_path) as h:
        problem(await ask(h, "GET", "/status", bearer(FIRST)), 401, "key_required")


# in need


async def test_while_the_database_cannot_be_read_no_key_is_good_and_the_owner_is_served(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        await install(h)
        key = await client_key(h, "ci")
        assert (await ask(h, "GET", "/token", bearer(key))).status_code == 200
        assert (await ask(h, "GET", "/token")).status_code == 200
        _break(h)
        problem(await ask(h, "GET", "/token", bearer(key)), 503, "store_unavailable", "retry_after")
        assert (await ask(h, "GET", "/token")).status_code == 200


def _break(h: House) -> None:
    """The watch of the database is gone, as when its file system is."""
    store = h.app.services.store
    assert isinstance(store, Store)
    vars(store._backend)["_watch"].close()


async def test_a_house_without_a_server_knows_nobody(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        vars(h.app.callers)["peer_of"] = type(h.app.callers).__init__.__kwdefaults__["peer_of"]
        problem(await send(h.app, "GET", "/status"), 401, "key_required")
