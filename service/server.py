"""The process: sockets, signals, uvicorn. Listens on loopback only, on both families, and says where."""

import asyncio
import contextlib
import errno
import ipaddress
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp

from service import __version__, logs
from service.app import Application, create_app
from service.connection import Connection
from service.crowd import crowd
from service.domain.errors import StoreUnavailable
from service.settings import Settings, SettingsError
from service.store.files import UnsafePath
from service.store.keys import KeyUnusable
from service.store.migrations import NewerSchema
from service.systemd import Manager, NotUsable, passed_sockets
from service.unix import UnixSocket

log = logging.getLogger(__name__)

_GRACE: Final = 10.0
"""Seconds beyond the issuer's that answers under way get at shutdown; refreshes under way are finished in any case."""

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends the service; a closed terminal too, in good order."""

_BACKLOG: Final = 2048

_KEEP_ALIVE: Final = 20
"""Seconds that an idle connection stays: longer than clients keep theirs (httpx: 5), lest we close one just as it is
used again."""

_UNREAD: Final = 20
"""Seconds that a client may leave what was sent to it unread, wherever the platform can tell."""


def serve(settings: Settings) -> int:
    """Serve until SIGINT or SIGTERM; the exit code. What keeps it from starting is said in one line."""
    logs.configure(settings.log_format, settings.log_level)
    crowd()
    manager = Manager()
    try:
        passed = passed_sockets()
    except NotUsable as exc:
        return _refused(f"LISTEN_FDS: {exc}")
    try:
        sockets = _at_ports(passed) or listen(settings.host, settings.port)
    except OSError as exc:
        return _refused(f"cannot listen on {settings.host} port {settings.port}: {exc.strerror}")
    files = [each for each in passed if each.family == socket.AF_UNIX]
    try:
        beside = UnixSocket(settings.unix_socket, _BACKLOG) if settings.unix_socket and not files else None
    except UnsafePath as exc:
        return _refused(f"PIXIR_AUTH_UNIX_SOCKET: {exc}")
    except OSError as exc:
        return _refused(f"PIXIR_AUTH_UNIX_SOCKET: cannot listen at {settings.unix_socket}: {exc.strerror}")
    with beside or contextlib.nullcontext():
        return _serve(settings, sockets, [beside.listener] if beside else files, beside, manager)


def _serve(
    settings: Settings,
    sockets: list[socket.socket],
    files: list[socket.socket],
    beside: UnixSocket | None,
    manager: Manager,
) -> int:
    """`files`: what listens at unix sockets; the file of `beside` is ours to take away."""
    port = sockets[0].getsockname()[1]
    door = CallbackDoor(port)
    try:
        app = create_app(settings, port=port, door=door)
    except (SettingsError, KeyUnusable, UnsafePath, NewerSchema, StoreUnavailable) as exc:
        return _refused(str(exc))
    except OSError as exc:
        return _refused(f"cannot use {exc.filename}: {exc.strerror}")
    if not app.has_client_key and not all(map(_is_loopback, sockets)):
        asyncio.run(app.close())
        for each in [*sockets, *files]:
            each.close()
        return _refused(
            "PIXIR_AUTH_HOST, or a socket that was passed: beyond loopback nobody could be let in without a client "
            "key; make one first"
        )
    door.app = app
    log.info("pixir-auth %s serves %s", __version__, app.services.public_url)
    for each in files:
        log.info("and at the unix socket %s", each.getsockname() if beside is None else beside.path)
    longest = settings.issuer_timeout + _GRACE

    def begin() -> None:
        manager.tell("READY=1", f"STATUS=serves {app.services.public_url}")

    def end() -> None:
        # a stop that takes longer than the unit says is no reason to kill a refresh
        manager.tell("STOPPING=1", "STATUS=ends", f"EXTEND_TIMEOUT_USEC={int((longest + _GRACE) * 1e6)}")
        app.stop()
        if beside:
            beside.remove()  # while it still listens: see there

    _Main(_config(app, lifespan="on", grace=longest), begin, end).run([*sockets, *files])
    return 0


def _at_ports(passed: list[socket.socket]) -> list[socket.socket]:
    """Those of the passed sockets that listen at a port, as we would have made them."""
    found = [each for each in passed if each.family != socket.AF_UNIX]
    for each in found:
        _hasten(each)
    return found


def _is_loopback(listener: socket.socket) -> bool:
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def listen(host: str, port: int) -> list[socket.socket]:
    """Listening sockets: `localhost` means 127.0.0.1 and ::1, both or none."""
    addresses = ["127.0.0.1", "::1"] if host == "localhost" else [host.strip("[]")]
    sockets: list[socket.socket] = []
    try:
        for address in addresses:
            try:
                bound = _bind(address, sockets[0].getsockname()[1] if sockets else port)
            except OSError as exc:
                if sockets and exc.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    continue  # a machine without IPv6
                raise
            sockets.append(bound)
    except OSError:
        for bound in sockets:
            bound.close()
        raise
    return sockets


class CallbackDoor:
    """Callback ports: our own if it is one, else a listener for the callback path alone, while a login is pending."""

    def __init__(self, own_port: int) -> None:
        self._own_port = own_port
        self._closing: set[asyncio.Task[None]] = set()
        self._open: dict[int, tuple[_Beside, asyncio.Task[None]]] = {}
        self.app: Application | None = None

    async def open_one(self, ports: tuple[int, ...]) -> int | None:
        """Make sure that one of these ports leads to us, the first that can be had; None if none can."""
        if self._own_port in ports:
            return self._own_port
        return next((port for port in ports if port in self._open or self._opened(port)), None)

    async def keep(self, ports: set[int]) -> None:
        """Have these ports lead to us, as far as they can be had, and no others."""
        for port in set(self._open) - ports:
            self._shut(port)
        for port in ports - set(self._open) - {self._own_port}:
            self._opened(port)

    async def close(self) -> None:
        """Shut all of them and wait for the last answers."""
        await self.keep(set())
        if self._closing:
            await asyncio.wait(self._closing)

    def _shut(self, port: int) -> None:
        """The port is free at once; who is being answered there still gets his answer."""
        server, task = self._open.pop(port)
        for listener in getattr(server, "servers", ()):  # none if it has not come to listen yet
            listener.close()
        server.should_exit = True
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _opened(self, port: int) -> bool:
        if self.app is None:
            return False
        try:
            sockets = listen("localhost", port)
        except OSError:
            return False
        server = _Beside(_config(self.app.callback_only(port), lifespan="off"))
        self._open[port] = server, asyncio.create_task(server.serve(sockets), name=f"callback port {port}")
        return True


class _Main(uvicorn.Server):
    """Ends in good order on any number of signals: a second one must not cut off a refresh."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None], on_exit: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._on_exit = on_exit

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            self._on_ready()

    def handle_exit(self, sig: int, frame: Any) -> None:  # noqa: ARG002 - the signature of a signal handler
        self.should_exit = True
        self._on_exit()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn does, but without raising the signal again at the end: to stop when told to is success."""
        heard = [sig for sig in _SIGNALS if signal.getsignal(sig) is not signal.SIG_IGN]  # nohup ignores SIGHUP
        before = {sig: signal.signal(sig, self.handle_exit) for sig in heard}
        try:
            yield
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)


class _Beside(uvicorn.Server):
    """A second server in the same loop, which leaves the signals to the first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _config(app: ASGIApp, lifespan: Any, grace: float = _GRACE) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=Connection,
        lifespan=lifespan,
        log_config=None,
        access_log=False,  # it would print query strings; the guard has its own
        proxy_headers=False,  # any local user could claim any address
        server_header=False,
        ws="none",
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=int(grace),
    )


def _bind(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # not REUSEPORT: nobody may share our port
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        _hasten(bound)
        bound.bind((address, port))
        bound.listen(_BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound


def _hasten(listener: socket.socket) -> None:
    """Whoever leaves unread what he gets is cut off; what is accepted inherits it."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD * 1000)


def _refused(why: str) -> int:
    log.error("not started: %s", why)
    return 1
