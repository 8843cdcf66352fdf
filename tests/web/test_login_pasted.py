"""POST /login/{id}/callback: the address bar's URL, pasted; and whose login it turns out to be."""

import asyncio
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.kit import House
from tests.web.expect import LOGIN, problem
from tests.web.home import BOB
from tests.web.logins import stands, start

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("shape", ["url", "https", "query", "question mark", "spaces", "fragment"])
async def test_pasting_what_the_address_bar_shows(h: House, account: str, shape: str) -> None:
    login = await start(h, account)
    back = await h.authorize(login["authorize_url"])
    query = urlsplit(back).query
    pasted = {
        "url": f"http://localhost:1455{back}",
        "https": f"https://somewhere.else{back}",
        "query": query,
        "question mark": f"?{query}",
        "spaces": f"  http://localhost:1455{back}\n",
        "fragment": f"http://localhost:1455{back}#_=_",
    }[shape]
    answer = await h.client.post(f"/login/{login['id']}/callback", json={"url": pasted})
    assert answer.status_code == 200
    assert set(answer.json()) == LOGIN
    assert answer.json() == await stands(h, login)
    assert answer.json()["state"] == "complete"


async def test_pasting_twice(h: House, account: str) -> None:
    login = await start(h, account)
    body = {"url": await h.authorize(login["authorize_url"])}
    assert (await h.client.post(f"/login/{login['id']}/callback", json=body)).status_code == 200
    problem(await h.client.post(f"/login/{login['id']}/callback", json=body), 400, "login_mismatch")
    assert (await stands(h, login))["state"] == "complete"


async def test_pasting_into_another_login(h: House, account: str) -> None:
    mine, other = await start(h, account), await start(h, f"{account}-b")
    body = {"url": await h.authorize(mine["authorize_url"])}
    problem(await h.client.post(f"/login/{other['id']}/callback", json=body), 400, "login_mismatch")
    assert [(await stands(h, login))["state"] for login in (mine, other)] == ["pending", "pending"]
    assert (await h.client.post(f"/login/{mine['id']}/callback", json=body)).json()["state"] == "complete"


@pytest.mark.parametrize("url", ["", "x", "http://[", "http://localhost:1455/auth/callback", "?code=a", "?state=b"])
async def test_pasting_something_else(h: House, account: str, url: str) -> None:
    login = await start(h, account)
    answer = await h.client.post(f"/login/{login['id']}/callback", json={"url": url})
    problem(answer, 400, "login_mismatch")
    assert (await stands(h, login))["state"] == "pending"


@pytest.mark.parametrize("body", [{}, {"url": None}, {"url": 5}, {"url": "x" * 16385}, {"url": "?", "more": 1}, []])
async def test_pasting_what_is_no_url(h: House, account: str, body: Any) -> None:
    login = await start(h, account)
    answer = await h.client.post(f"/login/{login['id']}/callback", json=body)
    problem(answer, 422, "invalid_request")


async def test_pasting_a_refusal(h: House, account: str) -> None:
    login = await start(h, account)
    h.sandbox.knobs.authorize_error = "access_denied"
    body = {"url": await h.authorize(login["authorize_url"])}
    problem(await h.client.post(f"/login/{login['id']}/callback", json=body), 400, "login_denied")
    assert (await stands(h, login))["error"] == "login_denied"


# whose login it is


async def test_another_account_is_not_put_in_the_place_of_the_stored_one(h: House, account: str) -> None:
    await h.log_in(account)
    h.sandbox.knobs.user = BOB
    ended = await h.log_in(account)
    assert (ended["state"], ended["error"]) == ("failed", "account_mismatch")
    assert (await h.status(account))["email"] == "ada@example.com"
    await h.app.services.logins.drain()
    assert h.sandbox.families[-1].ended == "revoked"
    assert (await h.token(account=account, newer_than=1))["generation"] == 2, "Ada's login lives"


async def test_pasting_another_account(h: House, account: str) -> None:
    await h.log_in(account)
    h.sandbox.knobs.user = BOB
    login = await start(h, account)
    body = {"url": await h.authorize(login["authorize_url"])}
    problem(await h.client.post(f"/login/{login['id']}/callback", json=body), 409, "account_mismatch")


async def test_unless_replace_was_set(h: House, account: str) -> None:
    await h.log_in(account)
    h.sandbox.knobs.user = BOB
    ended = await h.log_in(account, replace=True)
    assert ended["state"] == "complete"
    assert (await h.status(account))["email"] == "bob@example.com"


async def test_a_logged_out_account_takes_anybody(h: House, account: str) -> None:
    await h.log_in(account)
    await h.client.post("/logout", params={"account": account})
    h.sandbox.knobs.user = BOB
    assert (await h.log_in(account))["state"] == "complete"


async def test_the_same_account_logs_in_again(h: House, account: str) -> None:
    await h.log_in(account)
    assert (await h.log_in(account))["state"] == "complete"
    assert (await h.token(account=account))["generation"] == 2


async def test_a_login_cancelled_during_the_exchange_is_not_kept(h: House, account: str) -> None:
    login = await start(h, account)
    back = await h.authorize(login["authorize_url"])
    h.gate.arrived.clear()
    h.gate.hold_after.clear()
    returning = asyncio.create_task(h.client.post(f"/login/{login['id']}/callback", json={"url": back}))
    await h.gate.arrived.wait()
    await h.client.delete(f"/login/{login['id']}")
    h.gate.hold_after.set()
    problem(await returning, 409, "login_cancelled")
    await h.app.services.logins.drain()
    assert h.sandbox.families[-1].ended == "revoked"
    assert (await stands(h, login))["state"] == "cancelled"
