"""GET /: the page of the accounts. It tells how they stand, no secret, and does nothing without a click."""

import re
import shutil
import sqlite3
from contextlib import closing
from html import unescape
from pathlib import Path

import httpx
import pytest

from service.sandbox import User, faults
from service.store.store import Store
from tests.kit import House
from tests.web.browser import HTML, LED, TYPED, Browser, browsing
from tests.web.expect import page, problem
from tests.web.home import client_key, home, install
from tests.web.seen import forms
from tests.web.test_backup import body, taken

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLICKED = {**TYPED, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-User": "?1"}
"""A link or a button of our own page."""

SENT = {**CLICKED, "Origin": "http://localhost:1455", "Content-Type": "application/x-www-form-urlencoded"}
"""A form without a field, as browsers send it."""

MARKUP = "<script>alert(1)</script>"


def front(answer: httpx.Response) -> str:
    """The page, whose only forms are those that sign out; its HTML."""
    html = re.sub(r'<form method="post" action="/logout\?account=[a-z0-9._-]+">', "<form>", answer.text)
    page(httpx.Response(answer.status_code, headers=answer.headers, html=html), 200)
    return answer.text


async def opened(h: House, query: str = "", key: str = "") -> str:
    """Type the address."""
    headers = {**TYPED, "Authorization": f"Bearer {key}"} if key else TYPED
    return front(await h.client.get(f"/{query}", headers=headers))


def row(html: str, account: str) -> str:
    """What is told of one account, as text with its markup."""
    (found,) = re.findall(rf"<section><h2>{re.escape(account)}</h2>(.*?)</section>", html)
    return unescape(str(found))


async def told(h: House, account: str) -> str:
    """The same, of a page that was just opened."""
    return row(await opened(h, "?limit=1000"), account)


async def sign_out(browser: Browser, account: str, **headers: str) -> httpx.Response:
    """Press the button."""
    return await browser.http.post("/logout", params={"account": account}, headers={**SENT, **headers})


# what it tells


async def test_nobody_is_logged_in(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        html = await opened(h)
        assert "Nobody is logged in" in html
        assert re.findall(r'class="button" href="([^"]*)">([^<]*)', html) == [("/login?account=default", "Log in")]
        assert "<form" not in html


async def test_a_login_that_is_well(h: House, account: str) -> None:
    await h.log_in(account)
    h.clock.advance(100)
    said = await told(h, account)
    assert "ada@example.com, plus" in said
    assert "valid for 58 minutes. It refreshes itself." in said
    assert f'<a href="/login?account={account}">Sign in again</a>' in said
    assert f'<form method="post" action="/logout?account={account}"><button>' in said
    assert "Needs you" not in said


@pytest.mark.parametrize(
    ("lifetime", "words"),
    [(59, "less than a minute"), (60, "1 minute"), (7199, "1 hour"), (7200, "2 hours"), (864_000, "10 days")],
)
async def test_a_time_is_told_as_people_say_it(h: House, account: str, lifetime: int, words: str) -> None:
    h.sandbox.knobs.access_lifetime = lifetime
    await h.log_in(account)
    assert f"valid for {words}." in await told(h, account)


async def test_a_token_that_has_expired(h: House, account: str) -> None:
    await h.log_in(account)
    h.clock.advance(3601)
    assert "The token has expired. It refreshes itself." in await told(h, account)


async def test_a_refresh_under_way(h: House, account: str) -> None:
    await h.log_in(account)
    h.sandbox.fail_next(faults.server_error())
    await h.token(account=account, newer_than=1)
    said = await told(h, account)
    assert "did not work (http_503); it is tried again" in said
    assert "Sign in again" in said


async def test_a_refresh_without_an_answer(h: House, account: str) -> None:
    await h.log_in(account)
    h.sandbox.fail_next(faults.lost_answer())
    await h.token(account=account, newer_than=1)
    assert "got no answer" in await told(h, account)


async def test_a_login_that_is_dead_needs_a_person_and_says_why(h: House, account: str) -> None:
    await h.log_in(account)
    h.sandbox.fail_next(faults.refresh_token_reused())
    await h.token(account=account, newer_than=1)
    said = await told(h, account)
    assert "Needs you" in said
    assert "used elsewhere" in said
    assert "valid for 1 hour" in said
    assert f'<a class="button" href="/login?account={account}">Sign in</a>' in said
    assert "<form" in said
    h.clock.advance(4000)
    assert "expired" in await told(h, account)


async def test_logged_out(h: House, account: str) -> None:
    await h.log_in(account)
    await h.client.post("/logout", params={"account": account})
    said = await told(h, account)
    assert "logged out" in said
    assert "ada@" not in said
    assert "<form" not in said
    assert 'class="button"' in said


async def test_a_login_that_waits(h: House, account: str) -> None:
    await h.log_in(account)
    login = (await h.client.post("/login", json={"account": account})).json()
    said = await told(h, account)
    assert "waits to be finished, for 15 minutes" in said
    assert login["id"] not in said
    assert login["authorize_url"] not in said
    await h.client.delete(f"/login/{login['id']}")


async def test_an_api_key(tmp_path: Path) -> None:
    async with home(tmp_path, OPENAI_API_KEY="sk-env-secret") as h:
        html = await opened(h)
        said = row(html, "default")
        assert "An API key serves" in said
        assert 'class="button"' in said
        assert "<form" not in said
        assert "sk-env" not in html


async def test_what_does_not_open(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        await install(h)
        with closing(sqlite3.connect(tmp_path / "data" / "pixir-auth.db", isolation_level=None)) as other:
            other.execute("UPDATE credential SET access_token_sealed = refresh_token_sealed")
        said = row(await opened(h), "default")
        assert "Needs you" in said
        assert "cannot be opened" in said
        assert "The token" not in said
        assert "<form" in said


async def test_a_restored_login_needs_a_person(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        await install(h)
        lines = await taken(h)
    (tmp_path / "there").mkdir()
    shutil.copy(tmp_path / "encryption.key", tmp_path / "there")
    async with home(tmp_path / "there") as there:
        assert (await there.client.post("/restore", json=body(lines))).json()["credentials"] == ["restored"]
        said = row(await opened(there), "default")
        assert "Needs you" in said
        assert "backup" in said
        assert 'class="button"' in said


async def test_it_says_what_to_type(h: House) -> None:
    html = await opened(h)
    assert "curl -fsS http://localhost:1455/token" in html


# never more than that


async def test_what_comes_from_the_issuer_is_text(h: House, account: str) -> None:
    await install(h, account, User(subject="x", email=MARKUP, plan=f'"{MARKUP}', account_id="a'\"><b>"))
    html = await opened(h, "?limit=1000")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<script" not in html


async def test_it_holds_no_secret(h: House, account: str) -> None:
    tokens = await install(h, account)
    html = (await opened(h, "?limit=1000")).encode()
    for name in ("access_token", "refresh_token", "id_token"):
        assert not [form for form in forms(tokens[name]) if form in html]


async def test_looking_at_it_changes_nothing(h: House, account: str) -> None:
    await h.log_in(account)
    store = h.app.services.store
    assert isinstance(store, Store)
    before = store.version(), len(h.sandbox.requests)
    for seconds in (0, 3500, 1000):
        h.clock.advance(seconds)
        for headers in (TYPED, LED, CLICKED, {"Accept": "application/json"}):
            answer = await h.client.get("/", headers=headers)
            front(answer)
            assert "set-cookie" not in answer.headers
    assert (store.version(), len(h.sandbox.requests)) == before


async def test_no_word_of_the_address_does_anything(h: House) -> None:
    for query in ("account=a", "next=//evil.example", "after=A", "after=%22%3E%3Cscript%3E", "limit=0", "logout=1"):
        problem(await h.client.get(f"/?{query}", headers=TYPED), 422, "invalid_request")


async def test_its_policy_allows_one_style_and_forms_to_ourselves(h: House) -> None:
    policy = (await h.client.get("/")).headers["content-security-policy"]
    assert re.sub(r"'sha256-[^']+'", "HASH", policy).split("; ") == [
        *("default-src 'none'", "style-src HASH", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'")
    ]


# who sees what


async def test_a_key_sees_its_own_accounts_and_what_it_may_do_with_them(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        for name in ("home", "work"):
            await install(h, name)
        work = await client_key(h, "work", scope=["status"], accounts=["work"])
        html = await opened(h, key=work)
        assert row(html, "work")
        assert "home" not in html
        assert "/login" not in row(html, "work")
        assert "/logout" not in html
        signs_in = await client_key(h, "signs-in", scope=["status", "login"], accounts=["work"])
        said = row(await opened(h, key=signs_in), "work")
        assert "/login?account=work" in said
        assert "/logout" not in said


async def test_a_key_for_an_account_that_is_not_there_is_led_to_that_one(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        await install(h)
        key = await client_key(h, "new", scope=["status", "login"], accounts=["new"])
        html = await opened(h, key=key)
        assert "Nobody is logged in" in html
        assert 'href="/login?account=new">Log in' in html


async def test_it_needs_the_right_to_see_how_accounts_stand(h: House) -> None:
    key = await client_key(h, "no-status", scope=["token", "headers", "login", "admin"])
    answer = await h.client.get("/", headers={**TYPED, "Authorization": f"Bearer {key}"})
    problem(answer, 403, "scope")


async def test_many_accounts_are_paged(tmp_path: Path) -> None:
    names = ["a", "a-b", "b.c", "default", "z9"]
    async with home(tmp_path) as h:
        for name in names:
            await install(h, name)
        found: list[str] = []
        query = "?limit=2"
        for _ in names:
            html = await opened(h, query)
            found += re.findall(r"<section><h2>([a-z0-9.-]+)</h2>", html)
            assert ("From the beginning" in html) == (query != "?limit=2")
            more = re.findall(r'href="/([^"]*)">More accounts', html)
            if not more:
                break
            query = unescape(more[0])
            assert "limit=2" in query
        assert found == names
        assert "More accounts" not in await opened(h)
        past = await opened(h, "?after=zz")
        assert "From the beginning" in past
        assert "Nobody" not in past


# signing in and out


@pytest.mark.parametrize("name", ["127.0.0.1", "[::1]"])
@pytest.mark.parametrize("query", ["", "?after=a&limit=5"])
@pytest.mark.parametrize("headers", [TYPED, LED])
async def test_led_to_localhost_where_logins_are(h: House, name: str, query: str, headers: dict[str, str]) -> None:
    answer = await h.client.get(f"http://{name}:1455/{query}", headers=headers)
    assert (answer.status_code, answer.headers["location"]) == (303, f"http://localhost:1455/{query}")
    front(await h.client.get(f"http://{name}:1455/{query}"))


async def test_signing_in_and_out(h: House, account: str) -> None:
    async with browsing(h) as browser:
        answer = await browser.http.get("/login", params={"account": account}, headers=CLICKED)
        done = page(await browser.come_back(await browser.approve(answer)), 200)
        assert 'href="http://localhost:1455/"' in done
        answer = await sign_out(browser, account)
        assert (answer.status_code, answer.headers["location"], answer.content) == (303, "/", b"")
        assert "logged out" in await told(h, account)
        assert h.sandbox.families[-1].ended == "revoked"


async def test_whoever_wants_no_page_is_led_nowhere(h: House, account: str) -> None:
    async with browsing(h) as browser:
        for accept in ("*/*", "application/json"):
            await h.log_in(account)
            answer = await sign_out(browser, account, Accept=accept)
            assert (answer.status_code, answer.json()["revoked"]) == (200, True)


async def test_a_page_says_so_when_the_issuer_did_not_end_it(h: House, account: str) -> None:
    await h.log_in(account)
    h.sandbox.fail_next(faults.server_error(), path="/oauth/revoke")
    async with browsing(h) as browser:
        html = page(await sign_out(browser, account), 200)
        assert "issuer did not confirm" in html
    assert "logged out" in await told(h, account)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_nobody_elses_form_signs_out(h: House, account: str, headers: dict[str, str]) -> None:
    await h.log_in(account)
    async with browsing(h) as browser:
        problem(await sign_out(browser, account, **headers), 403, "cross_site")
    assert (await h.status(account))["authenticated"]


async def test_a_form_with_a_field_signs_out_nobody(h: House, account: str) -> None:
    await h.log_in(account)
    async with browsing(h) as browser:
        answer = await browser.http.post("/logout", data={"account": account}, headers=SENT)
        problem(answer, 415, "unsupported_media_type")
    answer = await h.client.get("/logout", params={"account": account}, headers={**CLICKED, "Accept": HTML})
    problem(answer, 405, "method_not_allowed")
    assert (await h.status(account))["authenticated"]
