"""A small application behind our listener and protocol, in a thread with a loop of its own."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import uvloop
from starlette.types import ASGIApp

from service.server import _Beside, _config, listen

LOOPS: dict[str, Callable[..., None]] = {"uvloop": uvloop.run, "asyncio": asyncio.run}


@contextlib.contextmanager
def served(app: ASGIApp, loop: str = "uvloop", host: str = "127.0.0.1") -> Iterator[int]:
    """The port where it is served. It ends in good order with the context."""
    sockets = listen(host, 0)
    server = _Beside(_config(app, lifespan="off"))
    thread = threading.Thread(target=LOOPS[loop], args=(server.serve(sockets),))
    thread.start()
    try:
        yield int(sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()


async def whole(receive: Any) -> bytes | None:
    """The body; None if it did not come."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message["body"]
        if not message["more_body"]:
            return bytes(body)


async def answer(send: Any, body: bytes, status: int = 200) -> None:
    """A plain answer."""
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
