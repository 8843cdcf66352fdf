"""A whole life at DEBUG: logins, refreshes, failures, logout. No secret in a log, in a file, or in the wrong answer."""

import base64
import io
import json
import logging
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from service.logs import _Json, _Text
from service.sandbox import DEVICE_POLL_PATH, faults
from service.sealing import Opener
from tests.kit import House
from tests.web.browser import LED, TYPED
from tests.web.home import client_key, home, sealed, until
from tests.web.seen import forms
from tests.web.wire import send

ENV = "sk-environment-4c1d7a0b9e"
OWN = "sk-installed-93be02ff71"
VISIT = "GET https://issuer.test/oauth/authorize"
"""What the test's own browser does at the issuer is logged by its HTTP library: that is not the service's doing."""


class Hunt:
    """Collects what must not be seen, where it might be seen, and looks."""

    def __init__(self, house: House, folder: Path) -> None:
        self.house = house
        self.folder = folder
        self.secrets: set[str] = {ENV, OWN}
        self.told = ""
        self.log = io.StringIO()
        self._handlers = [logging.StreamHandler(self.log) for _ in range(3)]
        formatters = (_Text(), _Json(), logging.Formatter("%(message)s %(args)s"))
        for handler, formatter in zip(self._handlers, formatters, strict=True):
            handler.setFormatter(formatter)
            handler.addFilter(lambda record: VISIT not in record.getMessage())
            logging.getLogger().addHandler(handler)

    def end(self) -> None:
        for handler in self._handlers:
            logging.getLogger().removeHandler(handler)

    async def ask(self, method: str, target: str, body: Any = None, **headers: Any) -> httpx.Response:
        """A request whose answer must hold no secret, unless it is there to hand one out."""
        sent = [(name.replace("_", "-"), value) for name, value in headers.items()]
        if body is not None:
            sent.append(("Content-Type", "application/json"))
        answer = await send(self.house.app, method, target, sent, body)
        path = urlsplit(target).path
        if path not in ("/token", "/headers") and (path, answer.status_code) != ("/oauth/token", 200):
            told = answer.text + str(answer.headers.raw)
            self.told += told.replace(answer.headers.get("location", "\0"), "")
        self._collect()
        return answer

    def _collect(self) -> None:
        """What the issuer made or saw by now."""
        for family in self.house.sandbox.families:
            tokens = family.tokens
            self.secrets |= {tokens.access_token, tokens.refresh_token, tokens.id_token}
        for request in self.house.sandbox.requests:
            names = ("code", "code_verifier", "refresh_token", "token", "device_auth_id")
            self.secrets |= {request.form[name] for name in names if name in request.form}
            if "state" in request.query:
                self.secrets.add(request.query["state"])

    def found(self, kept: bytes = b"") -> list[str]:
        """Where any of it can be seen, in any of the usual encodings."""
        hits = []
        for secret in self.secrets:
            for name, place in (("answer", self.told.encode()), ("log", self.log.getvalue().encode()), ("file", kept)):
                hits += [f"{name}: {form[:20]!r}..." for form in forms(secret) if form in place]
        return hits


