"""What a process and its database take, over time, and whether it stays flat once everything is warm."""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

_EVERY: Final = 1.0
"""Seconds between two samples."""

GROWTH: Final = {"rss": (1.1, 4 * 1024), "fds": (1.0, 6)}
"""How much the median of the last third may exceed that of the middle third: a factor, and an amount."""

THREADS_BOUND: Final = 2 + 4 + min(32, (os.cpu_count() or 1) + 4)
"""The main one, one to spare, the store's, and the loop's for what has none of its own: made when they are needed, and
kept, so that one that starts late is no growth."""

WAL_BOUND: Final = 8 * 1024
"""KiB that the write-ahead log never exceeds: ten times what a checkpoint is made at, for readers that are stopped."""

BOUNDS: Final = {"threads": THREADS_BOUND, "wal": WAL_BOUND}
"""What is never exceeded, however long it runs."""


@dataclass(frozen=True, slots=True)
class Sample:
    """At one instant. rss and wal in KiB."""

    rss: int
    fds: int
    threads: int
    wal: int


async def sampled(pid: Callable[[], int], database: Path | None, over: asyncio.Event) -> list[Sample]:
    """A sample every second until it is over. Needs /proc. database: a SQLite file."""
    samples = []
    while not over.is_set():
        samples.append(_sample(pid(), database))
        with suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), _EVERY)
    return samples


def stages(samples: list[Sample]) -> dict[str, tuple[float, float, float]]:
    """Of each third of the samples: medians of what may grow a little, the highest values of what is bounded."""
    third = max(1, len(samples) // 3)
    parts = [samples[:third], samples[third : 2 * third], samples[-third:]]
    found = {name: [median(getattr(one, name) for one in part) for part in parts] for name in GROWTH}
    found |= {name: [max(getattr(one, name) for one in part) for part in parts] for name in BOUNDS}
    return {name: (first, middle, last) for name, (first, middle, last) in found.items()}


def grown(samples: list[Sample]) -> Iterator[str]:
    """What did not stay flat."""
    for name, (first, middle, last) in stages(samples).items():
        if name in BOUNDS:
            if max(first, middle, last) > BOUNDS[name]:
                yield f"{name} rose to {max(first, middle, last)}, at most {BOUNDS[name]} are right"
            continue
        factor, amount = GROWTH[name]
        if last > middle * factor + amount:
            yield f"{name} grew from {middle} to {last}"


def _sample(pid: int, database: Path | None) -> Sample:
    process = Path(f"/proc/{pid}")
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    return Sample(
        rss=int(status["VmRSS"].split()[0]),
        fds=sum(1 for _ in (process / "fd").iterdir()),
        threads=int(status["Threads"]),
        wal=_size(database.with_name(f"{database.name}-wal")) // 1024 if database else 0,
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0  # between the last one that leaves and the next that comes
