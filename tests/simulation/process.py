"""One simulated service: the real Refresher, Broker and Background with a memory of their own, on fakes."""

import asyncio
from collections.abc import Mapping
from random import Random
from typing import Any, Final, Protocol, cast

from service.broker.background import Background
from service.broker.broker import Broker, Grant
from service.broker.logins import Logins
from service.broker.refresher import Refresher
from service.broker.seams import Seams
from service.domain.decide import Policy, Wish
from service.domain.errors import AuthError
from service.oauth.provider import Provider
from service.store.owner import Owners
from service.store.store import Store
from tests.simulation.disk import FakeStore, Server
from tests.simulation.issuer import Network, Wire
from tests.simulation.loop import Loop
from tests.simulation.owners import FakeOwners, Registry
from tests.simulation.plan import CallFate, Plan, StoreFate

ACCOUNT: Final = "default"
CALL_LIMIT: Final = 30.0
PATIENCE: Final = CALL_LIMIT + 5


class Gone(Exception):
    """The process that was asked has been killed, or the caller has left."""


class Machine(Protocol):
    """What a process finds around it."""

    loop: Loop
    plan: Plan
    random: Random
    server: Server
    network: Network
    registry: Registry
    providers: Mapping[str, Provider]
    policies: Mapping[str, Policy]

    def now(self) -> float:
        """The wall clock."""

    def left(self) -> float:
        """Seconds until the faults are over."""

    def later(self, seconds: float, work: Any, *arguments: Any) -> None:
        """Let something befall the machine."""

    def has_ended(self, process: "Process") -> None:
        """The kernel cleans up after a process."""

    def judge_grant(self, process: "Process", grant: Grant) -> None:
        """Whether that token may be handed out."""

    def unclear(self, token: str) -> None:
        """Nobody can know what became of a token."""

    def broke(self, law: str, what: str) -> None:
        """A law did not hold."""

    def trace(self, what: str) -> None:
        """One line of the history."""


class Process:
    """A service that can be asked, stopped and killed."""

    def __init__(self, machine: Machine, number: int) -> None:
        self.name = f"p{number}"
        self.is_dead = False
        self.lane = machine.loop.lane(self.name)
        self._machine = machine
        self._asked: set[asyncio.Future[Grant]] = set()
        boot, random = machine.loop.time, machine.random
        seams = Seams(machine.now, boot, random.randbytes, random.random)
        store = cast("Store", FakeStore(machine.server, self))
        owners = cast("Owners", FakeOwners(self.name, machine.registry))
        issuer = Wire(machine.network, self, timeout=CALL_LIMIT)
        self.refresher = _Watched(store, issuer, owners, machine.providers, seams, call_limit=CALL_LIMIT)
        self.refresher.machine = machine
        self.broker = Broker(store, issuer, self.refresher, machine.policies, seams, api_key=None, patience=PATIENCE)
        self.background = Background(store, self.broker, cast("Logins", _NoLogins()), seams)

    def start(self) -> None:
        """Begin to refresh ahead."""
        self.trace(f"{self.name} starts")
        self._machine.loop.spawn(self.lane, self.background.run())

    # -- what befalls it -----------------------------------------------------------------------------------------

    async def moment(self, what: str) -> None:
        """A step of its work, at which the seed may stop or kill it."""
        match self._machine.plan.strike():
            case "stall":
                self.stall(what)
            case "crash":
                self.kill(what)
            case None:
                return
        await asyncio.sleep(0)  # here it stops

    def stall(self, what: str) -> None:
        """SIGSTOP, and SIGCONT later."""
        if self.lane.stopped:
            return
        seconds = min(self._machine.plan.duration(), self._machine.left())
        self.trace(f"{self.name} is stopped for {seconds:.1f} s at: {what}")
        self._machine.loop.stop_lane(self.lane)
        self._machine.later(seconds, self._go_on)

    def kill(self, what: str) -> None:
        """SIGKILL."""
        if self.is_dead:
            return
        self.trace(f"{self.name} is killed at: {what}")
        self.is_dead = True
        self._machine.loop.stop_lane(self.lane)
        self._machine.has_ended(self)
        for answer in self._asked:
            if not answer.done():
                answer.set_exception(Gone())

    def _go_on(self) -> None:
        if not self.is_dead:
            self.trace(f"{self.name} goes on")
            self._machine.loop.resume_lane(self.lane)

    # -- what is asked of it -------------------------------------------------------------------------------------

    async def ask(self, wish: Wish, leaves_after: float | None = None) -> Grant:
        """GET /token, as `web.warm` and the route answer it. Raises Gone, and what the broker raises."""
        if self.is_dead:
            raise Gone
        answer: asyncio.Future[Grant] = self._machine.loop.create_future()
        self._asked.add(answer)
        task = self._machine.loop.spawn(self.lane, self._answer(wish, answer))
        done, _ = await asyncio.wait({answer}, timeout=leaves_after)
        self._asked.discard(answer)
        if done:
            return answer.result()
        answer.cancel()
        task.cancel()
        raise Gone

    async def _answer(self, wish: Wish, answer: asyncio.Future[Grant]) -> None:
        try:
            grant = self.broker.warm_token(ACCOUNT, wish) or await self.broker.token(ACCOUNT, wish)
        except Exception as exc:  # noqa: BLE001 - whoever asked judges it
            if not answer.done():
                answer.set_exception(exc)
            return
        self._machine.judge_grant(self, grant)
        if not answer.done():
            answer.set_result(grant)

    async def rest(self) -> None:
        """Begin nothing new, and finish what was begun."""
        self.background.stop()
        await self.broker.drain()
        await self.refresher.drain()

    # -- what its fakes ask --------------------------------------------------------------------------------------

    def store_fate(self, *, writes: bool) -> StoreFate:
        """What comes of its next operation on the database."""
        return self._machine.plan.store_fate(writes=writes)

    def call_fate(self) -> CallFate:
        """What comes of its next call to the issuer."""
        return self._machine.plan.call_fate()

    def unclear(self, token: str) -> None:
        """The outcome of its call cannot be known."""
        self._machine.unclear(token)

    def broke(self, law: str, what: str) -> None:
        """A law was broken."""
        self._machine.broke(law, what)

    def trace(self, what: str) -> None:
        """Something happened."""
        self._machine.trace(what)


class _Watched(Refresher):
    """The refresher itself; an error in it is a broken law."""

    machine: Machine

    def _landed(self, account: str, task: asyncio.Task[None]) -> None:
        super()._landed(account, task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, AuthError):
            self.machine.broke("answer", f"a refresh ended by {error!r}")


class _NoLogins:
    """Nobody logs in with a device."""

    async def tend(self) -> float | None:
        """Nothing to do, ever."""
        return None
