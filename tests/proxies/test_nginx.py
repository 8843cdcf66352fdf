"""`deploy/nginx.conf` as it stands, in a real nginx: the login goes on, and nothing that a client claims to be."""

import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from service.domain.caller import digest_of
from service.domain.secret import Secret
from tests.issuer.certificates import Authority
from tests.kit.processes import ROOT, Machine, Process, machine

pytestmark = [pytest.mark.long, pytest.mark.nginx]

KEY = "pixir_" + "k" * 43

STATUS_KEY = "pixir_" + "s" * 43
"""Not for headers."""

MAIN = """
pid nginx.pid;
error_log error.log;
events {{}}
http {{
    access_log off;
    client_body_buffer_size 4m;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    upstream provider.test {{ server 127.0.0.1:{upstream}; }}
    include {site};
}}
"""
"""`provider.test`: a name for certificates, which nginx need not look up."""


class Upstream(ThreadingHTTPServer):
    """What stands behind the proxy: keeps headers and path of every request, and what it is called in handshakes."""

    def __init__(self) -> None:
        self.names: list[str | None] = []
        self.paths: list[str] = []
        self.seen: list[list[tuple[str, str]]] = []
        upstream = self

        class Echo(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                upstream.paths.append(self.path)
                upstream.seen.append([(name.lower(), value) for name, value in self.headers.items()])
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        super().__init__(("127.0.0.1", 0), Echo)

    def speaks_tls(self, context: ssl.SSLContext) -> None:
        context.sni_callback = lambda _connection, name, _context: self.names.append(name)
        self.socket = context.wrap_socket(self.socket, server_side=True)

    def handle_error(self, request: object, client_address: object) -> None:
        """A handshake that was broken off is no news."""


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def m(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with machine(tmp_path_factory.mktemp("nginx")) as made:
        yield made


@pytest.fixture(scope="module")
def issuer(m: Machine) -> Process:
    return m.issuer()


@pytest.fixture(scope="module")
def running(m: Machine, issuer: Process) -> Process:
    """The client key of nginx is that of the file."""
    key = m.folder / "key"
    key.touch(mode=0o600)
    key.write_text(KEY)
    return m.service(issuer, client_key_file=key)


@pytest.fixture
def service(m: Machine, issuer: Process, running: Process) -> Process:
    """Logged in."""
    m.install(running, issuer)
    return running


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def nginx(
    folder: Path, service: str, upstream: Upstream, key: str = KEY, *, provider: str = "", authority: Path | None = None
) -> Iterator[httpx.Client]:
    """A client of nginx. It has gone into the background, and listens, when its command is over.

    provider: instead of the upstream's address. authority: the one certificate authority that it trusts.
    """
    folder = folder / "nginx"
    folder.mkdir()
    port = free_port()
    secret = folder / "key.conf"
    secret.write_text(f'proxy_set_header Authorization "Bearer {key}";')
    site = (ROOT / "deploy" / "nginx.conf").read_text()
    site = site.replace("listen 127.0.0.1:8080", f"listen 127.0.0.1:{port}")
    for told, meant in (
        ("http://127.0.0.1:9000", provider or f"http://127.0.0.1:{upstream.server_port}"),
        ("/etc/ssl/certs/ca-certificates.crt", str(authority or "/etc/ssl/certs/ca-certificates.crt")),
        ("127.0.0.1:1455", f"127.0.0.1:{urlsplit(service).port}"),
        ("localhost:1455", f"localhost:{urlsplit(service).port}"),
        ("/etc/nginx/pixir-auth-key.conf", str(secret)),
    ):
        assert site.count(told) == 1, told
        site = site.replace(told, meant)
    (folder / "site.conf").write_text(site)
    (folder / "nginx.conf").write_text(MAIN.format(site=folder / "site.conf", upstream=upstream.server_port))
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program
    subprocess.run([program, "-p", f"{folder}/", "-c", "nginx.conf", "-e", "error.log"], check=True)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            yield client
    finally:
        os.kill(int((folder / "nginx.pid").read_text()), signal.SIGTERM)


CLAIMS = [
    ("Authorization", "Bearer sk-of-the-client"),
    ("authorization", "Basic eA=="),
    ("ChatGPT-Account-ID", "somebody-else"),
    ("ChatGPT_Account_ID", "somebody-else"),
    ("X_Forwarded_User", "root"),
    ("X-Forwarded-User", "root"),
    ("Cookie", "session=1"),
]
"""What a client says of itself."""

A_PAGE = [("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "cors")]
"""What a browser says of a page of somebody else."""


def test_what_the_client_claims_is_replaced_or_left_out(service: Process, upstream: Upstream, tmp_path: Path) -> None:
    lines = service.client.get("/headers").json()
    with nginx(tmp_path, service.url, upstream) as client:
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
    service: Process, upstream: Upstream, tmp_path: Path
) -> None:
    service.client.post("/logout").raise_for_status()
    service.client.put("/credential", json={"kind": "api_key", "api_key": "sk-ours"}).raise_for_status()
    with nginx(tmp_path, service.url, upstream) as client:
        assert client.get("/", headers=CLAIMS[2:]).status_code == 204
    (seen,) = upstream.seen
    assert dict(seen)["authorization"] == "Bearer sk-ours"
    assert "chatgpt-account-id" not in dict(seen)
    assert "somebody-else" not in str(seen)


@pytest.mark.parametrize("foreign", [*A_PAGE[:2], ("Origin", "null"), ("Sec-Fetch-Site", "same-site")])
def test_no_page_of_somebody_else_uses_the_login(
    service: Process, upstream: Upstream, tmp_path: Path, foreign: tuple[str, str]
) -> None:
    with nginx(tmp_path, service.url, upstream) as client:
        assert client.get("/", headers=[foreign]).status_code == 403
        assert client.post("/", headers=[foreign], content=b"{}").status_code == 403
        assert client.get("/", headers={"Sec-Fetch-Site": "none"}).status_code == 204  # an address that was typed
    assert len(upstream.seen) == 1


def test_a_page_that_has_its_name_point_here_is_not_answered(
    service: Process, upstream: Upstream, tmp_path: Path
) -> None:
    with nginx(tmp_path, service.url, upstream) as client:
        for name in ("evil.example", "evil.example:8080", "localhost.evil.example", "8.8.8.8", "[::ffff:127.0.0.1]"):
            assert client.get("/", headers={"Host": name}).status_code == 421
        assert upstream.seen == []
        for name in ("localhost", "localhost:8080", "127.0.0.1:8080"):
            assert client.get("/", headers={"Host": name}).status_code == 204


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


@pytest.mark.parametrize("way", ["logged out", "wrong key", "no service"])
def test_nothing_goes_on_without_a_login(service: Process, upstream: Upstream, tmp_path: Path, way: str) -> None:
    if way == "logged out":
        service.client.post("/logout").raise_for_status()
    url = f"http://localhost:{free_port()}" if way == "no service" else service.url
    with nginx(tmp_path, url, upstream, key="wrong" * 6 if way == "wrong key" else KEY) as client:
        answer = client.get("/")
    assert answer.status_code == (500 if way == "no service" else 401)
    assert "Bearer" in answer.headers.get("www-authenticate", "") or way == "no service"
    assert upstream.seen == []


def test_403_stays_403(service: Process, upstream: Upstream, tmp_path: Path) -> None:
    body = {"digest": digest_of(Secret(STATUS_KEY)), "scope": ["status"]}
    service.client.put("/keys/only-status", json=body).raise_for_status()
    with nginx(tmp_path, service.url, upstream, key=STATUS_KEY) as client:
        assert client.get("/").status_code == 403
    assert upstream.seen == []


def test_nobody_asks_for_the_login_itself(service: Process, upstream: Upstream, tmp_path: Path) -> None:
    with nginx(tmp_path, service.url, upstream) as client:
        answer = client.get("/pixir-auth")
    assert answer.status_code == 404
    assert "authorization" not in answer.headers
