"""What a store does where it cannot write, in a mount namespace of its own. Prints what became of each step, as JSON.

`unshare -rm python -m tests.store.narrow FOLDER` plays every scene, each in a folder of its own.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from service.domain.secret import Secret
from service.store.rescue import Rescue
from service.store.store import Store

from .samples import KEY, attempt, backend_of, credential, due, given, open_store

BALLAST = 4096


async def outcome(work: Awaitable[Any]) -> str:
    """`done`, or the name of the error."""
    try:
        await work
    except Exception as exc:  # noqa: BLE001 - that is what is asked
        return type(exc).__name__
    return "done"


def opened(address: str) -> str:
    """`done`, or the name of the error."""
    try:
        open_store(address)
    except Exception as exc:  # noqa: BLE001 - that is what is asked
        return type(exc).__name__
    return "done"


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def fill(folder: Path) -> Path:
    """Take all the space there is."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * BALLAST)
        except OSError:
            return ballast


async def full(folder: Path) -> dict[str, str]:
    """The disk fills while the store is open, and has room again."""
    mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder))
    store = open_store(f"sqlite:{folder / 'data' / 'x.db'}")
    stored = await store.install(credential(access_token=Secret("x" * 20_000)))
    ballast = fill(folder)
    told = {
        "claim": await outcome(_must(store.claim(stored, attempt()))),
        "load": await outcome(_same(store, stored)),
        "check": await outcome(store.check()),
        "forget": await outcome(store.forget("default")),
        "unchanged": await outcome(_same(store, stored)),
    }
    ballast.unlink()
    told["claim with room"] = await outcome(_must(store.claim(stored, attempt())))
    told["close"] = await outcome(store.close())
    return told


async def full_at_the_end(folder: Path) -> dict[str, str]:
    """The disk fills between the last commit and the emptying of the log, for which the database has to grow."""
    mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder))
    store = open_store(f"sqlite:{folder / 'data' / 'x.db'}")
    for name in ("one", "other"):
        await store.install(credential(name, access_token=Secret("x" * 50_000)))
    ballast = fill(folder)
    told = {"close": await outcome(store.close())}
    ballast.unlink()
    store = open_store(f"sqlite:{folder / 'data' / 'x.db'}")
    told["kept"] = await outcome(_must(store.load("other")))
    await store.close()
    return told


async def full_for_a_backup(folder: Path) -> dict[str, str]:
    """There is no room for the bytes of a backup, few as they are."""
    mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder))
    backend = backend_of(f"sqlite:{folder / 'data' / 'x.db'}")
    store = Store(backend, lambda _is_new: given(KEY), due, rescue=Rescue(folder / "data"))
    await store.install(credential())
    ballast = fill(folder)
    told = {"backup": await outcome(_backed_up(store))}
    ballast.unlink()
    told["backup with room"] = await outcome(_backed_up(store))
    await store.close()
    return told


async def read_only(folder: Path) -> dict[str, str]:
    """The data folder is mounted read-only."""
    path = folder / "data" / "x.db"
    store = open_store(f"sqlite:{path}")
    await store.install(credential())
    await store.close()
    before = path.read_bytes()
    mount("--bind", str(folder), str(folder))
    mount("-o", "remount,bind,ro", str(folder))
    told = {
        "used": opened(f"sqlite:{path}"),
        "new": opened(f"sqlite:{folder / 'data' / 'new.db'}"),
        "new folder": opened(f"sqlite:{folder / 'new' / 'x.db'}"),
    }
    assert path.read_bytes() == before
    return told


async def _must(work: Awaitable[Any]) -> None:
    assert await work is not None


async def _backed_up(store: Store) -> None:
    with await store.backup() as file:
        assert file.seek(0, os.SEEK_END) > 0


async def _same(store: Store, stored: Any) -> None:
    assert await store.load("default") == stored


SCENES: dict[str, Callable[[Path], Awaitable[dict[str, str]]]] = {
    scene.__name__: scene for scene in (full, full_at_the_end, full_for_a_backup, read_only)
}

if __name__ == "__main__":
    told = {}
    for name, scene in SCENES.items():
        (Path(sys.argv[1]) / name).mkdir()
        told[name] = asyncio.run(scene(Path(sys.argv[1]) / name))  # type: ignore[arg-type]
    print(json.dumps(told))
