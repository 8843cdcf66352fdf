"""When GET /token refreshes, when it does not, and that however many ask it does so once."""

import asyncio
from typing import Any

import pytest

from service.sandbox import faults
from tests.kit import House
from tests.web.expect import one_line_of_text, problem
from tests.web.home import install, refreshes

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def before(h: House) -> int:
    """Refreshes before the test."""
    return refreshes(h)


@pytest.mark.parametrize(
    ("left", "query", "expected"),
    [
        (31, {}, 0),
        (30, {}, 0),
        (29, {}, 1),
        (31, {"min_ttl": 60}, 1),
        (61, {"min_ttl": 60}, 0),
        (1, {"min_ttl": 0}, 0),
        (29.5, {"min_ttl": "29.4"}, 0),
        (29.5, {"min_ttl": "29.6"}, 1),
        (0, {"min_ttl": 0}, 1),
        (-5000, {"min_ttl": 0}, 1),
    ],
)
async def test_refreshes_when_less_than_min_ttl_is_left(
    h: House, account: str, left: float, query: dict[str, Any], expected: int, before: int
) -> None:
    await h.log_in(account)
    h.clock.advance(3600 - left)
    body = await h.token(account=account, **query)
    assert refreshes(h) - before == expected
    assert body["generation"] == 1 + expected
    assert "warning" not in body


async def test_min_ttl_is_capped_at_what_the_issuer_gives(h: House, account: str, before: int) -> None:
    await h.log_in(account)
    h.clock.advance(1800)
    bodies = [await h.token(account=account, min_ttl=10**9) for _ in range(3)]
    assert refreshes(h) - before == 1
    assert [body["generation"] for body in bodies] == [2, 2, 2]


@pytest.mark.parametrize(("newer_than", "expected"), [(0, 0), (1, 0), (2, 1)])
async def test_newer_than_refreshes_only_the_rejected_generation(
    h: House, account: str, newer_than: int, expected: int, before: int
) -> None:
    await h.log_in(account)
    h.clock.advance(3600)
    assert (await h.token(account=account))["generation"] == 2
    h.clock.advance(60)
    body = await h.token(account=account, newer_than=newer_than)
    assert refreshes(h) - before == 1 + expected
    assert body["generation"] == 2 + expected


async def test_a_storm_of_rejections_is_one_refresh(h: House, account: str, before: int) -> None:
    await h.log_in(account)
    query: dict[str, Any] = {"account": account, "newer_than": 1}
    storm = (h.client.get(("/token", "/headers")[n % 2], params=query) for n in range(50))
    answers = await asyncio.gather(*storm)
    assert refreshes(h) - before == 1
    assert len({answer.text for answer in answers}) == 2
    assert all(h.sandbox.families[-1].access_token in answer.text for answer in answers)


async def test_a_storm_on_an_expired_token_is_one_refresh(h: House, account: str, before: int) -> None:
    await h.log_in(account)
    h.clock.advance(4000)
    bodies = await asyncio.gather(*(h.token(account=account) for _ in range(50)))
    assert refreshes(h) - before == 1
    assert {body["generation"] for body in bodies} == {2}


async def test_a_late_report_of_an_old_generation_costs_nothing(h: House, account: str, before: int) -> None:
    await h.log_in(account)
    await h.token(account=account, newer_than=1)
    h.clock.advance(60)
    late = await asyncio.gather(*(h.token(account=account, newer_than=1) for _ in range(50)))
    assert refreshes(h) - before == 1
    assert {body["generation"] for body in late} == {2}


async def test_accounts_do_not_wait_for_each_other(h: House, account: str, before: int) -> None:
    names = [f"{account}-{n}" for n in range(3)]
    for name in names:
        await install(h, name)
    h.clock.advance(4000)
    bodies = await asyncio.gather(*(h.token(account=name) for name in names for _ in range(5)))
    assert refreshes(h) - before == 3
    assert {body["account"] for body in bodies} == set(names)
    assert len({body["access_token"] for body in bodies}) == 3


