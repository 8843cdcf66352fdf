"""How the request travels: over a fresh connection, past every setting of the environment, and silent in the logs."""

import asyncio
import json
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import certifi
import pytest

from service.domain.secret import Secret
from service.issuer import Issuer
from service.logs import _LOUD, configure
from service.oauth.wire import Answer, NotSent, Request, form, json_body

from .certificates import Authority
from .fault_server import Connection, Reply, bytes_only, fault_server, reset, wait_for_the_end, whole

pytestmark = pytest.mark.long

SECRET = Secret("the-refresh-token")
REAL_AUTHORITIES = certifi.where
Open = Callable[..., Issuer]


def refresh(url: str) -> Request:
    """A request that spends something."""
    return form("refresh", url, grant_type="refresh_token", refresh_token=SECRET)


def head_and_body(request: bytes) -> tuple[list[str], bytes]:
    head, _, body = request.partition(b"\r\n\r\n")
    return head.decode().split("\r\n"), body


# -- the request ---------------------------------------------------------------------------------------------------


async def test_the_request_is_what_it_should_be_and_nothing_more(issuer: Open) -> None:
    async with fault_server(whole()) as server:
        await issuer().send(refresh(server.url("/oauth/token")))
    (line, *headers), body = head_and_body(server.requests[0])
    assert line == "POST /oauth/token HTTP/1.1"
    assert body == b"grant_type=refresh_token&refresh_token=the-refresh-token"
    told = dict(header.split(": ", 1) for header in headers)
    assert sorted(name.lower() for name in told) == [
        "accept",
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "host",
        "user-agent",
    ]
    values = {name.lower(): value for name, value in told.items()}
    assert values["accept"] == "application/json"
    assert values["content-type"] == "application/x-www-form-urlencoded"
    assert values["host"] == f"127.0.0.1:{server.port}"
    assert values["user-agent"].startswith("pixir-auth/")


async def test_a_json_request_says_so(issuer: Open) -> None:
    async with fault_server(whole()) as server:
        await issuer().send(json_body("refresh", server.url(), refresh_token=SECRET))
    (_, *headers), body = head_and_body(server.requests[0])
    assert "Content-Type: application/json" in headers
    assert json.loads(body) == {"refresh_token": "the-refresh-token"}


async def test_no_secret_travels_outside_the_body(issuer: Open) -> None:
    async with fault_server(whole()) as server:
        await issuer().send(refresh(server.url()))
    head, _ = head_and_body(server.requests[0])
    assert SECRET.reveal() not in "".join(head)


# -- the connection ------------------------------------------------------------------------------------------------


async def test_every_call_has_a_connection_of_its_own(issuer: Open) -> None:
    """A kept one may be half dead, and a request lost on it leaves the outcome unknown."""
    way_out = issuer()
    async with fault_server(whole()) as server:
        for _ in range(3):
            assert isinstance(await way_out.send(refresh(server.url())), Answer)
            await server.connections[-1].has_ended()  # closed by us: the server was ready for more
        assert len({each.peer for each in server.connections}) == 3
        assert [request.count(b"POST ") for request in server.requests] == [1, 1, 1]


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux knows it")
async def test_the_kernel_gives_up_on_bytes_that_nobody_acknowledges(issuer: Open) -> None:
    found: list[tuple[int, int]] = []

    async def reply(connection: Connection) -> None:
        found.extend(options_of_the_socket_from(connection.peer))
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    async with fault_server(reply) as server:
        await issuer().send(refresh(server.url()))
    assert found == [(10_000, 1)]


