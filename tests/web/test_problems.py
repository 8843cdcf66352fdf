"""Problem answers: one shape, a closed list of codes; errors of the program itself; what requests leave in the log."""

import io
import logging
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import get_args

import httpx
import pytest

from service.app import Application, OwnPort, create_app
from service.domain.errors import CODES, AuthError, Code, LoginReason, LoginRequired, StoreUnavailable
from service.logs import _Json, _Text
from service.web.callers import OPEN
from service.web.problems import DEFAULT_ACTIONS, STATUS, problem_of
from service.web.problems import problem as made
from tests.kit import Clock, House, settings_in
from tests.kit.house import owner_in_process
from tests.web.expect import PROBLEM, problem
from tests.web.home import home, install
from tests.web.routes import CALLS, PATHS, TABLE, called
from tests.web.seen import CANARY, unseen
from tests.web.wire import send

pytestmark = pytest.mark.asyncio(loop_scope="module")

# the table


@pytest.mark.parametrize("code", sorted(CODES))
async def test_every_code_makes_a_problem(code: Code) -> None:
    answer = made(code, "Why.", retry_after=None)
    status, title = STATUS[code]
    assert answer.status_code == status
    assert 400 <= status < 600
    assert title
    body = httpx.Response(status, headers=answer.headers, content=bytes(answer.body)).json()
    assert set(body) == PROBLEM
    assert body["code"] == code


def _with_actions(kind: type[AuthError]) -> set[str]:
    here = {kind.code} if kind.next_actions or issubclass(kind, LoginRequired) else set()
    return here.union(*map(_with_actions, kind.__subclasses__()))


@pytest.mark.parametrize("code", sorted(CODES))
async def test_every_code_comes_with_what_to_do(code: Code) -> None:
    assert code in DEFAULT_ACTIONS.keys() | _with_actions(AuthError)


@pytest.mark.parametrize("reason", get_args(LoginReason))
@pytest.mark.parametrize("account", ["default", "work"])
async def test_every_reason_says_where_to_log_in(reason: LoginReason, account: str) -> None:
    answer = problem_of(LoginRequired(account, reason), "http://localhost:1455")
    body = problem(
        httpx.Response(answer.status_code, headers=answer.headers, content=bytes(answer.body)),
        409,
        "login_required",
        "account",
        "login_url",
        "reason",
    )
    assert (body["account"], body["reason"]) == (account, reason)
    assert body["login_url"] == "http://localhost:1455/login" + ("" if account == "default" else f"?account={account}")
    assert any(body["login_url"] in action for action in body["next_actions"])


async def test_every_error_of_ours_has_a_code_of_the_list() -> None:
    def below(kind: type[AuthError]) -> Iterator[type[AuthError]]:
        yield kind
        for one in kind.__subclasses__():
            yield from below(one)

    assert {kind.code for kind in below(AuthError)} <= CODES


# an error in the program itself


class Broken(OwnPort):
    """A door that fails as only a bug can, with a secret in the error and in its causes."""

    async def open_one(self, ports: tuple[int, ...]) -> int | None:
        secret = CANARY
        try:
            return int(secret)
        except ValueError as exc:
            raise RuntimeError(f"it was {secret}", ports) from exc


@asynccontextmanager
async def broken(folder: Path) -> AsyncIterator[Application]:
    app = create_app(settings_in(folder), door=Broken(1455), seams=Clock().seams(), peer_of=owner_in_process)
    try:
        yield app
    finally:
        await app.close()


@pytest.mark.parametrize("shape", ["text", "json"])
async def test_an_unexpected_error_says_nothing(tmp_path: Path, shape: str) -> None:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(_Text() if shape == "text" else _Json())
    log = logging.getLogger("service")
    log.addHandler(handler)
    async with broken(tmp_path) as app:
        answer = await send(app, "POST", "/login", [("Cookie", CANARY)], b"")
    log.removeHandler(handler)
    problem(answer, 500, "internal_error")
    unseen(answer, written)
    assert "RuntimeError at test_problems.py" in written.getvalue()
    assert "ValueError at test_problems.py" in written.getvalue()


async def test_an_unexpected_error_is_the_end_of_that_request_only(tmp_path: Path) -> None:
    async with broken(tmp_path) as app:
        assert (await send(app, "POST", "/login", [], b"")).status_code == 500
        assert (await send(app, "GET", "/healthz")).status_code == 200
        (told,) = (await send(app, "GET", "/audit")).json()["entries"]
        assert (told["deed"], told["outcome"]) == ("login_started", "internal_error")


# what is logged


async def test_each_request_is_one_line_without_its_query(h: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="service.access")
    await install(h)
    caplog.clear()
    for method, path in CALLS:
        await send(h.app, method, f"{path}?code=SECRETCODE&state=SECRETSTATE")
    lines = [record.getMessage() for record in caplog.records if record.name == "service.access"]
    assert len(lines) == len(CALLS)
    for (method, path), line in zip(CALLS, lines, strict=True):
        templates = [route.path for route in TABLE if called(route.path) == path]
        assert line.split(" ")[:2] in [[method, template] for template in templates]
        assert "SECRET" not in line


async def test_nobody_can_fill_the_log_with_what_is_open_to_all(h: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="service.access")
    for path in sorted(OPEN):
        await send(h.app, "GET", f"{path}?state=x&code=x")
        await send(h.app, "POST", path)
        await send(h.app, "POST", path, [("Content-Type", "text/plain")], b"x")
        await send(h.app, "GET", path, [("Host", "evil")])
    assert caplog.records == []


HOSTILE = "a\r\nb\x1b[31mc\u2028d\u202ee\0f"


@pytest.mark.parametrize("path", [*PATHS, f"/{HOSTILE}"])
async def test_whatever_is_asked_is_one_printable_line_in_the_log(h: House, said: io.StringIO, path: str) -> None:
    hostile = HOSTILE.encode()
    for name in ("User-Agent", "Host", "Referer", "Cookie", "Accept"):
        await send(h.app, "GET", path.encode() + b"?state=" + hostile + b"&code=" + hostile, [(name, hostile)])
    for line in said.getvalue().splitlines():
        assert line.isprintable()
        assert "[31m" not in line


# the store


async def test_what_the_database_says_is_not_passed_on(tmp_path: Path, said: io.StringIO) -> None:
    async with home(tmp_path) as h:
        tokens = await install(h)
        (tmp_path / "data" / "pixir-auth.db").chmod(0o600)
        h.clock.advance(4000)
        other = sqlite3.connect(tmp_path / "data" / "pixir-auth.db")
        other.execute("CREATE TRIGGER no BEFORE UPDATE ON credential BEGIN SELECT RAISE(ABORT, 'refused'); END")
        other.commit()
        answer = await send(h.app, "GET", "/token")
        problem(answer, 503, StoreUnavailable.code, "retry_after")
        for secret in (tokens["access_token"], tokens["refresh_token"]):
            unseen(answer, said, secret)
        assert "refused" not in answer.text
        assert len(h.sandbox.requests) == 0, "sent although it could not be noted"
        other.execute("DROP TRIGGER no")
        other.commit()
        other.close()
