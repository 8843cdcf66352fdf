"""GET /callback and GET /auth/callback: the browser comes back, once, and nobody else in its place."""

import asyncio
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from service.sandbox import User
from tests.kit import House
from tests.web.browser import browsing
from tests.web.expect import page
from tests.web.logins import bent, exchanges, pending, state_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\r\nSet-Cookie: a=b\x1b[31m\u2028\u202e"
ISSUER = "https://issuer.test"


@pytest.mark.parametrize("path", ["/callback", "/auth/callback"])
async def test_either_path_finishes_a_login(h: House, account: str, path: str) -> None:
    login, back = await pending(h, account)
    page(await h.client.get(back.replace("/auth/callback", path)), 200)
    assert await state_of(h, login) == "complete"


@pytest.mark.parametrize(
    ("change", "code"), [({"state": "x"}, "login_mismatch"), ({"code": None, "error": "access_denied"}, "login_denied")]
)
async def test_a_page_says_which_of_the_codes_it_is(
    h: House, account: str, change: dict[str, str | None], code: str
) -> None:
    _, back = await pending(h, account)
    assert code in page(await h.client.get(bent(back, **change)), 400)


async def test_unknown_parameters_are_ignored(h: House, account: str) -> None:
    login, back = await pending(h, account)
    page(await h.client.get(bent(back, access_token="evil", id_token="evil", session_state="x", foo="1")), 200)
    assert await state_of(h, login) == "complete"
    assert (await h.token(account=account))["access_token"] != "evil"


@pytest.mark.parametrize(
    "change",
    [
        {"state": None},
        {"state": ""},
        {"state": "x" * 43},
        {"state": "ä"},
        {"state": "\0"},
        {"state": "a" * 30_000},
        {"code": None},
        {"code": ""},
        {"code": None, "error": ""},
        {"error": "access_denied"},
        {"iss": "https://evil.example"},
        {"iss": ""},
        {"iss": ISSUER + "/"},
        {"iss": "HTTPS://issuer.test"},
        {"iss": "https%3A%2F%2Fissuer.test"},
    ],
)
async def test_what_belongs_to_no_login_changes_nothing(h: House, account: str, change: dict[str, str | None]) -> None:
    login, back = await pending(h, account)
    before = exchanges(h)
    page(await h.client.get(bent(back, **change)), 400)
    assert exchanges(h) == before
    assert await state_of(h, login) == "pending"
    page(await h.client.get(bent(back, iss=ISSUER)), 200)


@pytest.mark.parametrize("name", ["code", "state", "iss", "error", "error_description"])
async def test_repeated_parameters_change_nothing(h: House, account: str, name: str) -> None:
    login, back = await pending(h, account)
    before = exchanges(h)
    value = dict(parse_qsl(urlsplit(back).query)).get(name, "x")
    page(await h.client.get(f"{back}&{urlencode([(name, value), (name, value)])}"), 400)
    assert exchanges(h) == before
    assert await state_of(h, login) == "pending"


async def test_one_answer_for_all_that_does_not_fit(h: House, account: str) -> None:
    _, used = await pending(h, account)
    await h.client.get(used)
    _, replaced = await pending(h, account)
    cancelled, back_of_cancelled = await pending(h, f"{account}-b")
    await h.client.delete(f"/login/{cancelled['id']}")
    _, expired = await pending(h, f"{account}-c")
    h.clock.advance(901)
    _, current = await pending(h, account)
    async with browsing(h) as browser:
        foreign = await browser.approve(await browser.open_login(f"{account}-d"))
    odd = [
        used,
        replaced,
        back_of_cancelled,
        expired,
        foreign,
        "/auth/callback",
        "/callback",
        "/auth/callback?state=x&code=y",
        "/auth/callback?state=x&error=access_denied",
        bent(current, iss="https://evil.example"),
        current + "&state=x",
        "/auth/callback?" + "a=1&" * 40 + "state=x&code=y",
        "/auth/callback?state=%ff&code=%ff",
    ]
    answers = [await h.client.get(one) for one in odd]
    assert {(answer.status_code, answer.text) for answer in answers} == {(400, answers[0].text)}
    assert len({str(sorted(answer.headers.items())) for answer in answers}) == 1
    assert "Start the login again" in page(answers[0], 400)


async def test_a_callback_answers_once(h: House, account: str) -> None:
    _, back = await pending(h, account)
    before = exchanges(h)
    assert [(await h.client.get(back)).status_code for _ in range(3)] == [200, 400, 400]
    assert exchanges(h) == before + 1


async def test_fifty_at_once_are_one_exchange(h: House, account: str) -> None:
    login, back = await pending(h, account)
    before = exchanges(h)
    answers = await asyncio.gather(*(h.client.get(back) for _ in range(50)))
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 49
    assert exchanges(h) == before + 1
    assert await state_of(h, login) == "complete"
    assert h.sandbox.families[-1].alive


async def test_post_is_not_a_callback(h: House, account: str) -> None:
    login, back = await pending(h, account)
    assert (await h.client.post(back)).status_code == 405
    assert await state_of(h, login) == "pending"


async def test_a_browser_that_leaves_does_not_waste_the_code(h: House, account: str) -> None:
    login, back = await pending(h, account)
    h.gate.arrived.clear()
    h.gate.hold_after.clear()
    returning = asyncio.create_task(h.client.get(back))
    await h.gate.arrived.wait()
    returning.cancel()
    h.gate.hold_after.set()
    await h.app.services.logins.drain()
    assert await state_of(h, login) == "complete"


# refused at the issuer


@pytest.mark.parametrize("error", ["access_denied", "server_error", "temporarily_unavailable", "x", "<b>"])
async def test_an_error_ends_the_login(h: House, account: str, error: str) -> None:
    login, back = await pending(h, account)
    before = exchanges(h)
    page(await h.client.get(bent(back, code=None, error=error)), 400)
    assert exchanges(h) == before
    body = (await h.client.get(f"/login/{login['id']}")).json()
    assert (body["state"], body["error"]) == ("failed", "login_denied")


@pytest.mark.parametrize("change", [{"state": "x" * 43}, {"state": None}, {"iss": "https://evil.example"}, {"iss": ""}])
async def test_an_error_that_does_not_fit_ends_nothing(h: House, account: str, change: dict[str, str | None]) -> None:
    login, back = await pending(h, account)
    page(await h.client.get(bent(back, code=None, error="access_denied", **change)), 400)
    assert await state_of(h, login) == "pending"
    page(await h.client.get(back), 200)


async def test_an_error_in_another_browser_ends_nothing(h: House, account: str) -> None:
    async with browsing(h) as browser, browsing(h) as other:
        back = await browser.approve(await browser.open_login(account))
        page(await other.come_back(bent(back, code=None, error="access_denied")), 400)
        page(await browser.come_back(back), 200)


@pytest.mark.parametrize("member", ["error", "error_description", "state", "code", "iss", "scope"])
async def test_nothing_hostile_gets_into_the_page_or_the_log(
    h: House, account: str, member: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    login, back = await pending(h, account)
    change: dict[str, str | None] = {"code": None, "error": "access_denied", member: HOSTILE}
    answer = await h.client.get(bent(back, **change))
    page(answer, 400)
    assert "alert(" not in answer.text
    assert "set-cookie" not in answer.headers
    assert not [record for record in caplog.records if "alert" in record.getMessage() and record.name != "httpx"]
    assert await state_of(h, login) in ("failed", "pending")


async def test_names_from_the_issuer_are_escaped(h: House, account: str) -> None:
    h.sandbox.knobs.user = User(email='"<img src=x onerror=alert(1)>"@example.com')
    _, back = await pending(h, account)
    answer = await h.client.get(back)
    assert answer.status_code == 200
    assert "<img" not in answer.text
    assert "&quot;&lt;img src=x onerror=alert(1)&gt;&quot;" in answer.text


@pytest.mark.parametrize("email", ["a\r\nb", "ä@example.com", "a" * 400, "\x1b[31m", ""])
async def test_what_cannot_be_shown_is_not(h: House, account: str, email: str) -> None:
    h.sandbox.knobs.user = User(email=email)
    _, back = await pending(h, account)
    page(await h.client.get(back), 200)
    assert (await h.status(account))["email"] is None
