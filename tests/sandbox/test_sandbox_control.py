"""The handles for tests in another process."""

import pytest

from service.sandbox import Knobs, Sandbox
from service.sandbox.knobs import turn

from .driver import Driver


async def control(driver: Driver, name: str, /, **body: object) -> tuple[int, dict]:
    answer = await driver.client.post(f"/_sandbox/{name}", json=body)
    return answer.status_code, answer.json()


async def test_state_tells_counts_families_and_waiting_codes(sandbox: Sandbox, driver: Driver) -> None:
    token = (await control(driver, "issue"))[1]["refresh_token"]
    await driver.refresh(token)
    device = await driver.usercode()
    state = (await driver.client.get("/_sandbox/state")).json()
    assert state["refresh_count"] == 1
    assert state["requests"] == 2
    assert state["pending_user_codes"] == [device["user_code"]]
    assert state["families"][0]["generation"] == 2
    assert state["families"][0]["refresh_token"] == sandbox.families[0].refresh_token
    assert state["knobs"]["redirect_ports"] == [1455, 1457]


async def test_knobs_of_every_kind(sandbox: Sandbox, driver: Driver) -> None:
    status, knobs = await control(
        driver,
        "knobs",
        access_lifetime=5,
        rotate=False,
        device_interval="1",
        refresh_lifetime=9,
        redirect_ports=None,
        drop_fields=["expires_in"],
        override_fields={"scope": ""},
        client_ids=["app_other"],
        user={"email": "bob@example.com"},
    )
    assert status == 200
    assert knobs["access_lifetime"] == 5
    assert knobs["drop_fields"] == ["expires_in"]
    assert sandbox.knobs.redirect_ports is None
    assert sandbox.knobs.user.email == "bob@example.com"
    await control(driver, "knobs", refresh_lifetime=None, redirect_ports=[1])
    assert sandbox.knobs.refresh_lifetime is None
    assert sandbox.knobs.redirect_ports == {1}


@pytest.mark.parametrize(
    "bad",
    [
        {"access_lifetime": "5"},
        {"access_lifetime": True},
        {"rotate": 1},
        {"device_interval": 5},
        {"user": 1},
        {"user": {"age": "1"}},
        {"user": {"email": 1}},
        {"drop_fields": "expires_in"},
        {"client_ids": [1]},
        {"redirect_ports": ["x"]},
        {"drop_error": "x"},
        {"unknown": 1},
    ],
)
async def test_a_bad_knob_turns_none(sandbox: Sandbox, driver: Driver, bad: dict[str, object]) -> None:
    assert (await control(driver, "knobs", id_lifetime=1, **bad))[0] == 400
    assert sandbox.knobs == Knobs()


def test_turn_takes_the_same_values_in_process() -> None:
    knobs = Knobs()
    turn(knobs, {"latency": 0.5})
    assert knobs.latency == 0.5


async def test_approve_and_deny(sandbox: Sandbox, driver: Driver) -> None:
    first, second = await driver.usercode(), await driver.usercode()
    assert (await control(driver, "approve", user_code=first["user_code"], user={"email": "x@y.z"}))[0] == 200
    assert (await control(driver, "deny"))[0] == 200
    assert (await driver.poll(first)).status_code == 200
    assert (await driver.poll(second)).status_code == 400
    assert (await control(driver, "approve"))[0] == 400
    assert (await control(driver, "approve", user_code="NOPE-00000"))[0] == 400


async def test_fail_by_name_and_by_fields(sandbox: Sandbox, driver: Driver) -> None:
    named = await control(driver, "fail", name="server_error", arguments={"status": 502}, count=2)
    assert named == (200, {"faults_left": 2})
    await control(driver, "fail", status=418, body="short and stout", content_type="text/plain")
    await control(driver, "fail", status=400, body={"error": "x"}, grant_type="refresh_token")
    await control(driver, "fail", name="html", path="/models")
    answers = [await driver.refresh("x") for _ in range(4)]
    assert [each.status_code for each in answers] == [502, 502, 418, 400]
    assert answers[2].text == "short and stout"
    assert (await control(driver, "fail", name="nonsense"))[0] == 400
    assert (await control(driver, "fail", nonsense=1))[0] == 400
    assert (await control(driver, "fail", how="nonsense"))[0] == 400


@pytest.mark.parametrize("order", ["revoke", "end_session", "expire_refresh_token"])
async def test_ends(sandbox: Sandbox, driver: Driver, order: str) -> None:
    token, bystander = sandbox.issue()["refresh_token"], sandbox.issue()["refresh_token"]
    assert await control(driver, order, which=token) == (200, {})
    assert (await driver.refresh(token)).status_code == 401
    assert (await driver.refresh(bystander)).status_code == 200
    assert (await control(driver, order, which="nobody"))[0] == 400


async def test_revoke_access_and_issue_for_someone(sandbox: Sandbox, driver: Driver) -> None:
    _, tokens = await control(driver, "issue", user={"account_id": "acct-x"})
    assert (await driver.call_api(tokens["access_token"], account="acct-x")).status_code == 200
    await control(driver, "revoke_access")
    assert (await driver.call_api(tokens["access_token"], account="acct-x")).status_code == 401


async def test_a_web_page_cannot_post_without_asking(sandbox: Sandbox, driver: Driver) -> None:
    answer = await driver.client.post("/_sandbox/knobs", content=b'{"rotate":false}')
    assert answer.status_code == 415
    assert sandbox.knobs.rotate


async def test_malformed_json(driver: Driver) -> None:
    headers = {"content-type": "application/json"}
    assert (await driver.client.post("/_sandbox/knobs", content=b"{", headers=headers)).status_code == 400
