"""Rotation, reuse, and the ends of a login."""

import asyncio
import json

import httpx
import pytest

from service.sandbox import CODEX_CLIENT_ID, Sandbox

from .driver import Clock, Driver, claims


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def test_every_refresh_rotates_and_every_token_differs(sandbox: Sandbox, driver: Driver) -> None:
    tokens = sandbox.issue()
    seen = [tokens]
    for _ in range(3):
        seen.append((await driver.refresh(seen[-1]["refresh_token"])).json())
    for name in ("access_token", "refresh_token", "id_token"):
        assert len({each[name] for each in seen}) == 4
    assert [claims(each["access_token"])["sandbox_generation"] for each in seen] == [1, 2, 3, 4]
    assert sandbox.refresh_count == 3
    assert sandbox.families[0].generation == 4
    assert sandbox.families[0].refresh_token == seen[-1]["refresh_token"]
    assert sandbox.families[0].access_token == seen[-1]["access_token"]


async def test_unknown_fields_are_ignored(sandbox: Sandbox, driver: Driver) -> None:
    answer = await driver.refresh(sandbox.issue()["refresh_token"], refresh_reason="forced", other=[1])
    assert answer.status_code == 200


async def test_reuse_ends_the_family(sandbox: Sandbox, driver: Driver) -> None:
    spent = sandbox.issue()["refresh_token"]
    current = (await driver.refresh(spent)).json()
    assert code_of(await driver.refresh(spent)) == (401, "refresh_token_reused")
    assert code_of(await driver.refresh(current["refresh_token"])) == (401, "refresh_token_invalidated")
    assert (await driver.call_api(current["access_token"])).status_code == 401
    assert sandbox.families[0].ended == "reused"
    assert (sandbox.refresh_count, sandbox.reuse_count) == (1, 1)


async def test_the_live_wording_of_reuse(sandbox: Sandbox, driver: Driver) -> None:
    spent = sandbox.issue()["refresh_token"]
    await driver.refresh(spent)
    assert (await driver.refresh(spent)).json() == {
        "error": {
            "message": "Your refresh token has already been used to generate a new access token. "
            "Please try signing in again.",
            "type": "invalid_request_error",
            "param": None,
            "code": "refresh_token_reused",
        }
    }


async def test_reuse_without_family_revocation(sandbox: Sandbox, driver: Driver) -> None:
    sandbox.knobs.revoke_family = False
    spent = sandbox.issue()["refresh_token"]
    current = (await driver.refresh(spent)).json()["refresh_token"]
    assert code_of(await driver.refresh(spent)) == (401, "refresh_token_reused")
    assert (await driver.refresh(current)).status_code == 200


async def test_other_families_are_untouched_by_reuse(sandbox: Sandbox, driver: Driver) -> None:
    spent, bystander = sandbox.issue()["refresh_token"], sandbox.issue()["refresh_token"]
    await driver.refresh(spent)
    await driver.refresh(spent)
    assert (await driver.refresh(bystander)).status_code == 200


async def test_of_concurrent_refreshes_one_wins(sandbox: Sandbox, driver: Driver) -> None:
    sandbox.knobs.latency = 0.01
    token = sandbox.issue()["refresh_token"]
    answers = await asyncio.gather(*(driver.refresh(token) for _ in range(5)))
    assert sorted(each.status_code for each in answers) == [200, 401, 401, 401, 401]


async def test_retry_window_gives_the_same_answer_again(sandbox: Sandbox, clock: Clock, driver: Driver) -> None:
    sandbox.knobs.retry_window = 10
    spent = sandbox.issue()["refresh_token"]
    first = await driver.refresh(spent)
    clock.at += 9
    assert (await driver.refresh(spent)).json() == first.json()
    assert (sandbox.refresh_count, sandbox.retry_count, sandbox.reuse_count) == (1, 1, 0)
    clock.at += 1
    assert code_of(await driver.refresh(spent)) == (401, "refresh_token_reused")


async def test_retry_window_is_for_the_last_token_only(sandbox: Sandbox, driver: Driver) -> None:
    sandbox.knobs.retry_window = 10
    oldest = sandbox.issue()["refresh_token"]
    newer = (await driver.refresh(oldest)).json()["refresh_token"]
    await driver.refresh(newer)
    assert code_of(await driver.refresh(oldest)) == (401, "refresh_token_reused")


async def test_retry_window_does_not_outlive_the_login(sandbox: Sandbox, driver: Driver) -> None:
    sandbox.knobs.retry_window = 10
    spent = sandbox.issue()["refresh_token"]
    await driver.refresh(spent)
    sandbox.revoke()
    assert code_of(await driver.refresh(spent)) == (401, "refresh_token_reused")


async def test_without_rotation_the_refresh_token_stays(sandbox: Sandbox, driver: Driver) -> None:
    sandbox.knobs.rotate = False
    token = sandbox.issue()["refresh_token"]
    first, second = (await driver.refresh(token)).json(), (await driver.refresh(token)).json()
    assert first["refresh_token"] == second["refresh_token"] == token
    assert first["access_token"] != second["access_token"]


