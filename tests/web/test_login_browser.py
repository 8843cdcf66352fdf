"""GET /login in a browser: led to the issuer, bound to the browser that asked; never started by another site."""

import re
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from service.web.ends import COOKIE, SHOWN_FOR, End, Ends
from tests.kit import House
from tests.web.browser import LED, TYPED, browsing
from tests.web.expect import page, problem
from tests.web.home import BOB, home
from tests.web.logins import exchanges

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVIL = [
    "//evil.example",
    "/\\evil.example",
    "https:evil.example",
    "%2f%2fevil.example",
    "javascript:alert(1)",
    "\r\nSet-Cookie: a=b",
]


def cookies_of(answer: httpx.Response) -> list[Any]:
    """The cookies that were set."""
    return [morsel for line in answer.headers.get_list("set-cookie") for morsel in SimpleCookie(line).values()]


def cookie_of(answer: httpx.Response) -> Any:
    """The one cookie that was set."""
    (morsel,) = cookies_of(answer)
    return morsel


# to the issuer and back


async def test_led_to_the_issuer(h: House, account: str) -> None:
    async with browsing(h) as browser:
        answer = await browser.open_login(account)
        assert answer.status_code == 303
        url = urlsplit(answer.headers["location"])
        assert (url.scheme, url.netloc, url.path) == ("https", "issuer.test", "/oauth/authorize")
        assert answer.content == b""


@pytest.mark.parametrize("base", ["http://localhost:1455", "http://127.0.0.1:1455"])
async def test_what_says_no_more_than_that_it_wants_a_page_goes_to_the_issuer(
    h: House, account: str, base: str
) -> None:
    async with browsing(h, base) as browser:
        answer = await browser.http.get("/login", params={"account": account}, headers={"Accept": "text/html"})
        assert answer.status_code == 303
        assert urlsplit(answer.headers["location"]).netloc == "issuer.test"
        assert cookie_of(answer).key.startswith("pixir_auth_login_")
        page(await browser.http.get(await browser.approve(answer)), 200)


async def test_logged_in(h: House, account: str) -> None:
    async with browsing(h) as browser:
        back = await browser.approve(await browser.open_login(account))
        html = page(await browser.come_back(back), 200)
        assert "Logged in" in html
        assert account in html
        assert "ada@example.com" in html
        assert (await h.status(account))["authenticated"]


async def test_the_page_shows_no_secret(h: House, account: str) -> None:
    async with browsing(h) as browser:
        back = await browser.approve(await browser.open_login(account))
        answer = await browser.come_back(back)
        family = h.sandbox.families[-1]
        for secret in (*parse_qs(urlsplit(back).query)["code"], family.access_token, family.refresh_token):
            assert secret not in answer.text
            assert secret not in str(answer.headers)


async def test_the_cookie_is_for_this_login_alone(h: House, account: str) -> None:
    async with browsing(h) as browser:
        answer = await browser.open_login(account)
        cookie = cookie_of(answer)
        assert cookie["httponly"]
        assert cookie["samesite"].lower() == "lax"
        assert cookie["path"] == "/auth/callback"
        assert not cookie["domain"]
        assert 0 < int(cookie["max-age"]) <= 900
        assert re.fullmatch(r"[A-Za-z0-9_-]{43}", cookie.value)
        login = (await h.status(account))["login"]["id"]
        assert cookie.key.endswith(login)
        assert cookie.value not in answer.headers["location"]


async def test_the_cookie_is_taken_back_at_the_end(h: House, account: str) -> None:
    async with browsing(h) as browser:
        back = await browser.approve(await browser.open_login(account))
        assert len(browser.http.cookies) == 1
        cookies = cookies_of(await browser.come_back(back))
        assert [morsel["max-age"] for morsel in cookies if morsel.key.startswith("pixir_auth_login_")] == ["0"]
        assert list(browser.http.cookies) == ["pixir_auth_ended"]


# the address at the end


async def test_a_browser_is_led_from_the_code_to_the_same_page(h: House, account: str) -> None:
    async with browsing(h) as browser:
        back = await browser.approve(await browser.open_login(account))
        first = page(await browser.come_back(back), 200)
        assert re.findall(r'http-equiv="refresh" content="0;url=([^"]*)"', first) == ["/auth/callback"]
        for _ in range(2):
            before = exchanges(h)
            again = page(await browser.http.get("/auth/callback", headers=TYPED), 200)
            assert exchanges(h) == before
            assert (account in again, "ada@example.com" in again, "http-equiv" in again) == (True, True, False)


