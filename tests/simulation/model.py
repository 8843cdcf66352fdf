"""Every course that two processes with one refresh token can take: which way of sharing it loses the login?

A process may be delayed for ever between any two steps. It may be killed; what it has written may still arrive. An
answer may be lost while the request is under way. `explore` visits every state that can be reached and tells how the
login ended in each final one.
"""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

Strategy = Literal["lease_blind", "lease_fence", "rowlock_tx", "intent_cas", "intent_cas_takeover"]
"""lease_blind: who finds a lease that is over takes it and sends; results are written blindly. lease_fence: the same,
but who has lost the lease may not write. rowlock_tx: the lock is an open transaction, which may vanish while its holder
lives; then he may not write. intent_cas: a durable intent; nobody else ever sends; the result is written where the row
still holds the token that was exchanged. intent_cas_takeover: the same, with one retry, by the owner or, when he is
proven dead and nothing of his is under way, by another. That is what this service does."""

Step = Literal["idle", "claimed", "checked", "waiting", "unknown", "answered", "refused", "done", "over", "dead"]
End = Literal["safe", "excused", "lost"]

TAKES_OVER = frozenset({"lease_blind", "lease_fence", "rowlock_tx"})
FENCED = frozenset({"lease_fence", "rowlock_tx"})
ENDED = frozenset({"done", "over", "dead"})


@dataclass(frozen=True, slots=True)
class Process:
    """`token`: the generation it sends. `result`: the generation it was given. `tries`: unknown outcomes so far."""

    step: Step = "idle"
    token: int = 0
    result: int = 0
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """A refresh token under way."""

    sender: int
    token: int
    tries: int


Answer = int | Literal["invalid"] | None


@dataclass(frozen=True, slots=True)
class State:
    """The issuer's generation and whether the family lives; the row's generation, intent and whether it gave up."""

    current: int = 0
    alive: bool = True
    row: int = 0
    holder: int | None = None
    given_up: bool = False
    processes: tuple[Process, ...] = (Process(), Process())
    under_way: frozenset[Request] = frozenset()
    answers: tuple[Answer, ...] = (None, None)
    crashes: int = 0
    losses: int = 0
    excused: bool = False

    def with_process(self, i: int, process: Process) -> "State":
        processes = tuple(process if j == i else one for j, one in enumerate(self.processes))
        return replace(self, processes=processes)

    def with_answer(self, i: int, answer: Answer) -> "State":
        return replace(self, answers=tuple(answer if j == i else one for j, one in enumerate(self.answers)))

    def is_over(self) -> bool:
        return not self.under_way and all(one.step in ENDED for one in self.processes)

    def end(self) -> End:
        """Safe: the row holds what a living family would take, and somebody would try."""
        if self.alive and self.row == self.current and not self.given_up:
            return "safe"
        return "excused" if self.excused else "lost"


def explore(strategy: Strategy, *, lenient: bool = False, crashes: int = 0, losses: int = 0) -> Counter[End]:
    """How often each end is reached. lenient: the issuer answers the token before the current one again.

    crashes, losses: how many processes may be killed, how many answers lost.
    """
    start = State(crashes=crashes, losses=losses)
    seen, queue, ends = {start}, deque([start]), Counter[End]()
    while queue:
        state = queue.popleft()
        following = [*_steps(state, strategy), *_arrivals(state, lenient=lenient)]
        if not following or state.is_over():
            ends[state.end()] += 1
        new = [one for one in dict.fromkeys(following) if one not in seen]
        seen.update(new)
        queue.extend(new)
    return ends


