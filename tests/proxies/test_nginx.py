"""What nginx alone is asked with `deploy/nginx.conf`."""

from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.issuer.certificates import Authority
from tests.kit.processes import Process

from .programs import nginx
from .upstream import Upstream

pytestmark = [pytest.mark.long, pytest.mark.nginx]


def test_a_big_body_goes_on_and_not_to_the_service(service: Process, upstream: Upstream, tmp_path: Path) -> None:
    with nginx(tmp_path, service.url, upstream) as client:
        assert client.post("/", content=b"x" * 2_000_000).status_code == 501  # our upstream knows GET


def test_the_path_goes_on_as_it_came_below_that_of_the_provider(
    service: Process, upstream: Upstream, tmp_path: Path
) -> None:
    provider = f"http://127.0.0.1:{upstream.server_port}/backend-api/codex"
    with nginx(tmp_path, service.url, upstream, provider=provider) as client:
        assert client.get("/models?client_version=1%2F2").status_code == 204
        for outside in ("/../models", "/%2e%2e/models", "/a/..%2f../models"):
            raw = HTTPConnection(client.base_url.host, client.base_url.port or 0, timeout=20)  # httpx would tidy it up
            raw.request("GET", outside)
            with closing(raw), raw.getresponse() as answer:
                assert answer.status == 400
    assert upstream.paths == ["/backend-api/codex/models?client_version=1%2F2"]


@pytest.mark.parametrize("certificate", ["good", "of an unknown authority", "of another name"])
def test_the_login_goes_to_no_impostor(service: Process, upstream: Upstream, tmp_path: Path, certificate: str) -> None:
    authority = Authority.new(tmp_path / "authority.pem")
    other = Authority.new(tmp_path / "unknown.pem")
    upstream.speaks_tls(authority.server("another.test" if certificate == "of another name" else "provider.test"))
    trusted = other.file if certificate == "of an unknown authority" else authority.file
    with nginx(tmp_path, service.url, upstream, provider="https://provider.test", authority=trusted) as client:
        assert client.get("/").status_code == (204 if certificate == "good" else 502)
    assert len(upstream.seen) == (certificate == "good")
    assert upstream.names == ["provider.test"]  # many have one address, and show the certificate that is asked for


def test_nobody_asks_for_the_login_itself(service: Process, upstream: Upstream, tmp_path: Path) -> None:
    with nginx(tmp_path, service.url, upstream) as client:
        answer = client.get("/pixir-auth")
    assert answer.status_code == 404
    assert "authorization" not in answer.headers
