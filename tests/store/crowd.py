"""Real processes that do one thing to one database at the same moment.

`python -m tests.store.crowd` reads lines of JSON, [WORK, COUNT, ADDRESS, ARGUMENT...]. For each it forks COUNT
processes, before it has a thread or a connection, lets each make itself ready, sends them off together and prints what
each of them got, as one line of JSON. One interpreter start, which costs more than all the rest, serves many crowds.
"""

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from service.domain.credential import Attempt, Tokens, rotated
from service.domain.errors import KeyNotReplaced
from service.domain.secret import Secret
from service.settings import Settings
from service.store.keys import key_source
from service.store.store import Store

from .samples import NOW, ROOT, another_login, backend_of, credential, due, open_store

Barrier = Callable[[], None]
PATIENCE = 60.0


class Crowds:
    """Starts crowds; to be called from tests."""

    def __init__(self, log: Path) -> None:
        self._log = log
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.store.crowd"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                bufsize=1,
            )

    def __call__(
        self, work: Callable[..., Any], count: int, address: str, *arguments: Any, may_die: bool = False
    ) -> Any:
        """What each of `count` processes got, None for one that died; that fails unless it was expected."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([work.__name__, count, address, *arguments]) + "\n")
        readable, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        assert readable, "the crowd takes too long"
        results: dict[str, Any] = json.loads(self._process.stdout.readline())
        assert may_die or len(results) == count, self._log.read_text()
        return [results.get(str(me)) for me in range(count)]

    def close(self) -> None:
        """No more crowds."""
        self._process.communicate()


# -- what they do --------------------------------------------------------------------------------------------------


async def opens(barrier: Barrier, address: str, me: int) -> bool:
    """Open the database and close it again."""
    barrier()
    store = open_store(address)
    await store.check()
    await store.close()
    return True


async def claims(barrier: Barrier, address: str, me: int) -> str | None:
    """Claim what was read before the others could write; the attempt if it won."""
    store = open_store(address)
    seen = await store.load("default")
    assert seen is not None
    barrier()
    won = await store.claim(seen, Attempt(f"attempt of {me}", f"owner {me}", NOW))
    await store.close()
    return won.attempt.attempt_id if won and won.attempt else None


async def takes(barrier: Barrier, address: str, me: int, state: str) -> bool:
    """Come back with the state of a login."""
    store = open_store(address)
    barrier()
    taken = await store.take_login(Secret(state), None, NOW, bound=False)
    await store.close()
    return taken is not None


async def installs(barrier: Barrier, address: str, me: int) -> int:
    """Install a login; its generation."""
    store = open_store(address)
    barrier()
    stored = await store.install(another_login(me))
    await store.close()
    return stored.generation


async def first_start(barrier: Barrier, address: str, me: int, config: str) -> str:
    """Start where nothing is yet, neither key nor database, and keep a login."""
    os.environ["XDG_CONFIG_HOME"] = config
    barrier()
    store = Store(backend_of(address), lambda is_new: key_source(Settings(), may_create=is_new), due)
    await store.install(credential(f"account-{me}"))
    await store.close()
    return f"account-{me}"


async def dies_opening(barrier: Barrier, address: str, me: int, statement: int) -> bool:
    """Open the database, but be killed in front of a statement."""
    seen = 0

    def count(*_: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute", count)
    barrier()
    store = open_store(address)
    await store.close()
    return True


def _with_own_key(address: str, config: str) -> Store:
    os.environ["XDG_CONFIG_HOME"] = config
    return Store(backend_of(address), lambda is_new: key_source(Settings(), may_create=is_new), due)


async def rekeys(barrier: Barrier, address: str, me: int, config: str) -> int | None:
    """Replace the encryption key; None if there was none to go over to any more."""
    store = _with_own_key(address, config)
    barrier()
    try:
        return await store.rekey()
    except KeyNotReplaced:
        return None
    finally:
        await store.close()


async def refreshes_while_another_rekeys(barrier: Barrier, address: str, me: int, config: str) -> int | None:
    """Refresh an account of one's own again and again, without reading it; the first process replaces the key."""
    if me == 0:
        return await rekeys(barrier, address, me, config)
    store = _with_own_key(address, config)
    seen = await store.load(f"account-{me}")
    assert seen is not None
    barrier()
    for number in range(seen.generation + 1, seen.generation + 21):
        claim = await store.claim(seen, Attempt(f"attempt {number}", f"owner {me}", NOW))
        assert claim is not None
        tokens = Tokens(Secret(f"access token {number}"), Secret(f"refresh token {number}"))
        seen = rotated(claim, tokens, sent_at=NOW, now=NOW, wait=0)
        assert await store.settle(claim, seen)
    await store.close()
    return seen.generation


async def dies_rekeying(barrier: Barrier, address: str, me: int, config: str, point: int) -> bool:
    """Replace the encryption key, but be killed in front of a statement, or of a change of a file or folder."""
    store = _with_own_key(address, config)
    seen = 0

    def count(*_: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == point:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(happens: str, arguments: tuple[Any, ...]) -> None:
        writes = happens == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_WRONLY
        if happens in ("os.rename", "os.link", "os.remove") or writes:
            count()

    barrier()
    event.listen(Engine, "before_cursor_execute", count)
    sys.addaudithook(watch)
    await store.rekey()
    return True


WORKS = {
    work.__name__: work
    for work in (
        *(opens, claims, takes, installs, first_start, dies_opening),
        *(rekeys, refreshes_while_another_rekeys, dies_rekeying),
    )
}


# ------------------------------------------------------------------------------------------------------------------


def _gather(work: str, count: int, address: str, *arguments: Any) -> dict[int, Any]:
    ready, i_am_ready = os.pipe()
    go, starter = os.pipe()
    results, result = os.pipe()
    for me in range(count):
        if os.fork() == 0:
            os.close(starter)
            _worker(work, me, i_am_ready, go, result, address, arguments)
    os.close(i_am_ready)
    os.close(result)
    with os.fdopen(ready, "rb") as file:
        file.read(count)  # ends early if all have died
    os.close(starter)
    for _ in range(count):
        os.wait()
    os.close(go)
    with os.fdopen(results) as file:
        return dict(json.loads(line) for line in file)


def _worker(
    work: str, me: int, i_am_ready: int, go: int, result: int, address: str, arguments: tuple[Any, ...]
) -> None:
    def barrier() -> None:
        os.write(i_am_ready, b".")
        os.close(i_am_ready)
        os.read(go, 1)  # ends when the starter is closed everywhere

    try:
        outcome = asyncio.run(WORKS[work](barrier, address, me, *arguments))
        os.write(result, json.dumps([me, outcome]).encode() + b"\n")  # far shorter than PIPE_BUF: never torn
    except BaseException:  # noqa: BLE001 - the process ends here, whatever it was
        traceback.print_exc()
    finally:
        os._exit(0)


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(_gather(*json.loads(line))), flush=True)
