"""One simulated machine for one seed: processes, a database, an issuer, callers, people, and the laws."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from service.broker.broker import Grant
from service.domain.credential import Credential
from service.domain.decide import Policy, Wish, due_at
from service.domain.errors import AuthError
from service.oauth.provider import Provider
from tests.simulation.disk import Disk, Server
from tests.simulation.issuer import FakeIssuer, Network
from tests.simulation.loop import Loop, Restless
from tests.simulation.owners import Registry
from tests.simulation.plan import PROFILES, Plan
from tests.simulation.process import ACCOUNT, Gone, Process

WINDOW: Final = 60.0
"""Seconds in which a lenient issuer answers a spent token again."""

_EPOCH: Final = 1_800_000_000.0

_QUIET: Final = 420.0
"""Virtual seconds without faults: longer than any token here lives, and than any pause that is left over."""

_ROUND: Final = 40.0
"""Virtual seconds in which a background that has been stopped ends its last round."""

_LAST_ANSWER: Final = 600.0
"""Virtual seconds within which all come to rest once nothing new is begun."""

_CALLS_A_MINUTE: Final = 20
"""More calls to the issuer than that are a hot loop: callers may cause one in five seconds, the rest is paused."""

Due = Callable[[Credential], float | None]


@dataclass(frozen=True, slots=True)
class Broken:
    """A law that did not hold, and how that was seen."""

    law: str
    what: str


@dataclass(frozen=True, slots=True)
class Course:
    """What became of one seed. `excused`: why the login may be lost, if it is."""

    seed: int
    profile: str
    strict: bool
    broken: tuple[Broken, ...]
    events: tuple[str, ...]
    excused: str | None

    def __str__(self) -> str:
        laws = "; ".join(f"{one.law}: {one.what}" for one in self.broken)
        end = laws or (f"login lost, excused: {self.excused}" if self.excused else "all laws hold")
        return f"seed {self.seed} ({self.profile}, {'strict' if self.strict else 'lenient'} issuer): {end}"


class World:
    """Everything for one seed. Profile and issuer follow from the seed where they are not given."""

    def __init__(
        self,
        seed: int,
        *,
        profile: str | None = None,
        strict: bool | None = None,
        disk: Callable[[Due, Callable[[], float]], Disk] = Disk,
    ) -> None:
        names = list(PROFILES)
        self.seed = seed
        self.profile = profile or names[seed % len(names)]
        self.strict = (seed // len(names)) % 2 == 0 if strict is None else strict
        self.random = Random(seed)
        self.plan = Plan(self.random, self.profile)
        self.loop = Loop(self.random)
        self.events: list[str] = []
        self.broken: list[Broken] = []
        self.lifetime = float(self.random.choice((120, 200, 300)))
        self.ends_at = self.lifetime * self.random.uniform(1.2, 2.2) + 60
        self.wall = _EPOCH
        window = None if self.strict else WINDOW
        self.issuer = FakeIssuer(lifetime=self.lifetime, window=window)
        self.network = Network(self.issuer, self.loop)
        self.providers: Mapping[str, Provider] = {
            "codex": Provider("codex", "https://issuer.test", "client", "", retry_within=window)
        }
        self.policies: Mapping[str, Policy] = {"codex": Policy(retry_within=window)}
        self.registry = Registry()
        self.disk = disk(self._due, self.loop.time)
        self.server = Server(self.disk, self.loop)
        self.processes: list[Process] = []
        self._started = 0
        self._was_set_back = False
        self._doubts: defaultdict[str, set[str]] = defaultdict(set)
        self._excused: str | None = None

    def run(self) -> Course:
        """From the first login until all rest, and the laws after it."""
        self.loop.set_exception_handler(self._unexpected)
        with _quiet():
            try:
                self.loop.run_until_complete(self._course())
            except Restless as exc:
                self.broke("rest", str(exc))
            finally:
                self._end()
        return Course(self.seed, self.profile, self.strict, tuple(self.broken), tuple(self.events), self._excused)

    # -- what processes find around them -------------------------------------------------------------------------

    def now(self) -> float:
        """The wall clock, which people set."""
        return self.wall + self.loop.time()

    def left(self) -> float:
        """Seconds until the faults are over."""
        return max(0.0, self.ends_at - self.loop.time())

    def later(self, seconds: float, work: Callable[..., Any], *arguments: Any) -> None:
        """Let something befall the machine."""
        self.loop.call_later(seconds, work, *arguments, context=self.loop.context_of(self.loop.world))

    def has_ended(self, process: Process) -> None:
        """Its lock is free, and another takes its place. What it was doing is in doubt."""
        self.registry.ended.add(process.name)
        credential = self.disk.load(ACCOUNT)
        if credential and credential.attempt and credential.attempt.owner == process.name:
            self._doubt(credential)
        self.processes.remove(process)
        self.later(self.random.uniform(0.1, 30), self._start)

    def unclear(self, token: str) -> None:
        """Whoever sent this token cannot know what became of it."""
        credential = self.disk.load(ACCOUNT)
        attempt = credential.attempt if credential else None
        self._doubts[token].add(attempt.attempt_id if attempt else "superseded")

    def broke(self, law: str, what: str) -> None:
        """A law did not hold."""
        self.trace(f"BROKEN: {law}: {what}")
        self.broken.append(Broken(law, what))

    def trace(self, what: str) -> None:
        """One line of the history."""
        self.events.append(f"{self.loop.time():10.3f}  {what}")

    def judge_grant(self, process: Process, grant: Grant) -> None:
        """A token handed out is that of a durable generation, or of one that its process still tries to store."""
        token = grant.access_token.reveal()
        if self.disk.pairs.get(grant.generation) == token:
            return
        unsaved = process.refresher.unsaved.get(ACCOUNT)
        if unsaved is None or unsaved.access_token != grant.access_token:
            self.broke("durable", f"{process.name} gave {token} as generation {grant.generation}")

    # -- the course of things ------------------------------------------------------------------------------------

    async def _course(self) -> None:
        self.plan.active = False
        for _ in range(self.random.randint(2, 3)):
            self._start()
        await self._log_in(self.processes[0])
        self.plan.active = True
        callers = [self._caller() for _ in range(self.random.randint(1, 3))]
        doing = [asyncio.create_task(work) for work in (*callers, self._herds(), *self._people())]
        await asyncio.sleep(self.left())
        self.plan.active = False
        self.trace("the faults are over")
        self.server.come_back()
        await asyncio.sleep(_QUIET)
        await self._rest(doing)
        self._judge_end()

    def _start(self) -> None:
        self._started += 1
        self.processes.append(Process(self, self._started))
        self.processes[-1].start()

    def _somebody(self) -> Process | None:
        return self.random.choice(self.processes) if self.processes else None

    async def _caller(self) -> None:
        """Asks again and again, one process or another; what he sees never goes back."""
        newest = 0
        while self.left():
            await asyncio.sleep(min(self.left(), self.random.expovariate(10 / self.ends_at)))
            process = self._somebody()
            rejected = newest if newest and self.random.random() < 0.2 else None
            wish = Wish(min_ttl=self.random.choice((0.0, 30.0, 60.0)), newer_than=rejected)
            leaves_after = self.random.uniform(0, 3) if self.plan.happens("leave", 0.3) else None
            grant = await self._asked(process, wish, leaves_after)
            if grant is None:
                continue
            if grant.generation < newest and grant.warning != "store_unavailable":  # from memory: it says so
                self.broke("generation", f"{grant.generation} after {newest}")
            if grant.access_token.reveal() == self.disk.pairs.get(grant.generation):
                newest = max(newest, grant.generation)

    async def _herds(self) -> None:
        """Many at once, now and then."""
        while self.left():
            await asyncio.sleep(min(self.left(), self.random.expovariate(3 / self.ends_at)))
            await asyncio.gather(*(self._asked(self._somebody(), Wish(min_ttl=60.0)) for _ in range(5)))

    async def _asked(self, process: Process | None, wish: Wish, leaves_after: float | None = None) -> Grant | None:
        if process is None:
            return None
        try:
            grant = await process.ask(wish, leaves_after)
        except (Gone, AuthError) as exc:
            self.trace(f"{process.name} answers {getattr(exc, 'code', 'nothing')}")
            return None
        except Exception as exc:  # noqa: BLE001 - that is what must not happen
            self.broke("answer", f"{process.name} answers {exc!r}")
            return None
        self.trace(f"{process.name} gives generation {grant.generation} ({grant.warning})")
        return grant

    def _people(self) -> Iterator[Coroutine[Any, Any, None]]:
        """Who sets clocks, restarts things, logs in and out."""
        acts: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "outage": self._outage,
            "clock": self._set_clock,
            "login": self._new_login,
            "logout": self._log_out,
            "crash": self._restart,
        }
        for fault, act in acts.items():
            if fault in self.plan.faults:
                for _ in range(self.random.randint(0, 2)):
                    yield self._at(self.random.uniform(0, self.ends_at), act)

    async def _at(self, instant: float, act: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await asyncio.sleep(instant - self.loop.time())
        await act()

    async def _outage(self) -> None:
        self.trace("the database goes away")
        self.server.go_down()
        await asyncio.sleep(min(self.plan.duration(), self.left()))
        self.trace("the database is back")
        self.server.come_back()

    async def _set_clock(self) -> None:
        step = self.random.choice((-1, 1)) * self.random.choice((5, 90, 400, 3600, 86400 * 3650))
        self.trace(f"somebody sets the clock by {step} s")
        self.wall += step
        self._was_set_back = self._was_set_back or step < 0

    async def _restart(self) -> None:
        """SIGTERM, and SIGKILL a minute later."""
        process = self._somebody()
        if process is not None:
            task = self.loop.spawn(process.lane, process.rest())
            await asyncio.wait({task}, timeout=60)
            process.kill("its end")

    async def _new_login(self) -> None:
        process = self._somebody()
        if process is not None:
            await self._log_in(process)

    async def _log_in(self, process: Process) -> None:
        access, refresh = self.issuer.log_in()
        self.trace(f"somebody brings the login {refresh}")
        document = {"kind": "subscription", "access_token": access, "refresh_token": refresh}
        expires_at = int((self.now() + self.lifetime) * 1000)
        await self._done(process, process.broker.install(ACCOUNT, {**document, "expires_at": expires_at}, "codex"))

    async def _log_out(self) -> None:
        process = self._somebody()
        if process is not None:
            self.trace("somebody logs out")
            await self._done(process, process.broker.logout(ACCOUNT))

    async def _done(self, process: Process, work: Coroutine[Any, Any, Any]) -> None:
        """Somebody's request to a process, which may die over it."""
        task = self.loop.spawn(process.lane, work)
        while not process.is_dead:
            done, _ = await asyncio.wait({task}, timeout=20)
            if done:
                error = task.exception()
                if error is not None and not isinstance(error, AuthError):
                    self.broke("answer", f"{process.name} answers {error!r}")
                return

    # -- the laws ------------------------------------------------------------------------------------------------

    async def _rest(self, doing: list[asyncio.Task[None]]) -> None:
        """Nothing new begins; everybody has an answer, and nothing is under way."""
        for process in self.processes:
            process.background.stop()
        await self._ended([*doing, asyncio.create_task(asyncio.sleep(_ROUND))])
        await self._ended([asyncio.create_task(self._asked(process, Wish())) for process in self.processes])
        await self._ended([self.loop.spawn(process.lane, process.rest()) for process in self.processes])

    async def _ended(self, doing: list[asyncio.Task[Any]]) -> None:
        _, pending = await asyncio.wait(doing, timeout=_LAST_ANSWER)
        for task in sorted(pending, key=repr):
            self.broke("rest", f"no end of {task.get_coro()!r}")

    def _judge_end(self) -> None:
        self._judge_sends()
        credential = self.disk.load(ACCOUNT)
        if credential is None or credential.login_id != self.disk.meant or credential.refresh_token is None:
            if self.disk.meant is not None:
                self.broke("lost", "the row holds another login than the last")
            return
        if credential.attempt is not None:
            self.broke("rest", f"the intent of {credential.attempt.owner} stays")
        if credential.state == "active" and credential.uncertain_since is not None:
            self.broke("rest", "uncertain for ever")
        self._judge_login(credential, credential.refresh_token.reveal())

    def _judge_login(self, credential: Credential, token: str) -> None:
        """The row holds what the issuer would take, and knows it."""
        family = self.issuer.family_of[token]
        unsaved = [pair.refresh_token for one in self.processes for pair in one.refresher.unsaved.values()]
        held = family.current in (token, *(secret.reveal() for secret in unsaved if secret))
        if family.alive and held and credential.state == "active":
            return
        doubts = len(self._doubts[token])
        once_is_enough = self.strict and not (family.alive and held)
        if doubts > (0 if once_is_enough else 1):
            self._excused = f"{doubts} unknown outcomes of {token}"
        elif token in self.issuer.too_late:
            self._excused = f"{token} was tried again too late"
        else:
            self.broke("lost", f"the row is {credential.state} and holds {token}, the issuer has {family}")

    def _judge_sends(self) -> None:
        for token, looks in self.issuer.looks.items():
            if looks > (2 if self._doubts[token] else 1):
                self.broke("spent twice", f"{token} came {looks} times, {len(self._doubts[token])} outcomes unknown")
        calls = self.network.calls
        for first, last in zip(calls, calls[_CALLS_A_MINUTE:], strict=False):
            if last - first < 60:
                self.broke("rest", f"more than {_CALLS_A_MINUTE} calls in a minute from {first:.0f}")
                return

    # ------------------------------------------------------------------------------------------------------------

    def _due(self, credential: Credential) -> float | None:
        return due_at(credential, self.now(), self.policies["codex"])

    def _doubt(self, credential: Credential) -> None:
        if credential.refresh_token is not None and credential.attempt is not None:
            self._doubts[credential.refresh_token.reveal()].add(credential.attempt.attempt_id)

    def _unexpected(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.broke("answer", f"{context['message']}: {context.get('exception')!r}")

    def _end(self) -> None:
        """The machine is switched off: what still waits is undone, in order, and can touch nothing."""
        self.loop.set_exception_handler(lambda _loop, _context: None)
        self.server.is_down = True
        self.loop.end()


@contextmanager
def _quiet() -> Iterator[None]:
    """The log of ten thousand machines is nobody's reading; the trace has what matters."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
