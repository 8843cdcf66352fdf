"""Replicas that are killed, paused and cut off from networks while many ask: each refresh token is spent once.

What no client can help: who is killed or cut off from the issuer within a refresh takes the only answer along. The
token is tried once more, late (docs/refresh.md), and this issuer answers it a second time. So the books balance
whatever happens, and the second tries are counted: there may be one for each answer that was lost so, and no other.
"""

import secrets
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from .nemesis import CUTS, KILL, PAUSE, SLEEP, Fault, Nemesis
from .scene import ACCOUNTS, CALLERS, REPLICAS, Scene, Sent, Stored, Unclear

pytestmark = pytest.mark.docker


@dataclass(frozen=True)
class Run:
    """What there is to judge by. issuer: its counters and logins; stored: by account."""

    faults: list[Fault]
    sent: list[Sent]
    unclear: list[Unclear]
    answers: list[dict[str, Any]]
    issuer: dict[str, Any]
    stored: dict[str, Stored]


@pytest.fixture(scope="module")
def run(image: str, postgres_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """One storm and the calm after it, for all tests here."""
    seed = secrets.randbelow(2**32)
    folder = tmp_path_factory.mktemp("chaos")
    print(f"seed {seed}; logs in {folder}")
    scene = Scene(folder, postgres_image, seed)
    try:
        scene.up()
        faults = Nemesis(scene, seed).rage()
        scene.wait_refreshed(scene.generations())  # all is well again
        answers = scene.answers()
        scene.end_replicas()
        yield Run(faults, scene.sent(), scene.unclear(), answers, scene.state(), scene.stored())
    finally:
        scene.down()


def test_refreshes_are_generations_and_none_was_a_reuse(run: Run) -> None:
    families = run.issuer["families"]
    assert [family["alive"] for family in families] == [True] * len(ACCOUNTS)
    assert run.issuer["reuse_count"] == 0
    assert run.stored == {one["account_id"]: Stored(one["generation"], "active", None) for one in families}
    assert run.issuer["refresh_count"] == sum(one.generation - 1 for one in run.stored.values())
    assert run.issuer["refresh_count"] > 4 * len(ACCOUNTS)


def test_a_refresh_token_is_sent_again_only_where_its_answer_was_lost_with_who_sent_it(run: Run) -> None:
    sends = defaultdict(list)
    for one in run.sent:
        sends[one.refresh_token].append(one)
    again = [each for each in sends.values() if len(each) > 1]
    account_of = {f"rt_{family['id']}": family["account_id"] for family in run.issuer["families"]}
    for first, second in (each[:2] for each in again):
        account = account_of[first.refresh_token.partition(".")[0]]
        ends = [one for one in run.unclear if one.account == account and first.at <= one.at <= second.at]
        assert ends, first
        assert any(fault.explains(first, ends[0]) for fault in run.faults), (first, ends[0], run.faults)
    assert {len(each) for each in again} == {2}
    assert len(again) == run.issuer["retry_count"]


def test_every_answer_is_a_valid_token_or_a_503_that_says_why(run: Run) -> None:
    tokens: dict[tuple[str, int], set[str]] = defaultdict(set)
    for one in run.answers:
        if one["status"] == 200:
            assert one["expires_in"] >= 0
            tokens[one["account"], one["generation"]].add(one["access_token"])
        elif one["status"]:
            assert (one["status"], one["code"]) in {(503, "issuer_unavailable"), (503, "store_unavailable")}, one
    assert {len(each) for each in tokens.values()} == {1}, "two tokens of one generation"


def test_a_replica_that_is_cut_off_still_answers_and_one_that_was_hit_comes_back(run: Run) -> None:
    silent = [fault for fault in run.faults if fault.kind not in CUTS]
    for one in run.answers:
        if one["status"] == 0:
            assert any(
                fault.replica == one["replica"] and fault.at <= one["at"] and one["asked"] <= fault.back
                for fault in silent
            ), one
    for fault in run.faults:
        served = [one for one in run.answers if one["replica"] == fault.replica and one["status"] == 200]
        assert any(one["asked"] > fault.back for one in served), fault
    assert len(run.answers) > 20 * CALLERS


def test_who_asks_a_replica_that_is_not_paused_waits_no_longer_than_30_seconds(run: Run) -> None:
    """11 for a refresh (the issuer's timeout and 5), and 10 whenever a database is silent all of a sudden."""
    slow = [one for one in run.answers if one["at"] - one["asked"] > 30]
    paused = {fault.replica: fault.until for fault in run.faults if fault.kind == SLEEP}
    assert [one for one in slow if not one["asked"] < paused.get(one["replica"], 0.0) < one["at"]] == []


@pytest.mark.parametrize("kind", [KILL, PAUSE, SLEEP, *CUTS])
def test_each_kind_of_fault_hits_a_refresh_and_keeps_its_replica_from_the_next(run: Run, kind: str) -> None:
    faults = [fault for fault in run.faults if fault.kind == kind]
    assert any(fault.strikes(one) and one.at <= fault.at for fault in faults for one in run.sent)
    for fault in faults:
        meanwhile = {one.replica for one in run.sent if fault.at + 1 < one.at < fault.until}
        assert fault.replica not in meanwhile
    assert {one.replica for one in run.sent} == set(REPLICAS)
