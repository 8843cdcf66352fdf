"""The process itself: real sockets, a real issuer beside it, signals, and the callback ports."""

import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from tests.kit.lacking import lacking
from tests.kit.processes import Machine, Process, machine
from tests.web.browser import LED, TYPED
from tests.web.expect import DEVICE_LOGIN, lawful_now, page, problem
from tests.web.routes import CALLS

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def m(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with machine(tmp_path_factory.mktemp("machine")) as made:
        yield made


@pytest.fixture(scope="module")
def issuer(m: Machine) -> Process:
    return m.issuer()


@pytest.fixture(scope="module")
def service(m: Machine, issuer: Process) -> Process:
    return m.service(issuer, log_level="debug", refresh_floor=0)


def port_of(process: Process) -> int:
    port = urlsplit(process.url).port
    assert port is not None
    return port


@pytest.fixture
def free_callback_ports(callback_ports: None) -> None:
    """Skips where another program has the ports that the issuer redirects to; in CI nobody may."""
    for port in (1455, 1457):
        for address, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)):
            try:
                socket.create_server((address, port), family=family).close()
            except OSError:
                lacking(f"port {port} is taken on this machine")


def sockets_of(pid: int) -> set[str]:
    """The inodes of a process's sockets. Raises PermissionError unless root asks: the service forgoes being seen."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if found := re.fullmatch(r"socket:\[(\d+)\]", str(descriptor.readlink())):
                inodes.add(found[1])
        except FileNotFoundError:
            continue
    return inodes


def listening(service: Process) -> set[tuple[str, int]]:
    """What a service listens on, from the kernel's tables; for an ordinary user, of the ports that it may have."""
    try:
        inodes = sockets_of(service.pid)
    except PermissionError:
        inodes = None
    rows = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            address, _, port = fields[1].partition(":")
            is_ours = fields[9] in inodes if inodes is not None else int(port, 16) in (port_of(service), 1455, 1457)
            if fields[3] == "0A" and is_ours:
                rows.add((address, int(port, 16)))
    return rows


LOOPBACK = {"0100007F", "00000000000000000000000001000000"}


def is_shut(service: Process) -> bool:
    """Whether the service listens on its own port only."""
    return {port for _, port in listening(service)} == {port_of(service)}


def until(holds: Any, within: float = 10) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.02)


# what is listened on


def test_it_listens_on_loopback_only(service: Process) -> None:
    assert listening(service) == {(address, port_of(service)) for address in LOOPBACK}


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "[::1]"])
def test_every_name_of_loopback_leads_there(service: Process, name: str) -> None:
    answer = httpx.get(f"http://{name}:{port_of(service)}/status", trust_env=False)
    lawful_now(answer)
    assert answer.status_code == 200


def test_a_second_one_on_the_same_port_says_so_and_ends(m: Machine, service: Process, issuer: Process) -> None:
    with pytest.raises(RuntimeError, match="ended with 1: ") as ended:
        m.service(issuer, port=port_of(service))
    assert f"cannot listen on localhost port {port_of(service)}: Address already in use" in str(ended.value)
    assert service.client.get("/healthz").status_code == 200


# byte for byte


def said(service: Process, raw: bytes) -> bytes:
    """What comes back for these bytes, until the connection is closed or nothing more comes."""
    with socket.create_connection(("127.0.0.1", port_of(service)), 5) as connection:
        connection.sendall(raw.replace(b"PORT", str(port_of(service)).encode()))
        heard = connection.recv(65536)
        connection.settimeout(0.05)
        try:
            while piece := connection.recv(65536):
                heard += piece
        except TimeoutError:
            pass
        return heard


TO_US = b"Host: localhost:PORT\r\n"
POST = b"POST /login HTTP/1.1\r\n" + TO_US

