"""Scripted misbehaviour, in-process."""

import asyncio

import httpx
import pytest

from service.sandbox import DEVICE_POLL_PATH, Fault, Sandbox, faults

from .driver import Driver


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (faults.refresh_token_reused(), 401, "refresh_token_reused"),
        (faults.refresh_token_reused(400), 400, "refresh_token_reused"),
        (faults.refresh_token_expired(), 401, "refresh_token_expired"),
        (faults.refresh_token_invalidated(), 401, "refresh_token_invalidated"),
        (faults.refresh_token_revoked(), 401, "refresh_token_revoked"),
        (faults.app_session_terminated(), 401, "app_session_terminated"),
        (faults.token_expired(), 401, "token_expired"),
        (faults.empty_refresh_token(), 400, "empty_string"),
        (faults.invalid_grant(flat=False), 400, "invalid_grant"),
        (faults.rate_limited(), 429, "rate_limit_exceeded"),
        (faults.slow_down(), 400, "slow_down"),
    ],
)
async def test_nested_refusals(sandbox: Sandbox, driver: Driver, fault: Fault, status: int, code: str) -> None:
    token = sandbox.issue()["refresh_token"]
    sandbox.fail_next(fault)
    answer = await driver.refresh(token)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.json()["error"]["message"]
    assert (await driver.refresh(token)).status_code == 200


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (faults.invalid_grant(), 400, "invalid_grant"),
        (faults.invalid_grant(401), 401, "invalid_grant"),
        (faults.invalid_client(), 401, "invalid_client"),
        (faults.refusal("access_denied", status=403, flat=True), 403, "access_denied"),
        (faults.refusal("own_code", "own words", flat=True), 401, "own_code"),
    ],
)
async def test_flat_refusals(sandbox: Sandbox, driver: Driver, fault: Fault, status: int, code: str) -> None:
    sandbox.fail_next(fault)
    answer = await driver.refresh("x")
    assert (answer.status_code, answer.json()["error"]) == (status, code)


async def test_retry_after_and_raw_bodies(sandbox: Sandbox, driver: Driver) -> None:
    sandbox.fail_next(
        faults.server_error(503, retry_after="7"), faults.server_error(502), faults.html(), faults.not_an_object()
    )
    answers = [await driver.refresh("x") for _ in range(4)]
    assert [each.status_code for each in answers] == [503, 502, 200, 200]
    assert answers[0].headers["retry-after"] == "7"
    assert "retry-after" not in answers[1].headers
    assert answers[2].headers["content-type"] == "text/html"
    assert answers[3].json() == []
    assert [each.status for each in sandbox.requests] == [503, 502, 200, 200]


async def test_lost_answer_spends_the_token(sandbox: Sandbox, driver: Driver) -> None:
    token = sandbox.issue()["refresh_token"]
    sandbox.fail_next(Fault(502, {"error": "bad_gateway"}, after_processing=True))
    assert (await driver.refresh(token)).status_code == 502
    assert sandbox.families[0].generation == 2
    assert (await driver.refresh(token)).json()["error"]["code"] == "refresh_token_reused"


async def test_fault_before_processing_spends_nothing(sandbox: Sandbox, driver: Driver) -> None:
    token = sandbox.issue()["refresh_token"]
    sandbox.fail_next(faults.server_error())
    await driver.refresh(token)
    assert sandbox.families[0].generation == 1
    assert (await driver.refresh(token)).status_code == 200


async def test_truncated_answer_is_processed(sandbox: Sandbox, driver: Driver) -> None:
    sandbox.fail_next(faults.truncated(7))
    answer = await driver.refresh(sandbox.issue()["refresh_token"])
    assert answer.status_code == 200
    assert len(answer.content) == 7
    assert sandbox.families[0].generation == 2


async def test_hang_answers_never(sandbox: Sandbox, driver: Driver) -> None:
    sandbox.fail_next(faults.hang(after_processing=True))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await driver.refresh(sandbox.issue()["refresh_token"])
    assert sandbox.families[0].generation == 2
    assert sandbox.requests[0].status is None


async def test_drop_raises_in_process(sandbox: Sandbox, driver: Driver) -> None:
    sandbox.fail_next(faults.drop(), faults.lost_answer())
    token = sandbox.issue()["refresh_token"]
    with pytest.raises(ConnectionResetError):
        await driver.refresh(token)
    assert sandbox.families[0].generation == 1
    sandbox.knobs.drop_error = lambda: httpx.ReadError("dropped")
    with pytest.raises(httpx.ReadError):
        await driver.refresh(token)
    assert sandbox.families[0].generation == 2


async def test_faults_of_one_path_or_grant_wait_for_it(sandbox: Sandbox, driver: Driver) -> None:
    sandbox.fail_next(faults.server_error(), path=DEVICE_POLL_PATH)
    sandbox.fail_next(faults.server_error(), grant_type="refresh_token")
    assert (await driver.redeem(await driver.code())).status_code == 200
    assert sandbox.faults_left == 2
    assert (await driver.refresh("x")).status_code == 503
    assert (await driver.poll(await driver.usercode())).status_code == 503
    assert sandbox.faults_left == 0


async def test_faults_can_be_cleared(sandbox: Sandbox, driver: Driver) -> None:
    sandbox.fail_next(faults.server_error())
    sandbox.clear_faults()
    assert (await driver.refresh("x")).status_code == 400


async def test_latency_is_at_the_token_endpoint_alone(sandbox: Sandbox, driver: Driver) -> None:
    sandbox.knobs.latency = 30
    token = sandbox.issue()["refresh_token"]
    assert (await driver.authorize()).status_code == 302
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await driver.refresh(token)
    assert sandbox.families[0].generation == 2, "the grant is processed on arrival"
