"""Nothing of what was sent comes back in an answer or gets into a log: it may be a token."""

import io

import pytest

from tests.kit import House
from tests.web.routes import ALL, CALLS
from tests.web.seen import CANARY, unseen
from tests.web.wire import send

pytestmark = pytest.mark.asyncio(loop_scope="module")


QUERIES = [
    "account",
    "min_ttl",
    "newer_than",
    "format",
    "after",
    "limit",
    "wait",
    "provider",
    "flow",
    "replace",
    "code",
    "state",
    "error",
    "error_description",
    "iss",
    "access_token",
    "unknown",
]


@pytest.mark.long
@pytest.mark.parametrize(("method", "path"), ALL)
async def test_query_parameters_are_not_echoed(h: House, said: io.StringIO, method: str, path: str) -> None:
    for name in QUERIES:
        for query in (
            f"{name}={CANARY}",
            f"{name}={CANARY}&{name}={CANARY}",
            f"{name}[{CANARY}]=1",
            f"{CANARY}={name}",
        ):
            unseen(await send(h.app, method, f"{path}?{query}"), said)
    unseen(await send(h.app, method, f"{path}?{CANARY}"), said)


@pytest.mark.parametrize("form", [CANARY, f"{CANARY}/x", f"x/{CANARY}", f"{CANARY}%00", f"%2f{CANARY}", f";{CANARY}"])
@pytest.mark.parametrize("path", ["/", "/token/", "/login/", "/auth/callback/"])
async def test_path_segments_are_not_echoed(h: House, said: io.StringIO, path: str, form: str) -> None:
    for method in ("GET", "POST", "DELETE", "PUT", CANARY):
        unseen(await send(h.app, method if method != CANARY else "BREW", path + form), said)
    unseen(await send(h.app, "POST", f"/login/{CANARY}/callback", [], b"{}"), said)


HEADERS = [
    "Host",
    "Origin",
    "Accept",
    "Authorization",
    "Content-Type",
    "Cookie",
    "Referer",
    "User-Agent",
    "Sec-Fetch-Site",
    "Sec-Fetch-Mode",
    "X-Forwarded-For",
    "Forwarded",
    "X-Request-Id",
    "Traceparent",
    CANARY,
]


@pytest.mark.long
@pytest.mark.parametrize(("method", "path"), ALL)
async def test_headers_are_not_echoed(h: House, said: io.StringIO, method: str, path: str) -> None:
    for name in HEADERS:
        unseen(await send(h.app, method, path, [(name, CANARY)]), said)
        unseen(await send(h.app, method, path, [(name, CANARY), ("Sec-Fetch-Site", "cross-site")]), said)


MEMBERS = [
    "account",
    "provider",
    "flow",
    "replace",
    "url",
    "kind",
    "access_token",
    "refresh_token",
    "id_token",
    "expires_at",
    "account_id",
    "api_key",
    "tokens",
    "OPENAI_API_KEY",
    "grant_type",
    "client_id",
    "public_key",
    "generation",
    "unknown",
]


def bodies(member: str) -> list[bytes]:
    """Bodies that are wrong in different ways, each with the canary inside."""
    value = f'"{CANARY} "'
    return [
        f'{{"{member}": {value}}}'.encode(),
        f'{{"{member}": [{value}]}}'.encode(),
        f'{{"{member}": {{"{member}": {value}, "{CANARY}": 1}}}}'.encode(),
        f'{{"{CANARY}": {value}, "{member}": 5}}'.encode(),
        f'{{"kind": "subscription", "{member}": {value}}}'.encode(),
        f'{{"kind": "api_key", "{member}": {value}}}'.encode(),
        f'{{"tokens": {{"{member}": {value}}}}}'.encode(),
    ]


@pytest.mark.parametrize(("method", "path"), [one for one in CALLS if one[0] in ("POST", "PUT")])
async def test_bodies_are_not_echoed(h: House, said: io.StringIO, method: str, path: str) -> None:
    spoiled = [f'{{"{CANARY}'.encode(), f'"{CANARY}"'.encode(), CANARY.encode(), f'["{CANARY}"]'.encode()]
    for content in (*(body for member in MEMBERS for body in bodies(member)), *spoiled):
        answer = await send(h.app, method, path, [("Content-Type", "application/json")], content)
        unseen(answer, said)
    for kind in (CANARY, f"text/{CANARY}", f"application/json;{CANARY}", "text/plain"):
        unseen(await send(h.app, method, path, [("Content-Type", kind)], CANARY.encode()), said)


@pytest.mark.parametrize("name", ["grant_type", "refresh_token", "client_id", CANARY])
async def test_forms_are_not_echoed(h: House, said: io.StringIO, name: str) -> None:
    for rest in ("", "&grant_type=refresh_token", f"&grant_type=refresh_token&refresh_token={CANARY}", f"&{name}=x"):
        form = [("Content-Type", "application/x-www-form-urlencoded")]
        unseen(await send(h.app, "POST", "/oauth/token", form, f"{name}={CANARY}{rest}".encode()), said)


async def test_a_large_body_is_not_echoed(h: House, said: io.StringIO) -> None:
    content = (CANARY * 20_000).encode()
    unseen(await send(h.app, "PUT", "/credential", [("Content-Type", "application/json")], content), said)
