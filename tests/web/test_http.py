"""Methods, odd paths, bodies: what the framework would be lenient about, and what every answer carries."""

import contextlib
import itertools
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.web.callers import OPEN
from service.web.guard import MAX_BODY
from service.web.oauth import TOKEN_ENDPOINT
from tests.kit import House
from tests.web.expect import lawful, problem, told
from tests.web.home import install
from tests.web.routes import ALL, CALLS, PATHS, TABLE, allowed
from tests.web.wire import send

pytestmark = pytest.mark.asyncio(loop_scope="module")

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "BREW"]
BODIES = sorted({(method, path) for method, path in CALLS if method in ("POST", "PUT")})
JSON = {"Content-Type": "application/json"}


# every answer


@pytest.mark.parametrize(("method", "path"), ALL)
async def test_every_answer_carries_what_every_answer_carries(h: House, method: str, path: str) -> None:
    answer = await h.client.request(method, path)
    await lawful(answer)
    names = [name.lower() for name, _ in answer.headers.raw]
    assert len(names) == len(set(names)), "a header twice"


async def test_nothing_is_cached_by_condition(h: House, account: str) -> None:
    await install(h, account)
    for path in ("/token", "/headers", "/status"):
        for condition in ({"If-None-Match": "*"}, {"If-Modified-Since": "Wed, 21 Oct 2065 07:28:00 GMT"}):
            answer = await h.client.get(path, params={"account": account}, headers=condition)
            assert answer.status_code == 200
        ranged = await h.client.get(path, params={"account": account}, headers={"Range": "bytes=0-3"})
        assert ranged.status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health(h: House, path: str) -> None:
    answer = await h.client.get(path)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect", "/favicon.ico"])
async def test_no_pages_of_the_framework(h: House, path: str) -> None:
    problem(await h.client.get(path), 404, "not_found")


# methods


@pytest.mark.parametrize("path", PATHS)
async def test_other_methods_are_refused_and_allow_says_which_are_not(h: House, path: str) -> None:
    for method in METHODS:
        if method in allowed(path):
            continue
        answer = await h.client.request(method, path)
        assert answer.status_code == told(path, 405)
        assert set(re.split(r",\s*", answer.headers["allow"])) == allowed(path)
        if method != "HEAD":
            problem(answer, told(path, 405), "method_not_allowed")


async def test_no_header_and_no_field_changes_the_method(h: House, account: str) -> None:
    await install(h, account)
    for header in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        await h.client.get("/status", params={"account": account}, headers={header: "DELETE"})
        problem(await h.client.get("/logout", headers={header: "POST"}), 405, "method_not_allowed")
    problem(await h.client.get("/status", params={"_method": "POST"}), 422, "invalid_request")


@pytest.mark.parametrize(("method", "path"), [call for call in CALLS if call[1] not in {*OPEN, TOKEN_ENDPOINT}])
async def test_a_parameter_that_is_given_twice_is_refused(h: House, method: str, path: str) -> None:
    asked = {"content": "{}", "headers": JSON} if method in ("POST", "PUT") else {}
    answer = await h.client.request(method, f"{path}?account=a&account=default", **asked)
    assert problem(answer, told(path, 422), "invalid_request")["detail"] == "query.account: given more than once"


async def test_get_changes_nothing(h: House, account: str) -> None:
    await install(h, account)
    paths = [path for method, path in CALLS if method == "GET" and path != "/login"]
    before = (await h.client.get("/accounts")).text, len(h.sandbox.requests)
    for path, _ in itertools.product(paths, range(2)):
        await h.client.get(path)
    assert ((await h.client.get("/accounts")).text, len(h.sandbox.requests)) == before


# paths


@pytest.mark.parametrize(
    "path",
    [
        "//token",
        "/token/",
        "/./token",
        "/x/../token",
        "/token;x",
        "/token%00",
        "/token%20",
        "/TOKEN",
        "/token%2f",
        "/%2ftoken",
        "/token.json",
        "\\token",
        "/login//callback",
        "/login/",
        "/callback/",
        "/auth//callback",
    ],
)
async def test_odd_paths_lead_nowhere(h: House, account: str, path: str) -> None:
    await install(h)
    answer = await send(h.app, "GET", path)
    body = problem(answer, 404, answer.json()["code"])
    assert body["code"] in ("not_found", "unknown_login")
    assert "location" not in answer.headers


@pytest.mark.parametrize("path", ["/%74oken", "/t%6Fken"])
async def test_an_escaped_path_is_the_path_and_under_the_same_rules(h: House, path: str) -> None:
    await install(h)
    assert (await send(h.app, "GET", path)).status_code == 200
    problem(await send(h.app, "GET", path, [("Sec-Fetch-Site", "cross-site")]), 403, "cross_site")


# bodies


async def chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(0, size, 1000):
        yield b" " * 1000


@pytest.mark.parametrize(("method", "path"), [*BODIES, ("GET", "/token"), ("POST", "/nowhere")])
async def test_a_large_body_is_refused(h: House, method: str, path: str) -> None:
    await install(h)
    content = b" " * (MAX_BODY + 1)
    problem(await h.client.request(method, path, content=content, headers=JSON), 413, "payload_too_large")


