"""The audit trail in the store: in order, by pages, and bounded by kind."""

from typing import Any, get_args

import pytest
from sqlalchemy import event

from service.domain.audit import Deed, Event
from service.store import audit
from service.store.store import Store

from .samples import NOW

LOGIN = Event(NOW, "login", "browser", account="default", detail="login-1")
REFUSED = Event(NOW + 1, "refused", "uid 1001", "wrong_user", detail="GET /token", times=7)


def bare(events: list[Event]) -> list[Event]:
    """Without their places in the trail."""
    return [Event(each.at, each.deed, each.who, each.outcome, each.account, each.detail, each.times) for each in events]


async def test_the_newest_come_first(store: Store) -> None:
    await store.append([LOGIN, REFUSED])
    found = await store.events(None, 10)
    assert bare(found) == [REFUSED, LOGIN]
    assert found[0].number > found[1].number > 0


async def test_pages_go_back(store: Store) -> None:
    await store.append([LOGIN] * 5)
    first = await store.events(None, 2)
    second = await store.events(first[-1].number, 2)
    third = await store.events(second[-1].number, 2)
    numbers = [each.number for each in (*first, *second, *third)]
    assert numbers == sorted(numbers, reverse=True)
    assert len(set(numbers)) == 5
    assert await store.events(third[-1].number, 2) == []


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """A trail that keeps three of each kind."""
    monkeypatch.setitem(vars(audit), "KEPT", 3)
    return 3


async def test_only_the_newest_of_each_kind_are_kept(store: Store, few: int) -> None:
    await store.append([Event(NOW, "logout", "uid 1000", account="first")])
    for number in range(10):
        await store.append([Event(NOW + number, "refused", "unknown", "key_required", times=number)])
    found = await store.events(None, 100)
    assert [each.times for each in found if each.deed == "refused"] == [9, 8, 7]
    assert [each.account for each in found if each.deed == "logout"] == ["first"]


async def test_a_batch_larger_than_what_is_kept(store: Store, few: int) -> None:
    await store.append([Event(NOW + number, "refresh", "service") for number in range(10)])
    assert [each.at for each in await store.events(None, 100)] == [NOW + 9, NOW + 8, NOW + 7]


async def test_kinds_are_cut_down_in_one_order_so_that_two_who_do_it_never_wait_for_each_other(store: Store) -> None:
    cut: list[str] = []

    def look(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("DELETE"):
            cut.append(parameters["event_1"] if isinstance(parameters, dict) else parameters[0])

    event.listen(store._backend.engine, "before_cursor_execute", look)
    await store.append([Event(NOW, deed, "service") for deed in reversed(get_args(Deed))])
    assert cut == sorted(get_args(Deed))
