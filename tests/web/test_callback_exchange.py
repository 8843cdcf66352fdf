"""After the callback: the exchange of the code, what becomes of a failed one, restarts and several services."""

import asyncio
from pathlib import Path

import httpx
import pytest

from service.sandbox import Fault, faults
from tests.kit import House
from tests.web.browser import LED, browsing
from tests.web.expect import page, problem
from tests.web.home import BOB, home
from tests.web.logins import exchanges, pending, state_of

pytestmark = pytest.mark.asyncio(loop_scope="module")


FAILED: dict[str, tuple[Fault, int, str]] = {
    "code refused": (faults.invalid_grant(), 502, "issuer_refused"),
    "client unknown": (faults.invalid_client(), 502, "issuer_refused"),
    "wall": (faults.html(403), 502, "issuer_refused"),
    "moved": (Fault(307, headers={"Location": "https://evil.example/"}), 502, "issuer_refused"),
    "no tokens": (Fault(200, {"token_type": "Bearer"}), 503, "issuer_unavailable"),
    "access only": (Fault(200, {"access_token": "a", "token_type": "Bearer"}), 502, "invalid_answer"),
    "other type": (
        Fault(200, {"access_token": "a", "refresh_token": "b", "token_type": "mac"}),
        502,
        "invalid_answer",
    ),
    "unsendable": (Fault(200, {"access_token": "a\nb", "refresh_token": "b"}), 502, "invalid_answer"),
    "a page": (faults.html(), 503, "issuer_unavailable"),
    "busy": (faults.server_error(503), 503, "issuer_unavailable"),
    "busy for long": (faults.server_error(503, "9"), 503, "issuer_unavailable"),
    "too many": (faults.rate_limited(), 503, "issuer_unavailable"),
    "broken": (faults.server_error(500), 503, "issuer_unavailable"),
    "gone": (faults.drop(), 503, "issuer_unavailable"),
    "lost": (faults.lost_answer(), 503, "issuer_unavailable"),
}


@pytest.mark.parametrize("case", FAILED)
async def test_a_failed_exchange_ends_the_login_and_says_so(h: House, account: str, case: str) -> None:
    fault, status, code = FAILED[case]
    login, back = await pending(h, account)
    h.sandbox.fail_next(fault)
    answer = await h.client.get(back)
    assert "Login failed" in page(answer, status)
    assert ("retry-after" in answer.headers) == (status == 503)
    body = (await h.client.get(f"/login/{login['id']}")).json()
    assert (body["state"], body["error"]) == ("failed", code)
    assert not (await h.client.get("/token", params={"account": account})).is_success
    before = exchanges(h)
    page(await h.client.get(back), 400)
    assert exchanges(h) == before, "a code was sent twice"


@pytest.mark.parametrize("case", FAILED)
async def test_the_same_for_a_pasted_one(h: House, account: str, case: str) -> None:
    fault, status, code = FAILED[case]
    login, back = await pending(h, account)
    h.sandbox.fail_next(fault)
    answer = await h.client.post(f"/login/{login['id']}/callback", json={"url": back})
    problem(answer, status, code, *(["retry_after"] if status == 503 else []))


@pytest.mark.parametrize("case", ["code refused", "busy", "lost"])
async def test_a_failed_login_leaves_the_one_before_as_it_is(h: House, account: str, case: str) -> None:
    await h.log_in(account)
    stored = await h.status(account)
    _, back = await pending(h, account)
    h.sandbox.fail_next(FAILED[case][0])
    await h.client.get(back)
    assert await h.status(account) == stored


async def test_token_type_is_case_insensitive(h: House, account: str) -> None:
    for kind in ("bearer", "BEARER"):
        h.sandbox.knobs.override_fields = {"token_type": kind}
        assert (await h.log_in(account))["state"] == "complete"
        assert (await h.token(account=account))["token_type"] == "Bearer"


# restarts, and several services


async def test_a_pending_login_survives_a_restart(tmp_path: Path) -> None:
    async with home(tmp_path) as first:
        login, back = await pending(first, "default")
    async with home(tmp_path, sandbox=first.sandbox, clock=first.clock) as second:
        assert (await second.client.get(f"/login/{login['id']}")).json() == login
        page(await second.client.get(back), 200)
        assert await state_of(second, login) == "complete"
        assert (await second.token())["generation"] == 1


async def test_a_browsers_login_survives_a_restart(tmp_path: Path) -> None:
    async with home(tmp_path) as first, browsing(first) as browser:
        back = await browser.approve(await browser.open_login())
        cookies = httpx.Cookies(browser.http.cookies)
    async with home(tmp_path, sandbox=first.sandbox, clock=first.clock) as second:
        async with browsing(second) as stranger:
            page(await stranger.come_back(back), 400)
        async with browsing(second) as same:
            same.http.cookies = cookies
            page(await same.come_back(back), 200)


async def test_a_used_callback_stays_used_after_a_restart(tmp_path: Path) -> None:
    async with home(tmp_path) as first:
        _, back = await pending(first, "default")
        await first.client.get(back)
    async with home(tmp_path, sandbox=first.sandbox, clock=first.clock) as second:
        page(await second.client.get(back), 400)
        assert exchanges(second) == 1


async def test_another_service_on_the_same_folder_finishes_it(tmp_path: Path) -> None:
    async with (
        home(tmp_path) as first,
        home(tmp_path, sandbox=first.sandbox, clock=first.clock) as second,
        asyncio.timeout(10),
    ):
        login, back = await pending(first, "default")
        waiting = asyncio.create_task(first.client.get(f"/login/{login['id']}", params={"wait": 60}))
        page(await second.client.get(back), 200)
        assert (await waiting).json()["state"] == "complete"
        assert (await first.token())["access_token"] == (await second.token())["access_token"]


async def test_two_services_exchange_a_code_once(tmp_path: Path) -> None:
    async with home(tmp_path) as first, home(tmp_path, sandbox=first.sandbox, clock=first.clock) as second:
        _, back = await pending(first, "default")
        both = (house.client.get(back) for house in (first, second) for _ in range(10))
        statuses = sorted(answer.status_code for answer in await asyncio.gather(*both))
        assert statuses == [200] + [400] * 19
        assert exchanges(first) == 1


async def test_another_account_gets_its_page(h: House, account: str) -> None:
    await h.log_in(account)
    h.sandbox.knobs.user = BOB
    _, back = await pending(h, account)
    html = page(await h.client.get(back, headers=LED), 409)
    assert "nothing was changed" in html
    assert "bob@example.com" not in html
