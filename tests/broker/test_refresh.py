"""A refresh token is spent once, and whatever becomes of it is told and kept."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from service.domain.decide import Wish
from service.sandbox import Knobs, User, faults
from service.store.store import Store
from tests.kit import House, house

EXPIRED = 3601.0


async def _expired(h: House) -> None:
    await h.log_in()
    h.clock.advance(EXPIRED)


async def test_a_thousand_callers_cause_one_refresh_and_get_one_token(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await _expired(h)
        answers = await asyncio.gather(*(h.token() for _ in range(1000)))
        assert {answer["generation"] for answer in answers} == {2}
        assert len({answer["access_token"] for answer in answers}) == 1
        assert len(h.sandbox.token_requests("refresh_token")) == 1


async def test_callers_who_leave_do_not_end_the_refresh(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await _expired(h)
        h.gate.hold_after.clear()
        caller = asyncio.create_task(h.app.services.broker.token("default", Wish()))
        await h.gate.arrived.wait()
        caller.cancel()
        await asyncio.wait({caller})
        h.gate.hold_after.set()
        assert (await h.token())["generation"] == 2
        assert len(h.sandbox.token_requests("refresh_token")) == 1


async def test_the_intent_is_in_the_database_before_the_issuer_sees_anything(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await _expired(h)
        h.gate.hold_before.clear()
        caller = asyncio.create_task(h.token())
        await h.gate.arrived.wait()
        assert (await h.status())["refresh"]["state"] == "in_flight"
        h.gate.hold_before.set()
        assert (await caller)["generation"] == 2


async def test_a_second_process_waits_for_the_first_and_gets_its_token(tmp_path: Path) -> None:
    async with house(tmp_path) as one, house(tmp_path, clock=one.clock, sandbox=one.sandbox) as two:
        await _expired(one)
        one.gate.hold_after.clear()
        first = asyncio.create_task(one.token())
        await one.gate.arrived.wait()
        second = asyncio.create_task(two.token())
        one.gate.hold_after.set()
        assert (await first)["access_token"] == (await second)["access_token"]
        assert len(one.sandbox.token_requests("refresh_token")) == 1
        assert two.gate.seen == 0


async def test_a_refusal_after_somebody_else_has_moved_the_row_on_is_no_refusal(tmp_path: Path) -> None:
    """The loser of a race adopts what the winner stored, and marks nothing dead."""
    async with house(tmp_path) as h:
        await _expired(h)
        h.gate.hold_before.clear()
        caller = asyncio.create_task(h.token())
        await h.gate.arrived.wait()
        login = h.sandbox.issue()
        put = {"kind": "subscription", "access_token": login["access_token"], "refresh_token": login["refresh_token"]}
        await h.client.put("/credential", json=put)
        h.sandbox.fail_next(faults.refresh_token_reused())
        h.gate.hold_before.set()
        answer = await caller
        assert answer["access_token"] == login["access_token"]
        assert "warning" not in answer


async def test_a_login_made_meanwhile_is_untouched_and_the_late_token_is_revoked(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await _expired(h)
        old = h.sandbox.families[0].id
        h.gate.hold_after.clear()
        caller = asyncio.create_task(h.token())
        await h.gate.arrived.wait()
        h.gate.arrived.clear()
        login = h.sandbox.issue()
        put = {"kind": "subscription", "access_token": login["access_token"], "refresh_token": login["refresh_token"]}
        await h.client.put("/credential", json=put)
        h.gate.hold_after.set()
        assert (await caller)["access_token"] == login["access_token"]
        await h.app.refresher.drain()
        assert not h.sandbox.family(old).alive
        assert h.sandbox.family(login["refresh_token"]).alive


async def test_a_logout_during_a_refresh_leaves_nobody_logged_in_anywhere(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await _expired(h)
        h.gate.hold_after.clear()
        caller = asyncio.create_task(h.client.get("/token"))
        await h.gate.arrived.wait()
        out = asyncio.create_task(h.client.post("/logout"))
        await _until(lambda: _is_logged_out(h))
        h.gate.hold_after.set()
        assert (await caller).json()["reason"] == "logged_out"
        await out
        await h.app.refresher.drain()
        assert not h.sandbox.families[0].alive


@pytest.mark.parametrize("missing", [{"refresh_token"}, {"id_token"}, {"expires_in"}, {"scope"}, {"token_type"}])
async def test_what_an_answer_lacks_is_kept_and_the_next_refresh_works(tmp_path: Path, missing: set[str]) -> None:
    async with house(tmp_path, knobs=Knobs(rotate="refresh_token" not in missing)) as h:
        await _expired(h)
        h.sandbox.knobs.drop_fields = missing
        assert (await h.token())["generation"] == 2
        h.sandbox.knobs.drop_fields = set()
        h.clock.advance(EXPIRED)
        assert (await h.token())["generation"] == 3


async def test_an_answer_without_an_access_token_moves_the_refresh_token_on_and_is_no_hot_loop(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await _expired(h)
        h.sandbox.knobs.drop_fields = {"access_token"}
        for _ in range(20):
            assert (await h.client.get("/token")).status_code == 503
        assert len(h.sandbox.token_requests("refresh_token")) == 1
        h.sandbox.knobs.drop_fields = set()
        h.clock.advance(120)
        assert (await h.token())["generation"] == 3
        assert h.sandbox.reuse_count == 0


async def test_tokens_of_another_account_are_kept_and_never_served(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await _expired(h)
        other = h.sandbox.issue(user=_other_user())
        h.sandbox.knobs.override_fields = {name: other[name] for name in ("access_token", "id_token")}
        answer = (await h.client.get("/token")).json()
        assert answer["reason"] == "account_mismatch"
        credential = await h.app.services.broker.standing("default")
        assert credential.credential is not None
        assert credential.credential.refresh_token is not None
        assert credential.credential.refresh_token.reveal() == h.sandbox.families[0].refresh_token


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (faults.refresh_token_reused(), "refresh_token_reused"),
        (faults.refresh_token_expired(), "refresh_token_expired"),
        (faults.refresh_token_invalidated(), "refresh_token_revoked"),
        (faults.app_session_terminated(), "refresh_token_revoked"),
        (faults.invalid_grant(), "refresh_token_revoked"),
    ],
)
async def test_a_dead_login_says_why_and_is_not_tried_again(tmp_path: Path, fault: object, reason: str) -> None:
    async with house(tmp_path) as h:
        await _expired(h)
        h.sandbox.fail_next(fault)  # type: ignore[arg-type]
        assert (await h.client.get("/token")).json()["reason"] == reason
        assert (await h.client.get("/token")).status_code == 409
        assert len(h.sandbox.token_requests("refresh_token")) == 1
        status = await h.status()
        assert (status["authenticated"], status["refresh"]["state"]) == (False, "dead")


async def test_a_new_login_ends_a_dead_one(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await _expired(h)
        h.sandbox.fail_next(faults.invalid_grant())
        assert (await h.client.get("/token")).status_code == 409
        assert (await h.log_in())["state"] == "complete"
        assert (await h.token())["generation"] == 2


async def test_a_valid_token_is_served_with_a_warning_whatever_the_issuer_does(tmp_path: Path) -> None:
    async with house(tmp_path, refresh_floor=0) as h:
        await h.log_in()
        h.gate.fail = lambda: httpx.ConnectError("refused")
        assert (await h.token(newer_than=1))["warning"] == "issuer_unavailable"
        h.gate.fail = None
        h.clock.advance(400)
        h.sandbox.fail_next(faults.invalid_client())
        assert (await h.token(newer_than=1))["warning"] == "issuer_refused"
        h.clock.advance(400)
        h.sandbox.fail_next(faults.lost_answer())
        assert (await h.token(newer_than=1))["warning"] == "refresh_uncertain"
        assert (await h.status())["refresh"]["state"] == "uncertain"


async def test_failures_to_connect_never_lose_a_login_and_are_not_a_storm(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await _expired(h)
        h.gate.fail = lambda: httpx.ConnectError("refused")
        for _ in range(4 * 12):  # four hours: the pauses are at their longest after one
            answer = await h.client.get("/token")
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) >= 1
            assert (await h.client.get("/token")).status_code == 503
            h.clock.advance(300)
        assert h.gate.seen <= 4 * 12 + 1
        h.gate.fail = None
        h.clock.advance(301)
        assert (await h.token())["generation"] == 2


async def test_retry_after_is_obeyed(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await _expired(h)
        h.sandbox.fail_next(faults.rate_limited(retry_after="120"))
        answer = await h.client.get("/token")
        assert answer.status_code == 503
        assert 120 <= int(answer.headers["retry-after"]) <= 133
        h.clock.advance(119)
        assert (await h.client.get("/token")).status_code == 503
        assert len(h.sandbox.token_requests("refresh_token")) == 1
        h.clock.advance(15)
        assert (await h.token())["generation"] == 2


async def test_a_refused_configuration_keeps_the_login_and_asks_slowly(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await _expired(h)
        h.sandbox.fail_next(faults.invalid_client())
        answer = await h.client.get("/token")
        assert (answer.status_code, answer.json()["code"]) == (502, "issuer_refused")
        assert answer.json()["retry_after"] >= 60
        h.clock.advance(90)
        assert (await h.token())["generation"] == 2


async def test_a_lost_answer_is_retried_once_when_the_first_request_is_over_and_no_more(tmp_path: Path) -> None:
    async with house(tmp_path, knobs=Knobs(revoke_family=True)) as h:
        await _expired(h)
        h.sandbox.fail_next(faults.lost_answer())
        assert (await h.client.get("/token")).status_code == 503
        assert (await h.status())["refresh"]["state"] == "uncertain"
        assert len(h.sandbox.token_requests("refresh_token")) == 1
        h.clock.advance(11)
        answer = (await h.client.get("/token")).json()
        assert answer["reason"] == "outcome_unknown"
        for _ in range(5):
            h.clock.advance(1000)
            assert (await h.client.get("/token")).status_code == 409
        assert len(h.sandbox.token_requests("refresh_token")) == 2


async def test_a_request_that_was_not_acted_upon_is_saved_by_its_one_retry(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await _expired(h)
        h.sandbox.fail_next(faults.server_error(status=500))
        assert (await h.client.get("/token")).status_code == 503
        h.clock.advance(11)
        assert (await h.token())["generation"] == 2
        assert (await h.status())["refresh"]["state"] == "idle"


async def test_an_uncertain_refresh_waits_until_the_token_is_about_to_expire(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.log_in()
        h.clock.advance(3600 - 324)
        h.sandbox.fail_next(faults.server_error(status=500))
        await h.app.background.round()
        await h.app.refresher.drain()
        assert (await h.status())["refresh"]["state"] == "uncertain"
        h.clock.advance(164)
        await h.app.background.round()
        await h.app.refresher.drain()
        assert len(h.sandbox.token_requests("refresh_token")) == 1
        assert (await h.token())["generation"] == 1
        h.clock.advance(105)
        await h.app.background.round()
        await h.app.refresher.drain()
        assert (await h.token())["generation"] == 2


async def test_damaged_answers_give_up_a_whole_refresh_token(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await _expired(h)
        h.sandbox.fail_next(faults.truncated(at_byte=-3))
        answer = await h.client.get("/token")
        stored = (await h.app.services.broker.standing("default")).credential
        assert stored is not None
        assert stored.refresh_token is not None
        assert stored.refresh_token.reveal() == h.sandbox.families[0].refresh_token
        assert answer.status_code == 200


async def test_the_background_refreshes_before_expiry_so_that_nobody_waits(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.log_in()
        h.clock.advance(3600 - 324)
        await h.app.background.round()
        await h.app.refresher.drain()
        h.gate.fail = lambda: httpx.ConnectError("nobody should have to ask")
        assert (await h.token())["generation"] == 2


async def test_the_background_leaves_what_is_not_due(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.log_in()
        h.clock.advance(3600 - 400)
        until = await h.app.background.round()
        await h.app.refresher.drain()
        assert (await h.status())["refresh"]["generation"] == 1
        assert until <= h.clock.now + 40


async def test_a_token_given_by_the_issuer_is_served_while_the_database_does_not_take_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused by the database itself: a trigger stands for a full disk."""
    async with house(tmp_path) as h:
        await _expired(h)
        h.gate.hold_after.clear()
        caller = asyncio.create_task(h.token())
        await h.gate.arrived.wait()
        block, unblock = _blocked(tmp_path)
        block()
        h.gate.hold_after.set()
        await _until(lambda: _holds_unsaved(h))
        assert (await h.token())["generation"] == 2
        assert len(h.sandbox.token_requests("refresh_token")) == 1
        unblock()
        assert (await caller)["generation"] == 2
        await h.app.refresher.drain()
        assert not h.app.refresher.unsaved
        assert (await h.status())["refresh"]["generation"] == 2


