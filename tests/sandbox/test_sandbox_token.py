"""The token endpoint: what it demands, and code redemption."""

import httpx
import pytest

from service.sandbox import CODEX_CLIENT_ID, Sandbox, User

from .driver import OMIT, Clock, Driver, claims

FIELDS = {"access_token", "refresh_token", "id_token", "expires_in", "token_type", "scope"}
AUTH = "https://api.openai.com/auth"
API_KEY = {
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
    "client_id": CODEX_CLIENT_ID,
    "requested_token": "openai-api-key",
    "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
}


def refused(answer: httpx.Response, code: str, status: int = 400) -> None:
    assert (answer.status_code, answer.json()["error"]) == (status, code)


# what it demands of every request


async def test_form_and_json_are_both_understood(driver: Driver) -> None:
    tokens = await driver.login()
    again = await driver.form_refresh(tokens["refresh_token"])
    assert again.status_code == 200
    assert (await driver.refresh(again.json()["refresh_token"])).status_code == 200


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data; boundary=x", ""])
async def test_other_content_types_are_refused(driver: Driver, content_type: str) -> None:
    answer = await driver.client.post("/oauth/token", content=b"a=b", headers={"content-type": content_type})
    refused(answer, "invalid_request")


@pytest.mark.parametrize(
    "body", ["[]", "{", '"x"', '{"a":NaN}', "[" * 60_000, '{"grant_type":"a","grant_type":"a"}', '{"grant_type":1}']
)
async def test_json_that_is_not_a_plain_object_is_refused(driver: Driver, body: str) -> None:
    headers = {"content-type": "application/json"}
    refused(await driver.client.post("/oauth/token", content=body, headers=headers), "invalid_request")


@pytest.mark.parametrize("body", ["grant_type", "grant_type=%ff", "grant_type=a&grant_type=a", "grant_type=ä", ""])
async def test_malformed_forms_are_refused(driver: Driver, body: str) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    refused(await driver.client.post("/oauth/token", content=body.encode(), headers=headers), "invalid_request")


async def test_encoded_bodies_are_refused(driver: Driver) -> None:
    headers = {"content-type": "application/json", "content-encoding": "zstd"}
    refused(await driver.client.post("/oauth/token", content=b"{}", headers=headers), "invalid_request")


async def test_parameters_in_the_query_are_refused(driver: Driver) -> None:
    refused(await driver.client.post("/oauth/token?client_id=x", data={"a": "b"}), "invalid_request")


async def test_a_public_client_does_not_authenticate(driver: Driver) -> None:
    answer = await driver.client.post("/oauth/token", data={"a": "b"}, auth=("id", "secret"))
    refused(answer, "invalid_client", 401)
    assert answer.headers["www-authenticate"].startswith("Basic")


async def test_only_post(driver: Driver) -> None:
    assert (await driver.client.get("/oauth/token")).status_code == 405


@pytest.mark.parametrize("grant_type", ["password", "client_credentials", "REFRESH_TOKEN"])
async def test_unknown_grant_type(driver: Driver, grant_type: str) -> None:
    refused(await driver.refresh("x", grant_type=grant_type), "unsupported_grant_type")


async def test_wrong_client(driver: Driver) -> None:
    answer = await driver.refresh("x", client_id="another")
    refused(answer, "invalid_client", 401)
    assert "www-authenticate" not in answer.headers


async def test_errors_are_not_cached_either(driver: Driver) -> None:
    assert (await driver.refresh("x")).headers["cache-control"] == "no-store"


# codes


async def test_a_login_yields_all_six_fields(driver: Driver) -> None:
    answer = await driver.redeem(await driver.code())
    assert answer.status_code == 200
    assert set(answer.json()) == FIELDS
    assert answer.json()["token_type"] == "Bearer"
    assert answer.json()["expires_in"] == 3600
    assert (answer.headers["cache-control"], answer.headers["pragma"]) == ("no-store", "no-cache")


@pytest.mark.parametrize("name", ["grant_type", "client_id", "code", "redirect_uri", "code_verifier"])
@pytest.mark.parametrize("value", [OMIT, ""])
async def test_every_field_is_needed(driver: Driver, name: str, value: object) -> None:
    refused(await driver.redeem(await driver.code(), **{name: value}), "invalid_request")


