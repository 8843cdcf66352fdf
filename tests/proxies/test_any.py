"""What every proxy of `deploy/` does: the login goes on, and nothing that a client claims to be."""

from pathlib import Path

import pytest

from service.domain.caller import digest_of
from service.domain.secret import Secret
from tests.kit.ports import free_port
from tests.kit.processes import Process

from .programs import Proxy, caddy, nginx
from .upstream import A_PAGE, CLAIMS, KEY, STATUS_KEY, Upstream

pytestmark = pytest.mark.long

NO_SERVICE: dict[Proxy, int] = {nginx: 500, caddy: 502}


@pytest.fixture(params=[pytest.param(nginx, marks=pytest.mark.nginx), pytest.param(caddy, marks=pytest.mark.caddy)])
def proxy(request: pytest.FixtureRequest) -> Proxy:
    """Starts one."""
    chosen: Proxy = request.param
    return chosen


def test_what_the_client_claims_is_replaced_or_left_out(
    proxy: Proxy, service: Process, upstream: Upstream, tmp_path: Path
) -> None:
    lines = service.client.get("/headers").json()
    with proxy(tmp_path, service.url, upstream) as client:
        assert client.get("/v1/models", headers=CLAIMS[:1]).status_code == 204
        assert client.get("/v1/models", headers=[*CLAIMS[:1], *CLAIMS[2:]]).status_code == 204
        client.get("/v1/models", headers=CLAIMS)  # twice the same header: refused, or both replaced
    assert len(upstream.seen) >= 2
    for seen in upstream.seen:
        assert [value for name, value in seen if name == "authorization"] == [lines["Authorization"]]
        assert [value for name, value in seen if name == "chatgpt-account-id"] == [lines["ChatGPT-Account-ID"]]
        names = {name.replace("_", "-") for name, _ in seen}
        assert not names & {"x-forwarded-user", "cookie"}
        assert "somebody-else" not in str(seen)
        assert KEY not in str(seen)


def test_an_account_without_an_id_lets_no_id_of_the_client_through(
    proxy: Proxy, service: Process, upstream: Upstream, tmp_path: Path
) -> None:
    service.client.post("/logout").raise_for_status()
    service.client.put("/credential", json={"kind": "api_key", "api_key": "sk-ours"}).raise_for_status()
    with proxy(tmp_path, service.url, upstream) as client:
        assert client.get("/", headers=CLAIMS[2:]).status_code == 204
    (seen,) = upstream.seen
    assert dict(seen)["authorization"] == "Bearer sk-ours"
    assert "chatgpt-account-id" not in dict(seen)
    assert "somebody-else" not in str(seen)


@pytest.mark.parametrize("foreign", [*A_PAGE[:2], ("Origin", "null"), ("Sec-Fetch-Site", "same-site")])
def test_no_page_of_somebody_else_uses_the_login(
    proxy: Proxy, service: Process, upstream: Upstream, tmp_path: Path, foreign: tuple[str, str]
) -> None:
    with proxy(tmp_path, service.url, upstream) as client:
        assert client.get("/", headers=[foreign]).status_code == 403
        assert client.post("/", headers=[foreign], content=b"{}").status_code == 403
        assert client.get("/", headers={"Sec-Fetch-Site": "none"}).status_code == 204  # an address that was typed
    assert len(upstream.seen) == 1


def test_a_page_that_has_its_name_point_here_is_not_answered(
    proxy: Proxy, service: Process, upstream: Upstream, tmp_path: Path
) -> None:
    with proxy(tmp_path, service.url, upstream) as client:
        for name in ("evil.example", "evil.example:8080", "localhost.evil.example", "8.8.8.8", "[::ffff:127.0.0.1]"):
            assert client.get("/", headers={"Host": name}).status_code == 421
        assert upstream.seen == []
        for name in ("localhost", "localhost:8080", "127.0.0.1:8080"):
            assert client.get("/", headers={"Host": name}).status_code == 204


@pytest.mark.parametrize("way", ["logged out", "wrong key", "no service"])
def test_nothing_goes_on_without_a_login(
    proxy: Proxy, service: Process, upstream: Upstream, tmp_path: Path, way: str
) -> None:
    if way == "logged out":
        service.client.post("/logout").raise_for_status()
    url = f"http://localhost:{free_port()}" if way == "no service" else service.url
    with proxy(tmp_path, url, upstream, key="wrong" * 6 if way == "wrong key" else KEY) as client:
        answer = client.get("/")
    assert answer.status_code == (NO_SERVICE[proxy] if way == "no service" else 401)
    assert "Bearer" in answer.headers.get("www-authenticate", "") or way == "no service"
    assert upstream.seen == []


def test_403_stays_403(proxy: Proxy, service: Process, upstream: Upstream, tmp_path: Path) -> None:
    body = {"digest": digest_of(Secret(STATUS_KEY)), "scope": ["status"]}
    service.client.put("/keys/only-status", json=body).raise_for_status()
    with proxy(tmp_path, service.url, upstream, key=STATUS_KEY) as client:
        assert client.get("/").status_code == 403
    service.client.delete("/keys/only-status").raise_for_status()
    assert upstream.seen == []
