"""The answer from memory is the answer from the routes, byte for byte, or there is none."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.sandbox import faults
from service.store.store import Store
from service.web.guard import Guard, allowed_for
from service.web.warm import Warm
from tests.kit import House
from tests.kit.lacking import IN_CI
from tests.web.expect import problem
from tests.web.home import home, install, refreshes, sane
from tests.web.wire import send

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATHS = ["/token", "/headers", "/forward-auth"]

Headers = Sequence[tuple[str, str]]


ALLOWED = allowed_for(1455, "http://localhost:1455", ())


async def _declined(scope: Scope, receive: Receive, send_on: Send) -> None:
    await Response(status_code=204)(scope, receive, send_on)


@dataclass
class Ways:
    """The two ways into one house: by the memory alone, and past it."""

    house: House
    memory: Guard
    routes: Guard

    async def from_memory(self, target: str, headers: Headers = ()) -> httpx.Response | None:
        """None where it declines."""
        answer = await send(self.memory, "GET", target, headers)
        return answer if answer.status_code == 200 else None

    async def by_route(self, target: str, headers: Headers = ()) -> httpx.Response:
        return await send(self.routes, "GET", target, headers)


def ways(house: House) -> Ways:
    warm = Warm(house.app.services.broker, house.app.services.seams.now)
    callers = house.app.callers
    return Ways(house, Guard(_declined, ALLOWED, callers, warm), Guard(house.app.api, ALLOWED, callers))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ways]:
    async with home(tmp_path_factory.mktemp("warm"), OPENAI_API_KEY="sk-environment") as house:
        await install(house, "work")
        await house.log_in("home")
        house.clock.now += 0.37
        yield ways(house)


NAMES = st.sampled_from(["account", "min_ttl", "newer_than", "format", "acount", "token", "", "account[]", "Account"])
ODD = """
 work home default nobody WORK work%0A %77ork work+ %20work 0 1 2 -1 30 30.0 1e1 1_0 +5 %2B5 0x10 nan inf -0 1.0 1.5 00
 %D9%A3 json text TEXT xml true null None 1000000000 1e9 1e10 9007199254740992 99999999999999999999999999 % %zz %ff %00