@pytest.mark.parametrize("verifier", ["short", "v" * 129, "v" * 42 + "ä", "v" * 43 + "\n"])
async def test_malformed_verifier(driver: Driver, verifier: str) -> None:
    refused(await driver.redeem(await driver.code(), code_verifier=verifier), "invalid_request")


@pytest.mark.parametrize(
    "changes",
    [
        {"code": "ac_unknown"},
        {"code_verifier": "w" * 86},
        {"redirect_uri": "http://127.0.0.1:1455/auth/callback"},
        {"client_id": "app_other"},
    ],
)
async def test_mismatch_is_invalid_grant(sandbox: Sandbox, driver: Driver, changes: dict[str, str]) -> None:
    sandbox.knobs.client_ids |= {"app_other"}
    refused(await driver.redeem(await driver.code(), **changes), "invalid_grant")
    assert sandbox.families == []


async def test_a_wrong_guess_burns_the_code(driver: Driver) -> None:
    code = await driver.code()
    await driver.redeem(code, code_verifier="w" * 86)
    refused(await driver.redeem(code), "invalid_grant")


async def test_expired_code(clock: Clock, driver: Driver) -> None:
    code = await driver.code()
    clock.at += 60
    refused(await driver.redeem(code), "invalid_grant")


async def test_second_use_of_a_code_ends_the_login_it_made(sandbox: Sandbox, driver: Driver) -> None:
    code = await driver.code()
    tokens = (await driver.redeem(code)).json()
    refused(await driver.redeem(code), "invalid_grant")
    assert sandbox.families[0].ended == "code_replayed"
    assert (await driver.refresh(tokens["refresh_token"])).status_code == 401
    assert (await driver.call_api(tokens["access_token"])).status_code == 401


async def test_no_offline_access_no_refresh_token(driver: Driver) -> None:
    assert "refresh_token" not in await driver.login(scope="openid email")


# what the tokens say


async def test_claims_of_both_tokens(sandbox: Sandbox, clock: Clock, driver: Driver) -> None:
    sandbox.knobs.id_lifetime = 600
    tokens = await driver.login()
    access, identity, user = claims(tokens["access_token"]), claims(tokens["id_token"]), sandbox.knobs.user
    assert access["exp"] == clock.at + 3600
    assert identity["exp"] == clock.at + 600
    assert identity["aud"] == [CODEX_CLIENT_ID]
    assert identity["email"] == access["https://api.openai.com/profile"]["email"] == user.email
    for each in (access, identity):
        assert each["iss"] == sandbox.issuer
        assert each[AUTH]["chatgpt_account_id"] == user.account_id
        assert each[AUTH]["chatgpt_plan_type"] == user.plan
    assert access["jti"] != identity["jti"]


async def test_a_user_without_account_has_no_such_claim(sandbox: Sandbox, driver: Driver) -> None:
    sandbox.knobs.user = User(account_id="")
    tokens = await driver.login()
    for name in ("access_token", "id_token"):
        assert "chatgpt_account_id" not in claims(tokens[name])[AUTH]


# the API key exchange


async def test_id_token_buys_an_api_key(driver: Driver) -> None:
    tokens = await driver.login()
    answer = await driver.client.post("/oauth/token", data={**API_KEY, "subject_token": tokens["id_token"]})
    assert answer.json()["access_token"].startswith("sk-")


@pytest.mark.parametrize(
    "changes",
    [{"subject_token": "x"}, {"requested_token": "gold"}, {"subject_token_type": "saml"}, {"subject_token": None}],
)
async def test_other_exchanges_are_refused(driver: Driver, changes: dict[str, str | None]) -> None:
    tokens = await driver.login()
    fields = {**API_KEY, "subject_token": tokens["access_token"], **changes}
    refused(await driver.client.post("/oauth/token", json=fields), "invalid_request")


# knobs that bend the answers


async def test_fields_can_be_dropped_and_replaced(sandbox: Sandbox, driver: Driver) -> None:
    sandbox.knobs.drop_fields = {"refresh_token", "id_token"}
    sandbox.knobs.override_fields = {"expires_in": "3600", "extra": None}
    tokens = await driver.login()
    assert set(tokens) == FIELDS - {"refresh_token", "id_token"} | {"extra"}
    assert tokens["expires_in"] == "3600"
