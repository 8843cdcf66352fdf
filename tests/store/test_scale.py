"""A hundred thousand accounts: what the background asks of the database does not grow with them."""

from pathlib import Path

import pytest

from service.store.store import Store
from tests.kit import house

from .samples import NOW, credential, query

MANY = 100_000


def fill(address: str, number: int) -> None:
    """So many accounts, due one after the other from an hour after NOW on; made of the one that is there."""
    (columns,) = zip(*[(name,) for name in _columns(address)], strict=True)
    others = [name for name in columns if name not in ("account", "due_at", "login_id")]
    listed = ", ".join(others)
    query(
        address,
        f"INSERT INTO credential (account, login_id, due_at, {listed})"
        " WITH RECURSIVE counted(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < ?)"
        f" SELECT 'filler-' || n, 'filler-' || n, {NOW + 3600} + n, {listed}"
        " FROM credential, counted WHERE account = 'default'",
        [number],
    )
    query(address, "ANALYZE")


def _columns(address: str) -> list[str]:
    if address.startswith("sqlite:"):
        return [row[1] for row in query(address, "PRAGMA table_info(credential)")]
    return [
        row[0]
        for row in query(address, "SELECT column_name FROM information_schema.columns WHERE table_name = 'credential'")
    ]


def plan(address: str, sql: str) -> str:
    """How the database goes about it."""
    explain = "EXPLAIN QUERY PLAN " if address.startswith("sqlite:") else "EXPLAIN "
    return "\n".join(" ".join(map(str, row)) for row in query(address, explain + sql))


QUESTIONS = {
    "what is due": f"SELECT account FROM credential WHERE due_at <= {NOW} ORDER BY due_at LIMIT 64",
    "what is due next": f"SELECT min(due_at) FROM credential WHERE due_at > {NOW}",
    "what is from the future": f"SELECT account FROM credential WHERE obtained_at > {NOW + 60} AND due_at > {NOW}",
    "one account": "SELECT * FROM credential WHERE account = 'default'",
    "a page": "SELECT * FROM credential WHERE account > 'filler-5' ORDER BY account LIMIT 100",
}


@pytest.mark.parametrize("question", list(QUESTIONS))
async def test_no_question_reads_every_row(store: Store, address: str, question: str) -> None:
    await store.install(credential())
    fill(address, 5000)
    how = plan(address, QUESTIONS[question])
    assert "SEARCH" in how or "Index" in how
    assert "SCAN credential" not in how
    assert "Seq Scan" not in how


@pytest.mark.long
async def test_of_100_000_accounts_the_oldest_due_come_first_and_never_more_than_asked(
    store: Store, address: str
) -> None:
    await store.install(credential())
    fill(address, MANY)
    due, later = await store.due(NOW + 3600 + 1000, 64)
    assert due == ["default", *(f"filler-{number}" for number in range(1, 64))]
    assert later == NOW + 3600 + 1001


@pytest.mark.long
@pytest.mark.no_cover
async def test_among_100_000_accounts_those_due_are_refreshed_once_each_in_a_bounded_working_set(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as h:
        await h.log_in()
        address = f"sqlite:{tmp_path / 'data' / 'pixir-auth.db'}"
        fill(address, MANY)
        query(address, "UPDATE credential SET due_at = ? WHERE account <> 'default'", [h.clock.now + 10**9])
        for number in range(300):
            login = h.sandbox.issue()
            body = {"kind": "subscription", **{name: login[name] for name in ("access_token", "refresh_token")}}
            await h.client.put("/credential", params={"account": f"a{number}"}, json=body)
        h.clock.advance(3400)
        h.gate.hold_before.clear()
        for _ in range(10):
            await h.app.background.round()
        assert h.app.refresher.in_flight == 256
        h.gate.hold_before.set()
        await h.app.refresher.drain()
        await h.app.background.round()
        await h.app.refresher.drain()
        assert len(h.sandbox.token_requests("refresh_token")) == 301
        assert {family.alive for family in h.sandbox.families} == {True}
        assert len(h.app.services.broker._warm) <= 1024  # type: ignore[attr-defined]
