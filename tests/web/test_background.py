"""What happens without anybody asking: tokens are refreshed before their end, and one account's trouble is its own."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from service.broker.seams import Seams
from service.sandbox import faults
from tests.kit import Clock, House
from tests.web.expect import TOKEN, problem
from tests.web.home import home, install, refreshes, until

pytestmark = pytest.mark.long


async def later(h: House, seconds: float) -> int:
    """Time passes, and a round of the background; the refreshes that it made."""
    before = refreshes(h)
    h.clock.advance(seconds)
    await h.app.background.round()
    await h.app.refresher.drain()
    return refreshes(h) - before


@contextmanager
def database(folder: Path) -> Iterator[sqlite3.Connection]:
    """Somebody else's hand in the database."""
    with closing(sqlite3.connect(folder / "data" / "pixir-auth.db", isolation_level=None)) as connection:
        yield connection


# refreshing ahead


async def test_refreshed_at_the_margin_and_not_before(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        await h.log_in()
        assert await later(h, 3600 - 361) == 0
        assert await later(h, 37) == 1  # up to a tenth of the margin later, so that logins do not move in step
        assert await later(h, 0) == 0
        assert (await h.token())["generation"] == 2


async def test_the_margin_can_be_set(tmp_path: Path) -> None:
    async with home(tmp_path, refresh_margin=60) as h:
        await h.log_in()
        assert await later(h, 3600 - 61) == 0
        assert await later(h, 7) == 1


async def test_the_margin_is_never_more_than_half_of_the_life(tmp_path: Path) -> None:
    async with home(tmp_path, refresh_margin=10_000) as h:
        await h.log_in()
        assert await later(h, 1799) == 0
        assert await later(h, 181) == 1


async def test_the_margin_of_an_import_is_half_of_what_it_had_left(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        await install(h, "default", expires_at=int(h.clock.now) + 200)
        assert await later(h, 99) == 0
        assert (await h.token())["generation"] == 1
        assert await later(h, 12) == 1


async def test_another_margin_counts_after_a_restart(tmp_path: Path) -> None:
    async with home(tmp_path, refresh_margin=1500) as first:
        await first.log_in()
    async with home(tmp_path, sandbox=first.sandbox, clock=first.clock, refresh_margin=60) as h:
        assert await later(h, 2200) == 0
        assert await later(h, 1300) == 0
        assert await later(h, 50) == 1


async def test_all_accounts_and_none_that_is_not_due(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        for name in ("a", "b", "c"):
            await install(h, name)
        h.clock.advance(3000)
        await install(h, "fresh")
        assert await later(h, 500) == 3
        assert (await h.token(account="fresh"))["generation"] == 1


async def test_a_dead_login_is_left_alone(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        await h.log_in()
        h.sandbox.fail_next(faults.refresh_token_reused())
        assert await later(h, 3500) == 1
        for _ in range(5):
            assert await later(h, 1000) == 0


async def test_it_backs_off_while_the_issuer_is_down(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        await h.log_in()
        h.sandbox.fail_next(*(faults.server_error() for _ in range(100)))
        made = [await later(h, 30 if n else 3300) for n in range(60)]
        assert 5 <= sum(made) <= 15
        h.sandbox.clear_faults()
        assert sum([await later(h, 60) for _ in range(6)]) == 1


async def test_it_does_so_by_itself(tmp_path: Path) -> None:
    async with home(tmp_path, background=True) as h:
        await h.log_in()
        h.clock.advance(3500)
        await install(h, "other")  # a commit is noticed
        await until(lambda: h.sandbox.refresh_count == 1)


async def test_it_goes_on_after_trouble_with_the_database(tmp_path: Path) -> None:
    async with home(tmp_path, background=True) as h:
        await h.log_in()
        with database(tmp_path) as other:
            other.execute("ALTER TABLE credential RENAME TO gone")
            await asyncio.sleep(1.5)
            other.execute("ALTER TABLE gone RENAME TO credential")
        h.clock.advance(3500)
        async with asyncio.timeout(10):
            while h.sandbox.refresh_count == 0:  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.1)


async def test_one_accounts_trouble_is_not_that_of_the_next(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        for name in ("a", "b", "c"):
            await install(h, name)
        with database(tmp_path) as other:
            other.execute(
                "CREATE TRIGGER no BEFORE UPDATE ON credential WHEN old.account = 'b' "
                "BEGIN SELECT RAISE(ABORT, 'no'); END"
            )
            assert await later(h, 3500) == 2
            other.execute("DROP TRIGGER no")
        assert [(await h.token(account=name))["generation"] for name in ("a", "c")] == [2, 2]


# what is stored cannot be used


async def test_a_row_that_does_not_open(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        await install(h)
        with database(tmp_path) as other:
            other.execute("UPDATE credential SET access_token_sealed = refresh_token_sealed, due_at = 0")
        for path in ("/token", "/headers"):
            problem(await h.client.get(path), 500, "credential_unreadable")
        status = await h.status()
        assert (status["authenticated"], status["refresh"]["state"]) == (False, "dead")
        assert status["refresh"]["last_error"] == "credential_unreadable"
        assert await later(h, 4000) == 0
        assert (await h.log_in())["state"] == "complete"
        assert (await h.token())["generation"] == 2


async def test_a_row_that_does_not_open_can_be_logged_out(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        await install(h)
        with database(tmp_path) as other:
            other.execute("UPDATE credential SET refresh_token_sealed = x'00'")
        assert (await h.client.post("/logout")).json()["revoked"] is None
        assert (await h.token())["reason"] == "logged_out"


async def test_a_provider_that_this_version_does_not_know(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        await install(h)
        with database(tmp_path) as other:
            other.execute("UPDATE credential SET provider = 'later', due_at = 0")
        assert set(await h.token()) == TOKEN
        assert (await h.token(newer_than=1))["warning"]
        assert await later(h, 4000) == 0
        answer = await h.client.get("/token")
        problem(answer, 502, "issuer_refused")
        assert (await h.status())["provider"] == "later"
        assert len((await h.client.get("/accounts")).json()["accounts"]) == 1


async def test_a_login_of_such_a_provider_can_be_logged_out(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        await install(h)
        with database(tmp_path) as other:
            other.execute("UPDATE credential SET provider = 'later'")
        assert (await h.client.post("/logout")).json()["revoked"] is False


async def test_a_pending_login_of_such_a_provider_can_be_read_and_not_be_finished(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        login = (await h.client.post("/login")).json()
        back = await h.authorize(login["authorize_url"])
        with database(tmp_path) as other:
            other.execute("UPDATE login SET provider = 'later'")
        assert (await h.client.get(f"/login/{login['id']}")).status_code == 200
        assert (await h.client.get(back)).status_code == 400
        assert (await h.client.get("/login", headers={"Accept": "text/html"})).status_code == 303


async def test_a_pair_that_cannot_be_stored_yet_is_served_and_stored_later(tmp_path: Path) -> None:
    async with home(tmp_path) as h:
        await install(h)
        with database(tmp_path) as other:
            other.execute(
                "CREATE TRIGGER no BEFORE UPDATE OF generation ON credential WHEN new.generation <> old.generation "
                "BEGIN SELECT RAISE(ABORT, 'no'); END"
            )
            first = asyncio.create_task(h.token(newer_than=1))
            await until(lambda: "default" in h.app.refresher.unsaved)
            body = await h.token()
            assert (body["generation"], body["warning"]) == (2, "store_unavailable")
            assert body["access_token"] == h.sandbox.families[-1].access_token
            assert (await h.status())["refresh"]["generation"] == 2
            other.execute("DROP TRIGGER no")
        assert (await first)["generation"] == 2
    async with home(tmp_path, sandbox=h.sandbox, clock=h.clock) as again:
        assert (await again.token())["generation"] == 2
    assert h.sandbox.refresh_count == 1


async def test_a_caller_does_not_wait_for_ever_for_another_service(tmp_path: Path) -> None:
    clock = Clock()
    real = replace(clock.seams(), boot=Seams().boot)
    async with (
        home(tmp_path, clock=clock, issuer_timeout=60) as first,
        home(tmp_path, clock=clock, sandbox=first.sandbox, seams=real, issuer_timeout=0.1) as second,
    ):
        await install(first)
        first.gate.hold_before.clear()
        slow = asyncio.create_task(first.token(newer_than=1))
        await first.gate.arrived.wait()
        body = await second.token(newer_than=1)
        assert (body["generation"], body["warning"]) == (1, "issuer_unavailable")
        first.gate.hold_before.set()
        assert (await slow)["generation"] == 2
