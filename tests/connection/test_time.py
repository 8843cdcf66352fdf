"""How long a connection may take: over what is sent, over what is not, and over what is not read."""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from service import connection, server
from tests.connection.raw import descriptors, heard, opened, ours, said
from tests.connection.served import LOOPS, answer, served, whole
from tests.kit.processes import Process
from tests.kit.stranger import stranger

pytestmark = pytest.mark.long

GET = b"GET / HTTP/1.1\r\nTO_US\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nTO_US\r\n"

HALF: dict[str, bytes] = {
    "nothing": b"",
    "an empty line": b"\r\n",
    "half a request line": b"GET /tok",
    "half the headers": b"GET / HTTP/1.1\r\nTO_US\r\nX: ",
    "half a body": POST + b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{",
    "half a chunk": POST + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n100\r\n{",
    "half the trailers": POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: ",
    "an empty line after a request": GET + b"\r\n",
    "half a request line after a request": GET + b"GET /tok",
    "half a body after a request": GET + POST + b"Content-Length: 1000\r\n\r\n{",
    "half a body that was refused": POST + b"X-Early: yes\r\nContent-Length: 1000\r\n\r\n{",
    "a refusal and more": b"hello\r\n\r\n",
}


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers what it has read; at once if it is told `X-Early`, late at `/slow`, and much at `/large`."""
    if scope["path"] == "/slow":
        await asyncio.sleep(1)
    elif scope["path"] == "/large":
        await answer(send, bytes(20_000_000))
        return
    if (b"x-early", b"yes") in scope["headers"]:
        await answer(send, b"early", 403)
    elif (body := await whole(receive)) is not None:
        await answer(send, body)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadline that a test can wait for."""
    monkeypatch.setattr(connection, "REQUEST_WITHIN", 0.5)


@pytest.fixture(params=LOOPS)
def port(request: pytest.FixtureRequest, hasty: None) -> Iterator[int]:
    with served(app, request.param) as port:
        yield port


def until_closed(client: socket.socket, each: Callable[[], None] = lambda: None) -> float:
    """Seconds until the other end is gone for good: until nobody takes what we send any more."""
    began = time.monotonic()
    while time.monotonic() - began < 15:
        each()
        try:
            client.send(b"a")
        except (BrokenPipeError, ConnectionResetError):
            return time.monotonic() - began
        time.sleep(0.02)  # a trickle
    raise AssertionError("never closed")


@pytest.mark.parametrize("kind", HALF)
def test_half_a_request_is_not_waited_for_however_it_trickles(port: int, kind: str) -> None:
    with opened(port, HALF[kind]) as client:
        assert 0.4 < until_closed(client) < 3


def test_an_answer_may_take_longer_than_a_request(port: int) -> None:
    assert said(port, GET.replace(b"/ ", b"/slow "), until=1).statuses == [200]


def test_who_sends_half_a_request_too_early_gets_the_answer_to_the_first(port: int) -> None:
    began = time.monotonic()
    back = said(port, GET.replace(b"/ ", b"/slow ") + b"GET /half")
    assert (back.statuses, back.is_closed) == ([200], True)
    assert time.monotonic() - began > 1.4, "its time begins when the first answer is there"


def test_the_second_request_of_a_connection_has_its_own_time(port: int) -> None:
    with opened(port, GET) as client:
        for _ in range(3):
            assert heard(client, until=1).statuses == [200]
            assert not heard(client, within=0.3).is_closed
            client.sendall(ours(port, GET[:10]))
            assert not heard(client, within=0.3).is_closed
            client.sendall(ours(port, GET[10:]))
        assert heard(client, until=1).statuses == [200]
        back = heard(client, within=1)
        assert not back.is_closed, "idle, it is kept"


def test_half_a_body_is_not_given_for_a_whole_one(hasty: None) -> None:
    bodies: list[bytes | None] = []

    async def reads(scope: Any, receive: Any, send: Any) -> None:
        bodies.append(await whole(receive))
        await answer(send, b"read")

    with served(reads) as port:
        for raw in (
            b"Content-Length: 10\r\n\r\nhalf",
            b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
            b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalfzz",
        ):
            assert said(port, POST + raw).statuses == ([400] if b"zz" in raw else [])
    assert bodies == [None] * 4


def test_who_has_sent_all_that_he_will_still_gets_the_answers(port: int) -> None:
    slow = GET.replace(b"/ ", b"/slow ")
    body = POST + b"Content-Length: 4\r\n\r\nbody"
    for raw, statuses in ((slow, [200]), (slow + GET + body, [200] * 3), (slow + GET + b"no\r\n", [200, 200, 400])):
        with opened(port, raw) as client:
            client.shutdown(socket.SHUT_WR)
            back = heard(client, within=2)
            assert (back.statuses, back.is_closed, back.is_reset) == (statuses, True, False)


def test_who_ends_in_the_middle_is_not_answered(port: int) -> None:
    for kind, raw in HALF.items():
        with opened(port, raw) as client:
            client.shutdown(socket.SHUT_WR)
            back = heard(client, within=3)
            assert back.is_closed, kind


def test_an_early_answer_says_that_it_is_the_last(port: int) -> None:
    early = POST + b"X-Early: yes\r\nContent-Length: 1000000\r\n\r\n"
    with opened(port, early) as client:
        for _ in range(10):
            client.sendall(b" " * 100_000)
        back = heard(client)
    assert (back.statuses, back.is_closed, back.is_reset) == ([403], True, False)
    assert back.answers[0].headers["connection"] == "close"
    back = said(port, early.replace(b"1000000", b"4") + b"body" + GET, until=2)
    assert (back.statuses, back.is_closed) == ([403, 200], False)
    assert "connection" not in back.answers[0].headers


def test_half_a_request_does_not_hold_up_the_end_of_the_service() -> None:
    with served(app) as port:
        clients = [opened(port, raw) for raw in HALF.values() if POST not in raw]
        assert all(heard(client, within=0.1).statuses in ([], [200], [400], [403]) for client in clients)
        began = time.monotonic()
    assert time.monotonic() - began < 4
    for client in clients:
        client.close()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this platform has no such thing")
@pytest.mark.parametrize("loop", LOOPS)
def test_who_does_not_read_is_not_waited_for(
    loop: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lost = threading.Event()

    class Seen(connection.Connection):
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            lost.set()

    monkeypatch.setattr(server, "_UNREAD", 1)
    monkeypatch.setattr(server, "Connection", Seen)
    with served(app, loop) as port, opened(port, GET.replace(b"/ ", b"/large ")):
        assert not lost.wait(0.8)
        assert lost.wait(10), "it is kept for ever"
    assert not caplog.records


@pytest.mark.parametrize("loop", LOOPS)
def test_what_was_accepted_has_the_time_of_the_listener(loop: str) -> None:
    found: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"")

    class Seen(connection.Connection):
        def connection_made(self, transport: Any) -> None:
            sock = transport.get_extra_info("socket")
            found.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))
            super().connection_made(transport)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "Connection", Seen)
        with served(app, loop) as port:
            said(port, GET, until=1)
    assert found == [20_000]


