"""`python -m service.sandbox`: the sandbox as a process of its own, on loopback only."""

from __future__ import annotations

import argparse
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import uvicorn

from .knobs import Knobs, turn
from .sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def parser() -> argparse.ArgumentParser:
    """One option per knob that a command line can say; the others are turned at /_sandbox/knobs."""
    options = argparse.ArgumentParser(prog="python -m service.sandbox", description=__doc__)
    options.add_argument("--host", default="127.0.0.1", choices=_LOOPBACK)
    options.add_argument("--port", type=int, default=8123, help="0 takes a free one")
    options.add_argument("--issuer", help="the URL it calls itself; default http://HOST:PORT")
    options.add_argument("--any-redirect-port", action="store_true", help="not only 1455 and 1457")
    for name in ("access-lifetime", "id-lifetime", "refresh-lifetime", "latency", "retry-window"):
        options.add_argument(f"--{name}", type=float, metavar="SECONDS")
    options.add_argument("--device-interval", metavar="SECONDS")
    for name in ("rotate", "revoke-family", "device-login", "auto-approve"):
        options.add_argument(f"--{name}", action=argparse.BooleanOptionalAction)
    return options


def knobs_of(options: argparse.Namespace) -> Knobs:
    """The knobs a command line asked for."""
    knobs = Knobs(redirect_ports=None) if options.any_redirect_port else Knobs()
    own = {"host", "port", "issuer", "any_redirect_port"}
    asked: dict[str, Any] = {name: value for name, value in vars(options).items() if name not in own}
    turn(knobs, {name: value for name, value in asked.items() if value is not None})
    return knobs


class _Announcing(uvicorn.Server):
    """Says its URL on stdout once it accepts connections: what a waiting script reads."""

    url = ""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        sys.stdout.write(self.url + "\n")
        sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until interrupted."""
    options = parser().parse_args(arguments)
    family = socket.AF_INET6 if options.host == "::1" else socket.AF_INET
    # Bound here and not by uvicorn: with port 0 the issuer must know its port before the first request.
    try:
        listener = socket.create_server((options.host, options.port), family=family)
    except OSError as exc:
        sys.exit(f"cannot listen on {options.host}:{options.port}: {exc.strerror}")
    host = f"[{options.host}]" if family is socket.AF_INET6 else options.host
    url = f"http://{host}:{listener.getsockname()[1]}"
    sandbox = Sandbox(options.issuer or url, knobs_of(options))
    # A client that a fault keeps hanging must not keep the process alive after its end was asked for.
    config = uvicorn.Config(sandbox.app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
    server = _Announcing(config)
    server.url = url
    with suppress(KeyboardInterrupt):
        server.run(sockets=[listener])


if __name__ == "__main__":
    main()
