"""The browser's half of the login."""

import httpx
import pytest

from service.sandbox import Sandbox, User
from service.sandbox.authorize import allowed_redirect

from .driver import AUTHORIZE, OMIT, REDIRECT, Driver, claims, query_of

BOB = User(subject="user-bob", email="bob@example.com", plan="pro", account_id="acct-bob")


def error_of(answer: httpx.Response) -> str:
    assert answer.status_code == 302
    assert answer.headers["location"].startswith(f"{REDIRECT}?")
    return query_of(answer.headers["location"])["error"]


async def test_code_scope_and_state_come_back(driver: Driver) -> None:
    answer = await driver.authorize()
    assert answer.status_code == 302
    back = query_of(answer.headers["location"])
    assert back["code"].startswith("ac_")
    assert back["scope"] == AUTHORIZE["scope"]
    assert back["state"] == "a-state"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest.mark.parametrize("port", [1455, 1457])
def test_the_four_registered_redirects(host: str, port: int) -> None:
    assert allowed_redirect(f"http://{host}:{port}/auth/callback", frozenset({1455, 1457}))


@pytest.mark.parametrize(
    "uri",
    [
        "https://localhost:1455/auth/callback",
        "http://localhost:1456/auth/callback",
        "http://localhost:01455/auth/callback",
        "http://localhost:1455/auth/callback/",
        "http://localhost:1455/auth/callback?x=1",
        "http://localhost:1455/auth/callback#",
        "http://LOCALHOST:1455/auth/callback",
        "http://user@localhost:1455/auth/callback",
        "http://localhost.example.com:1455/auth/callback",
        "http://[::1]:1455/auth/callback",
        "http://localhost/auth/callback",
        "http://localhost:99999/auth/callback",
        "http://[/auth/callback",
    ],
)
async def test_any_other_redirect_is_answered_with_a_page(driver: Driver, uri: str) -> None:
    answer = await driver.authorize(redirect_uri=uri)
    assert answer.status_code == 400
    assert "location" not in answer.headers


async def test_any_loopback_port_when_the_knob_says_so(driver: Driver) -> None:
    driver.sandbox.knobs.redirect_ports = None
    assert (await driver.authorize(redirect_uri="http://127.0.0.1:40001/auth/callback")).status_code == 302
    assert (await driver.authorize(redirect_uri="http://example.com:40001/auth/callback")).status_code == 400


@pytest.mark.parametrize("changes", [{"client_id": "another"}, {"client_id": OMIT}, {"redirect_uri": OMIT}])
async def test_untrusted_client_is_answered_with_a_page(driver: Driver, changes: dict[str, object]) -> None:
    assert (await driver.authorize(**changes)).status_code == 400


@pytest.mark.parametrize("name", ["client_id", "redirect_uri"])
async def test_repeated_trust_anchor_is_answered_with_a_page(driver: Driver, name: str) -> None:
    assert (await driver.authorize(**{name: [AUTHORIZE[name], AUTHORIZE[name]]})).status_code == 400


async def test_undecodable_query_is_answered_with_a_page(driver: Driver) -> None:
    assert (await driver.client.get("/oauth/authorize?client_id=%ff")).status_code == 400


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": OMIT}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"state": OMIT}, "invalid_request"),
        ({"state": ""}, "invalid_request"),
        ({"scope": ["openid", "email"]}, "invalid_request"),
        ({"code_challenge": OMIT}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge_method": OMIT}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"scope": OMIT}, "invalid_scope"),
        ({"scope": " "}, "invalid_scope"),
        ({"scope": "openid admin"}, "invalid_scope"),
    ],
)
async def test_other_mistakes_go_back_to_the_client(driver: Driver, changes: dict[str, object], error: str) -> None:
    answer = await driver.authorize(**changes)
    assert error_of(answer) == error
    assert ("state" in query_of(answer.headers["location"])) == ("state" not in changes)


async def test_unknown_parameters_are_ignored(driver: Driver) -> None:
    assert (await driver.authorize(current_workspace_id="x", allowed_workspace_id="a,b")).status_code == 302


async def test_scripted_refusal(driver: Driver) -> None:
    driver.sandbox.knobs.authorize_error = "access_denied"
    driver.sandbox.knobs.authorize_error_description = "missing_codex_entitlement"
    answer = await driver.authorize()
    assert error_of(answer) == "access_denied"
    assert query_of(answer.headers["location"])["error_description"] == "missing_codex_entitlement"


async def test_login_hint_chooses_among_known_users(sandbox: Sandbox, driver: Driver) -> None:
    sandbox.users.append(BOB)
    assert claims((await driver.login(login_hint=BOB.email))["id_token"])["sub"] == "user-bob"
    assert claims((await driver.login(login_hint="stranger"))["id_token"])["sub"] == sandbox.knobs.user.subject


async def test_the_knob_says_who_signs_in(sandbox: Sandbox, driver: Driver) -> None:
    sandbox.knobs.user = BOB
    assert claims((await driver.login())["access_token"])["sub"] == "user-bob"


async def test_consent_page_escapes_and_waits(sandbox: Sandbox, driver: Driver) -> None:
    sandbox.knobs.auto_approve = False
    sandbox.knobs.user = User(email="<script>@example.com")
    page = await driver.authorize(state='"><script>')
    assert page.status_code == 200
    assert "<script>" not in page.text
    assert "Approve" in page.text


@pytest.mark.parametrize(("decision", "came"), [("approve", "code"), ("deny", "error"), ("", "error")])
async def test_the_persons_decision(sandbox: Sandbox, driver: Driver, decision: str, came: str) -> None:
    sandbox.knobs.auto_approve = False
    asked = httpx.QueryParams(AUTHORIZE)
    answer = await driver.client.post(f"/oauth/authorize?{asked}", data={"decision": decision})
    back = query_of(answer.headers["location"])
    assert answer.status_code == 302
    assert came in back
    assert back["state"] == "a-state"
