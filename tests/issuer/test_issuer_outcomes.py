"""What became of a request: surely not sent, perhaps acted upon, or answered. The difference decides over logins."""

import asyncio
import gc
import gzip
import json
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import certifi
import httpx
import pytest

from service.domain.secret import Secret
from service.issuer import Issuer
from service.oauth.answers import Granted, Unknown, classify
from service.oauth.wire import Answer, NoAnswer, NotSent, Request, form

from .certificates import Authority
from .fault_server import Connection, Reply, bytes_only, drip, fault_server, hang_up, reset, wait_for_the_end, whole

pytestmark = pytest.mark.long

SECRET = Secret("the-refresh-token")
Open = Callable[..., Issuer]

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
TOKENS = json.dumps({"access_token": "new-access", "refresh_token": "new-refresh", "id_token": "new-id"}).encode()


def refresh(url: str) -> Request:
    """A request that spends something."""
    return form("refresh", url, grant_type="refresh_token", refresh_token=SECRET)


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port that refuses: bound, so that nobody else takes it, but not listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


# -- surely not sent -----------------------------------------------------------------------------------------------


async def test_a_refused_connection_is_not_sent(issuer: Open, free_port: int) -> None:
    assert await issuer().send(refresh(f"http://127.0.0.1:{free_port}/token")) == NotSent("connect_error")


async def test_a_name_that_does_not_exist_is_not_sent(issuer: Open) -> None:
    outcome = await issuer().send(refresh("https://issuer.invalid/token"))
    assert isinstance(outcome, NotSent)


async def test_a_host_that_does_not_answer_is_not_sent(issuer: Open) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        waiting = [socket.socket() for _ in range(8)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(full.getsockname())  # fills the queue: what comes later is dropped
        outcome = await issuer(0.2).send(refresh(f"http://127.0.0.1:{full.getsockname()[1]}/token"))
        for each in waiting:
            each.close()
    assert outcome == NotSent("connect_timeout")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1/token",
        "127.0.0.1/token",
        "http://",
        "http://127.0.0.1:99999/",
        "http://[::1/token",
        f"http://{'a' * 70}.invalid/token",  # a label longer than names may have
    ],
)
async def test_an_address_that_cannot_be_used_is_not_sent(issuer: Open, url: str) -> None:
    assert isinstance(await issuer().send(refresh(url)), NotSent)


@pytest.mark.parametrize("reply", [hang_up, reset, bytes_only(b"HTTP/1.1 400 Bad Request\r\n\r\n")])
async def test_a_port_without_tls_is_sent_no_request(issuer: Open, reply: Reply) -> None:
    async def after_hello(connection: Connection) -> None:
        connection.received += await connection.reader.read(65536)
        await reply(connection)

    async with fault_server(after_hello, reads=False) as server:
        outcome = await issuer().send(refresh(server.url(scheme="https")))
    assert isinstance(outcome, NotSent)
    (received,) = server.requests
    assert received.startswith(b"\x16\x03")  # a handshake
    assert b"POST" not in received
    assert SECRET.reveal().encode() not in received


async def test_a_handshake_that_never_ends_is_not_sent(issuer: Open) -> None:
    async with fault_server(wait_for_the_end, reads=False) as server:
        outcome = await issuer(0.2).send(refresh(server.url(scheme="https")))
    assert isinstance(outcome, NotSent)


@pytest.mark.parametrize("certificate", ["self-signed", "of an unknown authority", "expired", "of another name"])
async def test_a_certificate_that_does_not_hold_is_sent_no_request(
    issuer: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificate: str
) -> None:
    authority = Authority.new(tmp_path / "authority.pem")
    if certificate in ("expired", "of another name"):
        monkeypatch.setattr(certifi, "where", lambda: str(authority.file))
    tls = {
        "self-signed": authority.self_signed,
        "of an unknown authority": authority.server,
        "expired": lambda: authority.server(ended=True),
        "of another name": lambda: authority.server("issuer.test"),
    }[certificate]()
    async with fault_server(whole(), tls=tls) as server:
        outcome = await issuer().send(refresh(server.url(scheme="https")))
    assert outcome == NotSent("connect_error")
    assert server.requests == []  # no handshake was completed, so no connection was ever served


