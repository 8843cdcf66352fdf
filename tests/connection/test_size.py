"""How much a connection may send: what is too much is let go by, and leaves nothing in memory."""

import itertools
import socket
from collections.abc import Iterator

import pytest

from tests.connection.raw import descriptors, heard, memory, opened, ours
from tests.kit.processes import Process

pytestmark = pytest.mark.long

POST = b"POST /logout HTTP/1.1\r\nTO_US\r\n"
JSON = b"Content-Type: application/json\r\n"
CHUNKED = POST + JSON + b"Transfer-Encoding: chunked\r\n\r\n"
LONG = POST + JSON + b"Content-Length: 900000000\r\n\r\n"
FILL = b"a" * 1_000_000

ENDLESS: dict[str, tuple[bytes, bytes, int]] = {
    "a value": (b"GET /token HTTP/1.1\r\nTO_US\r\nX: ", FILL, 431),
    "a name": (b"GET /token HTTP/1.1\r\nTO_US\r\n", FILL, 431),
    "headers": (b"GET /token HTTP/1.1\r\nTO_US\r\n", b"a: b\r\n" * 160_000, 431),
    "long headers": (b"GET /token HTTP/1.1\r\nTO_US\r\n", (b"X: " + b"a" * 30_000 + b"\r\n") * 33, 431),
    "a target": (b"GET /", FILL, 431),
    "a method": (b"", FILL, 400),
    "empty lines": (b"", b"\r\n" * 500_000, 400),
    "a body": (LONG, FILL, 413),
    "a chunked body": (CHUNKED, b"f4240\r\n" + FILL + b"\r\n", 413),
    "a chunk": (CHUNKED + b"fffffff\r\n", FILL, 413),
    "small chunks": (CHUNKED, b"1\r\na\r\n" * 160_000, 413),
    "a chunk's size": (CHUNKED, b"0" * 1_000_000, 400),
    "a chunk's extension": (CHUNKED + b"1;", FILL, 400),
    "a trailer": (CHUNKED + b"0\r\nX: ", FILL, 400),
    "trailers": (CHUNKED + b"0\r\n", b"a: b\r\n" * 160_000, 400),
    "a body after its refusal": (LONG.replace(b"TO_US", b"Host: evil"), FILL, 421),
    "anything after a refusal": (b"hello\r\n\r\n", FILL, 400),
    "requests": (b"", b"GET /healthz HTTP/1.1\r\nTO_US\r\n\r\n" * 20_000, 400),
    "another protocol": (b"GET /healthz HTTP/1.1\r\nTO_US\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", FILL, 200),
}


def poured(service: Process, kind: str, megabytes: int) -> Iterator[int]:
    """Send it and read the answer; the service's memory now and then."""
    head, more, status = ENDLESS[kind]
    with opened(service, head) as client:
        piece = ours(service, more)
        for _ in range(megabytes):
            client.sendall(piece)
            yield memory(service)
        client.shutdown(socket.SHUT_WR)
        back = heard(client)
        assert (back.statuses[-1], back.is_closed, back.is_reset) == (status, True, False)


@pytest.fixture(scope="module")
def warm(service: Process) -> Process:
    """A service that has seen a little of everything: what it needs for that, it has."""
    for kind in itertools.chain(ENDLESS, ENDLESS):
        list(poured(service, kind, 2))
    return service


@pytest.mark.parametrize("kind", ENDLESS)
def test_fifty_megabytes_leave_nothing_in_memory(warm: Process, kind: str) -> None:
    before, files = memory(warm), descriptors(warm)
    most = max(poured(warm, kind, 50))
    assert most - before < 8_000_000
    assert warm.client.get("/status").json()["authenticated"]
    assert descriptors(warm) <= files + 1


def test_nothing_of_it_is_in_the_log(warm: Process) -> None:
    log = warm.log.read_text()
    assert "aaaa" not in log
    assert not [line for line in log.splitlines() if " warning " in line or " error " in line]


@pytest.mark.parametrize("query", [b"", b"?account=default"])
@pytest.mark.parametrize("more", [b"a: b\r\n" * 101, b"X: " + FILL[:40_000] + b"\r\n", b"Content-Length: 1\r\n" * 2])
def test_a_proxy_is_told_403_even_of_what_cannot_be_read(service: Process, query: bytes, more: bytes) -> None:
    with opened(service, b"GET /forward-auth" + query + b" HTTP/1.1\r\nTO_US\r\n" + more + b"\r\n") as client:
        back = heard(client)
    assert back.statuses == [403]
    assert back.answers[0].json()["status"] == 403
    assert back.answers[0].json()["code"] in ("headers_too_large", "malformed_request")
