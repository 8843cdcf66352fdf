"""Exactly one refresh in a process of its own, which waits to be told before it begins: so that strace can attach.

Promises the real wiring, broker, store and way out, on the event loop of the server unless asked for the other one. Two
constants are turned down: one thread for the store, because strace counts calls for each thread apart, and hardly a
pause between two tries to store a pair.
"""

import asyncio
import ctypes
from multiprocessing.connection import Connection
from typing import Any, Final

import anyio._backends._asyncio  # noqa: F401 - else the first request would import it, and reads would be many
import uvloop

from service.app import Application, create_app
from service.broker import refresher
from service.domain.errors import AuthError
from service.settings import Settings
from service.store import database
from tests.crash.scene import REJECTED

LOOPS: Final = {"uvloop": uvloop.run, "asyncio": asyncio.run}

_PR_SET_PTRACER: Final = 0x59616D61
_ANYBODY: Final = ctypes.c_ulong(-1)


def refresh(values: dict[str, Any], loop: str, line: Connection) -> None:
    """Open what is there, refresh generation 1, close. Tells the generation served, or the code of an error."""
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANYBODY, 0, 0, 0)  # else Yama lets nobody but an ancestor trace us
    vars(database)["_THREADS"] = 1
    vars(refresher)["_SAVE_AGAIN"] = 0.02
    line.send(LOOPS[loop](_refresh(values, line)))


async def _refresh(values: dict[str, Any], line: Connection) -> int | str:
    app = create_app(Settings(**values), port=1455)
    line.send("ready")
    line.recv()
    try:
        return await _served(app)
    finally:
        await app.close()


async def _served(app: Application) -> int | str:
    try:
        grant = await app.services.broker.token("default", REJECTED)
    except AuthError as exc:
        return exc.code
    return grant.generation
