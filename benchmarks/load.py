"""Callers: wrk where it is installed, else our own. Ours also tells how long each answer took."""

import asyncio
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvloop

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)

HAS_WRK = shutil.which("wrk") is not None


class Caller(asyncio.Protocol):
    """One kept-alive connection. `took`: seconds of each answer."""

    def __init__(self, path: str, port: int) -> None:
        self._request = f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode()
        self._buffer = b""
        self._done = asyncio.get_running_loop().create_future()
        self.took: list[float] = []

    def connection_made(self, transport: Any) -> None:
        """Ready to ask."""
        self._transport = transport

    def ask(self, until: float = 0.0) -> asyncio.Future[None]:
        """Ask once, and then again and again `until` that reading of the clock."""
        self._until, self._began = until, time.perf_counter()
        self._transport.write(self._request)
        return self._done

    def data_received(self, data: bytes) -> None:
        """Count the answer once it is whole."""
        self._buffer += data
        head, _, body = self._buffer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if length is None or len(body) < int(length[1]):
            return
        self.took.append(time.perf_counter() - self._began)
        self._buffer = b""
        if not head.startswith(b"HTTP/1.1 200"):
            self._done.set_exception(RuntimeError(head.partition(b"\r\n")[0].decode()))
        elif self._began < self._until:
            self.ask(self._until)
        else:
            self._done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """No answer will come any more."""
        if not self._done.done():
            self._done.set_exception(exc or ConnectionError("closed before the answer"))


@asynccontextmanager
async def callers(port: int, path: str, count: int) -> AsyncIterator[list[Caller]]:
    """Connected callers, which have not asked yet."""
    loop = asyncio.get_running_loop()
    pairs = [await loop.create_connection(lambda: Caller(path, port), "127.0.0.1", port) for _ in range(count)]
    try:
        yield [caller for _, caller in pairs]
    finally:
        for transport, _ in pairs:
            transport.abort()


async def times(port: int, path: str, connections: int, seconds: float) -> list[float]:
    """Seconds of each answer, in ascending order, with every connection asking without a pause."""
    async with callers(port, path, connections) as all_:
        until = time.perf_counter() + seconds
        await asyncio.gather(*(caller.ask(until) for caller in all_))
        return sorted(one for caller in all_ for one in caller.took)


def rate(port: int, path: str, connections: int, seconds: int) -> float:
    """Requests per second. Raises RuntimeError when one is not answered 200."""
    if not HAS_WRK:
        return len(uvloop.run(times(port, path, connections, seconds))) / seconds
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"http://127.0.0.1:{port}{path}"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"Requests/sec:\s+([\d.]+)", said)
    if found is None or "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"{path}: {said}")
    return float(found[1])
