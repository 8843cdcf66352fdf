"""Device logins: polled in the background on the issuer's terms until the person is done, or time is."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from service.sandbox import DEVICE_POLL_PATH, Fault, faults
from tests.kit import House
from tests.web.home import home, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def start(h: House, account: str, **body: Any) -> dict[str, Any]:
    login: dict[str, Any] = (await h.client.post("/login", json={"account": account, "flow": "device", **body})).json()
    return login


async def stands(h: House, login: dict[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = (await h.client.get(f"/login/{login['id']}")).json()
    return body


async def later(h: House, seconds: float) -> int:
    """Time passes, and a round of the background; the polls that it made."""
    before = polls(h)
    h.clock.advance(seconds)
    await h.app.background.round()
    await h.app.services.logins.drain()
    await h.app.refresher.drain()
    return polls(h) - before


def polls(h: House) -> int:
    return sum(1 for one in h.sandbox.requests if one.path == DEVICE_POLL_PATH)


@pytest.fixture(autouse=True)
def nothing_else_is_pending(h: House) -> None:
    """What other tests started has run out of time."""
    h.clock.advance(901)


async def test_approved(h: House, account: str) -> None:
    login = await start(h, account)
    assert await later(h, 5) == 1
    assert (await stands(h, login))["state"] == "pending"
    h.sandbox.approve(login["user_code"])
    assert await later(h, 5) == 1
    ended = await stands(h, login)
    assert (ended["state"], ended["expires_in"]) == ("complete", 0)
    assert not {"user_code", "verification_uri", "verification_uri_complete", "interval"} & set(ended)
    assert (await h.token(account=account))["generation"] == 1
    assert await later(h, 60) == 0


async def test_somebody_who_waits_hears_of_it(h: House, account: str) -> None:
    login = await start(h, account)
    waiting = asyncio.create_task(h.client.get(f"/login/{login['id']}", params={"wait": 60}))
    h.sandbox.approve(login["user_code"])
    await later(h, 5)
    assert (await asyncio.wait_for(waiting, 2)).json()["state"] == "complete"


async def test_denied(h: House, account: str) -> None:
    login = await start(h, account)
    h.sandbox.deny(login["user_code"])
    await later(h, 5)
    ended = await stands(h, login)
    assert (ended["state"], ended["error"]) == ("failed", "login_denied")
    assert await later(h, 60) == 0


async def test_expired_at_the_issuer(h: House, account: str) -> None:
    h.sandbox.knobs.device_lifetime = 4
    login = await start(h, account)
    await later(h, 5)
    ended = await stands(h, login)
    assert (ended["state"], ended["error"]) == ("expired", "login_expired")
    assert await later(h, 60) == 0


async def test_expired_here(h: House, account: str) -> None:
    login = await start(h, account)
    assert await later(h, 900) == 0, "polled after its end"
    assert (await stands(h, login))["state"] == "expired"


async def test_never_before_the_interval(h: House, account: str) -> None:
    await start(h, account)
    assert await later(h, 4.9) == 0
    assert await later(h, 0.2) == 1
    assert await later(h, 4.9) == 0
    assert await later(h, 0.2) == 1


@pytest.mark.parametrize(
    ("interval", "expected"), [("9", 9), ("0", 1), ("-3", 1), ("1000", 60), ("soon", 5), ("nan", 5), ("2.5", 2)]
)
async def test_the_issuers_interval(h: House, account: str, interval: str, expected: int) -> None:
    h.sandbox.knobs.device_interval = interval
    login = await start(h, account)
    assert login["interval"] == expected


async def test_slow_down_lasts(h: House, account: str) -> None:
    login = await start(h, account)
    h.sandbox.fail_next(faults.slow_down(), path=DEVICE_POLL_PATH)
    assert await later(h, 5) == 1
    assert (await stands(h, login))["interval"] == 10
    assert await later(h, 9) == 0
    assert await later(h, 1) == 1
    assert await later(h, 9) == 0, "forgotten after one poll"
    assert await later(h, 1) == 1


@pytest.mark.parametrize("fault", [faults.drop(), faults.server_error(500), faults.server_error(502)])
async def test_no_answer_doubles_the_pause(h: House, account: str, fault: Fault) -> None:
    login = await start(h, account)
    h.sandbox.fail_next(fault, path=DEVICE_POLL_PATH)
    assert await later(h, 5) == 1
    assert await later(h, 9) == 0
    h.sandbox.approve(login["user_code"])
    assert await later(h, 1) == 1
    assert (await stands(h, login))["state"] == "complete"


async def test_retry_after_is_obeyed(h: House, account: str) -> None:
    await start(h, account)
    h.sandbox.fail_next(faults.rate_limited("30"), path=DEVICE_POLL_PATH)
    assert await later(h, 5) == 1
    assert await later(h, 29) == 0
    assert await later(h, 2) == 1


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (faults.refusal("deviceauth_unknown", status=400), "issuer_refused"),
        (faults.invalid_client(), "issuer_refused"),
        (Fault(400, b"nonsense"), "issuer_refused"),
        (faults.not_an_object(), "issuer_refused"),
        (faults.html(), "issuer_refused"),
    ],
)
async def test_any_other_answer_ends_it(h: House, account: str, fault: Fault, code: str) -> None:
    login = await start(h, account)
    h.sandbox.fail_next(fault, path=DEVICE_POLL_PATH)
    await later(h, 5)
    ended = await stands(h, login)
    assert (ended["state"], ended["error"]) == ("failed", code)
    assert await later(h, 60) == 0


@pytest.mark.parametrize("status", [403, 404])
async def test_not_yet(h: House, account: str, status: int) -> None:
    login = await start(h, account)
    h.sandbox.fail_next(Fault(status, b""), path=DEVICE_POLL_PATH)
    await later(h, 5)
    assert (await stands(h, login))["state"] == "pending"


async def test_a_failed_exchange_ends_it(h: House, account: str) -> None:
    login = await start(h, account)
    h.sandbox.approve(login["user_code"])
    h.sandbox.fail_next(faults.invalid_grant(), grant_type="authorization_code")
    await later(h, 5)
    ended = await stands(h, login)
    assert (ended["state"], ended["error"]) == ("failed", "issuer_refused")


async def test_a_slow_exchange_is_not_overtaken_by_another_poll(h: House, account: str) -> None:
    login = await start(h, account)
    h.sandbox.approve(login["user_code"])
    h.sandbox.knobs.latency = 0.2
    before = len(h.sandbox.token_requests("authorization_code"))
    h.clock.advance(5)
    await h.app.background.round()
    await until(lambda: len(h.sandbox.token_requests("authorization_code")) > before)
    assert await later(h, 120) == 0
    assert (await stands(h, login))["state"] == "complete"


async def test_cancelled_is_not_polled(h: House, account: str) -> None:
    login = await start(h, account)
    await h.client.delete(f"/login/{login['id']}")
    assert await later(h, 5) == 0


async def test_rounds_beside_each_other_poll_once(h: House, account: str) -> None:
    await start(h, account)
    h.clock.advance(5)
    before = polls(h)
    await asyncio.gather(*(h.app.background.round() for _ in range(5)))
    await h.app.services.logins.drain()
    assert polls(h) - before == 1


async def test_the_secret_half_is_never_shown(h: House, account: str) -> None:
    login = await start(h, account)
    await later(h, 5)
    device_auth_id = [one.form["device_auth_id"] for one in h.sandbox.requests if one.path == DEVICE_POLL_PATH][-1]
    for path in (f"/login/{login['id']}", f"/status?account={account}", "/accounts"):
        assert device_auth_id not in (await h.client.get(path)).text
    assert login["user_code"] not in (await h.client.get(f"/status?account={account}")).text


async def test_pasting_a_callback_into_a_device_login(h: House, account: str) -> None:
    login = await start(h, account)
    answer = await h.client.post(f"/login/{login['id']}/callback", json={"url": "?code=a&state=b"})
    assert answer.json()["code"] == "login_mismatch"
    assert (await stands(h, login))["state"] == "pending"


async def test_it_survives_a_restart(tmp_path: Path) -> None:
    async with home(tmp_path) as first:
        login = await start(first, "default")
    async with home(tmp_path, sandbox=first.sandbox, clock=first.clock) as second:
        second.sandbox.approve(login["user_code"])
        await later(second, 5)
        assert (await stands(second, login))["state"] == "complete"


async def test_two_services_poll_as_one(tmp_path: Path) -> None:
    async with home(tmp_path) as first, home(tmp_path, sandbox=first.sandbox, clock=first.clock) as second:
        await start(first, "default")
        first.clock.advance(5)
        await asyncio.gather(first.app.background.round(), second.app.background.round())
        await first.app.services.logins.drain()
        await second.app.services.logins.drain()
        assert polls(first) == 1


async def test_the_background_does_it_by_itself(tmp_path: Path) -> None:
    async with home(tmp_path, background=True) as h:
        login = await start(h, "default")
        h.sandbox.approve(login["user_code"])
        h.clock.advance(5)
        answer = await asyncio.wait_for(h.client.get(f"/login/{login['id']}", params={"wait": 60}), 10)
        assert answer.json()["state"] == "complete"
