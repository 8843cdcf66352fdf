"""Clients that belong to another user of the machine: a process that connects, sends and leaves as it is told."""

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

NOBODY = 65534


class Stranger:
    """The process, and what it can be told. Its connections stay open until it closes them or ends."""

    def __init__(self, uid: int) -> None:
        if os.getuid() != 0 and uid != os.getuid():
            from tests.kit.lacking import lacking  # noqa: PLC0415 - the process itself starts without

            lacking("only root can be another user")
        self._child = subprocess.Popen(
            [sys.executable, "-I", __file__, str(uid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._told()

    def connect(self, host: str, port: int, *, times: int = 1, say: str = "", leave: str = "") -> None:
        """Open so many connections, `say` something on each and `leave` as `_Clients.leave` takes it."""
        self._tell(["connect", host, port, times, say, leave])

    def leave(self, how: str) -> None:
        """All connections: `close`, `reset` or `half` (shut down what we send)."""
        self._tell(["leave", how])

    def closed(self, within: float) -> int:
        """How many of its connections the other end has closed, once all are or the seconds are over."""
        return int(self._tell(["closed", within]))

    def end(self) -> None:
        """Its process is no more."""
        self._child.kill()
        self._child.communicate()

    def _tell(self, order: list[Any]) -> Any:
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(order) + "\n")
        self._child.stdin.flush()
        return self._told()

    def _told(self) -> Any:
        assert self._child.stdout is not None
        if not (line := self._child.stdout.readline()):
            raise RuntimeError(f"ended with {self._child.wait()}")
        return json.loads(line)


@contextlib.contextmanager
def stranger(uid: int = NOBODY) -> Iterator[Stranger]:
    """Another user's process, which ends with the context."""
    made = Stranger(uid)
    try:
        yield made
    finally:
        made.end()


class _Clients:
    """In the process: the connections."""

    def __init__(self) -> None:
        self._open: list[socket.socket] = []

    def connect(self, host: str, port: int, times: int, say: str, leave: str) -> None:
        for _ in range(times):
            client = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
            client.settimeout(10)
            client.connect((host, port))
            self._open.append(client)
            with contextlib.suppress(OSError):  # closed at once by the other end
                client.sendall(say.encode("latin-1"))
        if leave:
            self.leave(leave)

    def leave(self, how: str) -> None:
        for client in self._open:
            if how == "half":
                client.shutdown(socket.SHUT_WR)
                continue
            if how == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        if how != "half":
            self._open.clear()

    def closed(self, within: float) -> int:
        count = 0
        for client in self._open:
            client.settimeout(within)
            try:
                while client.recv(65536):
                    pass
                count += 1
            except TimeoutError:
                within = 0.001
            except OSError:
                count += 1
        return count


def main() -> None:
    """Be that user, and do what the lines of the input say."""
    os.setuid(int(sys.argv[1]))
    clients = _Clients()
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(getattr(clients, name)(*arguments)), flush=True)


if __name__ == "__main__":
    main()
