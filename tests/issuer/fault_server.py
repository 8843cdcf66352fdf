"""An issuer on a real loopback socket that answers as it is told, byte by byte, or breaks off.

It reads one request a connection, keeps every byte it was sent, and then lets a `Reply` do what it likes.
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

Reply = Callable[["Connection"], Awaitable[None]]


@dataclass
class Connection:
    """One client: where it came from, and all that it has sent so far."""

    peer: tuple[str, int]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    received: bytearray = field(default_factory=bytearray)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def read_request(self) -> None:
        """One whole request: head, and the body it announces. Stops at the end of the stream."""
        with suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = await self.reader.readuntil(b"\r\n\r\n")
            self.received += head
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            self.received += await self.reader.readexactly(int(lengths[0].partition(b":")[2]) if lengths else 0)

    async def has_ended(self) -> None:
        """Wait until one of the two sides has closed it; never for ever."""
        async with asyncio.timeout(10):
            await self.ended.wait()

    async def send(self, data: bytes) -> None:
        """Send it now."""
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Close with RST, not FIN."""
        bare: socket.socket = self.writer.get_extra_info("socket")
        bare.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class FaultServer:
    """Every connection it accepted, and how it answers them."""

    def __init__(self, reply: Reply, *, reads: bool) -> None:
        self.reply = reply
        self.connections: list[Connection] = []
        self.now_open = 0
        self.most_open = 0
        self.port = 0
        self._reads = reads

    @property
    def requests(self) -> list[bytes]:
        """What each connection was sent."""
        return [bytes(each.received) for each in self.connections]

    def url(self, path: str = "/token", scheme: str = "http", host: str = "127.0.0.1") -> str:
        """An address here."""
        return f"{scheme}://{host}:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        connection = Connection(writer.get_extra_info("peername")[:2], reader, writer)
        self.connections.append(connection)
        self.now_open += 1
        self.most_open = max(self.most_open, self.now_open)
        try:
            if self._reads:
                await connection.read_request()
            await self.reply(connection)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client has left, or the test is over
        finally:
            self.now_open -= 1
            connection.ended.set()
            writer.close()


@asynccontextmanager
async def fault_server(
    reply: Reply, *, tls: ssl.SSLContext | None = None, reads: bool = True
) -> AsyncIterator[FaultServer]:
    """A running one. reads: whether it reads a request before it replies."""
    faults = FaultServer(reply, reads=reads)
    server = await asyncio.start_server(faults.serve, "127.0.0.1", 0, ssl=tls)
    faults.port = server.sockets[0].getsockname()[1]
    try:
        yield faults
    finally:
        server.close()
        for connection in faults.connections:
            connection.writer.transport.abort()


# -- replies -------------------------------------------------------------------------------------------------------


def whole(status: int = 200, body: bytes = b"{}", **headers: str) -> Reply:
    """A complete answer; the connection stays usable."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return bytes_only("\r\n".join([*lines, "", ""]).encode() + body, then=wait_for_the_end)


async def wait_for_the_end(connection: Connection) -> None:
    """Until the client closes."""
    while more := await connection.reader.read(65536):
        connection.received += more


async def hang_up(connection: Connection) -> None:
    """FIN."""


async def reset(connection: Connection) -> None:
    """RST."""
    connection.reset()


def bytes_only(data: bytes, *, then: Reply = hang_up) -> Reply:
    """These bytes, then something else."""

    async def reply(connection: Connection) -> None:
        await connection.send(data)
        await then(connection)

    return reply


def drip(data: bytes, every: float, *, at_once: bytes = b"") -> Reply:
    """One byte after the other."""

    async def reply(connection: Connection) -> None:
        await connection.send(at_once)
        for byte in data:
            await connection.send(bytes([byte]))
            await asyncio.sleep(every)

    return reply
