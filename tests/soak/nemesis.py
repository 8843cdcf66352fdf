"""What befalls the replicas of a soak: processes, network and disk, each on a seeded loop of its own, all at a time.

The first replica is never ended: it is the one whose memory, files and threads are looked at in the end.
"""

import asyncio
import random
import resource
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Final

from tests.kit.processes import Process
from tests.soak.history import Fault, History
from tests.soak.proxy import Link

FAMILIES: Final = {
    "process": ("kill", "term"),
    "pause": ("stop",),
    "network": ("refuse",),
    "disk": ("lock", "full"),
}
"""What can be asked for. The faults of a family come one after another, in rounds of all; families at the same time."""

_PAUSE: Final = (1.0, 6.0)
"""Seconds between two faults of a kind."""

_AIMED: Final = 0.25
"""How many kills wait until a refresh is under way. Most of them lose a login, so they are few; stops lose none."""


_STOPS: Final = (1.0, 4.0, 8.0, 25.0)
"""Seconds: shorter and longer than a call to the issuer, and longer than anybody waits before he sends again."""


class Replica:
    """A place for one service after another: its link to the issuer stays."""

    def __init__(self, slot: int, link: Link, start: Callable[[Link], Process]) -> None:
        self.slot = slot
        self.link = link
        self.url = ""
        self._start = start
        self._process: Process | None = None

    @property
    def process(self) -> Process:
        """The service that runs there, or ran there last."""
        assert self._process is not None
        return self._process

    async def start(self) -> None:
        """A new service."""
        self._process = await asyncio.to_thread(self._start, self.link)
        self.url = self._process.url


class Nemesis:
    """Does harm until it is told to stop, and puts right whatever it has done."""

    def __init__(self, replicas: list[Replica], history: History, database: Path | None, seed: int) -> None:
        """database: the SQLite file, if it is one."""
        self._replicas = replicas
        self._history = history
        self._database = database
        self._seed = seed

    async def rage(self, faults: set[str], over: asyncio.Event) -> None:
        """Until `over` is set, and then until everything is put right."""
        async with asyncio.TaskGroup() as group:
            for family, members in FAMILIES.items():
                if chosen := [getattr(self, f"_{name}") for name in members if name in faults]:
                    group.create_task(self._loop(chosen, random.Random(f"{self._seed} {family}"), over))

    async def _loop(
        self, faults: list[Callable[[random.Random], Awaitable[None]]], chance: random.Random, over: asyncio.Event
    ) -> None:
        while True:
            for fault in chance.sample(faults, len(faults)):
                with suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), chance.uniform(*_PAUSE))
                    return
                await fault(chance)

    # -- processes -----------------------------------------------------------------------------------------------

    async def _kill(self, chance: random.Random) -> None:
        replica = chance.choice(self._replicas[1:])
        await self._aimed(replica, chance, _AIMED)
        async with self._suffering("kill", replica):
            await asyncio.to_thread(replica.process.kill)
        await self._again(replica, chance)

    async def _term(self, chance: random.Random) -> None:
        replica = chance.choice(self._replicas[1:])
        async with self._suffering("term", replica):
            replica.process.signal(signal.SIGTERM)
            code = await asyncio.to_thread(replica.process.ended, 60)
            if code != 0:
                self._history.errors.append(f"replica {replica.slot} ended with {code} after SIGTERM")
        await self._again(replica, chance)

    async def _again(self, replica: Replica, chance: random.Random) -> None:
        async with self._suffering("down", replica):
            replica.process.close()
            await asyncio.sleep(chance.uniform(0.0, 3.0))
            await self._started(replica)

    async def _started(self, replica: Replica) -> None:
        """Start until it runs, as a supervisor would: on a locked database a service refuses to. Only there.

        It is locked by another writer, or by a service that is stopped while it writes.
        """
        while True:
            began = time.monotonic()
            try:
                await replica.start()
            except RuntimeError as refused:
                locked = any(one.name in ("lock", "stop") and one.until >= began for one in self._history.faults)
                if not locked or "SQLITE_BUSY" not in str(refused):
                    raise
            else:
                return

    async def _stop(self, chance: random.Random) -> None:
        replica = chance.choice(self._replicas)
        await self._aimed(replica, chance, 0.5)
        process = replica.process  # killed or told to end meanwhile, perhaps
        async with self._suffering("stop", replica):
            process.signal(signal.SIGSTOP)
            await asyncio.sleep(chance.choice(_STOPS))
            process.signal(signal.SIGCONT)

    async def _aimed(self, replica: Replica, chance: random.Random, share: float) -> None:
        """Sometimes wait until the replica is asking the issuer."""
        if chance.random() < share:
            with suppress(TimeoutError):
                await asyncio.wait_for(replica.link.busy.wait(), 3.0)

    # -- network -------------------------------------------------------------------------------------------------

    async def _refuse(self, chance: random.Random) -> None:
        hit = chance.choice([[chance.choice(self._replicas)], self._replicas])
        async with self._suffering("refuse", *hit):
            for replica in hit:
                replica.link.refuse()
            await asyncio.sleep(chance.uniform(0.5, 6.0))
            for replica in hit:
                replica.link.open()

    # -- disk ----------------------------------------------------------------------------------------------------

    async def _lock(self, chance: random.Random) -> None:
        """Another writer has the database, sometimes for longer than a service waits for it."""
        assert self._database is not None
        seconds = chance.choice([0.2, 1.0, 3.0, 10.0])
        with closing(
            sqlite3.connect(self._database, isolation_level=None, timeout=30, check_same_thread=False)
        ) as writer:
            await asyncio.to_thread(writer.execute, "BEGIN IMMEDIATE")
            async with self._suffering("lock", *self._replicas):
                await asyncio.sleep(seconds)
                writer.execute("ROLLBACK")

    async def _full(self, chance: random.Random) -> None:
        """No byte more in any file: what a process meets on a full disk, without filling one."""
        hit = chance.choice([[chance.choice(self._replicas)], self._replicas])
        pids = [replica.process.pid for replica in hit]
        async with self._suffering("full", *hit):
            _limit_files(pids, 0)
            await asyncio.sleep(chance.uniform(0.5, 6.0))
            _limit_files(pids, resource.RLIM_INFINITY)

    @asynccontextmanager
    async def _suffering(self, name: str, *replicas: Replica) -> AsyncIterator[None]:
        fault = Fault(name, replicas[0].slot if len(replicas) == 1 else None, time.monotonic())
        self._history.faults.append(fault)
        yield
        fault.until = time.monotonic()


def _limit_files(pids: list[int], size: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # killed meanwhile
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if size == resource.RLIM_INFINITY else size, hard))
