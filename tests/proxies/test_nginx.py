"""`deploy/nginx.conf` as it stands, in a real nginx: the login goes on, and nothing that a client claims to be."""

import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from service.domain.caller import digest_of
from service.domain.secret import Secret
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
    client_body_buffer_size 1m;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include {site};
}}
"""


class Upstream(ThreadingHTTPServer):
    """What stands behind the proxy: keeps the headers of every request."""

    def __init__(self) -> None:
        self.seen: list[list[tuple[str, str]]] = []
        upstream = self

        class Echo(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                upstream.seen.append([(name.lower(), value) for name, value in self.headers.items()])
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        super().__init__(("127.0.0.1", 0), Echo)


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
def nginx(folder: Path, service: str, upstream: Upstream, key: str = KEY) -> Iterator[httpx.Client]:
    """A client of nginx. It has gone into the background, and listens, when its command is over."""
    folder = folder / "nginx"
    folder.mkdir()
    port = free_port()
    secret = folder / "key.conf"
    secret.write_text(f'proxy_set_header Authorization "Bearer {key}";')
    site = (ROOT / "deploy" / "nginx.conf").read_text()
    for told, meant in (
        ("127.0.0.1:8080", f"127.0.0.1:{port}"),
        ("127.0.0.1:9000", f"127.0.0.1:{upstream.server_port}"),
        ("127.0.0.1:1455", f"127.0.0.1:{urlsplit(service).port}"),
        ("localhost:1455", f"localhost:{urlsplit(service).port}"),
        ("/etc/nginx/pixir-auth-key.conf", str(secret)),
    ):
        assert site.count(told) == 1, told
        site = site.replace(told, meant)
    (folder / "site.conf").write_text(site)
    (folder / "nginx.conf").write_text(MAIN.format(site=folder / "site.conf"))
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


def test_what_a_browser_says_is_not_said_to_the_service(service: Process, upstream: Upstream, tmp_path: Path) -> None:
    bearer = [("Authorization", f"Bearer {KEY}")]
    assert service.client.get("/forward-auth", headers=[*bearer, *A_PAGE]).json()["code"] == "cross_site"
    with nginx(tmp_path, service.url, upstream) as client:
        assert client.get("/", headers=A_PAGE).status_code == 204
        assert client.post("/", headers=A_PAGE, content=b"x" * 500_000).status_code == 501  # our upstream knows GET


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