async def test_narrower_scope_is_granted_and_does_not_stick(sandbox: Sandbox, driver: Driver) -> None:
    token = sandbox.issue()["refresh_token"]
    narrowed = (await driver.refresh(token, scope="openid offline_access")).json()
    assert narrowed["scope"] == "openid offline_access"
    assert claims(narrowed["access_token"])["scp"] == ["openid", "offline_access"]
    assert "email" in (await driver.refresh(narrowed["refresh_token"])).json()["scope"]


async def test_wider_scope_is_refused_and_nothing_is_spent(sandbox: Sandbox, driver: Driver) -> None:
    token = sandbox.issue()["refresh_token"]
    assert (await driver.refresh(token, scope="openid admin")).json()["error"] == "invalid_scope"
    assert (await driver.refresh(token)).status_code == 200


@pytest.mark.parametrize("token", ["x", "rt_x.1.y", "a.b.c", "..", "ä"])
async def test_foreign_tokens_are_invalid_grant(driver: Driver, token: str) -> None:
    answer = await driver.refresh(token)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


async def test_half_a_surrogate_pair_is_just_a_wrong_token(driver: Driver) -> None:
    fields = {"grant_type": "refresh_token", "client_id": CODEX_CLIENT_ID, "refresh_token": "\ud800"}
    answer = await driver.client.post(
        "/oauth/token", content=json.dumps(fields), headers={"content-type": "application/json"}
    )
    assert answer.json()["error"] == "invalid_grant"
    assert (await driver.client.get("/_sandbox/requests")).json()[0]["form"]["refresh_token"] == "\ud800"


async def test_a_token_of_another_sandbox_is_foreign(driver: Driver) -> None:
    assert (await driver.refresh(Sandbox().issue()["refresh_token"])).json()["error"] == "invalid_grant"


async def test_an_access_token_does_not_refresh(sandbox: Sandbox, driver: Driver) -> None:
    assert (await driver.refresh(sandbox.issue()["access_token"])).json()["error"] == "invalid_grant"


async def test_a_token_of_another_client(sandbox: Sandbox, driver: Driver) -> None:
    token = sandbox.issue()["refresh_token"]
    sandbox.knobs.client_ids |= {"app_other"}
    assert (await driver.refresh(token, client_id="app_other")).json()["error"] == "invalid_grant"
    assert (await driver.refresh(token)).status_code == 200


async def test_empty_refresh_token(driver: Driver) -> None:
    answer = await driver.refresh("")
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(
        "Invalid 'refresh_token': empty string. Expected a string with minimum length 1"
    )


async def test_expiry_of_the_refresh_token(sandbox: Sandbox, clock: Clock, driver: Driver) -> None:
    sandbox.knobs.refresh_lifetime = 100
    token = sandbox.issue()["refresh_token"]
    clock.at += 99
    token = (await driver.refresh(token)).json()["refresh_token"]
    clock.at += 99
    token = (await driver.refresh(token)).json()["refresh_token"]
    clock.at += 100
    assert code_of(await driver.refresh(token)) == (401, "refresh_token_expired")


async def test_the_ends_a_test_can_bring_about(sandbox: Sandbox, driver: Driver) -> None:
    ends = {
        "refresh_token_invalidated": sandbox.revoke,
        "app_session_terminated": sandbox.end_session,
        "refresh_token_expired": sandbox.expire_refresh_token,
    }
    for code, end in ends.items():
        token = sandbox.issue()["refresh_token"]
        end(token)
        assert code_of(await driver.refresh(token)) == (401, code)


async def test_the_first_end_stays(sandbox: Sandbox) -> None:
    sandbox.issue()
    sandbox.revoke()
    sandbox.end_session()
    assert sandbox.families[0].ended == "revoked"


# revocation


@pytest.mark.parametrize("name", ["refresh_token", "access_token", "id_token"])
async def test_revoking_any_token_ends_the_login(sandbox: Sandbox, driver: Driver, name: str) -> None:
    tokens = sandbox.issue()
    body = {"token": tokens[name], "token_type_hint": name, "client_id": "some other"}
    answer = await driver.client.post("/oauth/revoke", json=body)
    assert (answer.status_code, answer.json()) == (200, {})
    assert code_of(await driver.refresh(tokens["refresh_token"])) == (401, "refresh_token_invalidated")


async def test_revocation_by_form(sandbox: Sandbox, driver: Driver) -> None:
    await driver.client.post("/oauth/revoke", data={"token": sandbox.issue()["refresh_token"]})
    assert not sandbox.families[0].alive


@pytest.mark.parametrize("body", [{"token": "unknown"}, {"token": 1}, {}])
async def test_revocation_always_succeeds(driver: Driver, body: dict[str, object]) -> None:
    assert (await driver.client.post("/oauth/revoke", json=body)).status_code == 200
    assert (await driver.client.post("/oauth/revoke", content=b"?")).json() == {}
