"""Whose connection it is: the kernel's word, and None whenever it is less than certain."""

import ipaddress
import logging
import os
import resource
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import peer
from service.domain.caller import Peer
from service.peer import Ends, is_answer, peer_of, question, uid_in
from tests.kit.stranger import NOBODY, stranger

if sys.platform != "linux":
    pytest.skip("only Linux tells whose a connection is", allow_module_level=True)

ROOT = Path(__file__).parents[2]
ME = os.getuid()
V4, V6 = socket.AF_INET, socket.AF_INET6


@contextmanager
def listening(family: socket.AddressFamily = V4, host: str = "127.0.0.1") -> Iterator[tuple[socket.socket, int]]:
    with socket.create_server((host, 0), family=family) as listener:
        yield listener, listener.getsockname()[1]


@contextmanager
def connected(
    family: socket.AddressFamily, host: str, as_: tuple[socket.AddressFamily, str]
) -> Iterator[list[socket.socket]]:
    """The client's end and ours."""
    with listening(family, host) as (listener, port), socket.socket(as_[0]) as client:
        client.connect((as_[1], port))
        with listener.accept()[0] as ours:
            yield [client, ours]


WAYS = {
    "v4": (V4, "127.0.0.1", (V4, "127.0.0.1")),
    "v4, another address of loopback": (V4, "127.9.8.7", (V4, "127.9.8.7")),
    "v6": (V6, "::1", (V6, "::1")),
    "v4 from a v6 socket": (V4, "127.0.0.1", (V6, "::ffff:127.0.0.1")),
}


@pytest.mark.parametrize("way", WAYS)
def test_our_own_user_is_known(way: str) -> None:
    with connected(*WAYS[way]) as ends:
        assert [peer_of(end) for end in ends] == [Peer(ME), Peer(ME)]


@pytest.mark.parametrize("client", [(V4, "127.0.0.1"), (V6, "::ffff:127.0.0.1"), (V6, "::1")])
def test_our_own_end_may_be_of_both_families(client: tuple[socket.AddressFamily, str]) -> None:
    both = socket.create_server(("::", 0), family=V6, dualstack_ipv6=True)
    with both as listener, socket.socket(client[0]) as other:
        other.connect((client[1], listener.getsockname()[1]))
        with listener.accept()[0] as ours:
            assert peer_of(ours) == Peer(ME)


@pytest.mark.parametrize(("family", "host"), [(V4, "127.0.0.1"), (V6, "::1")])
def test_another_user_is_known(family: socket.AddressFamily, host: str) -> None:
    with listening(family, host) as (listener, port), stranger() as nobody:
        nobody.connect(host, port)
        with listener.accept()[0] as ours:
            assert peer_of(ours) == Peer(NOBODY)


def test_half_closed_it_is_still_the_same_user() -> None:
    with listening() as (listener, port), stranger() as nobody:
        nobody.connect("127.0.0.1", port, say="POST /logout", leave="half")
        with listener.accept()[0] as ours:
            assert ours.recv(100) == b"POST /logout"
            assert ours.recv(1) == b""
            assert peer_of(ours) == Peer(NOBODY)
            ours.shutdown(socket.SHUT_WR)
            assert peer_of(ours) == Peer(), "nothing can be asked on it any more"


@pytest.mark.parametrize("leave", ["close", "reset", "end"])
def test_who_has_left_is_nobody(leave: str) -> None:
    with listening() as (listener, port), stranger() as nobody:
        nobody.connect("127.0.0.1", port, say="POST /logout", leave="" if leave == "end" else leave)
        if leave == "end":
            nobody.end()
        with listener.accept()[0] as ours:
            assert peer_of(ours) == Peer()


def test_five_hundred_that_fire_and_forget_are_nobody() -> None:
    with listening() as (listener, port):
        for _ in range(500):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(b"POST /logout")
            with listener.accept()[0] as ours:
                assert peer_of(ours) == Peer()


def test_who_listens_on_the_port_of_one_who_has_left_is_not_he() -> None:
    with listening() as (listener, port):
        with stranger() as nobody:
            nobody.connect("127.0.0.1", port, leave="reset")
        with listener.accept()[0] as ours:
            left = Ends(b"\x7f\0\0\1", 0, b"\x7f\0\0\1", port)
            with listening() as (_, his):
                left = left._replace(own_port=his)
                raw = peer._SockDiag()
                answer = raw._exchanged(left)
                raw.close()
                assert struct.unpack_from("=H", answer, 4)[0] == 20, "the kernel does answer with the listener"
                assert uid_in(answer, left) is None
                assert peer._sock_diag.uid(left) is None
            assert peer_of(ours) == Peer()


