"""`python -m benchmarks [--quick] [--json]`: ratios to the barest server on the same stack, measured in one run.

Read the ratios: the figures themselves are this machine's, at this moment.
"""

import argparse
import asyncio
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import uvloop

from benchmarks import load, stage

CALLERS, ACCOUNTS, LATENCY = 1000, 100, 1.0
LONG_AGO = "2020-01-01T00:00:00Z"


class Row(NamedTuple):
    """One line. The reference is what the brackets in `what` name."""

    what: str
    unit: str
    service: float
    reference: float | None = None


def throughput(port: int, bare: int, connections: tuple[int, ...], rounds: int) -> Iterator[Row]:
    """Requests per second, the two servers in turn."""
    for path in stage.PATHS:
        for count in connections:
            pairs = [(load.rate(port, path, count, 1), load.rate(bare, path, count, 1)) for _ in range(rounds)]
            yield Row(f"{path}, {count} connections (bare server)", "requests/s", *_middle(pairs))


def command(port: int, rounds: int) -> Iterator[Row]:
    """One token for a script."""
    own = [str(Path(sys.executable).with_name("pixir-auth")), "token"]
    curl = ["curl", "-fsS", f"http://localhost:{port}/token?format=text"]
    if shutil.which(own[0]) and shutil.which("curl"):
        pairs = [(_timed(own, port), _timed(curl, port)) for _ in range(rounds)]
        yield Row("pixir-auth token, a process (curl)", "ms", *_middle(pairs))


async def crowd(port: int, issuer: int) -> list[Row]:
    """All callers at once on an expired token, while the issuer takes its time."""
    stage.ask(issuer, "POST", "/_sandbox/knobs", {"latency": LATENCY})
    before = stage.refreshes(issuer)
    async with load.callers(port, "/token?account=crowd", CALLERS) as all_:
        stage.log_in(port, issuer, "crowd", expires_at=LONG_AGO)
        answers = await asyncio.gather(*(caller.ask() for caller in all_), return_exceptions=True)
        last = max((took for caller in all_ for took in caller.took), default=0.0)
    stage.ask(issuer, "POST", "/_sandbox/knobs", {"latency": 0})
    name = f"{CALLERS} callers, expired token:"
    return [
        Row(f"{name} answered 200 (callers)", "", answers.count(None), CALLERS),
        Row(f"{name} refreshes at the issuer (one)", "", stage.refreshes(issuer) - before, 1),
        Row(f"{name} last answer (issuer's latency)", "s", last, LATENCY),
    ]


async def burst(port: int, issuer: int) -> list[Row]:
    """What one caller notices while the tokens of many accounts come due in the same second."""
    before, due = stage.refreshes(issuer), int(time.time()) + 4
    expires_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(due + 300))  # due five minutes before they expire
    for number in range(ACCOUNTS):
        stage.log_in(port, issuer, f"burst{number}", expires_at=expires_at)
    calm = await load.times(port, "/token", 1, max(0.5, due - time.time() - 0.5))
    await asyncio.sleep(due - time.time())
    began, busy = time.perf_counter(), [0.0]
    while stage.refreshes(issuer) - before < ACCOUNTS and time.perf_counter() - began < 30:
        busy += await load.times(port, "/token", 1, 0.1)
    name = f"/token while {ACCOUNTS} accounts are refreshed:"
    return [
        Row(f"{ACCOUNTS} accounts due at once: the last is refreshed after", "s", time.perf_counter() - began),
        Row(f"{name} p50 (before)", "ms", _at(busy, 0.5), _at(calm, 0.5)),
        Row(f"{name} longest (before)", "ms", _at(busy, 1), _at(calm, 1)),
    ]


async def hang(port: int, issuer: int, seconds: float) -> list[Row]:
    """Warm /token while the issuer leaves the refresh of another account without an answer."""
    calm = await load.times(port, "/token", 16, seconds)
    stage.ask(issuer, "POST", "/_sandbox/fail", {"name": "hang", "grant_type": "refresh_token"})
    stage.log_in(port, issuer, "hanging", expires_at=LONG_AGO)
    await asyncio.sleep(1)  # the background refresher has asked by then
    busy = await load.times(port, "/token", 16, seconds)
    name = "/token while another account's refresh hangs:"
    return [Row(f"{name} p{n} (before)", "ms", _at(busy, n / 100), _at(calm, n / 100)) for n in (50, 99)]


def start(folder: Path, answers: Path, issuer: int, rounds: int) -> list[Row]:
    """Until the first answer, and memory after it."""
    took, held = [], []
    for _ in range(rounds):
        with stage.service(folder, port := stage.free_port(), issuer) as own:
            own_memory = stage.memory(own[0])
        with stage.bare(port, answers) as bare:
            took.append((own[1], bare[1]))
            held.append((own_memory, stage.memory(bare[0])))
    return [
        Row("start to first answer (bare server)", "s", *_middle(took)),
        Row("memory after start (bare server)", "MB", *_middle(held)),
    ]


def measure(*, quick: bool) -> Iterator[Row]:
    """All lines, in order."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(8192, hard)  # a caller is a file at each end
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pixir-auth-benchmark-")))
        port, bare, issuer = (stage.free_port() for _ in range(3))
        pid, _ = stack.enter_context(stage.service(folder, port, issuer))
        stack.enter_context(stage.sandbox(issuer))  # ends before the service, which must not wait for what hangs there
        stage.log_in(port, issuer, "default")
        stage.record(port, answers := folder / "answers.json")
        stack.enter_context(stage.bare(bare, answers))
        yield from throughput(port, bare, (16,) if quick else (1, 16, 64), 1 if quick else 3)
        yield from command(port, 3 if quick else 15)
        yield from uvloop.run(crowd(port, issuer))
        yield from uvloop.run(burst(port, issuer))
        yield from uvloop.run(hang(port, issuer, 1 if quick else 5))
        yield Row("memory after all that", "MB", stage.memory(pid))
        (other := folder / "other").mkdir()
        yield from start(other, answers, issuer, 1 if quick else 5)


def main() -> None:
    """Print the table as it grows, or JSON at the end."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs, under 40 s")
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    options = parser.parse_args()
    rows = ({**row._asdict(), "ratio": _ratio(row)} for row in measure(quick=options.quick))
    if options.json:
        print(json.dumps({"callers": "wrk" if load.HAS_WRK else "own", "rows": list(rows)}, indent=2))
        return
    line = "{:<64} {:<10} {:>9} {:>9} {:>6}"
    print(line.format("measure (reference)", "unit", "service", "reference", "ratio"))
    for row in rows:
        print(line.format(*map(_short, row.values())), flush=True)


def _middle(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    """The pair with the median ratio: taken one after the other, both suffer from what else the machine does."""
    return sorted(pairs, key=lambda pair: pair[0] / pair[1])[len(pairs) // 2]


def _at(times: list[float], share: float) -> float:
    return sorted(times)[int(share * (len(times) - 1))] * 1000


def _timed(line: list[str], port: int) -> float:
    began = time.perf_counter()
    env = {**os.environ, "PIXIR_AUTH_PORT": str(port)}
    subprocess.run(line, check=True, env=env, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - began) * 1000


def _ratio(row: Row) -> float | None:
    return row.service / row.reference if row.reference else None


def _short(value: float | str | None) -> str:
    if isinstance(value, str) or value is None:
        return value or ""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main()