@pytest.fixture
async def hunt(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level("DEBUG")
    async with home(tmp_path, OPENAI_API_KEY=ENV) as house:
        hunting = Hunt(house, tmp_path / "data")
        try:
            yield hunting
        finally:
            hunting.end()


async def log_in_in_a_browser(hunt: Hunt, account: str) -> None:
    opened = await hunt.ask("GET", f"/login?account={account}", **TYPED)
    cookie = opened.headers["set-cookie"].split(";")[0]
    hunt.secrets.add(cookie.partition("=")[2])
    hunt.told = hunt.told.replace(cookie.partition("=")[2], "")  # that answer is there to give it
    back = (await hunt.house.browser.get(opened.headers["location"])).headers["location"]
    hunt.secrets |= {dict(parse_qsl(urlsplit(back).query))["code"]}
    target = back.removeprefix("http://localhost:1455")
    await hunt.ask("GET", target, **LED)  # another jar
    await hunt.ask("GET", target, **LED, Cookie=cookie)
    await hunt.ask("GET", target, **LED, Cookie=cookie)  # again


async def log_in_with_a_device_code(hunt: Hunt, account: str) -> None:
    house = hunt.house
    login = (await hunt.ask("POST", "/login", f'{{"account":"{account}","flow":"device"}}'.encode())).json()
    hunt.secrets.add(login["user_code"])
    hunt.told = hunt.told.replace(login["user_code"], "")
    house.sandbox.fail_next(faults.slow_down(), faults.drop(), path=DEVICE_POLL_PATH)
    for _ in range(3):
        house.clock.advance(60)
        await house.app.background.round()
        await house.app.services.logins.drain()
    house.sandbox.approve(login["user_code"])
    house.clock.advance(60)
    await house.app.background.round()
    await house.app.services.logins.drain()
    await hunt.ask("GET", f"/login/{login['id']}")


async def fail_to_log_in(hunt: Hunt, account: str) -> None:
    house = hunt.house
    for fault in (faults.invalid_grant(), faults.truncated(200), faults.lost_answer()):
        login = (await house.client.post("/login", json={"account": account})).json()
        back = await house.authorize(login["authorize_url"])
        house.sandbox.fail_next(fault)
        await hunt.ask("GET", back)
        await hunt.ask("POST", f"/login/{login['id']}/callback", f'{{"url":"{back}"}}'.encode())


async def refresh_in_all_ways(hunt: Hunt, account: str) -> None:
    house = hunt.house
    every = (
        faults.server_error(503),
        faults.rate_limited(),
        faults.invalid_client(),
        faults.html(403),
        faults.not_an_object(),
    )
    for fault in every:
        house.clock.advance(4000)
        house.sandbox.fail_next(fault)
        for path in ("/token", "/headers", "/status", "/accounts", "/metrics"):
            await hunt.ask("GET", f"{path}?account={account}" if path not in ("/accounts", "/metrics") else path)
        house.clock.advance(400)
        await hunt.ask("GET", f"/token?account={account}&format=text")
        await hunt.ask("GET", f"/headers?account={account}")
    house.sandbox.fail_next(faults.truncated(1200))
    house.clock.advance(4000)
    await hunt.ask("GET", f"/token?account={account}")


async def refresh_as_a_client(hunt: Hunt, key: str, account: str) -> int:
    document = {"grant_type": "refresh_token", "refresh_token": key}
    answer = await hunt.ask("POST", f"/oauth/token?account={account}", json.dumps(document).encode())
    await hunt.ask("POST", f"/oauth/token?refresh_token={key}", json.dumps({"refresh_token": key}).encode())
    return answer.status_code


async def use_client_keys(hunt: Hunt) -> None:
    key, wrong = await client_key(hunt.house, "ci"), f"wrong-{'k' * 40}"
    hunt.secrets |= {key, wrong}
    for sent in (key, wrong):
        for path in ("/token", "/status", "/keys", "/nowhere", f"/login/{wrong}"):
            await hunt.ask("GET", path, Authorization=f"Bearer {sent}")
        await refresh_as_a_client(hunt, sent, "default")
    await hunt.ask("GET", "/keys")
    await hunt.ask("DELETE", "/keys/ci")
    await hunt.ask("POST", "/rekey")


async def back_up_and_restore(hunt: Hunt) -> None:
    """What is given out is hunted too; what is sent back is refused in many ways, with secrets in it."""
    typed = "Typed-into-a-backup-77AA01"
    hunt.secrets.add(typed)
    first, *lines = [json.loads(line) for line in (await hunt.ask("GET", "/backup")).text.splitlines()]
    rows = [{"row": each["row"], "mac": each["mac"]} for each in lines if each.get("kind") == "credential"]
    good = {"pixir_auth_backup": 1, "fingerprints": first["fingerprints"], "credentials": rows}
    damaged = [{"row": {**each["row"], "email": typed}, "mac": each["mac"]} for each in rows]
    for body in (
        good,
        {**good, "replace": True},
        {**good, "credentials": damaged},
        {**good, "fingerprints": base64.b64encode(typed.encode()).decode()},
        {**good, typed: typed},
        {**good, "credentials": [{"row": {typed: [typed]}, "mac": typed}]},
    ):
        await hunt.ask("POST", "/restore", json.dumps(body).encode())
    for account in ("work", typed):
        await hunt.ask("POST", f"/restore/confirm?account={account}")


async def give_away(hunt: Hunt, account: str) -> None:
    """Only the key that it is sealed for opens it; what is refused says nothing of what was sent."""
    typed = "Typed-for-a-public-key-51C0DE"
    opener = Opener()
    hunt.secrets |= {typed, opener._key.private_bytes_raw().hex()}
    target = f"/export?account={account}"
    for key in (typed, base64.b64encode(bytes(32)).decode()):
        await hunt.ask("POST", target, json.dumps({"public_key": key, typed: typed}).encode())
        await hunt.ask("POST", target, json.dumps({"public_key": key}).encode())
    for _ in range(2):
        told = (await hunt.ask("POST", target, json.dumps({"public_key": opener.public_key}).encode())).json()
        login = json.loads(opener.open(told["sealed"], account).reveal())
        assert {login["access_token"], login["refresh_token"], login["id_token"]} <= hunt.secrets
    assert hunt.found(sealed(hunt.folder)) == []
    await hunt.ask("POST", f"/export/confirm?account={account}", json.dumps({"generation": typed}).encode())
    await hunt.ask(
        "POST", f"/export/confirm?account={account}", json.dumps({"generation": told["generation"]}).encode()
    )
    assert (await hunt.ask("POST", target, json.dumps({"public_key": opener.public_key}).encode())).status_code == 409


async def test_a_whole_life(hunt: Hunt) -> None:
    house = hunt.house
    await use_client_keys(hunt)
    await hunt.ask("GET", "/token")
    await hunt.ask("PUT", "/credential?account=key", f'{{"kind":"api_key","api_key":"{OWN}"}}'.encode())
    await hunt.ask("GET", "/token?account=key")
    await log_in_in_a_browser(hunt, "work")
    await log_in_with_a_device_code(hunt, "home")
    await fail_to_log_in(hunt, "other")
    stand_in = await client_key(house, "stand-in")
    hunt.secrets.add(stand_in)
    for account in ("work", "home"):
        assert await refresh_as_a_client(hunt, stand_in, account) == 200
        await refresh_in_all_ways(hunt, account)
        await refresh_as_a_client(hunt, stand_in, account)
    await back_up_and_restore(hunt)
    assert len(hunt.secrets) > 40
    assert hunt.found(sealed(hunt.folder)) == []
    await log_in_with_a_device_code(hunt, "given")
    await give_away(hunt, "given")
    house.sandbox.fail_next(faults.drop(), path="/oauth/revoke")
    for account in ("work", "home"):
        await hunt.ask("POST", f"/logout?account={account}")
        await hunt.ask("GET", f"/status?account={account}")
    await house.app.refresher.drain()
    await until(lambda: "logged out home" in hunt.log.getvalue())
    await hunt.ask("GET", "/audit?limit=1000")
    assert hunt.found(sealed(hunt.folder)) == []


@pytest.fixture
def planted(hunt: Hunt) -> str:
    secret = "planted-9f1c2b7d44"
    hunt.secrets.add(secret)
    return secret


async def test_the_hunt_finds_what_is_there(hunt: Hunt, planted: str) -> None:
    assert hunt.found() == []
    hunt.told = f"x{planted}x"
    assert hunt.found()
    hunt.told = ""
    logging.getLogger("service.anything").debug("it is %s", planted.encode().hex())
    assert hunt.found()
    assert any(hit.startswith("file") for hit in hunt.found(base64.b64encode(planted.encode())))
