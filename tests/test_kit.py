"""What tests stand on: a network of their own, and ports that nobody takes before they are used."""

import socket
from pathlib import Path

import pytest

from tests.kit.lacking import lacking
from tests.kit.network import own_network
from tests.kit.ports import free_port


def test_an_own_network_holds_nothing_but_a_loopback_that_works() -> None:
    with socket.create_server(("127.0.0.1", 0)) as outside:
        address = outside.getsockname()
        with own_network() as is_own:
            if not is_own:
                lacking("only root has a network of its own, on Linux")
            assert [name for _, name in socket.if_nameindex() if name not in _ALWAYS] == ["lo"]
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address, timeout=5)
            with socket.create_server(("127.0.0.1", 0)) as inside:
                socket.create_connection(inside.getsockname(), timeout=5).close()
        socket.create_connection(address, timeout=5).close()


_ALWAYS = {"sit0", "tunl0", "ip6tnl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "ip6gre0"}
"""Some kernels put these into every network, down."""


def test_a_free_port_is_none_that_the_kernel_gives_out_by_itself() -> None:
    given_out = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if not given_out.exists():
        pytest.skip("no /proc here says which ports those are")
    first, _ = map(int, given_out.read_text().split())
    assert all(port < first for port in (free_port() for _ in range(20)))
