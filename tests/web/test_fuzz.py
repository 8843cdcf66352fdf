"""Whatever is sent, the answer is one of ours: never an error of this program."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kit import House
from tests.web.routes import CALLS
from tests.web.wire import send

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="module")]

some = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

NAMES = [
    *("account", "provider", "flow", "replace", "url", "kind", "access_token", "refresh_token", "id_token"),
    *("expires_at", "account_id", "api_key", "tokens", "OPENAI_API_KEY", "obtained_at", "auth_mode", "unknown"),
]
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["subscription", "api_key", "codex", "device", "a.b.c", "eyJ.eyJ9.x", "2027-01-01T00:00:00Z", "?code=a&state=b"]
    ),
)
DOCUMENTS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(NAMES), inner, max_size=6)),
    max_leaves=12,
)
BODIES = st.one_of(DOCUMENTS.map(lambda document: json.dumps(document).encode()), st.binary(max_size=200))
PARAMETERS = st.sampled_from(
    ["code", "state", "error", "error_description", "iss", "account", "wait", "min_ttl", "limit", "after", ""]
)
VALUES = st.one_of(
    st.sampled_from(["", "a", "default", "%", "%00", "%ff", "%ed%a0%80", "+", "1e3"]),
    st.binary(max_size=12).map(lambda raw: "".join(f"%{one:02x}" for one in raw)),
)
QUERY = st.lists(st.tuples(PARAMETERS, VALUES), max_size=8).map(
    lambda pairs: "&".join(f"{name}={value}" for name, value in pairs)
)
HEADER = st.binary(max_size=60)


def is_ours(status: int) -> bool:
    return status < 500 or status in (502, 503)


@some
@given(body=BODIES)
@pytest.mark.parametrize(("method", "path"), [one for one in CALLS if one[0] in ("POST", "PUT")])
async def test_bodies(h: House, method: str, path: str, body: bytes) -> None:
    answer = await send(h.app, method, path, [("Content-Type", "application/json")], body)
    assert is_ours(answer.status_code), body


@some
@given(call=st.sampled_from([one for one in CALLS if one[1] != "/logout"]), query=QUERY)
async def test_queries(h: House, call: tuple[str, str], query: str) -> None:
    if "wait=" in query:
        query = query.replace("wait=", "wait=0&x=")
    answer = await send(h.app, call[0], f"{call[1]}?{query}")
    assert is_ours(answer.status_code)


@some
@given(
    name=st.sampled_from(["Cookie", "Accept", "Content-Type", "Origin", "Host", "Sec-Fetch-Site", "Content-Length"]),
    value=HEADER,
    call=st.sampled_from(CALLS),
)
async def test_headers(h: House, name: str, value: bytes, call: tuple[str, str]) -> None:
    answer = await send(h.app, *call, [(name, value)], b"")
    assert is_ours(answer.status_code)


@some
@given(cookie=HEADER, query=QUERY)
async def test_returns(h: House, cookie: bytes, query: str) -> None:
    named = b"pixir_auth_login_" + cookie
    for given_cookie in (cookie, named):
        answer = await send(h.app, "GET", f"/auth/callback?{query}", [("Cookie", given_cookie)])
        assert answer.status_code == 400


@some
@given(url=st.text(max_size=80))
async def test_pasted(h: House, url: str) -> None:
    login: dict[str, Any] = (await h.client.post("/login", json={"account": "fuzz"})).json()
    body = json.dumps({"url": url}).encode()
    path = f"/login/{login['id']}/callback"
    answer = await send(h.app, "POST", path, [("Content-Type", "application/json")], body)
    assert answer.status_code in (400, 422)
