"""Who may ask at all: the right Host, and no web page of others, on every route and where there is none."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.store.store import Store
from service.web.guard import Asker, allowed_for, asker_of, refusal
from tests.kit import House
from tests.web.browser import LED, TYPED
from tests.web.expect import lawful, problem, told
from tests.web.home import home
from tests.web.routes import ALL, CALLS, NAVIGABLE

pytestmark = pytest.mark.asyncio(loop_scope="module")

TO_US = ["localhost:1455", "127.0.0.1:1455", "[::1]:1455", "LOCALHOST:1455", "LocalHost:1455"]

NOT_TO_US = [
    "",
    "localhost",
    "localhost:",
    "localhost:1456",
    "localhost:1",
    "localhost:99999",
    "localhost:01455",
    "localhost:1455 ",
    " localhost:1455",
    "localhost.:1455",
    "localhost:1455.",
    "127.0.0.1",
    "127.1:1455",
    "127.0.0.2:1455",
    "127.0.0.1.:1455",
    "0177.0.0.1:1455",
    "2130706433:1455",
    "0x7f000001:1455",
    "0.0.0.0:1455",
    "0:1455",
    "::1",
    "::1:1455",
    "[::1]",
    "[::]:1455",
    "[0:0:0:0:0:0:0:1]:1455",
    "[::ffff:127.0.0.1]:1455",
    "localhost.evil:1455",
    "evil.localhost:1455",
    "evil.example:1455",
    "evil",
    "localhost6:1455",
    "localhost:1455@evil",
    "user@localhost:1455",
    "localhost:1455, evil",
    "localhost:1455,localhost:1455",
    "localhost:1455/x?",
    "localhost:1455/",
    "localhost:1455?",
    "localhost:1455#",
    "localhost\\x:1455",
    "localhost\t:1455",
    "http://localhost:1455",
    "localhost:1455\0",
    "localhost:1455\xa0",
    "loc\xadalhost:1455",
]

OURS = [
    "http://localhost:1455",
    "http://127.0.0.1:1455",
    "http://[::1]:1455",
    "HTTP://LOCALHOST:1455",
]

FOREIGN = [
    "null",
    "",
    "http://localhost",
    "http://localhost:1456",
    "http://localhost:3000",
    "http://127.0.0.1:1455.evil",
    "http://127.0.0.1:14550",
    "https://localhost:1455",
    "http://localhost:1455/",
    "http://localhost:1455 http://evil.example",
    "http://localhost:1455,http://evil.example",
    "http://user@localhost:1455",
    "http://evil.example",
    "https://auth.openai.com",
    "file://",
    "chrome-extension://abcdefghijklmnop",
    "moz-extension://7f3f",
    "vscode-webview://x",
    "localhost:1455",
]


@pytest.fixture
def untouched(h: House) -> Iterator[None]:
    """Whatever is asked, nothing is committed, and the issuer is not asked."""
    store = h.app.services.store
    assert isinstance(store, Store)
    before = store.version(), len(h.sandbox.requests)
    yield
    assert (store.version(), len(h.sandbox.requests)) == before


async def ask(h: House, method: str, path: str, *headers: tuple[str, str]) -> httpx.Response:
    """A request with exactly these headers, some of them perhaps twice."""
    url = httpx.URL("http://localhost:1455").copy_with(raw_path=path.encode())
    sent = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    request = httpx.Request(method, url, headers=sent)
    if not any(name.lower() == "host" for name, _ in headers):
        request.headers["Host"] = "localhost:1455"
    return await h.client.send(request)


# Host


@pytest.mark.parametrize("host", NOT_TO_US)
async def test_another_host_is_misdirected(h: House, untouched: None, host: str) -> None:
    for method, path in (("GET", "/token"), ("POST", "/logout"), ("GET", "/nowhere")):
        body = problem(await ask(h, method, path, ("Host", host)), 421, "host_not_allowed")
        assert not host or host not in str(body)


@pytest.mark.parametrize(("method", "path"), ALL)
async def test_on_every_route(h: House, untouched: None, method: str, path: str) -> None:
    for host in ("evil.example:1455", "localhost:1456", "localhost", ""):
        problem(await ask(h, method, path, ("Host", host)), told(path, 421), "host_not_allowed")


@pytest.mark.parametrize(("method", "path"), ALL)
async def test_two_hosts_are_none(h: House, untouched: None, method: str, path: str) -> None:
    for second in ("localhost:1455", "evil.example"):
        answer = await ask(h, method, path, ("Host", "localhost:1455"), ("Host", second))
        problem(answer, told(path, 421), "host_not_allowed")


@pytest.mark.parametrize("host", TO_US)
async def test_our_names(h: House, host: str) -> None:
    assert (await ask(h, "GET", "/healthz", ("Host", host))).status_code == 200


async def test_no_host_at_all() -> None:
    scope = {"headers": [(b"accept", b"*/*")]}
    no = refusal(asker_of(scope), "GET", "/healthz", allowed_for(1455, "http://localhost:1455", ()))
    assert no is not None
    assert no[0] == "host_not_allowed"


@pytest.mark.parametrize("header", ["X-Forwarded-Host", "X-Host", "Forwarded", "X-Original-URL", "X-Rewrite-URL"])
async def test_no_other_header_stands_for_host(h: House, untouched: None, header: str) -> None:
    answer = await ask(h, "GET", "/token", ("Host", "evil.example"), (header, "localhost:1455"))
    problem(answer, 421, "host_not_allowed")
    assert (await ask(h, "GET", "/healthz", (header, "evil.example"))).status_code == 200


async def test_further_names_are_as_they_are_written(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "allowed_hosts": "pixir-auth:1455, host.docker.internal:1455",
        "public_url": "https://Auth.example.org",
    }
    async with home(tmp_path, **settings) as h:
        for host in ("pixir-auth:1455", "host.docker.internal:1455", "auth.example.org", *TO_US):
            assert (await ask(h, "GET", "/healthz", ("Host", host))).status_code == 200
        for host in ("pixir-auth", "pixir-auth:1456", "docker.internal:1455", "auth.example.org:443", "example.org"):
            problem(await ask(h, "GET", "/healthz", ("Host", host)), 421, "host_not_allowed")
        for origin in ("https://auth.example.org", *OURS):
            assert (await ask(h, "GET", "/healthz", ("Origin", origin))).status_code == 200
        for origin in ("http://auth.example.org", "http://pixir-auth:1455"):
            problem(await ask(h, "GET", "/healthz", ("Origin", origin)), 403, "cross_site")


@pytest.mark.parametrize(
    ("port", "host", "ok"), [(80, "localhost", True), (80, "localhost:80", True), (81, "localhost", False)]
)
async def test_the_port_may_be_left_out_only_where_browsers_do(port: int, host: str, ok: bool) -> None:
    allowed = allowed_for(port, f"http://localhost:{port}", ())
    assert (refusal(Asker((host.encode(),)), "GET", "/token", allowed) is None) == ok


@pytest.mark.parametrize(
    ("host", "name"), [("127.0.0.5", "127.0.0.5"), ("::1", "localhost"), ("[::1]", "[::1]"), ("127.0.0.1", "127.0.0.1")]
)
async def test_the_address_that_is_listened_on_is_one_of_our_names(tmp_path: Path, host: str, name: str) -> None:
    async with home(tmp_path, host=host) as h:
        assert (await ask(h, "GET", "/healthz", ("Host", f"{name}:1455"))).status_code == 200
        problem(await ask(h, "GET", "/healthz", ("Host", "127.0.0.6:1455")), 421, "host_not_allowed")


async def test_no_rule_reads_a_url_that_was_put_together_from_headers() -> None:
    """Host may hold `/?#`, and then `request.url.path` is not the path that is routed."""
    rooms = Path(__file__).parents[2] / "service" / "web"
    assert [
        file.name for file in rooms.glob("*.py") if re.search(r"\.url\.path|base_url|url_for", file.read_text())
    ] == []


# Origin


@pytest.mark.parametrize("origin", FOREIGN)
async def test_another_origin_is_refused(h: House, untouched: None, origin: str) -> None:
    for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        problem(await ask(h, method, "/token", ("Origin", origin)), 403, "cross_site")
    assert (await ask(h, "HEAD", "/token", ("Origin", origin))).status_code == 403


@pytest.mark.parametrize(("method", "path"), ALL)
async def test_another_origin_is_refused_on_every_route(h: House, untouched: None, method: str, path: str) -> None:
    for origin in ("null", "https://evil.example", "http://localhost:3000"):
        problem(await ask(h, method, path, ("Origin", origin)), 403, "cross_site")
        problem(await ask(h, method, path, ("Origin", "http://localhost:1455"), ("Origin", origin)), 403, "cross_site")


@pytest.mark.parametrize("origin", OURS)
async def test_our_own_origin(h: House, origin: str) -> None:
    assert (await ask(h, "GET", "/healthz", ("Origin", origin))).status_code == 200


async def test_a_preflight_gets_no_leave(h: House, untouched: None) -> None:
    for origin in ("https://evil.example", "http://localhost:1455"):
        answer = await ask(
            h,
            "OPTIONS",
            "/token",
            ("Origin", origin),
            ("Access-Control-Request-Method", "GET"),
            ("Access-Control-Request-Headers", "authorization"),
            ("Access-Control-Request-Private-Network", "true"),
        )
        assert answer.status_code in (403, 405)


# Sec-Fetch-Site


EMBEDDED = [
    *(("no-cors", dest) for dest in ("image", "script", "style", "empty")),
    *(("navigate", dest) for dest in ("iframe", "frame", "embed", "object", "fencedframe")),
    *(("cors", "empty"), ("websocket", "websocket")),
]
"""How a page brings something in: mode and destination."""


@pytest.mark.parametrize(("method", "path"), ALL)
async def test_pages_of_others_are_refused_everywhere(h: House, untouched: None, method: str, path: str) -> None:
    for site, (mode, dest) in itertools.product(("cross-site", "same-site"), EMBEDDED):
        headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
        problem(await ask(h, method, path, *headers.items()), 403, "cross_site")
    problem(await ask(h, method, path, ("Sec-Fetch-Site", "cross-site")), 403, "cross_site")


@pytest.mark.parametrize(("method", "path"), [one for one in ALL if one[1] not in NAVIGABLE or one[0] != "GET"])
async def test_a_link_leads_nowhere_else(h: House, untouched: None, method: str, path: str) -> None:
    problem(await ask(h, method, path, *LED.items()), 403, "cross_site")


@pytest.mark.parametrize("path", sorted(NAVIGABLE))
async def test_a_link_may_lead_here(h: House, untouched: None, path: str) -> None:
    for site in ("cross-site", "same-site"):
        answer = await ask(h, "GET", path, *{**LED, "Sec-Fetch-Site": site}.items())
        assert answer.status_code == {"/": 200, "/login": 200}.get(path, 400)


@pytest.mark.parametrize("path", sorted(NAVIGABLE))
@pytest.mark.parametrize("purpose", ["prefetch", "prefetch;prerender", "x"])
async def test_nothing_is_fetched_ahead(h: House, untouched: None, path: str, purpose: str) -> None:
    problem(await ask(h, "GET", path, *LED.items(), ("Sec-Purpose", purpose)), 403, "cross_site")


@pytest.mark.parametrize("site", ["none", "same-origin"])
async def test_looking_ahead_starts_no_login(h: House, untouched: None, site: str) -> None:
    headers = {**TYPED, "Sec-Fetch-Site": site, "Sec-Purpose": "prefetch;prerender"}
    problem(await ask(h, "GET", "/login", *headers.items()), 403, "cross_site")


@pytest.mark.parametrize("site", ["none", "same-origin"])
async def test_a_person_and_our_own_page_may_ask(h: House, site: str) -> None:
    assert (await ask(h, "GET", "/status", *{**TYPED, "Sec-Fetch-Site": site}.items())).status_code == 200


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_a_program_is_no_page(h: House, method: str, path: str) -> None:
    answer = await ask(h, method, path, ("User-Agent", "curl/8"), ("Accept", "*/*"))
    assert answer.status_code not in (403, 421)
    if path == "/login":
        await h.client.delete(answer.headers["location"])


# everything else that is not asked for


async def test_a_websocket_is_refused(h: House) -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": "/token", "headers": [(b"host", b"localhost:1455")]}
    await h.app(scope, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


async def test_the_rules_hold_before_routing_and_after(h: House) -> None:
    answer = await ask(h, "GET", "/healthz", ("Host", "evil.example"), ("Origin", "https://evil.example"))
    await lawful(answer)
    assert answer.json()["code"] == "host_not_allowed"
