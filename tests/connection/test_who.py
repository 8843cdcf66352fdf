"""Each request knows who is at the other end of its connection, from the transport and never from what was sent."""

import asyncio
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from service.domain.caller import Peer
from service.peer import peer_of
from service.server import _Beside, _config
from tests.connection.raw import heard, ours, said
from tests.connection.served import LOOPS, answer, served
from tests.kit.stranger import NOBODY, stranger

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whose a connection is"),
]

ME = os.getuid()
GET = b"GET / HTTP/1.1\r\nTO_US\r\n"
CLAIMS = b"X-Forwarded-For: 10.9.8.7\r\nForwarded: for=10.9.8.7\r\nX-Real-IP: 10.9.8.7\r\nX-Peer: 0\r\n"


async def tells(scope: Any, receive: Any, send: Any) -> None:
    """Says who it takes the client for, and forgets it for the next request."""
    await answer(send, repr(scope["state"].pop("peer")).encode())


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_every_request_of_a_connection_has_its_peer(loop: str, host: str) -> None:
    with served(tells, loop, host) as port, socket.create_connection((host, port)) as client:
        for extra in (b"", CLAIMS, b""):
            client.sendall(ours(port, GET + extra + b"\r\n"))
            assert [one.text for one in heard(client, until=1).answers] == [repr(Peer(ME))]


@pytest.mark.parametrize("loop", LOOPS)
def test_two_users_are_told_apart(loop: str) -> None:
    seen: list[Peer] = []
    is_there = threading.Event()

    async def notes(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["state"]["peer"])
        await answer(send, b"")
        is_there.set()

    with served(notes, loop) as port, stranger() as nobody:
        nobody.connect("127.0.0.1", port, say=ours(port, GET + CLAIMS + b"\r\n").decode())
        assert is_there.wait(10)
        assert said(port, GET + b"\r\n", until=1).statuses == [200]
    assert seen == [Peer(NOBODY), Peer(ME)]


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_who_does_not_wait_for_the_answer_is_nobody(leave: str) -> None:
    """As long as he leaves before we look; else he is who he is. He is never taken for root (F13)."""
    seen: list[Peer] = []

    async def notes(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["state"]["peer"])
        await answer(send, b"")

    with served(notes) as port, stranger() as nobody:
        for _ in range(20):
            nobody.connect("127.0.0.1", port, times=10, say=ours(port, GET + b"\r\n").decode(), leave=leave)
        assert said(port, GET + b"\r\n", until=1).statuses == [200]
    assert set(seen) <= {Peer(), Peer(NOBODY), Peer(ME)}
    assert seen.count(Peer(ME)) == 1


@pytest.mark.parametrize("loop", LOOPS)
def test_a_unix_socket_tells_its_peer(loop: str, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(path)
        listener.listen()
        server = _Beside(_config(tells, lifespan="off"))
        thread = threading.Thread(target=LOOPS[loop], args=(server.serve([listener]),))
        thread.start()
        client.connect(path)
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert [one.text for one in heard(client, until=1).answers] == [repr(Peer(ME, is_unix=True))]
        server.should_exit = True
        thread.join()


async def test_a_transport_that_is_gone_has_no_peer() -> None:
    listening = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
    sock = writer.get_extra_info("socket")
    writer.transport.abort()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert peer_of(sock) == Peer()
    listening.close()
    assert reader is not None
