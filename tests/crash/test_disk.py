"""A full disk between claim and commit, and a slow one: the service goes on, and the pair is stored in the end."""

import asyncio
import contextlib
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.crash.conftest import Begin
from tests.crash.scene import Scene, ask, issue, refresh_of, until

pytestmark = pytest.mark.long

_MOUNT = (
    'mount -t tmpfs -o size=512k,mode=700 tmpfs "$1" && rm -f "$0/ballast" && cp -a "$0/." "$1/" && shift && exec "$@"'
)
"""A copy of the folder $0 on a tiny disk at $1, which only the command that follows can see. It has no room for
ballast."""

SLOW = 5.0


class TinyDisk:
    """A service whose data are on a disk of their own, seen through the eyes of its process."""

    def __init__(self, scene: Scene, *program: str) -> None:
        folder = scene.machine.folder
        disk = folder / "disk"
        disk.mkdir()
        self.service = scene.service(
            *program,
            under=("unshare", "-rm", "sh", "-c", _MOUNT, str(folder / "data"), str(disk)),
            data_dir=disk,
            database_url=f"sqlite:///{disk / 'pixir-auth.db'}",
        )
        self._disk = Path(f"/proc/{self.service.pid}/root{disk}")
        self._filler = self._disk / "filler"

    def fill(self) -> None:
        """Not a byte is left."""
        with self._filler.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while filler.write(b"\0" * 512):
                pass

    def clear(self) -> None:
        """There is space again."""
        self._filler.unlink()

    def generation(self) -> int:
        """What is stored, whatever the service says. In a copy: SQLite would not follow the way to the original."""
        with tempfile.TemporaryDirectory() as copy:
            for name in ("pixir-auth.db", "pixir-auth.db-wal"):
                shutil.copyfile(self._disk / name, Path(copy) / name)
            with contextlib.closing(sqlite3.connect(Path(copy) / "pixir-auth.db")) as connection:
                (found,) = connection.execute("SELECT generation FROM credential").fetchone()
        return int(found)


Caller = asyncio.Task[dict[str, Any] | None]


@contextlib.asynccontextmanager
async def _filled_before_the_commit(scene: Scene) -> AsyncIterator[tuple[TinyDisk, Caller]]:
    """A service that holds the only copy of the new pair, and who asked it; killed in the end."""
    disk = TinyDisk(scene, "tests.crash.failpoint", "before_commit", "stop")
    try:
        caller = ask(disk.service)
        await asyncio.to_thread(disk.service.stopped)
        disk.fill()
        disk.service.signal(signal.SIGCONT)
        await until(lambda: refresh_of(disk.service)["last_error"] == "store_unavailable")
        yield disk, caller
    finally:
        disk.service.kill()
    await caller


@pytest.mark.unshare
async def test_space_gone_before_the_commit_the_token_is_served_with_a_warning_and_stored_when_there_is_space(
    begin: Begin,
) -> None:
    scene = await begin()
    async with _filled_before_the_commit(scene) as (disk, _):
        served = disk.service.client.get("/token").json()
        assert (served["generation"], served["warning"]) == (2, "store_unavailable")
        assert refresh_of(disk.service)["generation"] == 2
        assert disk.generation() == 1
        disk.clear()
        await until(lambda: "warning" not in disk.service.client.get("/token").json())
        assert refresh_of(disk.service)["last_error"] is None
        assert disk.generation() == 2
    assert len(scene.sent()) == 1


@pytest.mark.unshare
async def test_who_asked_for_the_refresh_gets_the_new_token_though_it_is_not_stored(begin: Begin) -> None:
    async with _filled_before_the_commit(await begin()) as (_, caller):
        answer = await caller
    assert answer is not None
    assert (answer["generation"], answer["warning"]) == (2, "store_unavailable")


@pytest.mark.unshare
async def test_a_full_disk_is_not_ready(begin: Begin) -> None:
    async with _filled_before_the_commit(await begin()) as (disk, _):
        ready = disk.service.client.get("/readyz").status_code
    assert ready == 503


@pytest.mark.unshare
async def test_told_to_end_on_a_full_disk_it_tries_on_and_ends_when_the_pair_is_stored(begin: Begin) -> None:
    scene = await begin()
    async with _filled_before_the_commit(scene) as (disk, caller):
        disk.service.signal(signal.SIGTERM)
        assert await caller is not None
        with pytest.raises(subprocess.TimeoutExpired):
            await asyncio.to_thread(disk.service.ended, 3)
        disk.clear()
        assert await asyncio.to_thread(disk.service.ended) == 0
        assert "refreshed default: generation 2" in disk.service.log.read_text()
    assert len(scene.sent()) == 1


@pytest.mark.strace
async def test_while_a_sync_takes_five_seconds_the_service_answers_and_sends_once(begin: Begin) -> None:
    scene = await begin()
    delay = f"inject=fdatasync:delay_enter={SLOW:.0f}s"
    under = ("strace", "-D", "-f", "-o", str(scene.machine.folder / "strace"), "-e", "trace=fdatasync", "-e", delay)
    async with scene.successor() as heir:
        await heir.install(issue(scene.issuer), "other")  # the log has begun: two syncs less for the service
        service = scene.service(under=under)
        began = time.monotonic()
        caller = ask(service)
        slowest = 0.0
        async with httpx.AsyncClient(base_url=service.url, timeout=60, trust_env=False) as client:
            while scene.family["generation"] == 1 or refresh_of(service)["state"] == "in_flight":
                asked = time.monotonic()
                (await client.get("/healthz")).raise_for_status()
                slowest = max(slowest, time.monotonic() - asked)
                await asyncio.sleep(0.05)
        took = time.monotonic() - began
        assert await caller is not None
        service.kill()
    assert took > 2 * SLOW
    assert slowest < 1
    assert len(scene.sent()) == 1
    assert (await scene.row()).generation == 2
    assert await scene.is_alive()
