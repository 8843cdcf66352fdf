"""A database in memory: what `service.store.credentials` promises, statement by statement, and the ways it can fail.

`test_fake_store.py` compares it with the real one. Each operation is atomic; before and after it time passes; its
answer may be lost though it is durable, and a server may carry it out after the process that asked has died.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from service.domain.credential import Attempt, Credential, claimed, is_other_account, logged_out
from service.domain.decide import CLOCK_SLACK
from service.domain.errors import AccountMismatch, AuthError, InvalidCredential, StoreUnavailable
from service.domain.login import Login
from service.domain.secret import Secret
from tests.simulation.loop import Loop
from tests.simulation.plan import StoreFate

T = TypeVar("T")

_NEWS = 60.0
_STATE = (
    *("state", "reason", "attempt", "sends", "uncertain_since", "failures"),
    *("next_attempt_at", "last_error", "last_success_at"),
)
"""What changes while the tokens stay: the columns of `rows.state_columns`."""


@dataclass(frozen=True, slots=True)
class Row:
    """A credential, and what is kept beside it."""

    credential: Credential
    due_at: float | None
    first_token: Secret | None


class Disk:
    """The rows, and a number that every commit changes. Synchronous: each method is one transaction."""

    def __init__(self, due: Callable[[Credential], float | None], time: Callable[[], float]) -> None:
        """due: when to look at a credential again. time: seconds that only grow, for locks that run out."""
        self.rows: dict[str, Row] = {}
        self.commits = 0
        self.meant: str | None = None
        """The login that somebody brought last; None after a logout."""
        self.pairs: dict[int, str] = {}
        """The access token of each generation that was ever durable."""
        self._due = due
        self._time = time

    def load(self, account: str) -> Credential | None:
        """The credential of an account."""
        row = self.rows.get(account)
        return row.credential if row else None

    def due(self, now: float, limit: int) -> tuple[list[str], float | None]:
        """Accounts that are due, and when the next will be."""
        noted = [(row.due_at, account, row) for account, row in self.rows.items() if row.due_at is not None]
        due = sorted(((at, account) for at, account, _ in noted if at <= now), key=_first)
        later = [(row.credential.obtained_at, account) for at, account, row in noted if at > now]
        future = sorted((each for each in later if each[0] > now + CLOCK_SLACK), key=_first)
        return [account for _, account in [*due, *future]][:limit], min(
            (at for at, _, _ in noted if at > now), default=None
        )

    def claim(self, credential: Credential, attempt: Attempt) -> Credential | None:
        """The intent, where there is none and nothing has changed."""
        if credential.attempt is not None:
            return None
        after = claimed(credential, attempt)
        return after if self._changed(credential, after) else None

    def settle(self, before: Credential, after: Credential) -> bool:
        """The outcome, where the row still holds the token that was sent."""
        if after.generation == before.generation:
            return self._changed(before, after)
        row = self._row_of(before)
        if row is None or not _holds_token(row.credential, before):
            return False
        self._write(after, row.first_token)
        return True

    def note_due(self, credential: Credential) -> None:
        """When to look again, if that is news."""
        row = self._row_of(credential)
        due = self._due(credential)
        if row is None or not _nobody_acted_since(row.credential, credential):
            return
        if (row.due_at is not None) if due is None else (row.due_at is None or abs(row.due_at - due) > _NEWS):
            self._put(replace(row, due_at=due))

    def install(self, credential: Credential, *, replace_other: bool = True) -> Credential:
        """A login made elsewhere, in the place of whatever is there."""
        row = self.rows.get(credential.account)
        stored = row.credential if row else None
        if not replace_other and is_other_account(stored, credential.identity):
            raise AccountMismatch
        new = replace(credential, generation=stored.generation + 1 if stored else 1)
        token = new.refresh_token
        if row and row.credential.state == "active" and token in (row.credential.refresh_token, row.first_token):
            return row.credential
        for account, other in self.rows.items():
            held = token in (other.credential.refresh_token, other.first_token)
            if held and other.credential.state != "logged_out" and account != credential.account:
                raise InvalidCredential("Another account holds this login already.")
        self._write(new, token)
        self.meant = new.login_id
        return new

    def recover(self, files: dict[str, Credential]) -> int:
        """Store the pairs of rescue files that follow what is there; how many did."""
        stored = 0
        for login_id, after in list(files.items()):
            before = self.load(after.account)
            follows = before is not None and before.generation == after.generation - 1
            if before is not None and follows and before.login_id == login_id:
                stored += self.settle(before, after)
            del files[login_id]
        return stored

    def forget(self, account: str) -> Credential | None:
        """Erase the tokens, keep the generation; what was there."""
        row = self.rows.get(account)
        if row is None:
            return None
        self._put(Row(logged_out(row.credential), None, row.first_token))
        self.meant = None
        return row.credential

    def restarted(self) -> None:
        """All connections were cut. What is committed stays."""

    def _changed(self, before: Credential, after: Credential) -> bool:
        row = self._row_of(before)
        if row is None or not self._unchanged(row.credential, before):
            return False
        credential = replace(row.credential, **{name: getattr(after, name) for name in _STATE})
        self._put(Row(credential, self._due(after), row.first_token))
        return True

    def _unchanged(self, stored: Credential, before: Credential) -> bool:
        same = _holds_token(stored, before) and _nobody_acted_since(stored, before)
        return same and stored.state == before.state

    def _row_of(self, before: Credential) -> Row | None:
        row = self.rows.get(before.account)
        if row is None or row.credential.login_id != before.login_id:
            return None
        return row if row.credential.generation == before.generation else None

    def _write(self, credential: Credential, first_token: Secret | None) -> None:
        self._put(Row(credential, self._due(credential), first_token))
        if credential.access_token is not None:
            self.pairs[credential.generation] = credential.access_token.reveal()

    def _put(self, row: Row) -> None:
        self.rows[row.credential.account] = row
        self.commits += 1


def _holds_token(stored: Credential, before: Credential) -> bool:
    return stored.state != "logged_out" and stored.refresh_token == before.refresh_token


def _nobody_acted_since(stored: Credential, before: Credential) -> bool:
    mine, theirs = before.attempt, stored.attempt
    same_attempt = (mine.attempt_id if mine else None) == (theirs.attempt_id if theirs else None)
    return same_attempt and stored.sends == before.sends and stored.failures == before.failures


def _first(pair: tuple[float, str]) -> float:
    return pair[0]  # of equals, the one that was there first, as in the real one


class Host(Protocol):
    """The process that a store belongs to, as far as the store has to know it."""

    name: str

    def trace(self, what: str) -> None:
        """What happens, for who replays it."""

    async def moment(self, what: str) -> None:
        """A step of its work: it may be stopped or killed here."""

    def store_fate(self, *, writes: bool) -> StoreFate:
        """What comes of the next operation."""


class Server:
    """The database as all processes share it: it can be away, and tells who waits that somebody has committed."""

    def __init__(self, disk: Disk, loop: Loop) -> None:
        self.disk = disk
        self.loop = loop
        self.is_down = False
        self.files: dict[str, Credential] = {}
        """Rescue files by login: on another disk, which never fails."""
        self._watchers: list[asyncio.Future[None]] = []
        self._context = loop.context_of(loop.world)
        self.seen = 0

    def notify(self) -> None:
        """Wake whoever waits for a commit."""
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            _wake(watcher)

    def go_down(self) -> None:
        """Every connection is cut; what was durable is."""
        self.is_down = True
        self.disk.restarted()
        self.notify()

    def come_back(self) -> None:
        """It can be used again."""
        self.is_down = False

    def carry_out(self, work: Callable[[], Any], fate: StoreFate, done: asyncio.Future[Any]) -> None:
        """The effect itself, and its result for whoever still waits."""
        before = self.disk.commits
        try:
            if self.is_down or not fate.effect:
                raise StoreUnavailable("The statement did not get through.")
            result = work()
        except AuthError as exc:
            if not done.done():
                done.set_exception(exc)
            return
        if self.disk.commits != before:
            self.notify()
        if not done.done():
            done.set_result(result)

    def later(self, seconds: float, fate: StoreFate, work: Callable[[], Any], done: asyncio.Future[Any]) -> None:
        """Carry it out: in the server if it is remote, else in the process that asked."""
        context = self._context if fate.remote else None
        self.loop.call_later(seconds, self.carry_out, work, fate, done, context=context)

    async def news(self, within: float) -> None:
        """Wait until somebody has committed, or not so long."""
        watcher = self.loop.create_future()
        self._watchers.append(watcher)
        timer = self.loop.call_later(within, _wake, watcher)
        try:
            await watcher
        finally:
            timer.cancel()


def _wake(watcher: asyncio.Future[None]) -> None:
    if not watcher.done():
        watcher.set_result(None)


class FakeStore:
    """One process's way to the database; the same methods as `service.store.store.Store`."""

    def __init__(self, server: Server, host: Host) -> None:
        self._server = server
        self._host = host

    async def load(self, account: str) -> Credential | None:
        """As the real one."""
        return await self._run("load", lambda: self._server.disk.load(account), writes=False)

    async def due(self, now: float, limit: int) -> tuple[list[str], float | None]:
        """As the real one."""
        return await self._run("due", lambda: self._server.disk.due(now, limit), writes=False)

    async def claim(self, credential: Credential, attempt: Attempt) -> Credential | None:
        """As the real one."""
        return await self._run("claim", lambda: self._server.disk.claim(credential, attempt))

    async def settle(self, before: Credential, after: Credential) -> bool:
        """As the real one."""
        return await self._run("settle", lambda: self._server.disk.settle(before, after))

    async def rescue(self, after: Credential) -> bool:
        """As the real one: needs no database."""
        await self._host.moment("rescue")
        self._server.files[after.login_id] = after
        return True

    async def rescued(self, after: Credential) -> None:
        """As the real one."""
        self._server.files.pop(after.login_id, None)

    async def recover(self) -> int:
        """As the real one."""
        return await self._run("recover", lambda: self._server.disk.recover(self._server.files))

    async def note_due(self, credential: Credential) -> None:
        """As the real one."""
        await self._run("note_due", lambda: self._server.disk.note_due(credential))

    async def install(self, credential: Credential) -> Credential:
        """As the real one."""
        return await self._run("install", lambda: self._server.disk.install(credential))

    async def forget(self, account: str) -> Credential | None:
        """As the real one."""
        return await self._run("forget", lambda: self._server.disk.forget(account))

    async def pending_login(self, account: str, now: float) -> Login | None:
        """Logins are not simulated: there is none."""
        return None

    def version(self) -> int:
        """As the real one."""
        if self._server.is_down:
            raise StoreUnavailable("The database cannot be read just now.")
        return self._server.disk.commits

    async def changed(self, since: int, *, within: float, every: float = 0.02) -> bool:
        """As the real one, without looking every 20 ms: a commit wakes it, up to `every` later."""
        loop = self._server.loop
        deadline = loop.time() + within
        while self.version() == since:
            if loop.time() >= deadline:
                return False
            await self._server.news(deadline - loop.time())
        await asyncio.sleep(self._host.store_fate(writes=False).before % every)
        return True

    async def _run(self, name: str, work: Callable[[], T], *, writes: bool = True) -> T:
        fate = self._host.store_fate(writes=writes)
        await self._host.moment(f"{name} asked")
        done: asyncio.Future[T] = self._server.loop.create_future()
        self._server.later(fate.before, fate, work, done)
        result = await done
        if writes:
            await asyncio.sleep(fate.after)
        await self._host.moment(f"{name} done")
        is_lost = not fate.answered or (writes and self._server.is_down)
        if writes and name != "note_due":
            said = "; the answer is lost" if is_lost else ""
            self._host.trace(f"{self._host.name}: {name} {'changed' if result else 'did not change'} the row{said}")
        if is_lost:
            raise StoreUnavailable("The answer to the statement was lost.")
        return result