def _steps(state: State, strategy: Strategy) -> Iterator[State]:
    for i, process in enumerate(state.processes):
        if process.step in ENDED:
            continue
        if state.crashes:
            yield _killed(state, i, strategy)
        match process.step:
            case "idle":
                yield from _claimed(state, i, strategy)
            case "claimed":
                fresh = strategy in ("lease_blind", "rowlock_tx") or (state.holder, state.row) == (i, process.token)
                yield state.with_process(i, replace(process, step="checked") if fresh else Process())
            case "checked":
                sent = replace(state, under_way=state.under_way | {Request(i, process.token, process.tries)})
                yield sent.with_process(i, replace(process, step="waiting"))
            case "waiting":
                yield from _heard(state, i)
            case "unknown":
                yield from _retried(state, i, strategy)
            case "answered":
                yield _stored(state, i, strategy)
            case "refused":
                newer = state.row > process.token  # the row has moved on: this was not about its token
                yield replace(state, given_up=state.given_up or not newer).with_process(
                    i, Process("done" if newer else "over")
                )


def _killed(state: State, i: int, strategy: Strategy) -> State:
    doubtful = state.processes[i].step in ("waiting", "answered", "unknown") or _has_sent(state, i)
    holder = None if strategy == "rowlock_tx" and state.holder == i else state.holder
    after = replace(state, crashes=state.crashes - 1, excused=state.excused or doubtful, holder=holder)
    return after.with_process(i, replace(state.processes[i], step="dead"))


def _claimed(state: State, i: int, strategy: Strategy) -> Iterator[State]:
    other = 1 - i
    proven = strategy == "intent_cas_takeover" and state.processes[other].step == "dead" and not _has_sent(state, other)
    if state.row > 0:
        yield state.with_process(i, Process("done"))
    elif state.given_up:
        yield state.with_process(i, Process("over"))
    elif state.holder is None or (state.holder == other and (strategy in TAKES_OVER or proven)):
        yield replace(state, holder=i).with_process(i, Process("claimed", token=state.row))


def _heard(state: State, i: int) -> Iterator[State]:
    process, answer = state.processes[i], state.answers[i]
    if answer == "invalid":
        yield state.with_answer(i, None).with_process(i, replace(process, step="refused"))
    elif answer is not None:
        yield state.with_answer(i, None).with_process(i, replace(process, step="answered", result=answer))
    if state.losses:
        lost = replace(state, losses=state.losses - 1, excused=True).with_answer(i, None)
        yield lost.with_process(i, replace(process, step="unknown"))


def _retried(state: State, i: int, strategy: Strategy) -> Iterator[State]:
    process = state.processes[i]
    again = replace(process, step="checked" if strategy in TAKES_OVER else "claimed", tries=1)
    if strategy == "intent_cas" or process.tries:
        given_up = state.given_up or strategy not in TAKES_OVER
        yield replace(state, given_up=given_up).with_process(i, replace(process, step="over"))
    elif strategy in TAKES_OVER or not _has_sent(state, i):  # a quarantine: nothing of ours is under way any more
        yield state.with_process(i, again)


def _stored(state: State, i: int, strategy: Strategy) -> State:
    process = state.processes[i]
    if strategy == "lease_blind":
        may_write = True
    elif strategy in FENCED:
        may_write = state.holder == i
    else:
        may_write = state.row == process.token
    if not may_write:
        return state.with_process(i, Process("over"))
    keeps = strategy in TAKES_OVER and state.given_up
    return replace(state, row=process.result, holder=None, given_up=keeps).with_process(i, Process("done"))


def _arrivals(state: State, *, lenient: bool) -> Iterator[State]:
    for request in sorted(state.under_way, key=repr):
        after = replace(state, under_way=state.under_way - {request})
        answer: Answer = "invalid"
        if state.alive and request.token == state.current:
            answer = state.current + 1
            after = replace(after, current=answer)
        elif state.alive and lenient and request.token == state.current - 1:
            answer = state.current
        else:
            after = replace(after, alive=False)
        sender = state.processes[request.sender]
        listening = sender.step == "waiting" and sender.tries == request.tries
        yield after.with_answer(request.sender, answer) if listening else after


def _has_sent(state: State, i: int) -> bool:
    return any(request.sender == i for request in state.under_way)
