"""An event loop without a clock: time jumps to whatever comes next, and the seed says who runs.

Each simulated process has a lane of its own. Within a lane callbacks run in the order in which asyncio would run them;
between lanes the seed chooses, one callback at a time. A stopped lane keeps what it has to do, as SIGSTOP does; a lane
that is never resumed is a killed process: no `finally` of it runs.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from itertools import count
from random import Random
from typing import Any, Final, TypeVarTuple

Ts = TypeVarTuple("Ts")

_STEPS: Final = 200_000
"""Callbacks in one simulation: a hundred times what is usual. More means that something turns in circles."""


class Restless(Exception):
    """Callback after callback, and no end."""


class Lane:
    """What one process has to do. `late`: timers that ran out while it was stopped."""

    __slots__ = ("late", "name", "ready", "stopped", "tasks")

    def __init__(self, name: str) -> None:
        self.name = name
        self.ready: deque[asyncio.Handle] = deque()
        self.late: deque[asyncio.Handle] = deque()
        self.stopped = False
        self.tasks: list[asyncio.Task[Any]] = []  # else those of a killed process would be collected, at any time


_LANE: ContextVar[Lane | None] = ContextVar("lane", default=None)


class Loop(asyncio.BaseEventLoop):
    """Virtual seconds, seeded order. Nothing outside can wake it: there are no sockets, threads or signals."""

    _stopping: bool  # asyncio's own

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random
        self._now = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle, Lane]] = []
        self._numbers = count()
        self._steps = 0
        self.world = Lane("world")
        self.lanes = [self.world]

    def time(self) -> float:
        """Virtual seconds since the beginning."""
        return self._now

    def get_debug(self) -> bool:
        """Never: it is asked for each callback."""
        return False

    def lane(self, name: str) -> Lane:
        """A lane for a new process."""
        self.lanes.append(Lane(name))
        return self.lanes[-1]

    def context_of(self, lane: Lane) -> Context:
        """Whatever runs in this context runs in this lane, and all that it starts."""
        context = copy_context()
        context.run(_LANE.set, lane)
        return context

    def spawn(self, lane: Lane, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Begin something in a lane."""
        return self.context_of(lane).run(self.create_task, work)

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """As asyncio does, and remembered by its lane."""
        task: asyncio.Task[Any] = super().create_task(coro, **options)
        (_LANE.get() or self.world).tasks.append(task)
        return task

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """At the end of the lane's queue."""
        context = copy_context() if context is None else context  # an empty one is false
        handle = asyncio.Handle(callback, args, self, context)
        (context.get(_LANE) or self.world).ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """At a virtual instant."""
        context = copy_context() if context is None else context  # an empty one is false
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        lane = context.get(_LANE) or self.world
        heapq.heappush(self._timers, (when, next(self._numbers), handle, lane))
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """After virtual seconds."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def stop_lane(self, lane: Lane) -> None:
        """Nothing of it runs any more, after the callback that is running."""
        lane.stopped = True

    def resume_lane(self, lane: Lane) -> None:
        """It finds all that came in the meantime, and its time over: the seed says which it looks at first."""
        first, then = (lane.late, lane.ready) if self._random.random() < 0.5 else (lane.ready, lane.late)
        lane.ready, lane.late = deque([*first, *then]), deque()
        lane.stopped = False

    def end(self) -> None:
        """Undo whatever still waits, killed processes included, and close."""
        self._steps = 0
        for lane in self.lanes:
            self.resume_lane(lane)
        waiting = [task for lane in self.lanes for task in lane.tasks if not task.done()]
        for task in waiting:
            task.cancel()
        if waiting:
            self.run_until_complete(asyncio.wait(waiting))
        for lane in self.lanes:
            lane.tasks.clear()
        self.close()

    def _run_once(self) -> None:
        """Callback by callback, until somebody stops the loop."""
        while not self._stopping:
            runnable = [lane for lane in self.lanes if lane.ready and not lane.stopped]
            if not runnable:
                self._wait()
                continue
            lane = runnable[int(self._random.random() * len(runnable))] if len(runnable) > 1 else runnable[0]
            handle = lane.ready.popleft()
            if not handle.cancelled():
                handle._run()
            self._steps += 1
            if self._steps > _STEPS:
                raise Restless(f"{_STEPS} callbacks, and no rest at {self._now:.3f}")

    def _wait(self) -> None:
        """Until the next timer, which costs nothing."""
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        if not self._timers:
            raise Restless("everybody waits, and nothing will ever happen")
        self._now = max(self._now, self._timers[0][0])
        while self._timers and self._timers[0][0] <= self._now:
            _, _, handle, lane = heapq.heappop(self._timers)
            if not handle.cancelled():
                (lane.late if lane.stopped else lane.ready).append(handle)
