"""`python -m benchmarks.peer`: microseconds to ask whose connection it is, with few sockets open and with 10 000."""

import resource
import socket
import statistics
import time
from contextlib import ExitStack

from service.peer import peer_of

ROUNDS = 5000


def connected(stack: ExitStack, family: socket.AddressFamily, host: str, count: int) -> list[socket.socket]:
    """Our ends of so many connections to ourselves."""
    listener = stack.enter_context(socket.create_server((host, 0), family=family))
    ours = []
    for _ in range(count):
        stack.enter_context(socket.create_connection(listener.getsockname()[:2]))
        ours.append(stack.enter_context(listener.accept()[0]))
    return ours


def median(sock: socket.socket) -> float:
    """Microseconds of one question."""
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        peer_of(sock)
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1e6


def main() -> None:
    """Print one line per kind of connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 12_000)), hard))
    with ExitStack() as stack:
        pair = [stack.enter_context(end) for end in socket.socketpair()]
        kinds = {
            "127.0.0.1": connected(stack, socket.AF_INET, "127.0.0.1", 1)[0],
            "::1": connected(stack, socket.AF_INET6, "::1", 1)[0],
            "unix socket": pair[0],
        }
        few = {kind: median(sock) for kind, sock in kinds.items()}
        connected(stack, socket.AF_INET, "127.0.0.1", 5_000)
        for kind, sock in kinds.items():
            print(f"{kind:<12} {few[kind]:6.1f} µs, with 10 000 sockets open {median(sock):6.1f} µs")


if __name__ == "__main__":
    main()
