"""GET /forward-auth: what a proxy puts into the request of its client, or 401 or 403 and nothing else."""

import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.domain.caller import Peer
from service.domain.errors import CODES, Code
from service.sandbox import User, faults
from service.store.store import Store
from service.web.problems import STATUS
from service.web.problems import problem as made
from service.web.proxies import for_a_proxy
from tests.kit import House
from tests.web.expect import problem
from tests.web.home import calm, client_key, home, install
from tests.web.wire import send

pytestmark = pytest.mark.asyncio(loop_scope="module")

ASKED = "/forward-auth"

NEVER: set[str] = {
    "cross_site",
    "header_required",
    "headers_too_large",
    "host_not_allowed",
    "invalid_credential",
    "invalid_request",
    "login_denied",
    "login_mismatch",
    "malformed_request",
    "method_not_allowed",
    "payload_too_large",
    "scope",
    "unknown_provider",
    "unsupported_grant_type",
    "unsupported_media_type",
    "wrong_user",
}
"""Codes that are 403: so it may not be asked. All others are 401."""


async def test_the_headers_are_those_of_headers_and_there_is_no_body(h: House, account: str) -> None:
    await install(h, account)
    answer = await h.client.get(ASKED, params={"account": account})
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "0")
    lines = (await h.client.get("/headers", params={"account": account})).json()
    assert set(lines) == {"Authorization", "ChatGPT-Account-ID"}
    assert {name: answer.headers[name] for name in lines} == lines


@pytest.mark.parametrize("kind", ["api_key", "subscription"])
async def test_a_header_without_a_value_is_there_all_the_same(h: House, account: str, kind: str) -> None:
    if kind == "api_key":
        await h.client.put("/credential", params={"account": account}, json={"kind": "api_key", "api_key": "sk-1"})
    else:
        await install(h, account, User(subject="user-x", email="x@example.com", plan="plus", account_id=""))
    for _ in range(2):  # by the routes, then from memory
        answer = await h.client.get(ASKED, params={"account": account})
        assert answer.headers.get_list("chatgpt-account-id") == [""]
        assert answer.headers["authorization"].startswith("Bearer ")
    assert list((await h.client.get("/headers", params={"account": account})).json()) == ["Authorization"]


async def test_a_token_that_is_over_is_refreshed_first(h: House, account: str) -> None:
    await install(h, account)
    before = (await h.client.get(ASKED, params={"account": account})).headers["authorization"]
    after = (await h.client.get(ASKED, params={"account": account, "newer_than": 1})).headers["authorization"]
    assert after != before


# what goes wrong


async def as_told(code: Code) -> httpx.Response:
    sent: list[Any] = []

    async def keep(message: Any) -> None:
        sent.append(message)

    async def nothing() -> Any:
        raise AssertionError

    await made(code, "Why.", retry_after=None)({"type": "http"}, nothing, for_a_proxy(keep))
    start, body = sent
    return httpx.Response(start["status"], headers=start["headers"], content=body["body"])


@pytest.mark.parametrize("code", sorted(CODES))
async def test_every_failure_is_401_or_403_and_else_as_it_is(code: Code) -> None:
    answer = await as_told(code)
    assert answer.status_code == (403 if code in NEVER else 401)
    assert answer.headers["content-length"] == str(len(answer.content))
    assert answer.headers.get_list("www-authenticate") == ["Bearer"] * (answer.status_code == 401)
    whole = json.loads(bytes(made(code, "Why.").body))
    assert answer.json() == {**whole, "status": answer.status_code}
    assert whole["status"] == STATUS[code][0]


async def test_a_body_in_pieces_is_one_problem() -> None:
    sent: list[Any] = []

    async def keep(message: Any) -> None:
        sent.append(message)

    told = for_a_proxy(keep)
    await told({"type": "http.response.start", "status": 503, "headers": [(b"content-length", b"2")]})
    await told({"type": "http.response.body", "body": b"{", "more_body": True})
    await told({"type": "http.response.body", "body": b"}"})
    assert (sent[0]["status"], sent[1:]) == (401, [{"type": "http.response.body", "body": b'{"status": 401}'}])


async def test_nobody_is_logged_in(h: House) -> None:
    await h.client.post("/logout")
    answer = await h.client.get(ASKED)
    problem(answer, 401, "login_required", "account", "login_url", "reason")
    assert answer.headers["www-authenticate"] == "Bearer"
    problem(await h.client.get(ASKED, params={"account": "nobody"}), 401, "unknown_account")


async def test_the_issuer_is_down_and_nothing_valid_is_left(h: House, account: str) -> None:
    await install(h, account)
    h.sandbox.fail_next(faults.server_error())
    h.clock.advance(3600)
    problem(await h.client.get(ASKED, params={"account": account}), 401, "issuer_unavailable", "retry_after")
    h.clock.advance(3600)
    h.sandbox.fail_next(faults.invalid_client())
    problem(await h.client.get(ASKED, params={"account": account}), 401, "issuer_refused", "retry_after")


async def test_the_store_is_gone(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        store = h.app.services.store
        assert isinstance(store, Store)
        store._backend._watch.close()  # type: ignore[attr-defined]  # as when the file cannot be read any more
        (tmp_path / "data" / "pixir-auth.db").unlink()
        async with calm(h) as client:
            assert (await client.get(ASKED)).status_code == 401


async def test_who_may_not(h: House) -> None:
    other = await client_key(h, "not-for-headers", scope=["token"])
    for key, peer, status, code in (
        (other, Peer(None), 403, "scope"),
        ("wrong", Peer(os.geteuid()), 401, "key_required"),
        (None, Peer(None), 401, "key_required"),
        (None, Peer(65533), 403, "wrong_user"),
    ):

        async def app(scope: Any, receive: Any, send_on: Any, peer: Peer = peer) -> None:
            await h.app({**scope, "state": {"peer": peer}}, receive, send_on)

        headers = [("Authorization", f"Bearer {key}")] if key else []
        problem(await send(app, "GET", ASKED, headers), status, code)


@pytest.mark.parametrize(
    ("method", "target", "headers", "body", "code"),
    [
        ("GET", ASKED, [("Host", "evil.example")], None, "host_not_allowed"),
        ("GET", ASKED, [("Origin", "https://evil.example")], None, "cross_site"),
        ("GET", ASKED, [("Sec-Fetch-Site", "cross-site")], None, "cross_site"),
        ("GET", f"{ASKED}?acount=work", [], None, "invalid_request"),
        ("GET", f"{ASKED}?account=UPPER", [], None, "invalid_request"),
        ("POST", ASKED, [], None, "method_not_allowed"),
        ("GET", ASKED, [("Content-Type", "text/plain")], b"x", "unsupported_media_type"),
        ("GET", ASKED, [("Content-Type", "application/json")], b" " * 300_000, "payload_too_large"),
    ],
)
async def test_what_may_never_be_asked_is_403(
    h: House, method: str, target: str, headers: list[tuple[str, str]], body: bytes | None, code: str
) -> None:
    problem(await send(h.app, method, target, headers, body), 403, code)
