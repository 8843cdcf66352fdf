"""The API stand-in: whom it serves."""

import json

import pytest

from service.sandbox import Sandbox

from .driver import Clock, Driver

PATHS = [
    "/v1/responses",
    "/backend-api/codex/responses",
    "/models",
    "/v1/models",
    "/backend-api/codex/models",
    "/backend-api/wham/accounts/check",
]


@pytest.mark.parametrize("path", PATHS)
async def test_serves_the_holder_and_nobody_else(sandbox: Sandbox, driver: Driver, path: str) -> None:
    token = sandbox.issue()["access_token"]
    assert (await driver.call_api(token, path=path)).status_code == 200
    for refused in (
        await driver.call_api(token, account="another", path=path),
        await driver.call_api(token, account="", path=path),
        await driver.call_api(token + "x", path=path),
        await driver.call_api("", path=path),
    ):
        assert (refused.status_code, refused.json()) == (401, {"detail": "Unauthorized"})


async def test_account_must_be_named(sandbox: Sandbox, driver: Driver) -> None:
    headers = {"Authorization": f"Bearer {sandbox.issue()['access_token']}"}
    assert (await driver.client.get("/models", headers=headers)).status_code == 401
    assert (await driver.client.get("/models")).status_code == 401


async def test_scheme_must_be_bearer(sandbox: Sandbox, driver: Driver) -> None:
    account, token = sandbox.knobs.user.account_id, sandbox.issue()["access_token"]
    for scheme, status in (("bearer", 200), ("Basic", 401)):
        headers = {"authorization": f"{scheme} {token}", "chatgpt-account-id": account}
        assert (await driver.client.get("/models", headers=headers)).status_code == status


@pytest.mark.parametrize("name", ["refresh_token", "id_token"])
async def test_only_access_tokens_open_it(sandbox: Sandbox, driver: Driver, name: str) -> None:
    assert (await driver.call_api(sandbox.issue()[name])).status_code == 401


async def test_expired_access_token(sandbox: Sandbox, clock: Clock, driver: Driver) -> None:
    token = sandbox.issue()["access_token"]
    clock.at += 3599
    assert (await driver.call_api(token)).status_code == 200
    clock.at += 1
    assert (await driver.call_api(token)).status_code == 401


@pytest.mark.parametrize(("latest_only", "status"), [(True, 401), (False, 200)])
async def test_superseded_access_token(sandbox: Sandbox, driver: Driver, latest_only: bool, status: int) -> None:
    sandbox.knobs.latest_access_only = latest_only
    tokens = sandbox.issue()
    newer = (await driver.refresh(tokens["refresh_token"])).json()
    assert (await driver.call_api(newer["access_token"])).status_code == 200
    assert (await driver.call_api(tokens["access_token"])).status_code == status


async def test_revoked_access_is_mended_by_a_refresh(sandbox: Sandbox, driver: Driver) -> None:
    sandbox.knobs.latest_access_only = False
    tokens = sandbox.issue()
    sandbox.revoke_access(tokens["access_token"])
    assert (await driver.call_api(tokens["access_token"])).status_code == 401
    newer = (await driver.refresh(tokens["refresh_token"])).json()
    assert (await driver.call_api(newer["access_token"])).status_code == 200


async def test_a_turn_is_a_finished_event_stream(sandbox: Sandbox, driver: Driver) -> None:
    answer = await driver.call_api(sandbox.issue()["access_token"])
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line[6:])["type"] for line in answer.text.splitlines() if line.startswith("data: ")]
    assert events == ["response.created", "response.output_item.done", "response.completed"]


async def test_accounts_are_those_of_the_caller(sandbox: Sandbox, driver: Driver) -> None:
    answer = await driver.call_api(sandbox.issue()["access_token"], path="/wham/accounts/check")
    assert answer.json()["default_account_id"] == sandbox.knobs.user.account_id