async def test_nothing_is_sent_when_the_intent_cannot_be_stored(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await _expired(h)
        block, unblock = _blocked(tmp_path)
        block()
        answer = await h.client.get("/token")
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
        assert not h.sandbox.token_requests("refresh_token")
        unblock()
        assert (await h.token())["generation"] == 2


async def test_a_claim_that_has_grown_old_is_given_back_unsent(tmp_path: Path) -> None:
    """An owner that was stopped between claiming and sending starts again."""
    async with house(tmp_path) as h:
        await _expired(h)
        store = h.app.services.store
        assert isinstance(store, Store)
        boots = iter([1000.0, 1000.0, 2000.0])
        slow = h.clock.seams()
        slow = type(slow)(
            now=slow.now, boot=lambda: next(boots, 3000.0), token_bytes=slow.token_bytes, jitter=slow.jitter
        )
        h.app.refresher._seams = slow
        credential = await store.load("default")
        assert credential is not None
        boots = iter([1000.0, 2000.0])
        await h.app.refresher.flight(credential)
        after = await store.load("default")
        assert after == credential
        assert h.gate.seen == 1  # the login's own exchange


async def test_issuer_calls_are_bounded_in_number(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        for number in range(30):
            login = h.sandbox.issue()
            body = {name: login[name] for name in ("access_token", "refresh_token")}
            put = await h.client.put(
                "/credential", params={"account": f"a{number}"}, json={"kind": "subscription", **body}
            )
            assert put.status_code == 200
        h.clock.advance(EXPIRED)
        answers = await asyncio.gather(*(h.token(account=f"a{number}") for number in range(30)))
        assert {answer["generation"] for answer in answers} == {2}
        assert h.gate.most_at_once <= 8


def _other_user() -> User:
    return User(subject="user-other", email="other@example.test", plan="pro", account_id="acct-other")


def _blocked(folder: Path) -> tuple[Callable[[], None], Callable[[], None]]:
    """Make every write to the credential table fail, and let it work again, from a connection of our own."""

    def run(sql: str) -> None:
        connection = sqlite3.connect(folder / "data" / "pixir-auth.db", timeout=10)
        with connection:
            connection.execute(sql)
        connection.close()

    def block() -> None:
        run("CREATE TRIGGER full BEFORE UPDATE ON credential BEGIN SELECT RAISE(ABORT, 'disk full'); END")

    return block, lambda: run("DROP TRIGGER full")


async def _until(reached: Callable[[], Awaitable[bool]]) -> None:
    """Let the loop go on until something has come about; the test's own time limit is the bound."""
    async with asyncio.timeout(20):
        while not await reached():  # noqa: ASYNC110 - what is waited for is in the database
            await asyncio.sleep(0)


async def _is_logged_out(h: House) -> bool:
    return (await h.status())["kind"] is None


async def _holds_unsaved(h: House) -> bool:
    return bool(h.app.refresher.unsaved)
