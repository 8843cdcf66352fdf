"""Real proxies with the files of `deploy/`, with the addresses of a test in them."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tests.kit.ports import free_port
from tests.kit.processes import ROOT

from .upstream import KEY, Upstream

Proxy = Callable[..., AbstractContextManager[httpx.Client]]
"""A client of a proxy: folder, URL of the service, upstream, client key."""

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
    site = adapted(
        site,
        ("http://127.0.0.1:9000", provider or f"http://127.0.0.1:{upstream.server_port}"),
        ("/etc/ssl/certs/ca-certificates.crt", str(authority or "/etc/ssl/certs/ca-certificates.crt")),
        ("127.0.0.1:1455", f"127.0.0.1:{urlsplit(service).port}"),
        ("localhost:1455", f"localhost:{urlsplit(service).port}"),
        ("/etc/nginx/pixir-auth-key.conf", str(secret)),
    )
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


@contextmanager
def caddy(folder: Path, service: str, upstream: Upstream, key: str = KEY) -> Iterator[httpx.Client]:
    """A client of Caddy."""
    folder = folder / "caddy"
    folder.mkdir()
    port = free_port()
    secret = folder / "key"
    secret.write_text(f'header_up Authorization "Bearer {key}"')
    site = adapted(
        (ROOT / "deploy" / "Caddyfile").read_text().replace(":8080", f":{port}"),
        ("127.0.0.1:9000", f"127.0.0.1:{upstream.server_port}"),
        ("127.0.0.1:1455", f"127.0.0.1:{urlsplit(service).port}"),
        ("localhost:1455", f"localhost:{urlsplit(service).port}"),
        ("/etc/caddy/pixir-auth-key", str(secret)),
    )
    (folder / "Caddyfile").write_text("{\n\tadmin off\n}\n" + site)
    homes = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with (folder / "log").open("w") as log:
        command = ["caddy", "run", "--adapter", "caddyfile", "--config", "Caddyfile"]
        process = subprocess.Popen(command, cwd=folder, env=os.environ | homes, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while not _listens(port):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.05)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            yield client
    finally:
        process.terminate()
        process.wait(20)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def adapted(site: str, *addresses: tuple[str, str]) -> str:
    """The file with other addresses, each of which is in it once."""
    for told, meant in addresses:
        assert site.count(told) == 1, told
        site = site.replace(told, meant)
    return site