STATUS_LINES: dict[str, tuple[bytes, set[int]]] = {
    "no host, 1.0": (b"GET /token HTTP/1.0\r\n\r\n", {421}),
    "no host, 1.1": (b"GET /token HTTP/1.1\r\n\r\n", {400, 421}),
    "two hosts": (b"GET /token HTTP/1.1\r\n" + TO_US + TO_US + b"\r\n", {400, 421}),
    "host with a path": (b"GET /token HTTP/1.1\r\nHost: localhost:PORT/x?\r\n\r\n", {400, 421}),
    "host with NUL": (b"GET /token HTTP/1.1\r\nHost: localhost:PORT\0\r\n\r\n", {400, 421}),
    "foreign host": (b"GET /token HTTP/1.1\r\nHost: evil.example\r\n\r\n", {421}),
    "host without port": (b"GET /token HTTP/1.1\r\nHost: localhost\r\n\r\n", {421}),
    "connect": (b"CONNECT localhost:PORT HTTP/1.1\r\n" + TO_US + b"\r\n", {400, 404, 405, 421}),
    "trace": (b"TRACE /token HTTP/1.1\r\n" + TO_US + b"\r\n", {400, 405}),
    "asterisk": (b"OPTIONS * HTTP/1.1\r\n" + TO_US + b"\r\n", {400, 404, 405}),
    "escape in the path": (b"GET /tok\x1ben HTTP/1.1\r\n" + TO_US + b"\r\n", {400, 404}),
    "no http": (b"hello\r\n\r\n", {400}),
    "two lengths": (POST + b"Content-Length: 0\r\nContent-Length: 2\r\n\r\n{}", {400}),
    "length and chunks": (POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
    "odd chunks": (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", {400}),
    "folded header": (b"GET /token HTTP/1.1\r\n" + TO_US + b"X: a\r\n b\r\n\r\n", {400}),
    "bare newlines": (b"GET /token HTTP/1.1\nHost: localhost:PORT\n\n", {400}),
}


@pytest.mark.parametrize("case", STATUS_LINES)
def test_what_is_out_of_line_is_refused(service: Process, case: str) -> None:
    raw, expected = STATUS_LINES[case]
    heard = said(service, raw)
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", heard)
    assert found, heard
    assert int(found[1]) in expected
    assert b"access_token" not in heard
    assert heard.count(b"HTTP/1.1 ") == 1


def test_no_upgrade_to_a_websocket(service: Process) -> None:
    for origin in (b"", b"Origin: https://evil.example\r\n"):
        heard = said(
            service,
            b"GET /status HTTP/1.1\r\nHost: localhost:PORT\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            + origin
            + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        )
        assert b" 101 " not in heard.split(b"\r\n")[0]
        if origin:
            assert heard.startswith(b"HTTP/1.1 403 ")


def test_a_large_body_is_refused_before_it_is_whole(service: Process) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(2000):
            yield b" " * 1000

    answer = httpx.post(
        f"{service.url}/login", content=endless(), headers={"Content-Type": "application/json"}, trust_env=False
    )
    lawful_now(answer)
    problem(answer, 413, "payload_too_large")


def test_forwarding_headers_change_neither_address_nor_log(service: Process) -> None:
    headers = {"X-Forwarded-For": "10.9.8.7", "Forwarded": "for=10.9.8.7", "X-Forwarded-Proto": "https"}
    answer = service.client.get("/login", headers={**headers, "X-Forwarded-Host": "evil.example"})
    problem(answer, 401, "key_required")
    assert "10.9.8.7" not in service.log.read_text()
    assert "evil" not in answer.text
    (entry,) = [one for one in service.client.get("/audit").json()["entries"] if one["detail"] == "GET /login"]
    assert (entry["who"], entry["outcome"]) == (f"uid {os.getuid()}", "key_required")


# a login in a browser


@contextmanager
def returning(service: Process, account: str) -> Iterator[tuple[httpx.Client, str]]:
    """A browser on its way back from the issuer."""
    with httpx.Client(trust_env=False, headers=TYPED, timeout=30) as browser:
        opened = browser.get(f"{service.url}/login", params={"account": account})
        assert opened.status_code == 303
        yield browser, httpx.get(opened.headers["location"], trust_env=False).headers["location"]


@pytest.mark.usefixtures("free_callback_ports")
def test_a_login_in_a_browser_through_the_callback_port(service: Process) -> None:
    with returning(service, "browser") as (browser, back):
        assert back.startswith("http://localhost:1455/auth/callback?")
        assert listening(service) == {(one, port) for one in LOOPBACK for port in (port_of(service), 1455)}
        stranger = httpx.get(back, headers=LED, trust_env=False)
        lawful_now(stranger)
        page(stranger, 400)
        done = browser.get(back, headers=LED)
        lawful_now(done)
        assert "ada@example.com" in page(done, 200)
    assert service.client.get("/token?account=browser").json()["generation"] == 1
    until(lambda: is_shut(service))
    log = service.log.read_text()
    for secret in dict(parse_qsl(urlsplit(back).query)).values():
        assert secret not in log
    assert "GET /auth/callback 200" in log


@pytest.mark.usefixtures("free_callback_ports")
def test_the_callback_port_knows_no_other_path(service: Process) -> None:
    with returning(service, "paths") as (browser, back):
        for method, path in CALLS:
            if path in ("/auth/callback", "/oauth/token"):  # that one asks in its own words, and before that for a key
                continue
            answer = httpx.request(method, f"http://localhost:1455{path}", trust_env=False)
            lawful_now(answer)
            problem(answer, 401 if path == "/forward-auth" else 404, "not_found")  # a proxy is told 401 or 403
        assert httpx.get(back, headers={"Host": f"localhost:{port_of(service)}"}, trust_env=False).status_code != 200
        page(browser.get(back, headers=LED), 200)
    until(lambda: is_shut(service))


@pytest.mark.usefixtures("free_callback_ports")
def test_the_second_callback_port_will_do(service: Process) -> None:
    with socket.create_server(("127.0.0.1", 1455)), returning(service, "second") as (browser, back):
        assert back.startswith("http://localhost:1457/auth/callback?")
        page(browser.get(back, headers=LED), 200)
    until(lambda: is_shut(service))


@pytest.mark.usefixtures("free_callback_ports")
def test_a_device_code_where_neither_can_be_had(service: Process) -> None:
    with socket.create_server(("127.0.0.1", 1455)), socket.create_server(("::1", 1457), family=socket.AF_INET6):
        login = service.client.post("/login", json={"account": "neither"}).json()
        assert set(login) == DEVICE_LOGIN
        assert login["fallback"] == "callback_port_unavailable"
        answer = service.client.post("/login", json={"account": "neither", "flow": "browser"})
        problem(answer, 503, "callback_port_unavailable")
    service.client.delete(f"/login/{login['id']}")


@pytest.mark.usefixtures("free_callback_ports")
def test_a_cancelled_login_shuts_the_callback_port(service: Process) -> None:
    login = service.client.post("/login", json={"account": "cancelled"}).json()
    until(lambda: 1455 in {port for _, port in listening(service)})
    service.client.delete(f"/login/{login['id']}")
    until(lambda: is_shut(service))


@contextmanager
def slow(issuer: Process, seconds: float) -> Iterator[None]:
    """An issuer that thinks for a while before it answers."""
    issuer.client.post("/_sandbox/knobs", json={"latency": seconds})
    yield
    issuer.client.post("/_sandbox/knobs", json={"latency": 0})


@pytest.mark.usefixtures("free_callback_ports")
def test_a_slow_issuer_neither_cuts_off_the_browser_nor_holds_up_other_logins(
    service: Process, issuer: Process
) -> None:
    answers: list[httpx.Response] = []
    with slow(issuer, 8), returning(service, "slow") as (browser, back):
        waiting = threading.Thread(target=lambda: answers.append(browser.get(back, headers=LED)))
        waiting.start()
        time.sleep(1.5)  # long enough for a round of the background
        began = time.monotonic()
        other = service.client.post("/login", json={"account": "slow-other"}).json()
        assert time.monotonic() - began < 2.5
        waiting.join()
    page(answers[0], 200)
    service.client.delete(f"/login/{other['id']}")
    until(lambda: is_shut(service))


def test_a_device_login_by_itself(m: Machine, service: Process, issuer: Process) -> None:
    issuer.client.post("/_sandbox/knobs", json={"device_interval": "1"})
    login = service.client.post("/login", json={"account": "device", "flow": "device"}).json()
    issuer.client.post("/_sandbox/approve", json={"user_code": login["user_code"]})
    ended = service.client.get(f"/login/{login['id']}", params={"wait": 30}).json()
    assert ended["state"] == "complete"
    assert service.client.get("/token?account=device").status_code == 200


# the issuer over a real connection


def test_a_silent_issuer_costs_callers_no_more_than_the_time_limit(m: Machine, issuer: Process) -> None:
    service = m.service(issuer, issuer_timeout=0.5, refresh_floor=0)
    m.install(service, issuer, "silent")
    issuer.client.post("/_sandbox/fail", json={"name": "hang"})
    began = time.monotonic()
    body = service.client.get("/token?account=silent&newer_than=1").json()
    assert time.monotonic() - began < 4.5
    assert body["warning"] == "refresh_uncertain"
    assert body["generation"] == 1


# the end


def test_sigterm_is_a_good_end_and_whoever_waits_gets_an_answer(m: Machine, issuer: Process) -> None:
    service = m.service(issuer)
    login = service.client.post("/login", json={"flow": "device"}).json()
    answers: list[httpx.Response] = []
    url = f"{service.url}/login/{login['id']}?wait=60"
    waiting = threading.Thread(target=lambda: answers.append(httpx.get(url, timeout=60, trust_env=False)))
    waiting.start()
    time.sleep(0.5)
    began = time.monotonic()
    service.signal(signal.SIGTERM)
    assert service.ended() == 0
    assert time.monotonic() - began < 4.5
    waiting.join()
    lawful_now(answers[0])
    assert answers[0].json()["state"] == "pending"
    assert " error " not in service.log.read_text()


def ended_under(service: Process, path: str) -> None:
    """Ask, and bear that the service ends before it answers."""
    try:
        httpx.get(service.url + path, timeout=60, trust_env=False)
    except httpx.HTTPError:
        return


def test_sigterm_while_the_issuer_is_thinking_stores_what_it_answers(m: Machine, issuer: Process) -> None:
    service = m.service(issuer, refresh_floor=0)
    m.install(service, issuer, "ending")
    before = issuer.client.get("/_sandbox/state").json()["refresh_count"]
    with slow(issuer, 1):
        asking = threading.Thread(target=ended_under, args=(service, "/token?account=ending&newer_than=1"))
        asking.start()
        until(lambda: issuer.client.get("/_sandbox/state").json()["refresh_count"] > before)
        service.signal(signal.SIGTERM)
        assert service.ended() == 0
        asking.join()
    after = m.service(issuer)
    body = after.client.get("/token?account=ending").json()
    assert body["generation"] == 2
    families = issuer.client.get("/_sandbox/state").json()["families"]
    assert body["access_token"] in {family["access_token"] for family in families}
