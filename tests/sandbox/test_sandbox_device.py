"""The device login, and the page a person uses for it."""

import httpx
import pytest

from service.sandbox import CODEX_CLIENT_ID, Sandbox, UnknownUserCodeError, User

from .driver import Clock, Driver, claims


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def exchange(driver: Driver, polled: httpx.Response, host: str = "localhost") -> httpx.Response:
    granted = polled.json()
    return await driver.redeem(
        granted["authorization_code"],
        redirect_uri=f"http://{host}:8123/deviceauth/callback",
        code_verifier=granted["code_verifier"],
    )


async def test_the_whole_way(sandbox: Sandbox, driver: Driver) -> None:
    device = await driver.usercode()
    assert device["interval"] == "5"
    assert sandbox.pending_user_codes == [device["user_code"]]
    assert code_of(await driver.poll(device)) == (403, "deviceauth_authorization_pending")
    sandbox.approve(device["user_code"])
    polled = await driver.poll(device)
    assert set(polled.json()) == {"authorization_code", "code_challenge", "code_verifier"}
    tokens = (await exchange(driver, polled)).json()
    assert claims(tokens["id_token"])["email"] == sandbox.knobs.user.email
    assert sandbox.pending_user_codes == []


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_loopback_names_are_the_same_issuer(sandbox: Sandbox, driver: Driver, host: str) -> None:
    device = await driver.usercode()
    sandbox.approve(device["user_code"])
    assert (await exchange(driver, await driver.poll(device), host)).status_code == 200


async def test_other_names_are_not(sandbox: Sandbox, driver: Driver) -> None:
    sandbox.issuer = "https://auth.example.com/"
    device = await driver.usercode()
    sandbox.approve(device["user_code"])
    granted = (await driver.poll(device)).json()
    given = {"redirect_uri": "http://localhost/deviceauth/callback", "code_verifier": granted["code_verifier"]}
    assert (await driver.redeem(granted["authorization_code"], **given)).status_code == 400


async def test_denied(sandbox: Sandbox, driver: Driver) -> None:
    device = await driver.usercode()
    sandbox.deny(device["user_code"])
    assert code_of(await driver.poll(device)) == (400, "access_denied")


async def test_expired(sandbox: Sandbox, clock: Clock, driver: Driver) -> None:
    device = await driver.usercode()
    clock.at += sandbox.knobs.device_lifetime
    assert code_of(await driver.poll(device)) == (400, "expired_token")
    with pytest.raises(UnknownUserCodeError):
        sandbox.approve(device["user_code"])
    assert sandbox.pending_user_codes == []


async def test_an_approval_is_handed_out_once(sandbox: Sandbox, driver: Driver) -> None:
    device = await driver.usercode()
    sandbox.approve(device["user_code"])
    assert (await driver.poll(device)).status_code == 200
    assert (await driver.poll(device)).status_code == 400


@pytest.mark.parametrize("name", ["device_auth_id", "user_code"])
async def test_both_halves_must_fit(sandbox: Sandbox, driver: Driver, name: str) -> None:
    device, other = await driver.usercode(), await driver.usercode()
    sandbox.approve(device["user_code"])
    assert code_of(await driver.poll({**device, name: other[name]})) == (400, "deviceauth_unknown")


async def test_a_decision_is_final(sandbox: Sandbox, driver: Driver) -> None:
    device = await driver.usercode()
    sandbox.deny(device["user_code"])
    with pytest.raises(UnknownUserCodeError):
        sandbox.approve(device["user_code"])


async def test_approved_by_someone_else(sandbox: Sandbox, driver: Driver) -> None:
    device = await driver.usercode()
    sandbox.approve(device["user_code"], User(subject="user-eve", account_id="acct-eve"))
    await exchange(driver, await driver.poll(device))
    assert sandbox.families[0].account_id == "acct-eve"


async def test_not_offered(sandbox: Sandbox, driver: Driver) -> None:
    sandbox.knobs.device_login = False
    answer = await driver.client.post("/api/accounts/deviceauth/usercode", json={"client_id": CODEX_CLIENT_ID})
    assert answer.status_code == 404


async def test_strings_in_json_and_nothing_else(driver: Driver) -> None:
    path = "/api/accounts/deviceauth/usercode"
    assert (await driver.client.post(path, data={"client_id": CODEX_CLIENT_ID})).status_code == 400
    assert (await driver.client.post(path, json={})).status_code == 400
    assert (await driver.client.post(path, json={"client_id": 1})).status_code == 400
    assert (await driver.client.post(path, json={"client_id": "another"})).status_code == 401


# the page


async def test_page_prefills_and_escapes(driver: Driver) -> None:
    page = await driver.client.get("/codex/device", params={"user_code": '"><script>'})
    assert page.status_code == 200
    assert "<script>" not in page.text


@pytest.mark.parametrize(("decision", "status"), [("approve", 200), ("deny", 400)])
async def test_page_decides(driver: Driver, decision: str, status: int) -> None:
    device = await driver.usercode()
    typed = f" {device['user_code'].lower()} "
    page = await driver.client.post("/codex/device", data={"user_code": typed, "decision": decision})
    assert page.status_code == 200
    assert (await driver.poll(device)).status_code == status


@pytest.mark.parametrize("form", [{"user_code": "NOPE-00000", "decision": "approve"}, {"decision": "deny"}])
async def test_page_says_when_the_code_is_wrong(driver: Driver, form: dict[str, str]) -> None:
    assert (await driver.client.post("/codex/device", data=form)).status_code == 400
