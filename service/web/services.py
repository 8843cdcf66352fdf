"""What the routes call, and what the guard has found out about who asks."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, Final, Protocol

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError

from service.broker.broker import Broker, Standing
from service.broker.keys import Keys
from service.broker.logins import Logins
from service.broker.releases import Releases
from service.broker.seams import Seams
from service.broker.stand_ins import StandIns
from service.broker.trail import Trail
from service.domain.audit import Deed
from service.domain.backup import Batch, Outcome
from service.domain.caller import Caller
from service.domain.decide import Policy
from service.domain.errors import AuthError, OutOfScope, UnknownLogin
from service.domain.login import Login
from service.web.ends import Ends
from service.web.metrics import Metrics
from service.web.schemas import AccountsQuery


class Kept(Protocol):
    """What the store can do beside what the use cases want of it."""

    async def check(self) -> None:
        """Prove that it can be read and written. Raises StoreUnavailable."""

    async def rekey(self) -> int:
        """Go over to another encryption key; how many values were sealed anew. Raises KeyNotReplaced."""

    async def backup(self) -> IO[bytes]:
        """All accounts and client keys, sealed, as lines of JSON; the caller closes it. Raises StoreUnavailable."""

    async def restore(self, batch: Batch) -> tuple[list[Outcome], list[Outcome]]:
        """Put rows of a backup back; what became of its credentials and client keys. Raises InvalidCredential."""

    async def confirm_unspent(self, account: str, login_id: str) -> object:
        """A restored login may be refreshed. Raises UnknownAccount, InvalidRequest, LoginRequired."""


@dataclass(frozen=True, slots=True)
class Services:
    """What the routes call. `public_url`: where people reach us."""

    broker: Broker
    stand_ins: StandIns
    logins: Logins
    releases: Releases
    keys: Keys
    trail: Trail
    store: Kept
    policies: dict[str, Policy]
    seams: Seams
    metrics: Metrics
    ends: Ends
    public_url: str


async def _each_once(request: Request) -> None:
    """Raises RequestValidationError where a parameter is given twice: a proxy in front may have looked at the other."""
    given = Counter(name for name, _ in request.query_params.multi_items())
    if twice := [name for name, times in given.items() if times > 1]:
        raise RequestValidationError([{"loc": ("query", name), "msg": "given more than once"} for name in twice])


EACH_ONCE: Final[Any] = Depends(_each_once)
"""For routers: FastAPI alone takes the last of several."""


def services_of(request: Request) -> Services:
    """The services of the application that was asked."""
    services = request.app.state.services
    assert isinstance(services, Services)  # noqa: S101 - the state of an application is untyped
    return services


def caller_of(request: Request) -> Caller:
    """Whom the guard has let in."""
    caller = request.state.caller
    assert isinstance(caller, Caller)  # noqa: S101 - the state of a request is untyped
    return caller


def see_account(request: Request, account: str) -> None:
    """Raises OutOfScope if this account is none of the caller's business, whether it exists or not."""
    if not caller_of(request).sees(account):
        raise OutOfScope


async def seen_login(request: Request, login_id: str) -> Login:
    """How a login stands. Raises UnknownLogin, also for one of an account that is none of the caller's business."""
    login = await services_of(request).logins.get(login_id)
    if not caller_of(request).sees(login.account):
        raise UnknownLogin
    return login


async def seen_standings(request: Request, query: AccountsQuery) -> tuple[list[Standing], str | None]:
    """A page of the accounts that are the caller's business, and the `after` of the following one."""
    broker, among = services_of(request).broker, caller_of(request).accounts
    found = await broker.standings(query.after, query.limit + 1, among)
    page = found[: query.limit]
    return page, page[-1].account if len(found) > query.limit else None


@contextmanager
def noted(
    request: Request, deed: Deed, *, account: str | None = None, detail: str | None = None
) -> Iterator[list[str]]:
    """What is done inside is in the audit trail, however it ends; words that it puts into the list too."""
    trail, who = services_of(request).trail, caller_of(request).name
    words = [detail] if detail else []
    try:
        yield words
    except Exception as exc:
        code = exc.code if isinstance(exc, AuthError) else AuthError.code
        trail.note(deed, who, code, account=account, detail=detail)
        raise
    trail.note(deed, who, account=account, detail="; ".join(words) or None)