async def test_a_certificate_that_holds_is_answered(
    issuer: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority.new(tmp_path / "authority.pem")
    monkeypatch.setattr(certifi, "where", lambda: str(authority.file))
    async with fault_server(whole(body=TOKENS), tls=authority.server()) as server:
        assert await issuer().send(refresh(server.url(scheme="https"))) == Answer(200, TOKENS)


# -- perhaps acted upon --------------------------------------------------------------------------------------------

NO_ANSWERS: dict[str, Reply] = {
    "RST": reset,
    "FIN": hang_up,
    "half a status line": bytes_only(b"HTTP/1."),
    "half the headers": bytes_only(b"HTTP/1.1 200 OK\r\nContent-Type: appl"),
    "headers, then RST": bytes_only(OK + b"Content-Length: 100\r\n\r\n", then=reset),
    "headers, then FIN": bytes_only(OK + b"Content-Length: 100\r\n\r\n"),
    "half an error": bytes_only(b"HTTP/1.1 400 Bad\r\nContent-Length: 100\r\n\r\n{"),
    "chunks cut before the first": bytes_only(OK + b"Transfer-Encoding: chunked\r\n\r\n14"),
    "garbage": bytes_only(b"\x00\xff garbage\r\n\r\n" * 20),
    "another protocol": bytes_only(b"220 mail.example.test ESMTP\r\n"),
    "HTTP/2": bytes_only(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18), then=wait_for_the_end),
    "a length that is none": bytes_only(OK + b"Content-Length: many\r\n\r\n{}"),
    "two lengths": bytes_only(OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
    "headers without end": bytes_only(b"HTTP/1.1 200 OK\r\n" + b"X-More: and more\r\n" * 20_000),
    "gzip that is none": bytes_only(OK + b"Content-Encoding: gzip\r\nContent-Length: 9\r\n\r\nnot gzip!"),
    "deflate that is none": bytes_only(
        OK + b"Content-Encoding: deflate\r\nContent-Length: 9\r\n\r\n\xff\xfe\xfdefgabc"
    ),
    "a switch of protocols": bytes_only(
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", then=reset
    ),
}


@pytest.mark.parametrize("reply", NO_ANSWERS.values(), ids=list(NO_ANSWERS))
async def test_what_is_broken_off_is_no_answer(issuer: Open, reply: Reply) -> None:
    async with fault_server(reply) as server:
        outcome = await issuer().send(refresh(server.url()))
    assert isinstance(outcome, NoAnswer)
    assert outcome.error in {"read_error", "remote_protocol_error", "decoding_error"}  # nothing of what was answered
    assert isinstance(classify(outcome, now=0), Unknown)
    assert SECRET.reveal().encode() in server.requests[0]  # it was all sent


async def test_a_connection_reset_before_the_request_is_read_is_no_answer(issuer: Open) -> None:
    """The kernel had taken it: whether somebody has read it cannot be known."""
    async with fault_server(reset, reads=False) as server:
        assert isinstance(await issuer().send(refresh(server.url())), NoAnswer)


async def test_silence_is_no_answer_when_the_time_is_over(issuer: Open) -> None:
    async with fault_server(wait_for_the_end) as server:
        assert await issuer(0.3).send(refresh(server.url())) == NoAnswer("timeout")


# -- half a success ------------------------------------------------------------------------------------------------

HALF_WITH_TOKEN = TOKENS[: TOKENS.index(b'"id_token"') + 12]
CUT = {
    "a length": OK + b"Content-Length: 1000\r\n\r\n" + HALF_WITH_TOKEN,
    "chunks": OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n40\r\n" % (len(HALF_WITH_TOKEN), HALF_WITH_TOKEN),
}


@pytest.mark.parametrize("then", [hang_up, reset, wait_for_the_end], ids=["FIN", "RST", "silence"])
@pytest.mark.parametrize("sent", CUT.values(), ids=list(CUT))
async def test_a_whole_refresh_token_in_half_an_answer_is_saved(issuer: Open, sent: bytes, then: Reply) -> None:
    """It is the only copy: the token it was given for is spent."""
    async with fault_server(bytes_only(sent, then=then)) as server:
        outcome = await issuer(0.3).send(refresh(server.url()))
    assert outcome == Answer(200, HALF_WITH_TOKEN)
    verdict = classify(outcome, now=0)
    assert isinstance(verdict, Granted)
    assert verdict.tokens.refresh_token == Secret("new-refresh")
    assert verdict.tokens.access_token == Secret("new-access")
    assert verdict.tokens.id_token is None


async def test_half_a_refresh_token_is_not_mistaken_for_one(issuer: Open) -> None:
    half = TOKENS[: TOKENS.index(b"new-refresh") + 5]
    async with fault_server(bytes_only(OK + b"Content-Length: 1000\r\n\r\n" + half)) as server:
        outcome = await issuer().send(refresh(server.url()))
    assert outcome == Answer(200, half)
    assert classify(outcome, now=0) == Unknown("unreadable_answer")


async def test_an_answer_without_length_that_is_cut_is_judged_by_what_is_in_it(issuer: Open) -> None:
    """Nothing on the wire tells that it is not whole."""
    async with fault_server(bytes_only(OK + b"\r\n" + HALF_WITH_TOKEN)) as server:
        outcome = await issuer().send(refresh(server.url()))
    assert outcome == Answer(200, HALF_WITH_TOKEN)
    assert isinstance(classify(outcome, now=0), Granted)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_cut_compressed_answer_is_judged_by_what_came_out_of_it(issuer: Open, encoding: str) -> None:
    large = TOKENS[:-1] + b', "more": "' + bytes(range(32, 34)) * 20_000 + b'"}'
    packed = gzip.compress(large) if encoding == "gzip" else zlib.compress(large)
    head = OK + f"Content-Encoding: {encoding}\r\nContent-Length: {len(packed)}\r\n\r\n".encode()
    async with fault_server(bytes_only(head + packed[:-20])) as server:
        outcome = await issuer().send(refresh(server.url()))
    assert isinstance(outcome, Answer)
    verdict = classify(outcome, now=0)
    assert isinstance(verdict, Granted)
    assert verdict.tokens.refresh_token == Secret("new-refresh")


# -- answers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 400, 401, 403, 404, 429, 500, 503])
async def test_an_answer_is_its_status_body_and_retry_after(issuer: Open, status: int) -> None:
    reply = whole(status, b'{"error":"slow_down"}', Retry_After="120", Set_Cookie="a=b", X_Request_Id="1")
    async with fault_server(reply) as server:
        outcome = await issuer().send(refresh(server.url()))
    assert outcome == Answer(status, b'{"error":"slow_down"}', {"retry-after": "120"})


@pytest.mark.parametrize(
    ("sent", "body"),
    [
        (OK + b"Content-Length: 0\r\n\r\n", b""),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", b"{}"),
        (b"HTTP/1.0 200 OK\r\n\r\n{}", b"{}"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\n{}", b"{}"),
        (OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"{}"), b"{}"),
        (OK + b"Content-Encoding: unheard-of\r\n\r\n{}", b"{}"),
        (OK + b"\r\n\xef\xbb\xbf{}", b"\xef\xbb\xbf{}"),
    ],
    ids=["empty", "chunks", "HTTP/1.0", "after 100", "gzip", "unknown encoding", "byte order mark"],
)
async def test_every_shape_of_a_whole_answer_is_read(issuer: Open, sent: bytes, body: bytes) -> None:
    async with fault_server(bytes_only(sent)) as server:
        assert await issuer().send(refresh(server.url())) == Answer(200, body)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer_and_its_target_gets_nothing(issuer: Open, status: int) -> None:
    async with fault_server(whole()) as evil, fault_server(whole(status, Location=evil.url())) as server:
        assert await issuer().send(refresh(server.url())) == Answer(status, b"{}")
    assert evil.connections == []


async def test_an_answer_too_large_is_cut_off(issuer: Open) -> None:
    start = OK + b"Content-Length: 1000000000\r\n\r\n" + TOKENS[:-1]
    endless = drip(b"", 0, at_once=start)

    async def reply(connection: Connection) -> None:
        await endless(connection)
        while True:
            await connection.send(b" " * 65536)

    async with fault_server(reply) as server:
        outcome = await issuer().send(refresh(server.url()))
        await server.connections[0].has_ended()  # it noticed that nobody reads any more
    assert isinstance(outcome, Answer)
    assert 1024 * 1024 < len(outcome.body) < 1024 * 1024 + 300_000
    assert isinstance(classify(outcome, now=0), Granted)  # and still nothing that came is lost


async def test_an_answer_that_unpacks_to_a_thousand_times_its_size_is_cut_off(issuer: Open) -> None:
    packed = gzip.compress(bytes(50_000_000))
    assert len(packed) < 65536  # it comes in one piece
    head = OK + f"Content-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n".encode()
    async with fault_server(bytes_only(head + packed)) as server:
        outcome = await issuer().send(refresh(server.url()))
    assert len(getattr(outcome, "body", b"")) < 2_000_000


async def test_an_error_too_large_is_no_answer(issuer: Open) -> None:
    async with fault_server(whole(500, b" " * 2_000_000)) as server:
        assert await issuer().send(refresh(server.url())) == NoAnswer("read_error")


# -- time ----------------------------------------------------------------------------------------------------------


async def test_an_answer_that_drips_in_time_is_read(issuer: Open) -> None:
    async with fault_server(drip(b"{}", 0.01, at_once=OK + b"Content-Length: 2\r\n\r\n")) as server:
        assert await issuer().send(refresh(server.url())) == Answer(200, b"{}")


@pytest.mark.parametrize(
    ("at_once", "expected"),
    [(b"", NoAnswer("timeout")), (b"HTTP/1.1 400 Bad\r\nContent-Length: 900\r\n\r\n", NoAnswer("timeout"))],
    ids=["headers", "body of an error"],
)
async def test_an_answer_that_drips_for_ever_is_cut_off_in_time(issuer: Open, at_once: bytes, expected: object) -> None:
    """Each byte comes in time: only the whole takes too long."""
    slow = drip(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000, 0.05, at_once=at_once)
    started = time.monotonic()
    async with fault_server(slow) as server:
        assert await issuer(0.3).send(refresh(server.url())) == expected
        await server.connections[0].has_ended()
    assert 0.3 <= time.monotonic() - started < 2


async def test_a_success_that_drips_for_ever_is_judged_by_what_has_come(issuer: Open) -> None:
    start = OK + b"Content-Length: 100000\r\n\r\n" + HALF_WITH_TOKEN
    async with fault_server(drip(b" " * 10_000, 0.05, at_once=start)) as server:
        outcome = await issuer(0.3).send(refresh(server.url()))
    assert isinstance(outcome, Answer)
    assert isinstance(classify(outcome, now=0), Granted)


async def test_an_answer_that_came_while_the_process_stood_still_is_read(issuer: Open) -> None:
    """A suspended process wakes with its time over and its answer in the socket: unread, a login would be lost."""
    received, standing_still, answered = threading.Event(), threading.Event(), threading.Event()

    def answer(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(65536)
            received.set()
            standing_still.wait()
            connection.sendall(OK + b"Content-Length: %d\r\n\r\n%b" % (len(TOKENS), TOKENS))
            answered.set()
            connection.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=answer, args=[listening])
        server.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/token"
        sending = asyncio.create_task(issuer(0.3).send(refresh(url)))
        await asyncio.to_thread(received.wait)
        standing_still.set()
        answered.wait()  # from here on the whole loop stands still
        over = time.monotonic() + 0.5
        while time.monotonic() < over:
            pass
        outcome = await sending
        server.join()
    assert outcome == Answer(200, TOKENS)


# -- what nobody expects -------------------------------------------------------------------------------------------


class Surprise(httpx.AsyncBaseTransport):
    """A library that fails as it never should, at some step."""

    def __init__(self, step: str | None) -> None:
        self._step = step

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._step is not None:
            await request.extensions["trace"](self._step, {})
        raise ValueError("the-refresh-token was in it")


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (None, NotSent("value_error")),
        ("connection.connect_tcp.complete", NotSent("value_error")),
        ("connection.start_tls.complete", NotSent("value_error")),
        ("http11.send_request_headers.started", NoAnswer("value_error")),
        ("http2.send_request_headers.started", NoAnswer("value_error")),
    ],
)
async def test_an_error_nobody_expects_is_judged_by_how_far_it_came(
    caplog: pytest.LogCaptureFixture, step: str | None, expected: object
) -> None:
    way_out = Issuer(timeout=10, transport=Surprise(step))
    assert await way_out.send(refresh("https://issuer.test/token")) == expected
    await way_out.close()
    assert [record.levelname for record in caplog.records if record.name == "service.issuer"] == ["ERROR"]


# -- callers that leave --------------------------------------------------------------------------------------------


async def test_who_is_cancelled_leaves_no_connection_behind(issuer: Open) -> None:
    accepted = asyncio.Event()

    async def reply(connection: Connection) -> None:
        accepted.set()
        await wait_for_the_end(connection)

    async with fault_server(reply) as server:
        sending = asyncio.create_task(issuer().send(refresh(server.url())))
        await accepted.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await server.connections[0].has_ended()


async def test_the_error_of_a_call_whose_caller_has_gone_is_not_told_by_the_loop() -> None:
    """The text of a library's error quotes the answer."""
    told: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(str(context)))
    await fail_and_be_cancelled("illegal status line: new-refresh")
    gc.collect()
    assert told == []


async def fail_and_be_cancelled(text: str) -> None:
    """A call whose caller is cancelled in the moment in which it fails."""

    class Transport(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            sending.cancel()
            raise httpx.RemoteProtocolError(text)

    way_out = Issuer(timeout=10, transport=Transport())
    sending = asyncio.create_task(way_out.send(refresh("https://issuer.test/token")))
    await asyncio.wait({sending})
    assert sending.cancelled()
    await way_out.close()