"""
VALUES = st.one_of(st.sampled_from(["", *ODD.split()]), st.text(max_size=8))
QUERIES = st.lists(st.tuples(NAMES, VALUES, st.sampled_from(["&", ";", "&&"])), max_size=10).map(
    lambda parts: "".join(f"{name}={value}{end}" for name, value, end in parts).rstrip("&;")
)
ACCEPTS = st.lists(
    st.sampled_from(["text/plain", "TEXT/PLAIN", " text/plain;q=0.1", "*/*", "application/json", "text/html", ""]),
    max_size=2,
)


@settings(max_examples=150 if IN_CI else 50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(PATHS), query=QUERIES, accepts=ACCEPTS)
async def test_both_ways_give_the_same(both: Ways, path: str, query: str, accepts: list[str]) -> None:
    written = f"{path}?{query}".encode("utf-8", "surrogatepass")
    target = "".join(chr(one) if 0x21 <= one <= 0x7E else f"%{one:02X}" for one in written)
    headers = [("Accept", one) for one in accepts]
    warm, cold = await both.from_memory(target, headers), await both.by_route(target, headers)
    if warm is None:
        return
    assert (warm.status_code, warm.content) == (cold.status_code, cold.content)
    assert dict(warm.headers) == dict(cold.headers)


PLAIN = [
    "account=work",
    "account=work&format=text",
    "account=home&min_ttl=60",
    "account=home&newer_than=0",
    "",
    "format=json",
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("query", PLAIN)
async def test_what_is_plain_is_answered_from_memory(both: Ways, path: str, query: str) -> None:
    await both.by_route(f"{path}?{query}")  # now it is known
    warm, cold = await both.from_memory(f"{path}?{query}"), await both.by_route(f"{path}?{query}")
    assert warm is not None
    assert (warm.content, dict(warm.headers)) == (cold.content, dict(cold.headers))


@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.5, 0.62, 0.64, 0.9, 1.0, 3599.0])
async def test_at_every_moment_of_a_second(both: Ways, seconds: float) -> None:
    target = "/token?account=home&min_ttl=0"
    await both.by_route(target)
    before = both.house.clock.now
    for step in (0.0, seconds):
        both.house.clock.now = before + step
        warm, cold = await both.from_memory(target), await both.by_route(target)
        assert warm is not None
        assert warm.content == cold.content
    both.house.clock.now = before


DECLINED: dict[str, Callable[[str], str]] = {
    "unknown parameter": lambda path: f"{path}?acount=work",
    "repeated parameter": lambda path: f"{path}?account=work&account=work",
    "unknown account": lambda path: f"{path}?account=nobody",
    "rejected generation": lambda path: f"{path}?account=work&newer_than=1",
    "more than is left": lambda path: f"{path}?account=work&min_ttl=100000",
    "another path": lambda path: f"{path}/?account=work",
    "another route": lambda path: "/status?account=work",
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("case", DECLINED)
async def test_whatever_is_not_plain_is_declined(both: Ways, path: str, case: str) -> None:
    await both.by_route(f"{path}?account=work")
    assert await both.from_memory(DECLINED[case](path)) is None


# coherent


async def test_the_next_read_after_anothers_commit_is_new(tmp_path: Path) -> None:
    async with home(tmp_path) as first, home(tmp_path, sandbox=first.sandbox, clock=first.clock) as second:
        await install(first)
        for _ in range(5):
            for house, other in ((first, second), (second, first)):
                seen = await house.token()
                assert await house.token() == seen
                moved = await other.token(newer_than=seen["generation"])
                assert moved["generation"] == seen["generation"] + 1
                assert await house.token() == moved
                first.clock.advance(6)


async def test_a_logout_elsewhere_is_seen_at_once(tmp_path: Path) -> None:
    async with home(tmp_path) as first, home(tmp_path, sandbox=first.sandbox, clock=first.clock) as second:
        await install(first)
        assert (await first.token())["generation"] == 1
        await second.client.post("/logout")
        assert (await first.token())["reason"] == "logged_out"


async def test_a_login_elsewhere_takes_the_place_of_the_key_at_once(tmp_path: Path) -> None:
    options: dict[str, Any] = {"OPENAI_API_KEY": "sk-environment"}
    async with (
        home(tmp_path, **options) as first,
        home(tmp_path, sandbox=first.sandbox, clock=first.clock, **options) as second,
    ):
        assert [(await first.token())["kind"] for _ in range(3)] == ["api_key"] * 3
        await install(second)
        assert (await first.token())["kind"] == "subscription"


async def test_an_expired_token_is_never_served_from_memory(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        await h.log_in()
        assert [(await h.token(min_ttl=0))["generation"] for _ in range(3)] == [1, 1, 1]
        h.sandbox.fail_next(faults.server_error())
        h.clock.advance(3600)
        assert (await h.client.get("/token?min_ttl=0")).status_code == 503


async def test_fifty_warm_reads_ask_nobody(tmp_path: Path) -> None:
    async with home(tmp_path, knobs=sane()) as h:
        await h.log_in()
        await h.token()
        asked = len(h.sandbox.requests)
        bodies = await asyncio.gather(*(h.token() for _ in range(50)))
        assert all(body == bodies[0] for body in bodies)
        assert (len(h.sandbox.requests), refreshes(h)) == (asked, 0)


async def test_while_the_database_is_gone_memory_serves_what_is_valid_and_says_so(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        await install(h)
        await h.token()
        store = h.app.services.store
        assert isinstance(store, Store)
        store._backend._watch.close()  # type: ignore[attr-defined]  # as when the file cannot be read any more
        assert (await h.token())["warning"] == "store_unavailable"
        h.clock.advance(3601)
        problem(await h.client.get("/token"), 503, "store_unavailable", "retry_after")


async def test_what_is_answered_from_memory_is_logged_at_debug_only(
    both: Ways, caplog: pytest.LogCaptureFixture
) -> None:
    await both.by_route("/token?account=work")
    for level, lines in (("INFO", 0), ("DEBUG", 1)):
        caplog.clear()
        caplog.set_level(level, logger="service.access")
        await both.from_memory("/token?account=work")
        assert [record.getMessage() for record in caplog.records] == ["GET /token 200 from memory"] * lines
