"""GET and DELETE /login/{id}: how a login stands, how it ends, and waiting for that."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from service.broker.seams import Seams
from service.oauth.pkce import challenge
from tests.kit import Clock, House
from tests.web.expect import LOGIN, problem
from tests.web.home import home, install
from tests.web.logins import asked, stands, start

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_complete(h: House, account: str) -> None:
    ended = await h.log_in(account)
    assert set(ended) == LOGIN
    assert (ended["state"], ended["expires_in"]) == ("complete", 0)


async def test_cancelled(h: House, account: str) -> None:
    login = await start(h, account)
    answer = await h.client.delete(f"/login/{login['id']}")
    assert (answer.status_code, answer.content) == (204, b"")
    body = await stands(h, login)
    assert (body["state"], body["error"], body["expires_in"]) == ("cancelled", "login_cancelled", 0)
    assert not set(body) & {"authorize_url"}
    assert (await h.client.delete(f"/login/{login['id']}")).status_code == 204


async def test_cancelling_what_is_complete_changes_nothing(h: House, account: str) -> None:
    ended = await h.log_in(account)
    assert (await h.client.delete(f"/login/{ended['id']}")).status_code == 204
    assert await stands(h, ended) == ended


async def test_a_cancelled_login_cannot_be_finished(h: House, account: str) -> None:
    login = await start(h, account)
    back = await h.authorize(login["authorize_url"])
    await h.client.delete(f"/login/{login['id']}")
    before = len(h.sandbox.token_requests())
    assert (await h.client.get(back)).status_code == 400
    assert len(h.sandbox.token_requests()) == before


async def test_expired(h: House, account: str) -> None:
    login = await start(h, account)
    h.clock.advance(899)
    assert (await stands(h, login))["expires_in"] == 1
    h.clock.advance(1)
    body = await stands(h, login)
    assert (body["state"], body["error"], body["expires_in"]) == ("expired", "login_expired", 0)
    assert (await h.client.get(f"/login/{login['id']}", params={"wait": 5})).json() == body


async def test_an_expired_login_cannot_be_finished(h: House, account: str) -> None:
    h.sandbox.knobs.code_lifetime = 10**6
    login = await start(h, account)
    back = await h.authorize(login["authorize_url"])
    h.clock.advance(901)
    assert (await h.client.get(back)).status_code == 400


async def test_failed(h: House, account: str) -> None:
    login = await start(h, account)
    h.sandbox.knobs.authorize_error = "access_denied"
    await h.client.get(await h.authorize(login["authorize_url"]))
    body = await stands(h, login)
    assert set(body) >= LOGIN | {"error"}
    assert (body["state"], body["error"]) == ("failed", "login_denied")


async def test_the_newer_login_replaces_the_older(h: House, account: str) -> None:
    older, newer = await start(h, account), await start(h, account)
    body = await stands(h, older)
    assert (body["state"], body["error"]) == ("cancelled", "login_replaced")
    assert (await h.status(account))["login"]["id"] == newer["id"]
    assert (await h.client.get(await h.authorize(older["authorize_url"]))).status_code == 400
    assert (await h.client.get(await h.authorize(newer["authorize_url"]))).status_code == 200


async def test_a_device_login_replaces_a_browser_login_and_back(h: House, account: str) -> None:
    logins = [await start(h, account, flow=flow) for flow in ("browser", "device", "browser")]
    assert [(await stands(h, login))["state"] for login in logins] == ["cancelled", "cancelled", "pending"]


async def test_logins_of_different_accounts_do_not_replace_each_other(h: House, account: str) -> None:
    first, second = await start(h, account), await start(h, f"{account}-b")
    assert (await stands(h, first))["state"] == "pending"
    codes = [await h.authorize(login["authorize_url"]) for login in (first, second)]
    for back in reversed(codes):
        assert (await h.client.get(back)).status_code == 200
    verifiers = [one.form["code_verifier"] for one in h.sandbox.token_requests("authorization_code")[-2:]]
    assert [challenge(one) for one in verifiers] == [asked(login)["code_challenge"] for login in (second, first)]


async def test_twenty_starts_at_once_leave_one_pending(h: House, account: str) -> None:
    logins = await asyncio.gather(*(start(h, account) for _ in range(20)))
    states = [(await stands(h, login))["state"] for login in logins]
    assert sorted(states) == ["cancelled"] * 19 + ["pending"]


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("DELETE", ""), ("POST", "/callback")])
@pytest.mark.parametrize("login_id", ["nothing", "0", "..%2f", "%00", "ä", "x" * 5000])
async def test_an_unknown_login_is_not_found(h: House, method: str, path: str, login_id: str) -> None:
    answer = await h.client.request(
        method, f"/login/{login_id}{path}", json={"url": "?code=a&state=b"} if method == "POST" else None
    )
    assert answer.json()["code"] in ("unknown_login", "not_found")
    problem(answer, 404, answer.json()["code"])


async def test_how_it_ended_can_be_read_for_a_day(h: House, account: str) -> None:
    ended = await h.log_in(account)
    h.clock.advance(86_400)
    await start(h, f"{account}-b")
    assert (await stands(h, ended))["state"] == "complete"
    h.clock.advance(10_000)
    await start(h, f"{account}-c")
    problem(await h.client.get(f"/login/{ended['id']}"), 404, "unknown_login")


# waiting


@pytest.mark.parametrize("wait", ["-1", "61", "nan", "inf", "x", ""])
async def test_waits_are_bounded(h: House, account: str, wait: str) -> None:
    login = await start(h, account)
    problem(await h.client.get(f"/login/{login['id']}", params={"wait": wait}), 422, "invalid_request")


async def test_a_wait_ends_when_the_login_does(h: House, account: str) -> None:
    login = await start(h, account)
    waiting = asyncio.create_task(h.client.get(f"/login/{login['id']}", params={"wait": 60}))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await h.client.get(await h.authorize(login["authorize_url"]))
    began = time.monotonic()
    assert (await waiting).json()["state"] == "complete"
    assert time.monotonic() - began < 3


async def test_a_wait_ends_when_the_login_is_cancelled(h: House, account: str) -> None:
    login = await start(h, account)
    waiting = [asyncio.create_task(h.client.get(f"/login/{login['id']}", params={"wait": 60})) for _ in range(5)]
    await asyncio.sleep(0.05)
    await h.client.delete(f"/login/{login['id']}")
    began = time.monotonic()
    assert {(await one).json()["state"] for one in waiting} == {"cancelled"}
    assert time.monotonic() - began < 3


async def test_a_wait_that_runs_out_tells_that_it_is_pending(tmp_path: Path) -> None:
    clock = Clock()
    real = replace(clock.seams(), boot=Seams().boot)
    async with home(tmp_path, clock=clock, seams=real) as h:
        login = await start(h, "default")
        began = time.monotonic()
        answer = await h.client.get(f"/login/{login['id']}", params={"wait": 0.3})
        assert 0.3 <= time.monotonic() - began < 5
        assert answer.json() == login


async def test_commits_of_others_do_not_end_a_wait(h: House, account: str) -> None:
    login = await start(h, account)
    waiting = asyncio.create_task(h.client.get(f"/login/{login['id']}", params={"wait": 60}))
    await asyncio.sleep(0.05)
    await install(h, f"{account}-other")
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await h.client.delete(f"/login/{login['id']}")
    await waiting
