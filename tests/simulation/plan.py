"""What goes wrong in one simulation, and when: all drawn from the seed, nothing once the faults are over."""

from dataclasses import dataclass
from random import Random
from typing import Final, Literal

Fault = Literal["stall", "crash", "leave", "store", "outage", "busy", "connect", "answer", "clock", "login", "logout"]

PROFILES: Final[dict[str, frozenset[Fault]]] = {
    "calm": frozenset({"leave"}),
    "stalls": frozenset({"stall", "leave"}),
    "crashes": frozenset({"stall", "crash"}),
    "answers": frozenset({"stall", "answer", "connect"}),
    "issuer": frozenset({"busy", "connect", "leave"}),
    "store": frozenset({"store", "outage", "stall"}),
    "clock": frozenset({"clock", "stall", "store"}),
    "logins": frozenset({"login", "logout", "stall", "store"}),
    "all": frozenset(
        {"stall", "crash", "leave", "store", "outage", "busy", "connect", "answer", "clock", "login", "logout"}
    ),
}
"""Name -> what may happen. `stall`: a process is stopped. `crash`: it is killed, and started again. `leave`: a caller
goes. `store`: a statement fails, or its COMMIT is durable and the answer is lost. `outage`: the database is away for a
while. `busy`, `connect`, `answer`: the issuer wants no call now; it cannot be reached; its answer is lost, late or an
error. `clock`: somebody sets it. `login`, `logout`: somebody does that in between."""

ARRIVES_WITHIN: Final = 9.9
"""Seconds that bytes of a dead or ended call may take: the kernel drops them after 10 (`issuer._LINGER_MS`)."""

CallKind = Literal[
    "answered", "busy", "misconfigured", "refused", "torn", "error", "error_spent", "lost", "reset", "silent"
]
"""`torn`: the answer's end is missing, the tokens are whole. `error`, `error_spent`: 5xx before and after the token was
spent. `lost`: it never arrives. `reset`: the connection breaks, and it may arrive later. `silent`: spent, no answer."""


@dataclass(frozen=True, slots=True)
class StoreFate:
    """Seconds before and after the effect; whether there is one, and an answer. `remote`: a server carries it out,
    whatever becomes of the process that asked."""

    before: float
    after: float
    effect: bool = True
    answered: bool = True
    remote: bool = False


@dataclass(frozen=True, slots=True)
class CallFate:
    """Seconds to connect, to arrive, to answer, and what comes of it."""

    connect: float
    arrive: float
    answer: float
    kind: CallKind = "answered"


class Plan:
    """The seed's word on everything."""

    def __init__(self, random: Random, profile: str) -> None:
        self.random = random
        self.faults = PROFILES[profile]
        self.active = True
        self._strikes = random.randint(1, 5)

    def happens(self, fault: Fault, chance: float) -> bool:
        """Whether that goes wrong now."""
        return self.active and fault in self.faults and self.random.random() < chance

    def strike(self) -> Literal["stall", "crash"] | None:
        """What hits a process at this moment of its work, if anything does."""
        if not (self.active and self._strikes and self.random.random() < 0.06):
            return None
        possible: list[Literal["stall", "crash"]] = [one for one in ("stall", "crash") if one in self.faults]
        if not possible:
            return None
        self._strikes -= 1
        return self.random.choice(possible)

    def duration(self) -> float:
        """Seconds of a stall or an outage: from a blink to ten times the time limit of a call."""
        return float(10 ** self.random.uniform(-1, 2.5))

    def store_fate(self, *, writes: bool) -> StoreFate:
        """One operation of the store."""
        fails = self.happens("store", 0.15)
        durable = self.random.random() < 0.5
        return StoreFate(
            before=self._delay(0.01, 4.0),
            after=self._delay(0.01, 4.0) if writes else 0.0,
            effect=not fails or (durable and writes),
            answered=not fails,
            remote=writes and self.random.random() < 0.5,
        )

    def call_fate(self) -> CallFate:
        """One call to the issuer."""
        kind: CallKind = "answered"
        if self.happens("connect", 0.3):
            kind = "refused"
        elif self.happens("busy", 0.4):
            kind = self.random.choice(("busy", "misconfigured", "torn"))
        elif self.happens("answer", 0.4):
            kind = self.random.choice(("error", "error_spent", "lost", "reset", "silent"))
        arrive = self._delay(0.1, ARRIVES_WITHIN) if "answer" in self.faults or "crash" in self.faults else 0.05
        return CallFate(self._delay(0.1, 3.0), arrive, self._delay(0.4, 5.0), kind)

    def _delay(self, usual: float, longest: float) -> float:
        """Mostly short, sometimes long."""
        return self.random.random() * (longest if self.random.random() < 0.08 else usual)
