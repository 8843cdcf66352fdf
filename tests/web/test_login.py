"""POST /login: what it asks of the issuer, what it answers, and what it does where the issuer gives nothing."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from service.oauth.pkce import challenge
from service.sandbox import faults
from tests.kit import House
from tests.web.expect import BROWSER_LOGIN, DEVICE_LOGIN, problem
from tests.web.home import client_key, home
from tests.web.logins import asked, start

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("flow", ["auto", "browser"])
async def test_a_browser_login_has_exactly_its_members(h: House, account: str, flow: str) -> None:
    answer = await h.client.post("/login", json={"account": account, "provider": "codex", "flow": flow})
    assert answer.status_code == 201
    body = answer.json()
    assert set(body) == BROWSER_LOGIN
    assert answer.headers["location"] == f"/login/{body['id']}"
    assert (body["account"], body["provider"], body["flow"], body["state"]) == (account, "codex", "browser", "pending")
    assert (body["expires_in"], body["fallback"]) == (900, None)
    assert (await h.client.get(answer.headers["location"])).json() == body


async def test_a_device_login_has_exactly_its_members(h: House, account: str) -> None:
    answer = await h.client.post("/login", json={"account": account, "flow": "device"})
    assert answer.status_code == 201
    body = answer.json()
    assert set(body) == DEVICE_LOGIN
    assert answer.headers["location"] == f"/login/{body['id']}"
    assert body["user_code"] == h.sandbox.pending_user_codes[-1]
    assert body["verification_uri"] == "https://issuer.test/codex/device"
    assert body["verification_uri_complete"] == f"{body['verification_uri']}?user_code={body['user_code']}"
    assert (body["interval"], body["fallback"], body["expires_in"]) == (5, None, 900)
    assert (await h.client.get(answer.headers["location"])).json() == body


@pytest.mark.parametrize("content", [None, b"", b"{}", b"null"])
async def test_without_a_body_it_is_default_at_codex(h: House, content: bytes | None) -> None:
    kind = {"Content-Type": "application/json"} if content else {}
    answer = await h.client.post("/login", content=content, headers=kind)
    assert answer.status_code == 201
    body = answer.json()
    assert (body["account"], body["provider"], body["flow"]) == ("default", "codex", "browser")


async def test_the_account_may_stand_in_the_query(h: House, account: str) -> None:
    for body in (None, {}, {"flow": "browser"}):
        answer = await h.client.post("/login", params={"account": account}, json=body)
        assert answer.json()["account"] == account
    answer = await h.client.post("/login", params={"account": account}, json={"account": f"{account}-b"})
    assert answer.json()["account"] == f"{account}-b"
    problem(await h.client.post("/login", params={"acount": account}), 422, "invalid_request")


async def test_get_without_html_is_the_same(h: House, account: str) -> None:
    answer = await h.client.get("/login", params={"account": account, "flow": "device"}, headers={"Accept": "*/*"})
    assert answer.status_code == 201
    assert set(answer.json()) == DEVICE_LOGIN
    assert answer.headers["location"] == f"/login/{answer.json()['id']}"
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "body",
    [
        {"account": "A"},
        {"account": 5},
        {"account": None},
        {"flow": "implicit"},
        {"flow": None},
        {"replace": "perhaps"},
        {"replace": 1},
        {"provider": 5},
        {"provider": "x" * 65},
        {"next": "//evil.example"},
        {"redirect_uri": "https://evil.example"},
        [],
        "default",
        5,
    ],
)
async def test_what_cannot_be_meant_is_refused(h: House, body: Any) -> None:
    problem(await h.client.post("/login", json=body), 422, "invalid_request")


async def test_an_unknown_provider_is_refused(h: House, account: str) -> None:
    answer = await h.client.post("/login", json={"account": account, "provider": "nobody"})
    problem(answer, 422, "unknown_provider")


# the authorization request


async def test_the_authorization_request_is_what_the_issuer_wants(h: House, account: str) -> None:
    login = await start(h, account)
    url = urlsplit(login["authorize_url"])
    assert (url.scheme, url.netloc, url.path, url.fragment) == ("https", "issuer.test", "/oauth/authorize", "")
    query = asked(login)
    assert set(query) == {
        "response_type",
        "client_id",
        "redirect_uri",
        "scope",
        "code_challenge",
        "code_challenge_method",
        "id_token_add_organizations",
        "codex_cli_simplified_flow",
        "originator",
        "state",
    }
    assert (query["response_type"], query["code_challenge_method"]) == ("code", "S256")
    assert query["redirect_uri"] == "http://localhost:1455/auth/callback"
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", query["state"])
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", query["code_challenge"])


async def test_no_two_logins_share_anything_secret(h: House, account: str) -> None:
    logins = [await start(h, account) for _ in range(20)]
    for name in ("state", "code_challenge"):
        assert len({asked(login)[name] for login in logins}) == 20
    assert len({login["id"] for login in logins}) == 20


async def test_the_verifier_fits_the_challenge_and_the_redirect_uri_is_the_same(h: House, account: str) -> None:
    login = await start(h, account)
    await h.client.get(await h.authorize(login["authorize_url"]))
    sent = h.sandbox.token_requests("authorization_code")[-1].form
    assert re.fullmatch(r"[A-Za-z0-9._~-]{43,128}", sent["code_verifier"])
    assert challenge(sent["code_verifier"]) == asked(login)["code_challenge"]
    assert sent["redirect_uri"] == asked(login)["redirect_uri"]


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-Host": "evil.example"},
        {"Forwarded": "host=evil.example"},
        {"X-Forwarded-Proto": "https"},
        {"Host": "127.0.0.1:1455"},
        {"Referer": "https://evil.example/"},
    ],
)
async def test_no_header_bends_the_redirect_uri(h: House, account: str, headers: dict[str, str]) -> None:
    key = await client_key(h, account, scope=["login"])  # whoever forwards needs one
    headers = {**headers, "Authorization": f"Bearer {key}"}
    answer = await h.client.post("/login", json={"account": account}, headers=headers)
    assert asked(answer.json())["redirect_uri"] == "http://localhost:1455/auth/callback"


# where the callback port cannot be had


async def test_auto_falls_back_to_a_device_code_and_says_why(tmp_path: Path) -> None:
    async with home(tmp_path, port=1456) as h:
        h.client.base_url = "http://localhost:1456"
        answer = await h.client.post("/login")
        assert answer.status_code == 201
        assert set(answer.json()) == DEVICE_LOGIN
        assert answer.json()["fallback"] == "callback_port_unavailable"


async def test_browser_does_not_fall_back(tmp_path: Path) -> None:
    async with home(tmp_path, port=1456) as h:
        h.client.base_url = "http://localhost:1456"
        problem(await h.client.post("/login", json={"flow": "browser"}), 503, "callback_port_unavailable")


async def test_port_1457_will_do(tmp_path: Path) -> None:
    async with home(tmp_path, port=1457) as h:
        h.client.base_url = "http://localhost:1457"
        login = (await h.client.post("/login")).json()
        assert asked(login)["redirect_uri"] == "http://localhost:1457/auth/callback"


# where the issuer gives no device code

NO_CODE = {
    "away": (faults.drop(), 503, "issuer_unavailable", ["retry_after"]),
    "broken": (faults.server_error(500), 503, "issuer_unavailable", ["retry_after"]),
    "busy": (faults.rate_limited(), 503, "issuer_unavailable", ["retry_after"]),
    "refuses": (faults.invalid_client(), 502, "issuer_refused", []),
    "a page": (faults.html(), 502, "issuer_refused", []),
}


@pytest.mark.parametrize("case", NO_CODE)
async def test_no_device_code(h: House, account: str, case: str) -> None:
    fault, status, code, extras = NO_CODE[case]
    h.sandbox.fail_next(fault, path="/api/accounts/deviceauth/usercode")
    answer = await h.client.post("/login", json={"account": account, "flow": "device"})
    problem(answer, status, code, *extras)


async def test_no_device_login_there(h: House, account: str) -> None:
    h.sandbox.knobs.device_login = False
    answer = await h.client.post("/login", json={"account": account, "flow": "device"})
    problem(answer, 502, "device_login_unavailable")


async def test_no_parameter_of_the_authorization_request_is_repeated(h: House, account: str) -> None:
    login = await start(h, account)
    assert {name: len(values) for name, values in parse_qs(urlsplit(login["authorize_url"]).query).items()} == (
        dict.fromkeys(asked(login), 1)
    )
