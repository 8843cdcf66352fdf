"""Bytes to a service and from it, without a library that tidies them up."""

import re
import socket
import time
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx

from tests.kit.processes import Process


def port_of(service: Process | int) -> int:
    """Where it listens."""
    port = service if isinstance(service, int) else urlsplit(service.url).port
    assert port is not None
    return port


class Heard(NamedTuple):
    """All that came back. `is_closed`: the service has closed; `is_reset`: so that something may have been lost."""

    answers: list[httpx.Response]
    is_closed: bool
    is_reset: bool = False

    @property
    def statuses(self) -> list[int]:
        """Of the answers, in order."""
        return [answer.status_code for answer in self.answers]


def ours(service: Process | int, raw: bytes) -> bytes:
    """A request for this service: TO_US becomes its Host header."""
    return raw.replace(b"TO_US", b"Host: localhost:%d" % port_of(service))


def opened(service: Process | int, raw: bytes = b"") -> socket.socket:
    """A connection on which that was sent."""
    connection = socket.create_connection(("127.0.0.1", port_of(service)), 10)
    connection.sendall(ours(service, raw))
    return connection


def heard(connection: socket.socket, *, until: int = 1000, within: float = 10) -> Heard:
    """What comes back until there are so many answers, it is closed, or the seconds are over."""
    deadline, raw = time.monotonic() + within, b""
    while len(answers := _answers(raw)) < until and (left := deadline - time.monotonic()) > 0:
        connection.settimeout(left)
        try:
            piece = connection.recv(1 << 20)
        except TimeoutError:
            break
        except ConnectionError:
            return Heard(answers, is_closed=True, is_reset=True)
        if not piece:
            return Heard(answers, is_closed=True)
        raw += piece
    return Heard(answers, is_closed=False)


def said(service: Process | int, raw: bytes, *, until: int = 1000, within: float = 10) -> Heard:
    """What comes back for these bytes."""
    with opened(service, raw) as connection:
        return heard(connection, until=until, within=within)


def _answers(raw: bytes) -> list[httpx.Response]:
    found = []
    while b"\r\n\r\n" in raw:
        head, _, rest = raw.partition(b"\r\n\r\n")
        line, *lines = head.split(b"\r\n")
        status = re.fullmatch(rb"HTTP/1\.1 (\d{3}) .*", line)
        assert status, line
        headers = [(name, value) for name, _, value in (one.partition(b": ") for one in lines)]
        length = int(httpx.Headers(headers).get("content-length", "0"))
        if len(rest) < length:
            break
        if int(status[1]) != 100:
            found.append(httpx.Response(int(status[1]), headers=headers, content=rest[:length]))
        raw = rest[length:]
    return found


def memory(process: Process) -> int:
    """Resident bytes."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


def descriptors(process: Process) -> int:
    """How many it has open."""
    return sum(1 for _ in Path(f"/proc/{process.pid}/fd").iterdir())
