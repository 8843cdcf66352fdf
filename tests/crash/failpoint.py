"""The ordinary service with failpoints: `python -m tests.crash.failpoint POINT[,POINT...] ACTION serve`.

Promises that nothing is different until the n-th refresh comes to the n-th point, and that then one thing happens:
`stop` (the process stops itself), `hold` (the refresh waits for SIGUSR1, the service goes on) or `fail` (memory runs
out). Points are calls across seams of the product, which is not changed for it: subclasses stand in for the store, the
issuer and the broker, and a transport around the network reports how far a request has come.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

import httpx

from service import app, cli, issuer
from service.broker.broker import Broker, Grant
from service.domain.credential import Attempt, Credential
from service.domain.decide import Wish
from service.issuer import Issuer
from service.oauth.wire import Outcome, Request
from service.store.store import Store

POINTS: Final = (
    "before_claim",
    "after_claim",
    "after_reload",  # rule I3: the row was read again, nothing else stands between here and the request
    "before_send",
    "headers_sent",
    "request_sent",
    "answer_begun",  # its headers are read, its body is not
    "answer_read",
    "before_commit",
    "after_commit",
    "before_reply",
)
"""In the order in which one refresh comes to them."""

_STEPS: Final = {
    "http11.send_request_headers.complete": "headers_sent",
    "http11.send_request_body.complete": "request_sent",
    "http11.receive_response_headers.complete": "answer_begun",
}
"""What httpcore calls them."""


async def _stop(_point: str) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


async def _hold(point: str) -> None:
    go_on = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, go_on.set)
    print(f"held {point}", flush=True)
    await go_on.wait()


async def _fail(point: str) -> None:
    print(f"failed {point}", flush=True)
    raise MemoryError


ACTIONS: Final[dict[str, Callable[[str], Awaitable[None]]]] = {"stop": _stop, "hold": _hold, "fail": _fail}


class _Failpoint:
    """One for the process: which points are to come, and which one is armed."""

    def __init__(self) -> None:
        self.to_come: list[str] = []
        self.action: Callable[[str], Awaitable[None]] = _stop
        self._armed = ""

    def next_refresh(self) -> None:
        self._armed = self.to_come.pop(0) if self.to_come else ""

    async def reach(self, point: str) -> None:
        if point == self._armed:
            self._armed = ""
            await self.action(point)


_failpoint = _Failpoint()
_reach = _failpoint.reach


class _Store(Store):
    async def load(self, account: str) -> Credential | None:
        found = await super().load(account)
        if found is not None and found.attempt is not None and _is_flight():
            await _reach("after_reload")
        return found

    async def claim(self, credential: Credential, attempt: Attempt) -> Credential | None:
        _failpoint.next_refresh()
        await _reach("before_claim")
        claim = await super().claim(credential, attempt)
        await _reach("after_claim")
        return claim

    async def settle(self, before: Credential, after: Credential) -> bool:
        if after.generation == before.generation:
            return await super().settle(before, after)
        await _reach("before_commit")
        stored = await super().settle(before, after)
        await _reach("after_commit")
        return stored


class _Issuer(Issuer):
    def __init__(self, **given: Any) -> None:
        super().__init__(**given | {"transport": given.get("transport") or _Transport()})

    async def send(self, request: Request) -> Outcome:
        await _reach("before_send")
        outcome = await super().send(request)
        await _reach("answer_read")
        return outcome


class _Transport(httpx.AsyncBaseTransport):
    def __init__(self) -> None:
        self._inner = issuer._transport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        told = request.extensions["trace"]

        async def trace(event: str, info: dict[str, Any]) -> None:
            await told(event, info)
            if event in _STEPS:
                await _reach(_STEPS[event])

        request.extensions = {**request.extensions, "trace": trace}
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Broker(Broker):
    async def token(self, account: str, wish: Wish) -> Grant:
        grant = await super().token(account, wish)
        await _reach("before_reply")
        return grant


def _is_flight() -> bool:
    """Whether this is the refresh itself, not somebody who looks at the row meanwhile."""
    task = asyncio.current_task()
    return task is not None and task.get_name().startswith("refresh ")


def main(points: str, action: str, *arguments: str) -> int:
    """Arm the points, then run the command line as it is."""
    _failpoint.to_come = points.split(",")
    if unknown := set(_failpoint.to_come) - set(POINTS):
        raise ValueError(f"no such points: {unknown}")
    _failpoint.action = ACTIONS[action]
    vars(app).update(Store=_Store, Issuer=_Issuer, Broker=_Broker)
    return cli.main(arguments)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
