"""The main job in one process: log in, get tokens, have them refreshed once, log out."""

from pathlib import Path

from tests.kit import house


async def test_login_token_refresh_logout(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        assert (await h.client.get("/token")).status_code == 409
        assert (await h.log_in())["state"] == "complete"
        first = await h.token()
        assert first["generation"] == 1
        h.clock.advance(3600)
        second = await h.token()
        assert second["generation"] == 2
        assert second["access_token"] != first["access_token"]
        assert h.sandbox.refresh_count == 1
        out = (await h.client.post("/logout")).json()
        assert out["revoked"] is True
        assert (await h.client.get("/token")).json()["reason"] == "logged_out"
