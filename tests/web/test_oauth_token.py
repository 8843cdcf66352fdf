"""POST /oauth/token: an existing OAuth client that holds a client key for its refresh token."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.domain.caller import RIGHTS, Peer
from service.domain.errors import CODES, Code
from service.sandbox import faults
from service.web.oauth import MAX_BODY, oauth_error
from service.web.problems import STATUS
from tests.kit import House
from tests.web.expect import problem
from tests.web.home import client_key, home, install, refreshes
from tests.web.wire import send

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/oauth/token"
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
HEADERS = [("Content-Type", JSON)]
STRANGER = Peer(65533)


@pytest_asyncio.fixture
async def key(h: House, account: str) -> str:
    """A key for an account of its own, where a login is."""
    await h.log_in(account)
    return await client_key(h, account, scope=["token"], accounts=[account])


async def ask(
    h: House, key: str, query: str = "", *, peer: Peer = STRANGER, headers: Any = (), **members: Any
) -> httpx.Response:
    """A refresh as Codex asks for it, by whoever is at the other end."""
    body = {"client_id": "app", "grant_type": "refresh_token", "refresh_token": key, **members}
    return await raw(h, json.dumps(body).encode(), *headers, query=query, peer=peer)


async def raw(
    h: House, body: bytes, *headers: tuple[str, str], kind: str = JSON, query: str = "", peer: Peer = STRANGER
) -> httpx.Response:
    async def app(scope: Any, receive: Any, send_on: Any) -> None:
        await h.app({**scope, "state": {"peer": peer}}, receive, send_on)

    return await send(app, "POST", PATH + query, [("Content-Type", kind), *headers], body)


async def given_to(h: House, key: str, query: str = "") -> str:
    """The access token that a key is given."""
    answer = await ask(h, key, query)
    assert answer.status_code == 200, answer.text
    token: str = answer.json()["access_token"]
    return token


def refused(answer: httpx.Response, status: int, error: str, code: str, *extras: str) -> None:
    body = problem(answer, status, code, *extras)
    assert answer.headers.get_list("content-length") == [str(len(answer.content))]
    assert body["error"] == error
    assert body["error_description"] == body["detail"]


# what is granted


async def test_the_answer_is_that_of_a_token_endpoint(h: House, key: str) -> None:
    answer = await ask(h, key)
    tokens = h.sandbox.families[-1].tokens
    assert answer.json() == {
        "access_token": tokens.access_token,
        "token_type": "Bearer",
        "expires_in": 3600,
        "refresh_token": key,
        "id_token": tokens.id_token,
    }
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers.get_list("cache-control") == ["no-store"]
    assert answer.headers.get_list("pragma") == ["no-cache"]


async def test_a_form_is_as_good_as_json(h: House, key: str) -> None:
    body = urlencode({"grant_type": "refresh_token", "refresh_token": key, "client_id": "x", "scope": "a b"}).encode()
    for kind in (FORM, f"{FORM}; charset=UTF-8"):
        answer = await raw(h, body, kind=kind)
        assert (answer.status_code, answer.json()["refresh_token"]) == (200, key)


async def test_a_login_without_an_id_token_has_none_to_give(h: House, account: str) -> None:
    tokens = h.sandbox.issue()
    body = {"kind": "subscription", **{name: tokens[name] for name in ("access_token", "refresh_token")}}
    await h.client.put("/credential", params={"account": account}, json=body)
    answer = (await ask(h, await client_key(h, account, accounts=[account]))).json()
    assert (answer["access_token"], "id_token" in answer) == (tokens["access_token"], False)


async def test_an_api_key_has_no_expiry_and_is_given_as_often_as_it_is_asked_for(h: House, account: str) -> None:
    await h.client.put("/credential", params={"account": account}, json={"kind": "api_key", "api_key": "sk-1"})
    key = await client_key(h, account, accounts=[account])
    for _ in range(3):
        answer = await ask(h, key)
        assert answer.json() == {"access_token": "sk-1", "token_type": "Bearer", "refresh_token": key}
        h.clock.advance(60)


# which account


async def test_a_key_of_one_account_means_that_one_and_no_other_key_does(h: House, key: str, account: str) -> None:
    mine = await given_to(h, key)
    assert await given_to(h, key, f"?account={account}") == mine
    both = await client_key(h, f"{account}-both", accounts=[account, "default"])
    every = await client_key(h, f"{account}-every")
    for wide in (both, every):
        assert await given_to(h, wide, f"?account={account}") == mine
        refused(
            await ask(h, wide), 400, "invalid_grant", "login_required", "account", "login_url", "reason"
        )  # `default`, where nobody has logged in


async def test_of_another_account_a_key_learns_nothing(h: House, key: str) -> None:
    for other in ("default", "never-heard-of"):
        refused(await ask(h, key, f"?account={other}"), 400, "unauthorized_client", "scope")


# who may ask


@pytest.mark.parametrize("right", RIGHTS)
async def test_a_key_needs_the_right_to_tokens(h: House, account: str, right: str) -> None:
    await h.log_in(account)
    key = await client_key(h, account, scope=[right], accounts=[account])
    answer = await ask(h, key)
    if right == "token":
        assert answer.status_code == 200
    else:
        refused(answer, 400, "unauthorized_client", "scope")


@pytest.mark.parametrize("peer", [Peer(None), Peer(0), STRANGER, Peer(None, is_unix=True)], ids=str)
async def test_whoever_holds_the_key_may_ask_and_nobody_else(h: House, key: str, account: str, peer: Peer) -> None:
    assert (await ask(h, key, peer=peer)).status_code == 200
    assert (await ask(h, key, peer=peer, headers=[("X-Forwarded-For", "10.0.0.1")])).status_code == 200
    wrong = await ask(h, "pixir_" + "x" * 43, f"?account={account}", peer=peer)
    refused(wrong, 400, "invalid_grant", "key_required")
    assert wrong.headers["connection"] == "close"


async def test_the_key_in_the_body_counts_and_no_header(h: House, key: str, account: str) -> None:
    bearer = ("Authorization", f"Bearer {key}")
    refused(await ask(h, "wrong", headers=[bearer]), 400, "invalid_grant", "key_required")
    refused(await raw(h, b"grant_type=refresh_token", bearer, kind=FORM), 400, "invalid_request", "invalid_request")
    for header in ("Bearer wrong", "Basic YXBwOg=="):
        assert (await ask(h, key, headers=[("Authorization", header)])).status_code == 200


async def test_a_key_that_is_over_is_an_invalid_grant(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        await install(h)
        short = await client_key(h, "short", expires_in=60)
        revoked = await client_key(h, "revoked")
        assert [(await ask(h, key)).status_code for key in (short, revoked)] == [200, 200]
        await h.client.delete("/keys/revoked")
        h.clock.advance(61)
        for key in (short, revoked):
            refused(await ask(h, key), 400, "invalid_grant", "key_required")


async def test_the_trail_and_the_counts_know_who_asked(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        await install(h)
        key, weak = await client_key(h, "codex"), await client_key(h, "weak", scope=["status"])
        for sent in (key, weak, "wrong"):
            await ask(h, sent)
        await ask(h, key, "?account=other")
        keys = {one["name"]: one["last_used_at"] for one in (await h.client.get("/keys")).json()["keys"]}
        assert keys["codex"] is not None
        entries = (await h.client.get("/audit")).json()["entries"]
        refusals = {(one["who"], one["outcome"], one["detail"]) for one in entries if one["deed"] == "refused"}
        assert refusals == {
            ("key weak", "scope", "POST /oauth/token"),
            ("uid 65533", "key_required", "POST /oauth/token"),
        }
        counts = (await h.client.get("/metrics")).text
        assert 'pixir_auth_requests_total{caller="key",route="POST /oauth/token",status="2xx"} 1.0' in counts
        assert 'pixir_auth_requests_total{caller="refused",route="POST /oauth/token",status="4xx"} 2.0' in counts
        assert 'pixir_auth_events_total{deed="refused",outcome="key_required"} 1.0' in counts


async def test_a_required_header_is_required_here_too(tmp_path: Path) -> None:
    async with home(tmp_path, require_header="X-Mark") as h:
        h.client.headers["x-mark"] = "1"
        await install(h)
        key = await client_key(h, "codex")
        refused(await ask(h, key), 403, "invalid_request", "header_required")
        assert (await ask(h, key, headers=[("X-Mark", "1")])).status_code == 200


@pytest.mark.parametrize(
    ("header", "status", "code"),
    [
        (("Origin", "https://evil.example"), 403, "cross_site"),
        (("Origin", "null"), 403, "cross_site"),
        (("Sec-Fetch-Site", "cross-site"), 403, "cross_site"),
        (("Sec-Fetch-Site", "same-site"), 403, "cross_site"),
        (("Host", "evil.example:1455"), 421, "host_not_allowed"),
    ],
)
async def test_a_form_of_a_web_page_does_not_get_in(
    h: House, key: str, header: tuple[str, str], status: int, code: str
) -> None:
    body = urlencode({"grant_type": "refresh_token", "refresh_token": key}).encode()
    led = [("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")]
    answer = await raw(h, body, header, *led, kind=FORM)
    refused(answer, status, "invalid_request", code)


# what is sent


KEY = '"refresh_token":"k"'
BAD_JSON = [
    b"",
    b"{",
    b"[]",
    b'[["grant_type","refresh_token"],["refresh_token","k"]]',
    b'"x"',
    b"null",
    b"\xff",
    b"[" * MAX_BODY,
    b"{}",
    f"{{{KEY}}}".encode(),
    b'{"grant_type":"refresh_token"}',
    *(f'{{"grant_type":"refresh_token","refresh_token":{it}}}'.encode() for it in ('""', "null", "5", '["k"]', "{}")),
    *(
        b'{"grant_type":"refresh_token","refresh_token":"%s"}' % it
        for it in (b"\\ud800", b"a\\nb", b"\\u0000", b"\xc3\xa4", b"a\\u007f")
    ),
    f'{{"grant_type":"refresh_token","grant_type":"refresh_token",{KEY}}}'.encode(),
    f'{{"grant_type":"refresh_token",{KEY},{KEY}}}'.encode(),
    f'{{"grant_type":"refresh_token",{KEY},"client_id":"a","client_id":"b"}}'.encode(),
    f'{{"grant_type":"",{KEY}}}'.encode(),
]
BAD_FORMS = [
    b"",
    b"x",
    b"=",
    b"\xff",
    b"&&&&",
    b"refresh_token=k",
    b"grant_type=refresh_token",
    b"grant_type=refresh_token&refresh_token=",
    b"grant_type=refresh_token&refresh_token=%0a",
    b"grant_type=refresh_token&refresh_token=%ff",
    b"grant_type=refresh_token&refresh_token=k&refresh_token=k",
    b"grant_type=refresh_token&grant_type=refresh_token&refresh_token=k",
    b"refresh_token=k;grant_type=refresh_token",
]


@pytest.mark.parametrize(("kind", "body"), [*((JSON, one) for one in BAD_JSON), *((FORM, one) for one in BAD_FORMS)])
async def test_what_cannot_be_read_is_an_invalid_request(h: House, kind: str, body: bytes) -> None:
    for peer in (STRANGER, Peer(0)):
        refused(await raw(h, body, kind=kind, peer=peer), 400, "invalid_request", "invalid_request")


@pytest.mark.parametrize("grant", ["authorization_code", "password", "Refresh_Token", "refresh_token ", 5, ["x"]])
async def test_other_grants_are_not_supported(h: House, key: str, grant: Any) -> None:
    answer = await ask(h, key, grant_type=grant)
    refused(answer, 400, "unsupported_grant_type", "unsupported_grant_type")


async def test_no_body_is_an_invalid_request(h: House) -> None:
    answer = await send(h.app, "POST", PATH)
    refused(answer, 400, "invalid_request", "invalid_request")


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", f"{FORM};charset=utf-7", "", "json"])
async def test_other_types_are_refused(h: House, key: str, kind: str) -> None:
    body = urlencode({"grant_type": "refresh_token", "refresh_token": key}).encode()
    refused(await raw(h, body, kind=kind), 415, "invalid_request", "unsupported_media_type")


@pytest.mark.parametrize("kind", [JSON, FORM])
async def test_the_bound_of_the_body_is_exact(h: House, key: str, kind: str) -> None:
    sent = {"grant_type": "refresh_token", "refresh_token": key, "more": ""}
    made = (lambda: json.dumps(sent).encode()) if kind == JSON else (lambda: urlencode(sent).encode())
    sent["more"] = "x" * (MAX_BODY - len(made()))
    assert len(made()) == MAX_BODY
    assert (await raw(h, made(), kind=kind)).status_code == 200
    sent["more"] += "x"
    refused(await raw(h, made(), kind=kind), 413, "invalid_request", "payload_too_large")


async def test_a_form_is_read_nowhere_else(h: House) -> None:
    for method, path in (("POST", "/login"), ("POST", "/logout"), ("PUT", "/credential"), ("POST", "/token")):
        answer = await send(h.app, method, path, [("Content-Type", FORM)], b"account=x")
        problem(answer, 415, "unsupported_media_type")


async def test_parameters_in_the_query_are_none(h: House, key: str) -> None:
    answer = await ask(h, key, f"?refresh_token={key}")
    refused(answer, 400, "invalid_request", "invalid_request")
    assert key not in answer.text
    refused(await ask(h, key, "?account=A"), 400, "invalid_request", "invalid_request")


async def test_other_methods_are_refused_as_everywhere(h: House) -> None:
    for method in ("GET", "PUT", "DELETE"):
        answer = await send(h.app, method, PATH)
        assert "error" not in problem(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == "POST"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.one_of(
        st.binary(max_size=300),
        st.lists(
            st.tuples(st.sampled_from(["grant_type", "refresh_token", "client_id", "x"]), st.text(max_size=8)),
            max_size=5,
        ).map(lambda pairs: urlencode(pairs, errors="surrogatepass").encode()),
        st.dictionaries(
            st.sampled_from(["grant_type", "refresh_token", "client_id", "x"]),
            st.one_of(st.just("refresh_token"), st.text(max_size=8), st.none(), st.integers(), st.lists(st.none())),
        ).map(lambda document: json.dumps(document).encode()),
    ),
    kind=st.sampled_from([JSON, FORM]),
)
async def test_junk_is_a_request_that_nobody_understands(h: House, body: bytes, kind: str) -> None:
    answer = await raw(h, body, kind=kind)
    assert answer.status_code == 400
    assert answer.json()["error"] in ("invalid_request", "invalid_grant", "unsupported_grant_type")


# when it refreshes


@pytest_asyncio.fixture
async def before(h: House, key: str) -> AsyncIterator[int]:
    """Refreshes before the test."""
    yield refreshes(h)


async def test_a_token_that_is_long_good_is_given_as_it_is(h: House, key: str, before: int) -> None:
    h.clock.advance(2999)
    assert await given_to(h, key) == h.sandbox.families[-1].access_token
    assert refreshes(h) == before


async def test_and_one_that_is_not_is_refreshed(h: House, key: str, before: int) -> None:
    h.clock.advance(3001)
    assert (await ask(h, key)).json()["expires_in"] > 3500
    assert refreshes(h) == before + 1


async def test_two_clients_that_refresh_at_once_are_one_refresh(h: House, key: str, account: str, before: int) -> None:
    other = await client_key(h, f"{account}-other", accounts=[account])
    h.clock.advance(4000)
    tokens = await asyncio.gather(*(given_to(h, one) for one in (key, other) * 10))
    assert (len(set(tokens)), refreshes(h)) == (1, before + 1)


async def test_who_comes_back_with_the_token_he_was_given_gets_a_newer_one(h: House, key: str, before: int) -> None:
    first = await given_to(h, key)
    h.clock.advance(60)
    second = await given_to(h, key)
    assert (second != first, refreshes(h)) == (True, before + 1)


async def test_and_a_storm_of_them_is_one_refresh(h: House, key: str, before: int) -> None:
    await given_to(h, key)
    h.clock.advance(60)
    assert len({*await asyncio.gather(*(given_to(h, key) for _ in range(20)))}) == 1
    assert len({*await asyncio.gather(*(given_to(h, key) for _ in range(20)))}) == 1
    assert refreshes(h) == before + 1


async def test_none_if_a_newer_one_is_there(h: House, key: str, account: str, before: int) -> None:
    first = await given_to(h, key)
    h.clock.advance(60)
    newer = (await h.token(account=account, newer_than=1))["access_token"]
    assert (await given_to(h, key), newer == first, refreshes(h)) == (newer, False, before + 1)


async def test_other_processes_with_the_same_key_cost_nothing(h: House, key: str, before: int) -> None:
    first = await given_to(h, key)
    h.clock.advance(4.9)
    assert (await given_to(h, key), refreshes(h)) == (first, before)
    h.clock.advance(0.2)
    assert await given_to(h, key) != first


async def test_a_key_knows_nothing_of_what_another_was_given(h: House, key: str, account: str, before: int) -> None:
    other = await client_key(h, f"{account}-other", accounts=[account])
    first = await given_to(h, key)
    h.clock.advance(60)
    assert (await given_to(h, other), refreshes(h)) == (first, before)


async def test_a_loop_costs_a_refresh_each_floor_and_no_more(h: House, key: str, before: int) -> None:
    h.sandbox.knobs.access_lifetime = 200  # Codex asks again at once, for a token of less than five minutes
    h.clock.advance(3500)
    statuses = []
    for _ in range(100):
        statuses.append((await ask(h, key)).status_code)
        h.clock.advance(0.1)
    assert refreshes(h) - before <= 3
    assert statuses[:5] == [200, 200, 200, 200, 503]
    assert set(statuses) == {200, 503}


# when there is none


async def test_an_outage_is_no_end_of_the_login(h: House, key: str) -> None:
    h.clock.advance(4000)
    h.sandbox.fail_next(faults.server_error(503))
    refused(await ask(h, key), 503, "temporarily_unavailable", "issuer_unavailable", "retry_after")
    h.clock.advance(400)
    assert (await ask(h, key)).status_code == 200


async def test_a_refusal_of_how_we_ask_is_none_either(h: House, key: str) -> None:
    h.clock.advance(4000)
    h.sandbox.fail_next(faults.invalid_client())
    refused(await ask(h, key), 502, "server_error", "issuer_refused", "retry_after")


async def test_in_an_outage_what_is_valid_is_given_but_not_without_end(h: House, key: str) -> None:
    h.clock.advance(3500)
    h.sandbox.fail_next(*[faults.server_error(503)] * 9)
    assert [(await ask(h, key)).json()["expires_in"] for _ in range(4)] == [100] * 4
    refused(await ask(h, key), 503, "temporarily_unavailable", "issuer_unavailable", "retry_after")
    h.clock.advance(6)
    assert (await ask(h, key)).json()["expires_in"] == 94, "who takes a breath is given it"


async def test_in_an_outage_a_long_one_is_given_to_whoever_asks(h: House, key: str) -> None:
    h.clock.advance(3000)
    h.sandbox.fail_next(*[faults.server_error(503)] * 9)
    assert [(await ask(h, key)).json()["expires_in"] for _ in range(9)] == [600] * 9


async def test_the_end_of_the_login_is_the_end(h: House, key: str) -> None:
    h.clock.advance(4000)
    h.sandbox.fail_next(faults.refresh_token_expired())
    for _ in range(2):
        refused(await ask(h, key), 400, "invalid_grant", "login_required", "account", "login_url", "reason")


async def test_and_is_told_who_comes_back_with_its_last_token_again_and_again(h: House, key: str) -> None:
    h.clock.advance(3500)
    h.sandbox.fail_next(faults.refresh_token_reused())
    assert [(await ask(h, key)).json()["expires_in"] for _ in range(4)] == [100] * 4
    answer = await ask(h, key)
    refused(answer, 400, "invalid_grant", "login_required", "account", "login_url", "reason")
    assert answer.json()["reason"] == "refresh_token_reused"


async def test_an_account_that_is_not_there_is_none_to_grant(h: House, account: str) -> None:
    key = await client_key(h, account)
    refused(await ask(h, key, "?account=never-heard-of"), 400, "invalid_grant", "unknown_account")


@pytest.mark.parametrize("code", sorted(CODES))
async def test_every_code_is_an_error_and_no_trouble_of_ours_ends_a_login(code: Code) -> None:
    status, error = oauth_error(code, STATUS[code][0])
    assert status != 401, "clients take it for the end of the login, whatever it says"
    ends = {"invalid_grant": {"key_required", "login_required", "unknown_account"}, "unauthorized_client": {"scope"}}
    for name, codes in ends.items():
        assert (error == name) == (code in codes)
    assert (error in ("temporarily_unavailable", "server_error")) == (status >= 500) == (STATUS[code][0] >= 500)