@pytest.mark.parametrize(("method", "path"), [*BODIES, ("GET", "/token"), ("POST", "/nowhere")])
async def test_a_large_body_without_a_length_is_refused(h: House, method: str, path: str) -> None:
    await install(h)
    answer = await h.client.request(method, path, content=chunks(MAX_BODY + 1000), headers=JSON)
    problem(answer, 413, "payload_too_large")


async def test_no_more_of_it_is_read_than_is_allowed(h: House) -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 1000
            yield b" " * 1000

    problem(await h.client.post("/login", content=endless(), headers=JSON), 413, "payload_too_large")
    assert read <= MAX_BODY + 3000


async def test_the_largest_body_that_is_read(h: House) -> None:
    content = b"{}" + b" " * (MAX_BODY - 2)
    answer = await h.client.post("/login", content=content, headers=JSON)
    assert answer.status_code == 201
    await h.client.delete(answer.headers["location"])


@pytest.mark.parametrize("pieces", [[b"{}"], [b"{", b"}"], [b'{"account":"cut"}', b" "]])
async def test_half_a_body_is_no_body(h: House, pieces: list[bytes]) -> None:
    headers = [("Content-Type", "application/json"), ("Content-Length", "100")]
    before = (await h.client.get("/status")).json()["login"]
    with contextlib.suppress(Exception):
        await send(h.app, "POST", "/login", headers, pieces, cut=True)
    assert (await h.client.get("/status")).json()["login"] == before
    problem(await h.client.get("/status?account=cut"), 404, "unknown_account")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/login", b'{"account": "\\ud800"}'),
        ("/login", b'{"provider": "\\ud800"}'),
        ("/credential", b'{"kind": "subscription", "access_token": "\\ud800", "refresh_token": "b"}'),
        ("/credential", b'{"kind": "api_key", "api_key": "\\udfff"}'),
        ("/credential", b'{"tokens": {"access_token": "a", "refresh_token": "\\ud800"}}'),
    ],
)
async def test_half_a_character_is_refused(h: House, path: str, body: bytes) -> None:
    answer = await h.client.request("PUT" if path == "/credential" else "POST", path, content=body, headers=JSON)
    problem(answer, 422, answer.json()["code"])


async def test_half_a_character_is_no_url(h: House) -> None:
    login = (await h.client.post("/login")).json()
    answer = await h.client.post(f"/login/{login['id']}/callback", content=b'{"url": "?state=\\ud800"}', headers=JSON)
    assert answer.status_code in (400, 422)
    await h.client.delete(f"/login/{login['id']}")


TYPES: list[Any] = [
    None,
    "",
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/json;charset=utf-7",
    "application/json; charset=latin-1",
    "application/json;charset=utf-16",
    "application/json5",
    "application/jsonx",
    "application/ld+json",
    "application/problem+json",
    "text/json",
    "text/plain, application/json",
    "application/json, text/plain",
    "application/json;application/x-www-form-urlencoded",
    "*/*",
    "json",
]


@pytest.mark.parametrize("kind", TYPES)
async def test_other_types_are_refused(h: House, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    for method, path in BODIES:
        answer = await h.client.request(method, path, content=b'{"account":"x","url":"?"}', headers=headers)
        if path == "/oauth/token" and kind == "application/x-www-form-urlencoded":
            continue  # the one place where a form is read
        problem(answer, 415, "unsupported_media_type")


async def test_two_types_are_none(h: House) -> None:
    headers = [("Content-Type", "application/json"), ("Content-Type", "text/plain")]
    problem(await h.client.post("/login", content=b"{}", headers=headers), 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "kind",
    ["application/json", "application/json; charset=utf-8", 'APPLICATION/JSON;charset="UTF-8"', " application/json "],
)
async def test_json_is_json(h: House, kind: str) -> None:
    answer = await h.client.post("/login", content=b"{}", headers={"Content-Type": kind})
    assert answer.status_code == 201
    await h.client.delete(answer.headers["location"])


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_a_body_of_another_type_is_refused_everywhere(h: House, method: str, path: str) -> None:
    await install(h)
    answer = await h.client.request(method, path, content=b"token=x", headers={"Content-Type": "text/plain"})
    problem(answer, told(path, 415), "unsupported_media_type")


@pytest.mark.parametrize("path", ["/login", "/logout"])
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/json"])
async def test_an_empty_body_is_no_body(h: House, path: str, kind: str) -> None:
    answer = await h.client.post(path, headers={"Content-Type": kind, "Content-Length": "0"})
    assert answer.is_success
    if path == "/login":
        await h.client.delete(answer.headers["location"])


@pytest.mark.parametrize("content", [b"{", b"\xff", b'{"account":', b"[" * 100_000, b"NaN", b"'x'"])
async def test_what_is_no_json_is_refused(h: House, content: bytes) -> None:
    problem(await h.client.post("/login", content=content, headers=JSON), 422, "invalid_request")


async def test_no_route_is_left_out() -> None:
    assert len(TABLE) >= 15