async def test_what_was_shown_is_for_that_browser_alone(h: House, account: str) -> None:
    async with browsing(h) as browser, browsing(h) as other:
        await browser.come_back(await browser.approve(await browser.open_login(account)))
        page(await other.http.get("/auth/callback", headers=TYPED), 400)
        other.http.cookies.set("pixir_auth_ended", "another")  # of a process that is no more, or made up
        html = page(await other.http.get("/auth/callback", headers=TYPED), 200)
        assert "Logged in" not in html
        assert account not in html


async def test_who_was_shown_one_end_can_come_back_from_the_next_login(h: House, account: str) -> None:
    async with browsing(h) as browser:
        for each in (account, f"{account}-b"):
            back = await browser.approve(await browser.open_login(each))
            assert each in page(await browser.come_back(back), 200)
            assert each in page(await browser.http.get("/auth/callback", headers=TYPED), 200)


@pytest.mark.parametrize("headers", [{}, {"Accept": "text/html"}, {**TYPED, "Sec-Fetch-Dest": "iframe"}])
async def test_what_is_no_window_is_not_led_on(h: House, account: str, headers: dict[str, str]) -> None:
    async with browsing(h) as browser:
        back = await browser.approve(await browser.open_login(account))
        answer = await browser.http.get(back, headers=headers)
        assert "http-equiv" not in page(answer, 200)
        assert len(cookies_of(answer)) == 1


async def test_a_browser_at_another_name_is_not_led_on(h: House, account: str) -> None:
    async with browsing(h, "http://127.0.0.1:1455") as browser:
        started = (await h.client.post("/login", json={"account": account})).json()
        back = await h.authorize(started["authorize_url"])
        assert "http-equiv" not in page(await browser.come_back(back), 200)


async def test_an_end_is_shown_for_minutes_only(h: House, account: str) -> None:
    async with browsing(h) as browser:
        await browser.come_back(await browser.approve(await browser.open_login(account)))
        h.clock.advance(SHOWN_FOR)
        assert account not in page(await browser.http.get("/auth/callback", headers=TYPED), 200)


async def test_a_bounded_number_of_ends_is_kept() -> None:
    ends = Ends(lambda: 0.0)
    first, *_, last = [ends.keep(End(str(number), None)) for number in range(1000)]
    assert ends.of({COOKIE: first}) is None
    assert ends.of({COOKIE: last}) == End("999", None)
    assert sum(ends.of({COOKIE: each}) is not None for each in [ends.keep(End("x", None)) for _ in range(500)]) <= 100


# bound to the browser


async def test_another_browser_is_refused_and_the_real_one_goes_on(h: House, account: str) -> None:
    async with browsing(h) as browser, browsing(h) as thief:
        back = await browser.approve(await browser.open_login(account))
        before = len(h.sandbox.token_requests())
        page(await thief.come_back(back), 400)
        assert len(h.sandbox.token_requests()) == before
        page(await browser.come_back(back), 200)


async def test_a_victim_does_not_finish_an_attackers_login(h: House, account: str) -> None:
    async with browsing(h) as attacker, browsing(h) as victim:
        await victim.open_login(f"{account}-own")
        back = await attacker.approve(await attacker.open_login(account))
        page(await victim.come_back(back), 400)
        assert not (await h.status(account))["authenticated"]


@pytest.mark.parametrize("value", ["", "x", "\xff", "a" * 4000, "../../x"])
async def test_a_planted_cookie_fails_closed(h: House, account: str, value: str) -> None:
    async with browsing(h) as browser:
        answer = await browser.open_login(account)
        name = cookie_of(answer).key
        back = await browser.approve(answer)
        browser.http.cookies.clear()
        cookie = f"{name}={value}; {name[:-3]}=x; a; =; {name}\xff=1"
        planted: dict[str, Any] = {**LED, "Cookie": cookie.encode("latin-1")}
        page(await browser.http.get(back, headers=planted), 400)


async def test_two_accounts_in_one_browser(h: House, account: str) -> None:
    async with browsing(h) as browser:
        first = await browser.open_login(account)
        second = await browser.open_login(f"{account}-b")
        for answer in (first, second):
            page(await browser.come_back(await browser.approve(answer)), 200)


async def test_pasting_finishes_a_browsers_login_from_a_terminal(h: House, account: str) -> None:
    async with browsing(h) as browser:
        back = await browser.approve(await browser.open_login(account))
        login = (await h.status(account))["login"]["id"]
        answer = await h.client.post(f"/login/{login}/callback", json={"url": back})
        assert answer.json()["state"] == "complete"