def options_of_the_socket_from(address: tuple[str, int]) -> list[tuple[int, int]]:
    """TCP_USER_TIMEOUT and TCP_NODELAY of our own socket that is bound there."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        if not entry.is_socket():
            continue
        with socket.socket(fileno=os.dup(int(entry.name))) as duplicate:
            if duplicate.family == socket.AF_INET and duplicate.getsockname() == address:
                options = (socket.TCP_USER_TIMEOUT, socket.TCP_NODELAY)
                timeout, no_delay = (duplicate.getsockopt(socket.IPPROTO_TCP, option) for option in options)
                found.append((timeout, no_delay))
    return found


async def test_no_more_than_32_calls_at_a_time(issuer: Open) -> None:
    way_out = issuer()
    all_at_once = asyncio.Event()

    async def reply(connection: Connection) -> None:
        if server.now_open == 32:
            all_at_once.set()
        await all_at_once.wait()
        await asyncio.sleep(0)
        await whole()(connection)

    async def call() -> object:
        async with way_out.slot():
            return await way_out.send(refresh(server.url()))

    async with fault_server(reply) as server:
        outcomes = await asyncio.gather(*(call() for _ in range(80)))
    assert outcomes == [Answer(200, b"{}")] * 80
    assert len(server.connections) == 80
    assert server.most_open == 32


async def test_no_cookie_is_kept(issuer: Open) -> None:
    """One account's answer must not mark another's request."""
    way_out = issuer()
    async with fault_server(whole(Set_Cookie="session=of-this-account; Path=/")) as server:
        for _ in range(2):
            await way_out.send(refresh(server.url()))
    assert [b"cookie" in request.lower() for request in server.requests] == [False, False]


async def test_a_slot_is_free_again_whatever_happened(issuer: Open) -> None:
    way_out = issuer()
    async with fault_server(reset) as server:
        for _ in range(20):
            async with way_out.slot():
                await way_out.send(refresh(server.url()))
    assert len(server.connections) == 20


# -- the environment -----------------------------------------------------------------------------------------------

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


async def test_no_proxy_of_the_environment_is_used(issuer: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    async with fault_server(whole(body=b"proxy")) as proxy, fault_server(whole()) as server:
        for name in PROXIES:
            monkeypatch.setenv(name, proxy.url(""))
        way_out = issuer()
        assert await way_out.send(refresh(server.url())) == Answer(200, b"{}")
        assert isinstance(await way_out.send(refresh("https://issuer.invalid/token")), NotSent)
    assert proxy.connections == []


async def test_no_netrc_is_used(issuer: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password sesame\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    async with fault_server(whole()) as server:
        await issuer().send(refresh(server.url()))
    assert b"authorization" not in server.requests[0].lower()


async def test_those_whom_everybody_trusts_do_not_vouch_for_a_stranger(
    issuer: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(certifi, "where", REAL_AUTHORITIES)
    async with fault_server(whole(), tls=Authority.new(tmp_path / "authority.pem").server()) as server:
        assert isinstance(await issuer().send(refresh(server.url(scheme="https"))), NotSent)
    assert server.requests == []


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
async def test_no_authority_of_the_environment_is_trusted(
    issuer: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    authority = Authority.new(tmp_path / "authority.pem")
    monkeypatch.setenv(name, str(tmp_path if name.endswith("DIR") else authority.file))
    async with fault_server(whole(), tls=authority.server()) as server:
        assert isinstance(await issuer().send(refresh(server.url(scheme="https"))), NotSent)
    assert server.requests == []


async def test_no_session_key_is_written_down(issuer: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority = Authority.new(tmp_path / "authority.pem")
    tls = authority.server()  # before the variable is set: it is ours that must not obey it
    monkeypatch.setattr(certifi, "where", lambda: str(authority.file))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    async with fault_server(whole(), tls=tls) as server:
        assert await issuer().send(refresh(server.url(scheme="https"))) == Answer(200, b"{}")
    assert "keys" not in names_in(tmp_path)


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


# -- the log -------------------------------------------------------------------------------------------------------

ANSWER = json.dumps({"access_token": "new-access", "refresh_token": "new-refresh"}).encode()
ENDINGS: dict[str, Reply] = {
    "answered": whole(body=ANSWER),
    "refused": whole(400, b'{"error":"invalid_grant","error_description":"new-access new-refresh"}'),
    "cut": bytes_only(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + ANSWER),
    "garbage": bytes_only(ANSWER + b"\r\n\r\n"),
    "reset": reset,
    "silent": wait_for_the_end,
}


@contextmanager
def logging_at_debug() -> Iterator[None]:
    """The log as the service sets it up, at its loudest."""
    root = logging.getLogger()
    handlers = root.handlers[:]
    levels = {logger: logger.level for logger in (root, *(logging.getLogger(name) for name in _LOUD))}
    configure("text", "debug")
    try:
        yield
    finally:
        root.handlers[:] = handlers
        for logger, level in levels.items():
            logger.setLevel(level)


@pytest.mark.parametrize("reply", ENDINGS.values(), ids=list(ENDINGS))
async def test_no_token_is_logged_however_it_ends(
    issuer: Open, capsys: pytest.CaptureFixture[str], reply: Reply
) -> None:
    async with fault_server(reply) as server:
        with logging_at_debug():
            outcome = await issuer(0.3).send(refresh(server.url()))
    logged = capsys.readouterr().err + repr(outcome)
    assert "service.issuer: refresh: " in logged
    assert [secret for secret in (SECRET.reveal(), "new-access", "new-refresh") if secret in logged] == []


async def test_no_header_and_no_query_is_logged(issuer: Open, capsys: pytest.CaptureFixture[str]) -> None:
    async with fault_server(whole(Set_Cookie="session=a-cookie", X_Trace="a-trace")) as server:
        with logging_at_debug():
            await issuer().send(refresh(server.url("/token?client=a-query")))
    logged = capsys.readouterr().err
    assert "service.issuer: refresh: Answer(status=200)" in logged
    assert [secret for secret in ("a-cookie", "a-trace", "a-query") if secret in logged] == []


@pytest.mark.parametrize("ending", [name for name in ENDINGS if name != "garbage"])
async def test_nor_is_it_by_the_libraries_when_they_are_let(
    issuer: Open, caplog: pytest.LogCaptureFixture, ending: str
) -> None:
    """All but an answer that is no HTTP: h11 quotes that, which is why the service does not let it."""
    for name in ("", "service", "httpx", "httpcore", "asyncio", "anyio"):
        caplog.set_level(logging.DEBUG, name)
    async with fault_server(ENDINGS[ending]) as server:
        await issuer(0.3).send(refresh(server.url()))
    logged = caplog.text + "".join(str(vars(record)) for record in caplog.records)
    assert "httpcore" in logged
    assert [secret for secret in (SECRET.reveal(), "new-access", "new-refresh") if secret in logged] == []
