"""A header that every call must carry, when the settings say so."""

from pathlib import Path

import pytest

from tests.kit import house

CALLS = [
    ("GET", "/token"),
    ("GET", "/headers"),
    ("GET", "/status"),
    ("GET", "/login"),
    ("POST", "/logout"),
    ("GET", "/x"),
]


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_a_call_without_the_header_is_refused_and_not_told_which(tmp_path: Path, method: str, path: str) -> None:
    async with house(tmp_path, require_header="X-Auth-Service") as h:
        answer = await h.client.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (403, "header_required")
        assert "x-auth-service" not in answer.text.lower()


async def test_a_call_with_the_header_is_answered_warm_or_not(tmp_path: Path) -> None:
    async with house(tmp_path, require_header="X-Auth-Service") as h:
        h.client.headers["x-auth-service"] = "1"
        await h.log_in()
        assert [(await h.client.get("/token")).status_code for _ in range(2)] == [200, 200]
        del h.client.headers["x-auth-service"]
        assert (await h.client.get("/token")).status_code == 403


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/callback", "/auth/callback"])
async def test_health_and_the_browsers_return_need_none(tmp_path: Path, path: str) -> None:
    async with house(tmp_path, require_header="X-Auth-Service") as h:
        assert (await h.client.get(path)).status_code in (200, 400)
