"""What the sandbox remembers of the requests."""

import dataclasses

import pytest

from service.sandbox import Ended, Knobs, Sandbox
from service.sandbox import layer as layers
from service.sandbox.bounded import Bounded

from .driver import Driver, claims


async def test_record_of_a_form_and_of_json(sandbox: Sandbox, driver: Driver) -> None:
    await driver.login()
    await driver.refresh(sandbox.families[0].refresh_token)
    authorize, exchange, refresh = sandbox.requests
    assert (authorize.method, authorize.path, authorize.status) == ("GET", "/oauth/authorize", 302)
    assert authorize.query["state"] == "a-state"
    assert exchange.content_type == "application/x-www-form-urlencoded"
    assert exchange.form["grant_type"] == "authorization_code"
    assert (refresh.content_type, refresh.status) == ("application/json", 200)
    assert refresh.headers["host"] == "localhost:8123"
    assert refresh.at == sandbox.families[0].rotated_at
    assert sandbox.token_requests() == [exchange, refresh]
    assert sandbox.token_requests(grant_type="refresh_token") == [refresh]


async def test_records_are_frozen(sandbox: Sandbox, driver: Driver) -> None:
    await driver.authorize()
    with pytest.raises(dataclasses.FrozenInstanceError):
        sandbox.requests[0].status = 500


async def test_the_log_may_be_cleared_meanwhile(sandbox: Sandbox, driver: Driver) -> None:
    sandbox.knobs.redirect_ports = None
    original = sandbox.app._inner

    async def clearing(*args: object) -> None:
        sandbox.requests.clear()
        await original(*args)

    sandbox.app._inner = clearing
    assert (await driver.authorize()).status_code == 302
    assert sandbox.requests == []


async def test_control_requests_and_large_bodies_are_not_kept(sandbox: Sandbox, driver: Driver) -> None:
    await driver.client.get("/_sandbox/state")
    await driver.client.post("/v1/responses", json={"input": "x" * 100_000})
    assert len(sandbox.requests) == 1
    assert sandbox.requests[0].form == {}


async def test_the_log_keeps_the_newest(sandbox: Sandbox, driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    assert layers.LOG_LIMIT >= 100_000
    monkeypatch.setattr(layers, "LOG_LIMIT", 3)
    monkeypatch.setattr(layers, "_SLAB", 2)
    for state in "abcd":
        await driver.authorize(state=state)
    assert [each.query["state"] for each in sandbox.requests] == ["c", "d"]


def test_the_end_of_a_forgotten_login_is_no_error(sandbox: Sandbox) -> None:
    sandbox.issue()
    family_id = sandbox.families[0].id
    sandbox._state.grants.families.clear()
    sandbox._state.grants.end(family_id, Ended.CODE_REPLAYED)
    assert sandbox.families == []


def test_bounded_forgets_the_oldest() -> None:
    kept = Bounded[int](limit=2)
    for value, key in enumerate("abc"):
        kept[key] = value
    assert kept == {"b": 1, "c": 2}


async def test_a_client_that_leaves_mid_body_changes_nothing(sandbox: Sandbox) -> None:
    messages = [{"type": "http.request", "body": b"grant_type=", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> dict[str, object]:
        return messages.pop(0)

    async def send(message: object) -> None:
        raise AssertionError(message)

    await sandbox.app({"type": "http", "headers": [], "path": "/oauth/token"}, receive, send)
    assert sandbox.requests == []


async def test_other_protocols_are_left_to_starlette(sandbox: Sandbox) -> None:
    sent = []

    async def receive() -> dict[str, object]:
        return {"type": "lifespan.startup"} if not sent else {"type": "lifespan.shutdown"}

    async def send(message: dict[str, object]) -> None:
        sent.append(message["type"])

    await sandbox.app({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_families_are_found_by_any_name(sandbox: Sandbox) -> None:
    tokens = sandbox.issue()
    family = sandbox.families[0]
    for name in (tokens["refresh_token"], tokens["access_token"], tokens["id_token"], family.id, family.account_id):
        assert sandbox.family(name) == family
    with pytest.raises(LookupError):
        sandbox.family("nobody")
    sandbox.end_session(family)
    assert not sandbox.families[0].alive


def test_knobs_and_issuer_may_be_replaced(sandbox: Sandbox) -> None:
    sandbox.knobs = Knobs(access_lifetime=1)
    sandbox.issuer = "https://issuer.example/"
    tokens = sandbox.issue()
    assert tokens["expires_in"] == 1
    assert claims(tokens["id_token"])["iss"] == "https://issuer.example"