class Remembered:
    """Our end, with addresses from when it was connected: the peer may have left between two questions of ours."""

    def __init__(self, ours: socket.socket, peername: tuple[str, int]) -> None:
        self.family, self.getsockname, self.getsockopt = ours.family, ours.getsockname, ours.getsockopt
        self.getpeername = lambda: peername


def test_who_takes_the_port_of_one_who_has_left_is_not_he() -> None:
    with listening() as (listener, port), socket.socket() as first, socket.socket() as second:
        first.bind(("127.14.5.5", 0))  # where nobody else takes it in between
        first.connect(("127.0.0.1", port))
        first.sendall(b"POST /logout")
        address = first.getsockname()
        first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        first.close()
        second.bind(address)
        second.connect(("127.0.0.1", port))
        with listener.accept()[0] as his, listener.accept()[0] as ours:
            assert his.recv(100) == b"POST /logout", "what he sent is there to be read"
            assert peer_of(his) == peer_of(Remembered(his, address)) == Peer()
            assert peer_of(ours) == peer_of(Remembered(ours, address)) == Peer(ME)


def test_nobody_has_a_connection_that_there_is_not() -> None:
    for address in (b"\x7f\0\0\1", bytes(15) + b"\1"):
        assert peer._sock_diag.uid(Ends(address, 1, address, 2)) is None


def test_other_machines_are_not_asked_about(caplog: pytest.LogCaptureFixture) -> None:
    class Far:
        family = V4

        def getsockname(self) -> tuple[str, int]:
            return "127.0.0.1", 1455

        def getpeername(self) -> tuple[str, int]:
            return "192.0.2.1", 40000

    assert peer_of(Far()) == Peer()
    assert not caplog.records


INSIDE = """
import fcntl, socket, struct, sys
with socket.socket() as s:  # bring loopback up
    fcntl.ioctl(s, 0x8914, struct.pack("16sH14x", b"lo", 0x1 | 0x40))
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
ours = listener.accept()[0]
with socket.socket(fileno=int(sys.argv[1])) as parent:
    socket.send_fds(parent, [b"x"], [ours.fileno()])
    parent.recv(1)
"""


@pytest.mark.unshare
def test_who_is_in_another_network_is_nobody() -> None:
    parent, child = socket.socketpair()
    command = ["unshare", "-rn", sys.executable, "-c", INSIDE, str(child.fileno())]
    with parent, child, subprocess.Popen(command, pass_fds=[child.fileno()]) as process:
        child.close()
        _, descriptors, _, _ = socket.recv_fds(parent, 1, 1)
        with socket.socket(fileno=descriptors[0]) as ours:
            assert peer_of(ours) == Peer()
        parent.send(b"x")
        assert process.wait(10) == 0


UNMAPPED = """
import socket, sys
from service.peer import peer_of
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
for _ in range(2):
    with listener.accept()[0] as ours:
        print(peer_of(ours).uid, flush=True)
"""


@pytest.mark.unshare
def test_the_user_that_stands_for_all_unknown_ones_is_nobody() -> None:
    command = ["unshare", "-r", sys.executable, "-c", UNMAPPED]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with stranger() as nobody, socket.create_connection(("127.0.0.1", port)):
            assert process.stdout.readline() == "0\n", "who started it is root in there"
            nobody.connect("127.0.0.1", port)
            assert process.stdout.readline() == "None\n"


# unix sockets