async def test_replace_is_passed_on(h: House, account: str) -> None:
    await h.log_in(account)
    h.sandbox.knobs.user = BOB
    async with browsing(h) as browser:
        back = await browser.approve(await browser.open_login(account))
        assert "another account" in page(await browser.come_back(back), 409)
        back = await browser.approve(await browser.open_login(account, replace="true"))
        page(await browser.come_back(back), 200)


# from another site


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_another_site_gets_a_page_with_a_button_and_starts_nothing(h: House, account: str, site: str) -> None:
    await h.log_in(account)
    before = len(h.sandbox.requests)
    async with browsing(h) as browser:
        answer = await browser.http.get(
            "/login", params={"account": account, "flow": "device"}, headers={**LED, "Sec-Fetch-Site": site}
        )
        html = page(answer, 200)
        assert "set-cookie" not in answer.headers
        assert (await h.status(account))["login"] is None
        assert len(h.sandbox.requests) == before
        (href,) = re.findall(r'<a class="button" href="([^"]+)"', html)
        assert href.startswith("/login?")
        pressed = await browser.http.get(
            href.replace("&amp;", "&"), headers={**TYPED, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-User": "?1"}
        )
        assert "code" in page(pressed, 200)
        assert (await h.status(account))["login"]["flow"] == "device"


@pytest.mark.parametrize("evil", [*EVIL, "<script>", '"><img src=x>'])
@pytest.mark.parametrize("headers", [TYPED, LED])
async def test_nothing_in_the_address_leads_elsewhere(
    h: House, account: str, evil: str, headers: dict[str, str]
) -> None:
    async with browsing(h) as browser:
        for name in ("next", "redirect_uri", "return_to"):
            answer = await browser.http.get("/login", params={"account": account, name: evil}, headers=headers)
            problem(answer, 422, "invalid_request")
        answer = await browser.http.get("/login", params={"account": account, "provider": evil}, headers=headers)
        if headers is LED:
            (href,) = re.findall(r'href="([^"]*)"', page(answer, 200))
            assert href.startswith("/login?account=")
        else:
            page(answer, 422)
        assert "location" not in answer.headers


# under another name


@pytest.mark.parametrize("name", ["127.0.0.1", "[::1]"])
@pytest.mark.parametrize("headers", [TYPED, LED])
async def test_led_to_localhost_first(h: House, account: str, name: str, headers: dict[str, str]) -> None:
    async with browsing(h, f"http://{name}:1455") as browser:
        answer = await browser.http.get("/login", params={"account": account}, headers=headers)
        assert answer.status_code == 303
        assert answer.headers["location"] == f"http://localhost:1455/login?account={account}"
        assert "set-cookie" not in answer.headers
    problem(await h.client.get("/status", params={"account": account}), 404, "unknown_account")


async def test_curl_is_not_led_anywhere(h: House, account: str) -> None:
    answer = await h.client.get("http://127.0.0.1:1455/login", params={"account": account})
    assert answer.status_code == 201


async def test_under_a_public_name_the_state_alone_binds(tmp_path: Path) -> None:
    async with home(tmp_path, public_url="https://auth.example.org") as h, browsing(h) as browser:
        answer = await browser.http.get("https://auth.example.org/login", headers=TYPED)
        assert answer.status_code == 303
        assert "set-cookie" not in answer.headers
        page(await browser.come_back(await browser.approve(answer)), 200)


# with a device code


async def test_the_device_page(h: House, account: str) -> None:
    async with browsing(h) as browser:
        html = page(await browser.open_login(account, flow="device"), 200)
        assert h.sandbox.pending_user_codes[-1] in html
        assert 'href="https://issuer.test/codex/device"' in html
        assert account in html
        assert "only if you started" in html
        assert "port it returns to" not in html


async def test_the_device_page_says_why_there_is_no_browser_login(tmp_path: Path) -> None:
    async with home(tmp_path, port=1456) as h, browsing(h, "http://localhost:1456") as browser:
        assert "port it returns to is taken" in page(await browser.open_login(), 200)


async def test_a_login_that_cannot_start_says_so_on_a_page(tmp_path: Path) -> None:
    async with home(tmp_path, port=1456) as h, browsing(h, "http://localhost:1456") as browser:
        html = page(await browser.open_login(flow="browser"), 503)
        assert "Login failed" in html
        assert "device" in html
