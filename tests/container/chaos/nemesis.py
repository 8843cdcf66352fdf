"""What befalls the replicas, in an order that a seed decides; and what of it excuses a lost answer.

Refreshes under way are what it aims at. Where an answer may be lost it spares second tries, and those alone: one that
is lost twice, or whose owner is not heard of the second time, ends a login whoever asks (docs/refresh.md).
"""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.container.engine import until

from .scene import LATENCY, REPLICAS, Scene, Sent, Unclear

if TYPE_CHECKING:
    from docker.models.containers import Container

KILL, PAUSE, SLEEP = "killed", "paused", "paused for long"
CUTS = {
    "cut off from the database": ("data",),
    "cut off from the issuer": ("issuer",),
    "cut off from both": ("data", "issuer"),
}
SHARES = (
    [KILL, SLEEP],
    [KILL, PAUSE, "cut off from the database", "cut off from the issuer"],
    [KILL, PAUSE, "cut off from the database", "cut off from both"],
)
"""What befalls each of three. One sleeps through most of it."""

LOSES_ANSWERS = {KILL, "cut off from the issuer", "cut off from both"}
LONG = 28.0
"""Seconds: longer than anybody waits for the owner of a refresh elsewhere (20 for its claim, 6 for its call)."""

AT_WORK = LATENCY + 1.0
"""Seconds from the arrival of a refresh token until its answer is stored, on a machine with much else to do."""


@dataclass
class Fault:
    """What befell a replica, from `at` to `until`; `back` when it was well again. Seconds since the epoch."""

    kind: str
    replica: str
    at: float
    until: float
    back: float

    def strikes(self, sent: Sent) -> bool:
        """Whether it touches this exchange."""
        return sent.replica == self.replica and sent.at <= self.until and self.at <= sent.at + AT_WORK

    def explains(self, sent: Sent, end: Unclear) -> bool:
        """Whether it took the answer along: of who died the kill, of who heard nothing the cable, until it is back."""
        if sent.replica != self.replica or self.at > end.at:
            return False
        if end.by is None:
            return self.kind == KILL and sent.at <= self.until
        return end.by == sent.replica and "issuer" in CUTS.get(self.kind, ()) and sent.at <= self.back


class Nemesis:
    """The faults of a replica come one after another, replicas suffer at the same time."""

    def __init__(self, scene: Scene, seed: int) -> None:
        self._scene = scene
        self._seed = seed

    def rage(self) -> list[Fault]:
        """Every kind of fault; what came of it, in order."""
        chance = random.Random(self._seed)
        kinds = dict(zip(chance.sample(REPLICAS, len(REPLICAS)), SHARES, strict=True))
        with ThreadPoolExecutor() as pool:
            suffered = list(pool.map(self._suffer, kinds, kinds.values()))
        return sorted((fault for each in suffered for fault in each), key=lambda fault: fault.at)

    def _suffer(self, replica: str, kinds: list[str]) -> list[Fault]:
        chance = random.Random(f"{self._seed} {replica}")
        return [self._strike(replica, kind, chance) for kind in chance.sample(kinds, len(kinds))]

    def _strike(self, replica: str, kind: str, chance: random.Random) -> Fault:
        time.sleep(chance.uniform(0.0, 1.0))
        until(lambda: self._is_good_moment(replica, kind), f"{replica} has a refresh under way")
        if kind == KILL:
            at, ended = self._kill(replica, chance)
        elif kind in CUTS:
            at, ended = self._cut(replica, CUTS[kind], chance.uniform(3.0, 5.0))
        else:
            at, ended = self._pause(replica, LONG if kind == SLEEP else chance.uniform(2.0, 4.0))
        return Fault(kind, replica, at, ended, time.time())

    def _is_good_moment(self, replica: str, kind: str) -> bool:
        if kind in LOSES_ANSWERS | {SLEEP} and self._scene.second_tries():
            return False
        return any(one.replica == replica and not one.answered for one in self._scene.sent())

    def _kill(self, replica: str, chance: random.Random) -> tuple[float, float]:
        at = time.time()
        self._scene.container(replica).kill("SIGKILL")
        time.sleep(chance.uniform(0.0, 1.0))
        ended = time.time()
        self._scene.start(replica)
        return at, ended

    def _cut(self, replica: str, networks: tuple[str, ...], seconds: float) -> tuple[float, float]:
        at = time.time()
        self._scene.cut(replica, networks)
        time.sleep(seconds)
        ended = time.time()
        self._scene.mend(replica, networks)
        return at, ended

    def _pause(self, replica: str, seconds: float) -> tuple[float, float]:
        container = self._scene.container(replica)
        at = time.time()
        while not _freezes(container):
            at = time.time()
        time.sleep(seconds)
        ended = time.time()
        container.unpause()
        return at, ended


def _freezes(container: "Container") -> bool:
    """Whether it could be paused: an older runc cannot while a process is deep in the kernel, and says so."""
    from docker.errors import APIError  # noqa: PLC0415 - collected where docker is missing, too

    try:
        container.pause()
    except APIError as exc:
        if "unable to freeze" in str(exc):
            return False
        raise
    return True