async def test_inside_the_floor_the_present_token_comes_with_a_warning(h: House, account: str, before: int) -> None:
    await h.log_in(account)
    first = await h.token(account=account, newer_than=1)
    h.clock.advance(4.9)
    floored = await h.token(account=account, newer_than=2)
    assert floored["access_token"] == first["access_token"]
    assert floored["warning"] == "refresh_floor"
    h.clock.advance(0.2)
    assert (await h.token(account=account, newer_than=2))["generation"] == 3
    assert refreshes(h) - before == 2


async def test_the_floor_never_keeps_an_expired_token(h: House, account: str, before: int) -> None:
    h.sandbox.knobs.access_lifetime = 2
    await h.log_in(account)
    await h.token(account=account, newer_than=1)
    h.clock.advance(2.5)
    assert (await h.token(account=account))["generation"] == 3
    assert refreshes(h) - before == 2


async def test_a_burst_of_short_tokens_does_not_refresh_in_a_loop(h: House, account: str, before: int) -> None:
    h.sandbox.knobs.access_lifetime = 20
    await h.log_in(account)
    for _ in range(10):
        assert "access_token" in await h.token(account=account)
    assert refreshes(h) - before <= 1


async def test_a_caller_who_leaves_does_not_end_the_refresh(h: House, account: str) -> None:
    await h.log_in(account)
    h.sandbox.knobs.latency = 0.1
    caller = asyncio.create_task(h.token(account=account, newer_than=1))
    await asyncio.sleep(0.05)
    caller.cancel()
    await h.app.refresher.drain()
    assert (await h.status(account))["refresh"]["generation"] == 2


@pytest.mark.parametrize("token", ["a\r\nX-Evil: 1", "a\nb", "a\0b", "a\x7fb", "ä", "a b", "\u2028"])
async def test_a_token_that_cannot_stand_in_a_header_is_never_served(h: House, account: str, token: str) -> None:
    await h.log_in(account)
    h.sandbox.knobs.override_fields = {"access_token": token, "expires_in": 3600}
    h.clock.advance(3590)
    for path in ("/token", "/headers"):
        answer = await h.client.get(path, params={"account": account, "format": "text"})
        assert one_line_of_text(answer).count("\n") == (path == "/headers")
        assert token not in answer.text
    h.clock.advance(20)
    problem(await h.client.get("/token", params={"account": account}), 503, "issuer_unavailable", "retry_after")


@pytest.mark.parametrize("bent", [{"access_token": "a\nb"}, {"access_token": None}, {"token_type": "mac"}])
async def test_a_token_that_did_not_become_newer_comes_with_a_warning(
    h: House, account: str, bent: dict[str, Any]
) -> None:
    await h.log_in(account)
    first = await h.token(account=account)
    h.sandbox.knobs.override_fields = bent
    for newer_than in (1, 1, 2):
        body = await h.token(account=account, newer_than=newer_than)
        assert body["access_token"] == first["access_token"]
        assert body["warning"] == "issuer_unavailable"


async def test_a_refused_login_is_told_to_the_storm_at_once(h: House, account: str, before: int) -> None:
    await h.log_in(account)
    h.clock.advance(4000)
    h.sandbox.fail_next(faults.refresh_token_expired())
    storm = (h.client.get("/token", params={"account": account}) for _ in range(20))
    for answer in await asyncio.gather(*storm):
        problem(answer, 409, "login_required", "account", "login_url", "reason")
    assert refreshes(h) - before == 1


async def test_tokens_that_are_over_when_they_arrive_are_asked_for_once(h: House, account: str, before: int) -> None:
    await h.log_in(account)
    h.clock.advance(4000)
    h.gate.arrived.clear()
    h.gate.hold_after.clear()
    asking = asyncio.create_task(h.client.get("/token", params={"account": account}))
    await h.gate.arrived.wait()
    h.clock.advance(4000)
    h.gate.hold_after.set()
    problem(await asking, 503, "issuer_unavailable", "retry_after")
    assert refreshes(h) - before == 1
