"""A TCP proxy between services and issuer that breaks things, and knows exactly which answer it has destroyed.

One link for each replica, so that who sent what is known. Reads a request and the issuer's answer whole before it
decides what the service gets to see: the history holds the truth even where neither side can know it.
"""

import asyncio
import json
import random
import re
import socket
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urlsplit

from tests.soak.history import History, Sent, hashed

RATES: Mapping[str, float] = {
    "reset": 0.02,  # before the issuer sees the request
    "swallow": 0.005,  # likewise, and the service waits for its time limit
    "drop": 0.003,  # the answer is gone, and the login with it: the issuer is strict
    "cut": 0.006,  # somewhere in the answer: the login is gone unless the refresh token was whole
    "delay": 0.05,
    "slice": 0.05,
}
"""How often what befalls a refresh."""

_DELAY = 1.5
"""Seconds at most: less than a service waits, or the answer would be destroyed by it."""

_TOKEN = re.compile(rb'"refresh_token"\s*:\s*"[^"]+"')
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class Link:
    """One replica's way to the issuer: a port that stays its own, also while nobody listens there."""

    def __init__(self, proxy: "Proxy", slot: int) -> None:
        self._proxy = proxy
        self._slot = slot
        self._place = _bound(0)
        self._listening: socket.socket | None = None
        self.port: int = self._place.getsockname()[1]
        self.busy = asyncio.Event()
        """Set while a refresh of this replica is under way."""

    @property
    def url(self) -> str:
        """The issuer, as this replica is told."""
        return f"http://127.0.0.1:{self.port}"

    def open(self) -> None:
        """Let connections in."""
        self._listening = _bound(self.port)
        self._listening.setblocking(False)
        self._listening.listen(100)
        asyncio.get_running_loop().add_reader(self._listening, self._accept, self._listening)

    def refuse(self) -> None:
        """From now on connections are refused; those there are go on, also those that nobody has looked at yet."""
        if self._listening is None:
            return
        asyncio.get_running_loop().remove_reader(self._listening)
        self._accept(self._listening)
        self._listening.close()
        self._listening = None

    def close(self) -> None:
        """Give the port back."""
        self.refuse()
        self._place.close()

    def _accept(self, listening: socket.socket) -> None:
        with suppress(BlockingIOError):
            while True:
                self._proxy.carry(self, self._slot, listening.accept()[0])


class Proxy:
    """All links to one issuer, and whose tokens travel there."""

    def __init__(self, issuer: str, history: History, rates: Mapping[str, float], seed: int) -> None:
        """rates: RATES, or less."""
        self._issuer = urlsplit(issuer)
        self._history = history
        self._rates = rates
        self._random = random.Random(f"{seed} proxy")
        self._tokens: dict[str, tuple[str, int]] = {}
        self._open: set[asyncio.Task[None]] = set()

    def know(self, label: str, refresh_token: str, ordinal: int = 0) -> None:
        """A refresh token exists, and this is whose."""
        self._tokens[hashed(refresh_token)] = label, ordinal

    def heal(self) -> None:
        """From now on everything passes."""
        self._rates = {}

    def carry(self, link: Link, slot: int, connection: socket.socket) -> None:
        """One connection, one request, in the background."""
        task = asyncio.create_task(self._carried(link, slot, connection))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def stop(self) -> None:
        """End what is still open."""
        for task in self._open:
            task.cancel()
        if self._open:
            await asyncio.wait(self._open)

    async def _carried(self, link: Link, slot: int, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            if request := await _message(reader):
                await self._answered(link, slot, request, reader, writer)
        except ConnectionError:
            pass  # the service has died or stopped waiting: the history knows when it sent
        except Exception as exc:  # noqa: BLE001 - whatever it is, it must fail the soak
            self._history.errors.append(f"proxy: {exc!r}")
        finally:
            writer.close()

    async def _answered(
        self, link: Link, slot: int, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        given = json.loads(request.partition(b"\r\n\r\n")[2])
        if given.get("grant_type") != "refresh_token":  # a revocation: not what this is about
            writer.write(await self._forwarded(request))
            await writer.drain()
            return
        label, ordinal = self._tokens[hashed(given["refresh_token"])]
        sent = Sent(slot, label, ordinal, time.monotonic(), fault=self._drawn())
        self._history.sent.append(sent)
        link.busy.set()
        try:
            await self._befallen(sent, request, reader, writer)
        finally:
            link.busy.clear()
            sent.until = time.monotonic()

    def _drawn(self) -> str:
        point = self._random.random()
        for name, rate in self._rates.items():
            point -= rate
            if point < 0:
                return name
        return ""

    async def _befallen(
        self, sent: Sent, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        sent.destroyed = sent.fault in ("reset", "swallow", "drop")
        if sent.fault == "swallow":
            await reader.read()
        if sent.fault in ("reset", "swallow"):
            _reset(writer)
            return
        answer = await self._forwarded(request)
        self._learn(sent, answer)
        if sent.fault == "drop":
            _reset(writer)
            return
        if sent.fault == "cut":
            answer = answer[: self._random.randrange(len(answer))]
            sent.destroyed = _TOKEN.search(answer) is None
        if sent.fault == "delay":
            await asyncio.sleep(self._random.uniform(0.1, _DELAY))
        size = max(1, len(answer) // 50) if sent.fault == "slice" else len(answer)
        for start in range(0, len(answer), max(1, size)):
            writer.write(answer[start : start + size])
            await writer.drain()
            await asyncio.sleep(0.01 if sent.fault == "slice" else 0)

    async def _forwarded(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(self._issuer.hostname, self._issuer.port)
        try:
            writer.write(request)
            return await _message(reader)
        finally:
            writer.close()

    def _learn(self, sent: Sent, answer: bytes) -> None:
        head, _, body = answer.partition(b"\r\n\r\n")
        sent.status = int(head.split(None, 2)[1])
        if sent.status == 200:
            tokens = json.loads(body)
            sent.granted = hashed(tokens["access_token"])
            self.know(sent.label, tokens["refresh_token"], sent.ordinal + 1)


async def _message(reader: asyncio.StreamReader) -> bytes:
    """A whole request or answer; empty if the other side has gone before it was whole."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        return head + await reader.readexactly(int(length[1]) if length else 0)
    except asyncio.IncompleteReadError:
        return b""


def _bound(port: int) -> socket.socket:
    """A socket on a port that others of ours may share: connections go to the one that listens, if one does."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", port))
    return made


def _reset(writer: asyncio.StreamWriter) -> None:
    """RST instead of FIN."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
