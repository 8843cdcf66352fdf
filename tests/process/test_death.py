"""A service is killed, stopped or told to end while a refresh is under way; the next one knows what to do."""

import signal
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.kit.processes import Machine, Process, machine


def _requests(issuer: Process) -> int:
    found = issuer.client.get("/_sandbox/requests").json()
    return sum(1 for one in found if one["path"] == "/oauth/token")


def _in_flight(m: Machine, issuer: Process, service: Process, **query: Any) -> threading.Thread:
    """Ask for a refresh in the background and come back when the issuer has the request."""

    def ask() -> None:
        try:
            httpx.get(f"{service.url}/token", params=query, timeout=60, trust_env=False)
        except httpx.HTTPError:
            return  # the service was killed under it

    before = _requests(issuer)
    caller = threading.Thread(target=ask)
    caller.start()
    while _requests(issuer) == before:
        pass
    return caller


def _refresh_of(service: Process) -> dict[str, Any]:
    found: dict[str, Any] = service.client.get("/status").json()["refresh"]
    return found


@pytest.mark.long
def test_sigterm_while_the_issuer_is_slow_finishes_and_stores_the_refresh(tmp_path: Path) -> None:
    with machine(tmp_path) as m:
        issuer = m.issuer(latency=2)
        service = m.service(issuer, refresh_floor=0)
        m.install(service, issuer)
        caller = _in_flight(m, issuer, service, newer_than=1)
        service.signal(signal.SIGTERM)
        assert service.ended() == 0
        caller.join()
        again = m.service(issuer)
        assert _refresh_of(again) | {"last_success_at": None} == {
            "state": "idle",
            "generation": 2,
            "last_success_at": None,
            "next_attempt_at": None,
            "last_error": None,
        }


@pytest.mark.long
def test_two_sigints_do_not_cut_off_a_refresh(tmp_path: Path) -> None:
    with machine(tmp_path) as m:
        issuer = m.issuer(latency=2)
        service = m.service(issuer, refresh_floor=0)
        m.install(service, issuer)
        caller = _in_flight(m, issuer, service, newer_than=1)
        service.signal(signal.SIGINT)
        service.signal(signal.SIGINT)
        assert service.ended() == 0
        caller.join()
        assert _refresh_of(m.service(issuer))["generation"] == 2


@pytest.mark.long
def test_after_a_kill_during_a_refresh_the_token_is_still_served_and_nothing_is_sent_again(tmp_path: Path) -> None:
    with machine(tmp_path) as m:
        issuer = m.issuer(latency=2)
        service = m.service(issuer, refresh_floor=0)
        m.install(service, issuer)
        caller = _in_flight(m, issuer, service, newer_than=1)
        service.kill()
        caller.join()
        sent = _requests(issuer)
        again = m.service(issuer)
        answer = again.client.get("/token").json()
        assert answer["generation"] == 1
        again.client.get("/token", params={"newer_than": 1})
        assert _refresh_of(again)["state"] == "uncertain"
        assert _requests(issuer) == sent


@pytest.mark.long
def test_a_stopped_owner_keeps_its_claim_and_its_late_success_is_stored(tmp_path: Path) -> None:
    """Nobody else sends while the owner lives; when it wakes, its answer counts."""
    with machine(tmp_path) as m:
        issuer = m.issuer(latency=1)
        first = m.service(issuer, refresh_floor=0, issuer_timeout=3)
        m.install(first, issuer)
        second = m.service(issuer, refresh_floor=0, issuer_timeout=3)
        caller = _in_flight(m, issuer, first, newer_than=1)
        first.signal(signal.SIGSTOP)
        sent = _requests(issuer)
        others = second.client.get("/token", params={"newer_than": 1, "min_ttl": 0}, timeout=90).json()
        assert (others["generation"], others["warning"]) == (1, "issuer_unavailable")
        assert _requests(issuer) == sent
        first.signal(signal.SIGCONT)
        caller.join()
        assert second.client.get("/token", params={"newer_than": 1, "min_ttl": 0}).json()["generation"] == 2
        assert issuer.client.get("/_sandbox/state").json()["reuse_count"] == 0


@pytest.mark.long
def test_restarts_do_not_refresh(tmp_path: Path) -> None:
    with machine(tmp_path) as m:
        issuer = m.issuer()
        service = m.service(issuer)
        m.install(service, issuer)
        sent = _requests(issuer)
        for _ in range(3):
            service.kill()
            service = m.service(issuer)
            assert service.client.get("/token").json()["generation"] == 1
        assert _requests(issuer) == sent