# the real thing


def test_three_hundred_of_each_kind_are_closed_while_others_are_answered(service: Process) -> None:
    kinds = [HALF[kind] for kind in ("nothing", "half a request line", "half the headers", "half a body")]
    service.client.get("/token")
    before, took, is_over = descriptors(service), [], threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            began = time.monotonic()
            assert service.client.get("/token").status_code == 200
            took.append(time.monotonic() - began)
            is_over.wait(0.01)

    asking = threading.Thread(target=ask)
    asking.start()
    began = time.monotonic()
    with stranger(os.getuid()) as a, stranger(os.getuid()) as b:
        for client, pair in ((a, kinds[:2]), (b, kinds[2:])):
            for raw in pair:
                client.connect(
                    "127.0.0.1", int(service.url.rpartition(":")[2]), times=300, say=ours(service, raw).decode()
                )
        opened_after = time.monotonic()
        while descriptors(service) < before + 1200:
            assert time.monotonic() < opened_after + 6, "not all were let in"
            time.sleep(0.05)
        let_in_after = time.monotonic()
        assert a.closed(15) == b.closed(15) == 600
        while descriptors(service) > before and time.monotonic() < opened_after + 15:
            time.sleep(0.05)
        closed_after = time.monotonic()
    is_over.set()
    asking.join()
    took.sort()
    print(
        f"p99 {took[int(len(took) * 0.99)] * 1000:.0f} ms of {len(took)} answers, "
        f"all closed {closed_after - began:.1f} s after the first was opened"
    )
    assert closed_after - let_in_after < 10
    assert descriptors(service) == before


def test_an_idle_connection_and_a_long_answer_outlive_the_deadline(service: Process) -> None:
    healthz = b"GET /healthz HTTP/1.1\r\nTO_US\r\n\r\n"
    login = service.client.post("/login", json={"account": "waiting", "flow": "device"}).json()["id"]
    wait = healthz.replace(b"healthz", f"login/{login}?wait=12".encode())
    with opened(service, healthz) as idle, opened(service, wait) as waiting:
        assert heard(idle, until=1).statuses == [200]
        assert not heard(idle, within=10).is_closed
        idle.sendall(ours(service, healthz))
        assert heard(idle, until=1).statuses == [200]
        assert heard(waiting, until=1, within=15).statuses == [200]
        back = heard(idle, within=25)
        assert (back.is_closed, back.is_reset) == (True, False)
    service.client.delete(f"/login/{login}")
