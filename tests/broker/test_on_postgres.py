"""The refresh on PostgreSQL: what goes wrong in the database costs neither the login nor a second request."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from service.domain.errors import StoreUnavailable
from tests.kit import House, house
from tests.kit.postgres import Server

pytestmark = pytest.mark.long

EXPIRED = 3601.0
CODES = ["40001", "40P01", "55P03", "25006", "53100"]  # serialization, deadlock, lock timeout, read only, disk full


@pytest.fixture
def url(postgres: Server) -> str:
    """The address of an empty database."""
    return postgres.empty()


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """What has to be said is not shown."""
    caplog.set_level(logging.CRITICAL)


def run(url: str, *statements: str) -> None:
    """Statements of somebody else, each committed."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@contextmanager
def failing(url: str, code: str) -> Iterator[None]:
    """Every change of a credential fails with that SQLSTATE."""
    run(
        url,
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION 'as ordered' USING ERRCODE = '{code}'; END $$",
        "CREATE TRIGGER fail BEFORE UPDATE ON credential EXECUTE FUNCTION fail()",
    )
    yield
    run(url, "DROP TRIGGER fail ON credential", "DROP FUNCTION fail()")


@contextmanager
def unreachable(url: str) -> Iterator[None]:
    """The server takes no connection to the database, and ends those that there are."""
    elsewhere = url.replace("/postgres?", "/template1?")
    run(
        elsewhere,
        "ALTER DATABASE postgres ALLOW_CONNECTIONS false",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pixir-auth'",
    )
    try:
        yield
    finally:
        run(elsewhere, "ALTER DATABASE postgres ALLOW_CONNECTIONS true")


def sent(h: House) -> int:
    """Refresh requests that the issuer has seen."""
    return len(h.sandbox.token_requests("refresh_token"))


async def unsaved(h: House) -> None:
    """Wait until a pair is in memory only."""
    async with asyncio.timeout(30):
        while not h.app.refresher.unsaved:  # noqa: ASYNC110 - nothing tells of it but itself
            await asyncio.sleep(0.005)


async def test_a_hundred_callers_on_an_expired_token_make_one_request(tmp_path: Path, url: str) -> None:
    async with house(tmp_path, database_url=url) as h:
        await h.log_in()
        h.clock.advance(EXPIRED)
        answers = await asyncio.gather(*(h.token() for _ in range(100)))
        assert {answer["generation"] for answer in answers} == {2}
        assert len({answer["access_token"] for answer in answers}) == 1
        assert sent(h) == 1


@pytest.mark.parametrize("code", CODES)
async def test_where_the_intent_cannot_be_stored_nothing_is_sent(tmp_path: Path, url: str, code: str) -> None:
    async with house(tmp_path, database_url=url, refresh_floor=0) as h:
        await h.log_in()
        with failing(url, code):
            answer = await h.token(newer_than=1)
            assert (answer["generation"], answer["warning"]) == (1, "store_unavailable")
            h.clock.advance(EXPIRED)
            assert (await h.client.get("/token")).json()["code"] == "store_unavailable"
        assert sent(h) == 0
        assert (await h.token())["generation"] == 2


@pytest.mark.parametrize("code", CODES)
async def test_where_the_pair_cannot_be_stored_it_is_served_and_stored_later(
    tmp_path: Path, url: str, code: str
) -> None:
    async with house(tmp_path, database_url=url) as h:
        await h.log_in()
        h.clock.advance(EXPIRED)
        h.gate.hold_after.clear()
        caller = asyncio.create_task(h.token())
        await h.gate.arrived.wait()
        with failing(url, code):
            h.gate.hold_after.set()
            await unsaved(h)
            assert (await h.token())["warning"] == "store_unavailable"
        assert (await caller)["generation"] == 2
        await h.app.refresher.drain()
        assert "warning" not in await h.token()
        assert (sent(h), h.sandbox.reuse_count) == (1, 0)


async def test_a_database_that_goes_away_during_the_call_gets_the_pair_when_it_is_back(
    tmp_path: Path, url: str
) -> None:
    async with house(tmp_path, database_url=url) as h:
        await h.log_in()
        h.clock.advance(EXPIRED)
        h.gate.hold_after.clear()
        caller = asyncio.create_task(h.token())
        await h.gate.arrived.wait()
        with unreachable(url):
            h.gate.hold_after.set()
            await unsaved(h)
            assert (await h.token())["generation"] == 2
            with pytest.raises(StoreUnavailable):
                await h.app.services.store.check()
        assert (await caller)["generation"] == 2
        await h.app.refresher.drain()
        assert (await h.status())["refresh"]["generation"] == 2
        assert (sent(h), h.sandbox.reuse_count) == (1, 0)


async def test_while_the_database_is_away_what_is_valid_is_served(tmp_path: Path, url: str) -> None:
    async with house(tmp_path, database_url=url) as h:
        await h.log_in()
        await h.token()
        with unreachable(url):
            h.app.services.store._backend._changes += 1  # type: ignore[attr-defined]  # the listener has noticed
            assert (await h.token())["warning"] == "store_unavailable"
            h.clock.advance(EXPIRED)
            assert (await h.client.get("/token")).json()["code"] == "store_unavailable"
        assert (await h.token())["generation"] == 2
