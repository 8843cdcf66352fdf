"""GET /token and GET /headers: what they give, and when they refresh."""

from typing import Any

import pytest

from service.sandbox import User
from tests.kit import House
from tests.web.expect import TOKEN, one_line_of_text, problem
from tests.web.home import install

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_token_has_exactly_its_members(h: House, account: str) -> None:
    await h.log_in(account)
    answer = await h.client.get("/token", params={"account": account})
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == TOKEN
    assert body["token_type"] == "Bearer"
    assert (body["account"], body["kind"], body["generation"]) == (account, "subscription", 1)
    assert body["access_token"] == h.sandbox.families[-1].access_token


async def test_expiry_is_what_the_issuer_gave(h: House, account: str) -> None:
    await h.log_in(account)
    h.clock.advance(600.25)
    assert (await h.token(account=account))["expires_in"] == 2999


@pytest.mark.parametrize("way", ["format", "accept"])
async def test_text_is_the_token_and_a_newline(h: House, account: str, way: str) -> None:
    await h.log_in(account)
    ask: dict[str, Any] = {"params": {"account": account}}
    if way == "format":
        ask["params"]["format"] = "text"
    else:
        ask["headers"] = {"Accept": "text/plain"}
    answer = await h.client.get("/token", **ask)
    assert one_line_of_text(answer) == h.sandbox.families[-1].access_token


@pytest.mark.parametrize("path", ["/token", "/headers"])
@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/json, text/plain", "text/html", ""])
async def test_other_wishes_get_json(h: House, path: str, accept: str) -> None:
    await install(h)
    answer = await h.client.get(path, headers={"Accept": accept})
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", ["/token", "/headers"])
async def test_format_goes_before_accept(h: House, path: str) -> None:
    await install(h)
    answer = await h.client.get(path, params={"format": "json"}, headers={"Accept": "text/plain"})
    assert answer.headers["content-type"] == "application/json"


async def test_headers_are_what_the_provider_wants(h: House, account: str) -> None:
    await h.log_in(account)
    family = h.sandbox.families[-1]
    answer = await h.client.get("/headers", params={"account": account})
    assert answer.json() == {
        "Authorization": f"Bearer {family.access_token}",
        "ChatGPT-Account-ID": family.account_id,
    }
    used = await h.browser.get(f"{h.sandbox.issuer}/backend-api/codex/models", headers=answer.json())
    assert used.status_code == 200


async def test_headers_as_text_are_lines_for_curl(h: House, account: str) -> None:
    await h.log_in(account)
    answer = await h.client.get("/headers", params={"account": account, "format": "text"})
    lines = one_line_of_text(answer).split("\n")
    assert (
        dict(line.split(": ", 1) for line in lines)
        == (await h.client.get("/headers", params={"account": account})).json()
    )


async def test_headers_without_an_account_id(h: House, account: str) -> None:
    h.sandbox.knobs.user = User(account_id="")
    await h.log_in(account)
    answer = await h.client.get("/headers", params={"account": account})
    assert set(answer.json()) == {"Authorization"}
    text = await h.client.get("/headers", params={"account": account, "format": "text"})
    assert one_line_of_text(text).startswith("Authorization: Bearer ")


# who is refused


@pytest.mark.parametrize("path", ["/token", "/headers", "/status"])
async def test_an_unknown_account_is_not_found(h: House, account: str, path: str) -> None:
    problem(await h.client.get(path, params={"account": account}), 404, "unknown_account")


NAMES = ["a", "0", "a" * 63, "a.b_c-d", "0-", "default"]
NOT_NAMES = ["", "A", "-a", ".a", "_a", "a" * 64, "a b", "a/b", "ä", "a\n", "a\0", "a%41", "*", "a,b", "\u0661"]
PATHS = [
    ("GET", "/token"),
    ("GET", "/headers"),
    ("GET", "/status"),
    ("GET", "/login"),
    ("PUT", "/credential"),
    ("POST", "/logout"),
]


@pytest.mark.parametrize("name", NAMES)
async def test_these_are_names(h: House, name: str) -> None:
    answer = await h.client.get("/headers", params={"account": name})
    assert answer.json().get("code") in ("unknown_account", "login_required", None)


@pytest.mark.parametrize("name", NOT_NAMES)
async def test_these_are_no_names(h: House, name: str) -> None:
    for method, path in PATHS:
        body = {"kind": "api_key", "api_key": "x"} if method == "PUT" else None
        answer = await h.client.request(method, path, params={"account": name}, json=body)
        problem(answer, 422, "invalid_request")


@pytest.mark.parametrize(
    "query",
    [
        "min_ttl=-1",
        "min_ttl=nan",
        "min_ttl=inf",
        "min_ttl=1e10",
        "min_ttl=",
        "min_ttl=soon",
        "newer_than=-1",
        "newer_than=1.5",
        "newer_than=",
        "newer_than=9007199254740993",
        "format=xml",
        "format=",
        "format=TEXT",
        "acount=work",
        "token=x",
        "access_token=x",
    ],
)
async def test_bad_parameters_are_refused(h: House, query: str) -> None:
    for path in ("/token", "/headers"):
        problem(await h.client.get(f"{path}?{query}"), 422, "invalid_request")
