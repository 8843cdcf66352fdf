"""How many connections there may be, and whose."""

import os
import resource
import shutil
import socket
import sys
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import crowd as counted
from service.crowd import Crowd
from service.domain.caller import Peer
from tests.connection.raw import descriptors, heard, opened, said
from tests.kit.processes import Machine, Process
from tests.kit.stranger import NOBODY, stranger

pytestmark = pytest.mark.long

ME = os.getuid()
GET = b"GET /status HTTP/1.1\r\nTO_US\r\n\r\n"
peers = st.sampled_from(
    [Peer(ME), Peer(0), Peer(NOBODY), Peer(4711), Peer(), Peer(ME, is_unix=True), Peer(is_unix=True)]
)


@given(st.integers(0, 40), st.lists(st.tuples(st.booleans(), peers), max_size=200))
def test_strangers_never_hold_more_than_a_quarter_and_all_never_more_than_all(
    most: int, steps: list[tuple[bool, Peer]]
) -> None:
    crowd, inside = Crowd(most), list[Peer]()
    for comes, peer in steps:
        if comes:
            strangers = sum(one.uid not in (0, ME) for one in inside)
            room = len(inside) < most and (peer.uid in (0, ME) or strangers < most // 4)
            assert crowd.admits(peer) == room
            if room:
                inside.append(peer)
        elif peer in inside:
            inside.remove(peer)
            crowd.loses(peer)
        assert crowd.owners + crowd.strangers == len(inside)
    for peer in inside:
        crowd.loses(peer)
    assert (crowd.owners, crowd.strangers) == (0, 0)


LIMITS = [
    ((256, resource.RLIM_INFINITY), 4096, 8192),
    ((1024, 1_048_576), 4096, 8192),
    ((1024, 4096), 3840, 4096),
    ((1024, 1024), 768, 1024),
    ((300, 300), 150, 300),
    ((20_000, 20_000), 4096, 20_000),
    ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), 4096, resource.RLIM_INFINITY),
]


@pytest.mark.parametrize(("limits", "most", "soft"), LIMITS)
def test_there_are_descriptors_for_all_of_them(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], most: int, soft: int
) -> None:
    now = list(limits)
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(now))
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: now.__setitem__(slice(None), wanted))
    assert counted._room() == most
    assert now == [soft, limits[1]]


# a process


@pytest.fixture(scope="module")
def narrow(m: Machine) -> Iterator[Process]:
    """A service that may have 512 files open: 256 connections, 64 of them strangers'."""
    issuer = m.issuer()
    narrow = m.service(issuer, under=["sh", "-c", 'ulimit -n 512 && exec "$@"', "sh"])
    m.install(narrow, issuer)
    yield narrow
    assert not [line for line in narrow.log.read_text().splitlines() if " warning " in line or " error " in line]


def until(service: Process, count: int) -> None:
    """Wait until it has so many files open."""
    deadline = time.monotonic() + 5
    while descriptors(service) != count:
        assert time.monotonic() < deadline, f"{descriptors(service)} files, not {count}"
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whose a connection is")
def test_other_users_leave_room_for_the_owner(narrow: Process) -> None:
    assert narrow.client.get("/token").status_code == 200
    port, before = int(narrow.url.rpartition(":")[2]), descriptors(narrow)
    for _ in range(2):
        with stranger() as nobody:
            nobody.connect("127.0.0.1", port, times=600, say="GET /tok")
            until(narrow, before + 64)
            assert said(narrow, GET, until=1).statuses == [200]
            nobody.connect("::1", port, times=10)
            assert nobody.closed(1) == 610 - 64
            until(narrow, before + 64)
        until(narrow, before)


def test_connections_never_use_up_the_descriptors(narrow: Process) -> None:
    narrow.client.get("/token")
    before = descriptors(narrow)
    for _ in range(2):
        clients = [opened(narrow) for _ in range(400)]
        until(narrow, before + 255)  # and the one that is kept
        assert narrow.client.get("/token").status_code == 200
        assert heard(clients[-1], within=1).is_closed, "the last to come is the one that is turned away"
        clients[0].sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert heard(clients[0], until=1).statuses == [421], "the first is not"
        for client in clients:
            client.close()
        until(narrow, before)


def test_the_limit_is_raised_at_start(m: Machine) -> None:
    if shutil.which("prlimit") is None or resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 8192:
        pytest.skip("there is no prlimit, or no 8192 files are to be had here")
    service = m.service(m.issuer(), under=["sh", "-c", 'ulimit -Sn 512 && exec "$@"', "sh"])
    assert resource.prlimit(service.pid, resource.RLIMIT_NOFILE)[0] == 8192


def test_who_is_turned_away_is_not_counted_twice(narrow: Process) -> None:
    before = descriptors(narrow)
    for _ in range(3):
        with stranger() as nobody:
            nobody.connect("127.0.0.1", int(narrow.url.rpartition(":")[2]), times=200, leave="reset")
        until(narrow, before)
    with socket.create_connection(("127.0.0.1", int(narrow.url.rpartition(":")[2]))):
        until(narrow, before + 1)
