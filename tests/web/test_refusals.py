"""What callers hear when the issuer does not help: warnings while a valid token is left, then a reason."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.sandbox import Fault, faults
from tests.kit import House
from tests.web.expect import TOKEN, problem
from tests.web.home import BOB, home, install, refreshes

pytestmark = pytest.mark.asyncio(loop_scope="module")

NEEDED = ("account", "login_url", "reason")

FINAL: dict[str, tuple[Callable[[], Fault], str]] = {
    "expired": (faults.refresh_token_expired, "refresh_token_expired"),
    "token expired": (faults.token_expired, "refresh_token_expired"),
    "reused": (faults.refresh_token_reused, "refresh_token_reused"),
    "reused, 400": (lambda: faults.refresh_token_reused(400), "refresh_token_reused"),
    "invalidated": (faults.refresh_token_invalidated, "refresh_token_revoked"),
    "revoked": (faults.refresh_token_revoked, "refresh_token_revoked"),
    "session ended": (faults.app_session_terminated, "refresh_token_revoked"),
    "invalid_grant": (faults.invalid_grant, "refresh_token_revoked"),
    "invalid_grant, nested": (lambda: faults.invalid_grant(flat=False), "refresh_token_revoked"),
}
"""Answers that end a login, and the reason that callers hear."""

PASSING: dict[str, tuple[Callable[[], Fault], str, int, str]] = {
    "busy": (faults.server_error, "issuer_unavailable", 503, "issuer_unavailable"),
    "too many": (faults.rate_limited, "issuer_unavailable", 503, "issuer_unavailable"),
    "maintenance": (lambda: faults.server_error(503, "7"), "issuer_unavailable", 503, "issuer_unavailable"),
    "client unknown": (faults.invalid_client, "issuer_refused", 502, "issuer_refused"),
    "empty token": (faults.empty_refresh_token, "issuer_refused", 502, "issuer_refused"),
    "wall": (lambda: faults.html(403), "issuer_refused", 502, "issuer_refused"),
    "moved": (
        lambda: Fault(302, headers={"Location": "https://evil.example/"}),
        "issuer_refused",
        502,
        "issuer_refused",
    ),
    "not found": (lambda: Fault(404), "issuer_refused", 502, "issuer_refused"),
    "broken": (lambda: faults.server_error(500), "refresh_uncertain", 503, "issuer_unavailable"),
    "bad gateway": (lambda: faults.server_error(502), "refresh_uncertain", 503, "issuer_unavailable"),
    "captive portal": (faults.html, "refresh_uncertain", 503, "issuer_unavailable"),
    "not an object": (faults.not_an_object, "refresh_uncertain", 503, "issuer_unavailable"),
    "dropped": (faults.drop, "refresh_uncertain", 503, "issuer_unavailable"),
}
"""Answers that pass: the warning while the token is valid, then status and code."""


async def rejected(h: House, account: str) -> httpx.Response:
    """The provider rejected the present token."""
    generation = (await h.status(account))["refresh"]["generation"]
    return await h.client.get("/token", params={"account": account, "newer_than": generation})


# valid tokens


@pytest.mark.parametrize("case", FINAL)
async def test_a_valid_token_is_served_though_the_login_is_over(h: House, account: str, case: str) -> None:
    await install(h, account)
    first = await h.token(account=account)
    h.sandbox.fail_next(FINAL[case][0]())
    answer = await rejected(h, account)
    assert answer.status_code == 200
    assert set(answer.json()) == TOKEN | {"warning"}
    assert answer.json() == {**first, "warning": "login_required"}


@pytest.mark.parametrize("case", PASSING)
async def test_a_valid_token_is_served_whatever_the_issuer_does(h: House, account: str, case: str) -> None:
    await install(h, account)
    first = await h.token(account=account)
    fault, warning, *_ = PASSING[case]
    h.sandbox.fail_next(fault())
    answer = await rejected(h, account)
    assert answer.status_code == 200
    assert answer.json() == {**first, "warning": warning}


async def test_headers_are_served_whatever_the_issuer_does(h: House, account: str) -> None:
    await install(h, account)
    h.sandbox.fail_next(faults.server_error())
    answer = await h.client.get("/headers", params={"account": account, "newer_than": 1})
    assert answer.status_code == 200
    assert answer.json()["Authorization"].endswith(h.sandbox.families[-1].access_token)


# dead logins


@pytest.mark.parametrize("case", FINAL)
async def test_then_somebody_has_to_log_in(h: House, account: str, case: str) -> None:
    await install(h, account)
    h.clock.advance(4000)
    fault, reason = FINAL[case]
    h.sandbox.fail_next(fault())
    before = refreshes(h)
    for path in ("/token", "/headers"):
        body = problem(await h.client.get(path, params={"account": account}), 409, "login_required", *NEEDED)
        assert body["reason"] == reason
        assert body["account"] == account
        assert body["login_url"] == f"http://localhost:1455/login?account={account}"
    assert refreshes(h) == before + 1


async def test_a_login_after_that_serves_again(h: House, account: str) -> None:
    await install(h, account)
    h.clock.advance(4000)
    h.sandbox.fail_next(faults.refresh_token_reused())
    await h.token(account=account)
    assert (await h.log_in(account))["state"] == "complete"
    assert (await h.token(account=account))["generation"] == 2


async def test_never_logged_in(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        body = problem(await h.client.get("/token"), 409, "login_required", *NEEDED)
        assert body["reason"] == "never_logged_in"
        assert body["account"] == "default"
        assert body["login_url"] == "http://localhost:1455/login"


async def test_login_url_is_below_the_public_url(tmp_path: Path) -> None:
    async with home(tmp_path, public_url="https://auth.example.org/") as h:
        body = problem(await h.client.get("/token"), 409, "login_required", *NEEDED)
        assert body["login_url"] == "https://auth.example.org/login"


async def test_logged_out(h: House, account: str) -> None:
    await install(h, account)
    await h.client.post("/logout", params={"account": account})
    body = problem(await h.client.get("/token", params={"account": account}), 409, "login_required", *NEEDED)
    assert body["reason"] == "logged_out"


async def test_outcome_unknown(h: House, account: str) -> None:
    await install(h, account)
    h.clock.advance(3590)
    h.sandbox.fail_next(faults.lost_answer())
    assert (await h.token(account=account))["warning"] == "refresh_uncertain"
    h.clock.advance(20)
    body = problem(await h.client.get("/token", params={"account": account}), 409, "login_required", *NEEDED)
    assert body["reason"] == "outcome_unknown"


async def test_account_mismatch_at_a_refresh(h: House, account: str) -> None:
    await install(h, account)
    foreign = h.sandbox.issue(BOB)
    h.sandbox.knobs.override_fields = {name: foreign[name] for name in ("access_token", "id_token")}
    h.clock.advance(4000)
    answer = await h.client.get("/token", params={"account": account})
    body = problem(answer, 409, "login_required", *NEEDED)
    assert body["reason"] == "account_mismatch"
    assert foreign["access_token"] not in answer.text


# the issuer is away


@pytest.mark.parametrize("case", PASSING)
async def test_then_callers_hear_why_and_when_to_come_back(h: House, account: str, case: str) -> None:
    await install(h, account)
    h.clock.advance(4000)
    fault, _, status, code = PASSING[case]
    h.sandbox.fail_next(fault())
    before = refreshes(h)
    first = problem(await h.client.get("/token", params={"account": account}), status, code, "retry_after")
    again = problem(await h.client.get("/headers", params={"account": account}), status, code, "retry_after")
    assert refreshes(h) == before + 1, "asked again before its time"
    assert again["retry_after"] <= first["retry_after"]


@pytest.mark.parametrize("case", PASSING)
async def test_coming_back_then_finds_a_token(h: House, account: str, case: str) -> None:
    await install(h, account)
    h.clock.advance(4000)
    h.sandbox.fail_next(PASSING[case][0]())
    wait = (await h.token(account=account))["retry_after"]
    h.clock.advance(wait)
    assert (await h.token(account=account))["generation"] == 2


async def test_retry_after_of_the_issuer_is_obeyed_and_told(h: House, account: str) -> None:
    await install(h, account)
    h.clock.advance(4000)
    h.sandbox.fail_next(faults.rate_limited("40"))
    assert 40 <= (await h.token(account=account))["retry_after"] <= 45
    before = refreshes(h)
    h.clock.advance(39)
    assert (await h.token(account=account))["code"] == "issuer_unavailable"
    assert refreshes(h) == before


async def test_an_absurd_retry_after_is_not(h: House, account: str) -> None:
    await install(h, account)
    h.clock.advance(4000)
    h.sandbox.fail_next(faults.rate_limited("99999999999"))
    assert (await h.token(account=account))["retry_after"] <= 4000


async def test_a_store_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        await h.log_in()
        h.clock.advance(3601)  # nothing valid is left in memory
        other = sqlite3.connect(tmp_path / "data" / "pixir-auth.db")
        other.execute("ALTER TABLE credential RENAME TO gone")
        other.commit()
        calls: list[tuple[str, str, Any]] = [
            ("GET", "/token", None),
            ("GET", "/headers", None),
            ("GET", "/status", None),
            ("GET", "/accounts", None),
            ("POST", "/logout", None),
            ("GET", "/readyz", None),
            ("PUT", "/credential", {"kind": "subscription", "access_token": "a", "refresh_token": "b"}),
        ]
        for method, path, body in calls:
            problem(await h.client.request(method, path, json=body), 503, "store_unavailable", "retry_after")
        assert (await h.client.get("/healthz")).json() == {"status": "ok"}
        other.execute("ALTER TABLE gone RENAME TO credential")
        other.commit()
        other.close()
        assert (await h.client.get("/readyz")).json() == {"status": "ok"}
        assert (await h.token())["generation"] == 2