def test_a_unix_socket_keeps_its_peer(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        client.connect(str(tmp_path / "s"))
        with listener.accept()[0] as ours:
            assert peer_of(ours) == Peer(ME, is_unix=True)
            client.close()
            assert peer_of(ours) == Peer(ME, is_unix=True)


def test_a_unix_socket_without_a_peer_has_none() -> None:
    with socket.socket(socket.AF_UNIX) as alone:
        assert peer_of(alone).uid is None or peer_of(alone).uid == 2**32 - 1


def test_a_socket_that_is_closed_or_alone_has_no_peer() -> None:
    with socket.socket() as alone:
        assert peer_of(alone) == Peer()
    assert peer_of(alone) == Peer()


# a kernel that does not tell


def test_the_netlink_socket_is_made_anew_after_an_error() -> None:
    with connected(*WAYS["v4"]) as (_, ours):
        assert peer_of(ours) == Peer(ME)
        assert peer._sock_diag._socket is not None
        peer._sock_diag._socket.close()
        assert peer_of(ours) == Peer(ME)


def test_an_answer_that_was_left_unread_is_not_taken_for_ours() -> None:
    asked = peer._SockDiag()
    with connected(*WAYS["v4"]) as (client, ours):
        seen = Ends(b"\x7f\0\0\1", client.getsockname()[1], b"\x7f\0\0\1", ours.getsockname()[1])
        assert asked.uid(seen) == ME
        assert asked._socket is not None
        asked._socket.send(question(seen, 99))
        assert asked.uid(seen._replace(own_port=1)) is None
        assert asked.uid(seen) == ME
    asked.close()


WITHOUT = """
import logging, socket, sys
if sys.argv[1] == "silent":
    class Silent(socket.socket):
        def __init__(self, family=-1, *rest, **more):
            if family == socket.AF_NETLINK:
                raise OSError(97, "Address family not supported by protocol")
            super().__init__(family, *rest, **more)
    socket.socket = Silent
logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stdout)
from service.peer import peer_of
listener = socket.create_server(("127.0.0.1", 0))
for _ in range(3):
    with socket.create_connection(listener.getsockname()), listener.accept()[0] as ours:
        print(peer_of(ours).uid)
"""


def test_a_system_that_does_not_tell_is_said_once() -> None:
    command = [sys.executable, "-c", WITHOUT, "silent"]
    said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout.split("\n")
    warning = "WARNING this system does not tell whose a connection is: client keys are needed"
    assert said == [warning, "None", "None", "None", ""]


def test_who_leaves_at_once_is_no_reason_to_say_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with listening() as (listener, port):
        for linger in (0, 1):
            client = socket.create_connection(("127.0.0.1", port))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", linger, 0))
            client.close()
            with listener.accept()[0] as ours:
                assert peer_of(ours) == Peer()
    assert not caplog.records


# answers


ports = st.integers(0, 65535)
addresses = st.one_of(
    st.integers(0x7F000000, 0x7FFFFFFF).map(lambda n: n.to_bytes(4)),
    st.just(ipaddress.IPv6Address("::1").packed),
)
ends_of = st.builds(Ends, addresses, ports, addresses, ports)


def row(ends: Ends, state: int, uid: int, inode: int, sequence: int = 7, kind: int = 20) -> bytes:
    """An answer as the kernel writes it."""
    family = V4 if ends.is_v4 else V6
    body = struct.pack("=BBBB", family, state, 0, 0)
    body += struct.pack("!HH16s16s", ends.own_port, ends.other_port, ends.own, ends.other)
    body += struct.pack("=IIIIIIII", 1, 2, 3, 4, 5, 6, uid, inode)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, sequence, 0) + body


@given(ends_of, st.integers(0, 255), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_only_a_live_socket_that_somebody_holds_counts(ends: Ends, state: int, uid: int, inode: int) -> None:
    if len(ends.own) == len(ends.other):
        assert uid_in(row(ends, state, uid, inode), ends) == (uid if state in (1, 4, 5, 8) and inode else None)


@given(ends_of, ends_of)
def test_only_the_socket_that_was_asked_for_counts(asked: Ends, found: Ends) -> None:
    assert uid_in(row(found, 1, ME, 1), asked) is None or found == asked


@given(ends_of, st.integers(0, 87))
def test_a_short_answer_says_nothing(ends: Ends, length: int) -> None:
    assert uid_in(row(ends, 1, ME, 1)[:length], ends) is None


@given(ends_of, st.integers(0, 65535).filter(lambda kind: kind != 20))
def test_an_error_says_nothing(ends: Ends, kind: int) -> None:
    assert uid_in(row(ends, 1, ME, 1, kind=kind), ends) is None


@given(ends_of, st.binary(max_size=300), st.integers(0, 2**32 - 1))
def test_garbage_says_nothing(ends: Ends, garbage: bytes, sequence: int) -> None:
    assert uid_in(garbage, ends) is None
    assert not is_answer(garbage, sequence) or garbage[8:12] == struct.pack("=I", sequence)


# ten thousand


def crowd() -> None:
    """In a process of its own: correct and not slower among 10 000 sockets."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with ExitStack() as stack:
        listener, port = stack.enter_context(listening())

        def more(count: int) -> list[socket.socket]:
            ours = []
            for _ in range(count):
                stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                ours.append(stack.enter_context(listener.accept()[0]))
            return ours

        few = more(100)
        alone = statistics.median(timed(few))
        many = more(4900)
        among = statistics.median(timed(many))
        assert all(peer_of(one).uid == ME for one in (*few, *many))
        print(among / alone)


def timed(sockets: list[socket.socket]) -> Iterator[float]:
    for one in sockets:
        began = time.perf_counter()
        peer_of(one)
        yield time.perf_counter() - began


@pytest.mark.long
def test_it_is_right_and_not_slower_among_ten_thousand_sockets() -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 10_100:
        pytest.skip("no 10 000 sockets are to be had here")
    command = [sys.executable, "-c", "from tests.peer.test_peer import crowd; crowd()"]
    said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert float(said) < 5, "reading the table of sockets would be a hundred times slower"
