"""Head and body are one packet, and no head waits for a body that does not come."""

import asyncio
from typing import cast

import pytest
from starlette.types import Receive, Scope, Send

from service.connection import Outbox
from tests.connection.raw import heard, opened
from tests.connection.served import LOOPS, answer, served, whole

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


class _Way:
    """A transport that keeps each piece it is given."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.write = self.pieces.append

    def is_closing(self) -> bool:
        return False


@pytest.fixture
def way() -> _Way:
    return _Way()


@pytest.fixture
def outbox(way: _Way) -> Outbox:
    return Outbox(cast(asyncio.Transport, way), lambda: None)


@pytest.mark.parametrize("body", [b"ok", b"", b"HTTP/1.1 200"])
def test_a_head_waits_for_its_body(way: _Way, outbox: Outbox, body: bytes) -> None:
    outbox.write(HEAD)
    assert way.pieces == []
    outbox.write(body)
    assert way.pieces == [HEAD + body]


def test_what_follows_is_sent_as_it_comes(way: _Way, outbox: Outbox) -> None:
    for piece in (HEAD, b"o", b"k", HEAD, b"ok"):
        outbox.write(piece)
    assert way.pieces == [HEAD + b"o", b"k", HEAD + b"ok"]


def test_leave_to_go_on_waits_for_nothing(way: _Way, outbox: Outbox) -> None:
    outbox.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert way.pieces == [b"HTTP/1.1 100 Continue\r\n\r\n"]


def test_a_head_that_nothing_follows_is_sent_once(way: _Way, outbox: Outbox) -> None:
    outbox.write(HEAD)
    outbox.flush()
    outbox.flush()
    assert way.pieces == [HEAD]


@pytest.mark.parametrize("loop", LOOPS)
def test_a_head_alone_is_an_answer(loop: str) -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await answer(send, b"ok")

    with served(app, loop) as port, opened(port, b"HEAD / HTTP/1.1\r\nTO_US\r\n\r\n") as connection:
        raw = connection.recv(1024)
        assert raw.startswith(b"HTTP/1.1 200 OK\r\n")
        assert raw.endswith(b"\r\n\r\n")
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert heard(connection, until=1).answers[0].content == b"ok"


@pytest.mark.parametrize("loop", LOOPS)
def test_what_breaks_after_its_head_has_sent_it(loop: str, caplog: pytest.LogCaptureFixture) -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        raise ZeroDivisionError

    with served(app, loop) as port, opened(port, b"GET / HTTP/1.1\r\nTO_US\r\n\r\n") as connection:
        raw = b"".join(iter(lambda: connection.recv(1024), b""))
    assert raw.startswith(b"HTTP/1.1 200 OK\r\n")
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("loop", LOOPS)
def test_a_client_that_asks_first_is_told_to_go_on(loop: str) -> None:
    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, await whole(receive) or b"")

    asked = b"POST / HTTP/1.1\r\nTO_US\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    with served(app, loop) as port, opened(port, asked) as connection:
        assert connection.recv(1024) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"{}")
        assert heard(connection, until=1).answers[0].content == b"{}"


@pytest.mark.parametrize("loop", LOOPS)
def test_pieces_come_while_others_are_still_being_made(loop: str) -> None:
    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"ab", "more_body": True})
        await receive()
        await send({"type": "http.response.body", "body": b"cd"})

    asked = b"POST / HTTP/1.1\r\nTO_US\r\nContent-Length: 2\r\n\r\n1"
    with served(app, loop) as port, opened(port, asked) as connection:
        raw = b""
        while not raw.endswith(b"\r\n\r\nab"):
            raw += connection.recv(1024)
        connection.sendall(b"2")
        assert connection.recv(1024) == b"cd"
