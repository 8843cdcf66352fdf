"""API keys: OPENAI_API_KEY for `default`, installed ones for any account; in memory only, behind a subscription."""

from pathlib import Path

import pytest

from service.app import create_app
from service.sandbox import faults
from service.settings import SettingsError
from tests.kit import settings_in
from tests.web.expect import STATUS, one_line_of_text, problem
from tests.web.home import home, install, sealed

ENV = "sk-environment-4c1d7a"
OWN = "sk-installed-93be02"


async def test_it_serves_while_nobody_is_logged_in(tmp_path: Path) -> None:
    async with home(tmp_path, OPENAI_API_KEY=ENV) as h:
        assert await h.token() == {
            "access_token": ENV,
            "token_type": "Bearer",
            "account": "default",
            "kind": "api_key",
            "generation": 0,
        }
        assert one_line_of_text(await h.client.get("/token?format=text")) == ENV
        assert (await h.client.get("/headers")).json() == {"Authorization": f"Bearer {ENV}"}
        status = await h.status()
        assert (status["authenticated"], status["kind"], status["provider"]) == (True, "api_key", None)
        assert (status["expires_at"], status["expires_in"], status["account_id"]) == (None, None, None)


async def test_it_is_never_refreshed(tmp_path: Path) -> None:
    async with home(tmp_path, OPENAI_API_KEY=ENV) as h:
        for query in ({}, {"newer_than": 0}, {"min_ttl": 10**9}, {"newer_than": 7, "min_ttl": 1}):
            assert (await h.token(**query))["access_token"] == ENV
        await h.app.background.round()
        assert h.sandbox.requests == []


async def test_it_is_for_default_only(tmp_path: Path) -> None:
    async with home(tmp_path, OPENAI_API_KEY=ENV) as h:
        problem(await h.client.get("/token?account=work"), 404, "unknown_account")


async def test_a_stored_subscription_wins_and_logout_gives_it_back(tmp_path: Path) -> None:
    async with home(tmp_path, OPENAI_API_KEY=ENV) as h:
        assert (await h.token())["kind"] == "api_key"
        tokens = await install(h)
        assert (await h.token())["access_token"] == tokens["access_token"]
        out = (await h.client.post("/logout")).json()
        assert (out["revoked"], out["authenticated"], out["kind"]) == (True, True, "api_key")
        assert (await h.token())["access_token"] == ENV


async def test_even_a_dead_subscription_wins(tmp_path: Path) -> None:
    async with home(tmp_path, OPENAI_API_KEY=ENV) as h:
        await install(h)
        h.clock.advance(4000)
        h.sandbox.fail_next(faults.refresh_token_expired())
        answer = await h.client.get("/token")
        problem(answer, 409, "login_required", "account", "login_url", "reason")
        assert (await h.status())["kind"] == "subscription"


async def test_it_is_trimmed(tmp_path: Path) -> None:
    async with home(tmp_path, OPENAI_API_KEY=f" {ENV}\n") as h:
        assert (await h.token())["access_token"] == ENV


@pytest.mark.parametrize("key", ["sk a", "sk\na", "ä", "a\x7f", "   "])
def test_one_that_cannot_be_sent_is_refused_at_the_start(tmp_path: Path, key: str) -> None:
    with pytest.raises(SettingsError) as refused:
        create_app(settings_in(tmp_path, OPENAI_API_KEY=key))
    assert key not in str(refused.value)


async def test_an_installed_key_is_kept_in_memory_only(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        answer = await h.client.put("/credential", json={"kind": "api_key", "api_key": OWN})
        assert set(answer.json()) == STATUS | {"persisted"}
        assert answer.json()["persisted"] is False
        assert (await h.token())["access_token"] == OWN
    async with home(tmp_path) as h:
        assert (await h.client.get("/token")).status_code == 409


async def test_an_installed_key_serves_any_account(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        await h.client.put("/credential?account=work", json={"kind": "api_key", "api_key": OWN})
        assert (await h.token(account="work"))["access_token"] == OWN
        assert (await h.client.get("/token")).status_code == 409


async def test_an_installed_key_goes_before_the_environment_until_logout(tmp_path: Path) -> None:
    async with home(tmp_path, OPENAI_API_KEY=ENV) as h:
        assert (await h.token())["access_token"] == ENV
        await h.client.put("/credential", json={"kind": "api_key", "api_key": OWN})
        assert (await h.token())["access_token"] == OWN
        out = (await h.client.post("/logout")).json()
        assert (out["revoked"], out["kind"]) == (None, "api_key")
        assert (await h.token())["access_token"] == ENV


async def test_an_installed_key_does_not_push_a_subscription_out(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        tokens = await install(h)
        answer = await h.client.put("/credential", json={"kind": "api_key", "api_key": OWN})
        assert (answer.json()["kind"], answer.json()["persisted"]) == ("subscription", False)
        assert (await h.token())["access_token"] == tokens["access_token"]


async def test_no_key_is_ever_written(tmp_path: Path) -> None:
    async with home(tmp_path, OPENAI_API_KEY=ENV) as h:
        await h.client.put("/credential?account=work", json={"kind": "api_key", "api_key": OWN})
        await h.token()
        await h.token(account="work")
        await install(h)
        await h.client.post("/logout")
        kept = sealed(tmp_path)
        assert ENV.encode() not in kept
        assert OWN.encode() not in kept
