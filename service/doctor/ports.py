"""Who listens at our ports."""

import os
import pwd
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from ipaddress import IPv4Address, IPv6Address, ip_address
from json import loads
from pathlib import Path
from typing import Any, Final, Literal

from service.cli.client import Service
from service.doctor.finding import Told, ok, trouble, warning
from service.oauth.provider import codex
from service.settings import Settings

_WITHIN: Final = 1.5
"""Seconds for a connection, and again for an answer: it is this machine."""

_LISTENING: Final = "0A"
"""TCP_LISTEN of net/tcp_states.h, as /proc/net/tcp writes it."""

_WILDCARDS: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "*": "127.0.0.1", "::": "::1"}  # nosec B104  # noqa: S104 - not bound

Who = Literal["nobody", "service", "stranger"]


@dataclass(frozen=True, slots=True)
class Listener:
    """Who answers at an address. `uid`: whose socket that is, where the kernel tells."""

    address: str
    port: int
    who: Who
    uid: int | None = None

    @property
    def is_ours(self) -> bool:
        """Whether it is this service, of nobody else that we know of. Root's may be Docker, which hands on to it."""
        return self.who == "service" and self.uid in (None, 0, os.geteuid())

    def __str__(self) -> str:
        place = f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"
        return f"{place}{_owner(self.uid)}"


def addresses(host: str) -> list[str]:
    """Where a service with this setting listens, as far as we can get there."""
    bare = host.strip("[]")
    return ["127.0.0.1", "::1"] if bare == "localhost" else [_WILDCARDS.get(bare, bare)]


def listeners(host: str, port: int, mark: str | None = None) -> list[Listener]:
    """Who answers at each address that this machine has. `mark`: a header that the service wants."""
    found = []
    for address in addresses(host):
        try:
            socket.create_connection((address, port), _WITHIN).close()
        except ConnectionRefusedError:
            found.append(Listener(address, port, "nobody"))
        except TimeoutError:
            found.append(Listener(address, port, "stranger", listening_uid(address, port)))
        except OSError:
            continue  # no IPv6 here, or not an address of this machine
        else:
            found.append(Listener(address, port, _who(address, port, mark), listening_uid(address, port)))
    return found


def port_told(settings: Settings, found: list[Listener]) -> Iterator[Told]:
    """The service's own port."""
    strangers = [each for each in found if each.who != "nobody" and not each.is_ours]
    if settings.port == 0:
        yield ok("The service takes a free port.")
    elif strangers:
        for each in strangers:
            what = "A service of another user" if each.who == "service" else "Another program"
            yield trouble(f"{what} listens at {each}.", _who_is(each.port), "Or choose another port in PIXIR_AUTH_PORT")
    elif {each.who for each in found} == {"service", "nobody"}:
        at = next(each for each in found if each.who == "nobody")
        yield trouble(f"The service does not listen at {at}, where localhost may lead.", "Restart the service.")
    else:
        yield ok(f"Port {settings.port} is {'free' if all(each.who == 'nobody' for each in found) else 'the service'}.")


def callback_ports_told(settings: Settings) -> Iterator[Told]:
    """The ports that browsers come back to."""
    ports = codex(settings.codex_issuer).callback_ports
    if settings.port in ports:
        yield ok(f"Browsers come back to the service's own port {settings.port}.")
        return
    taken = [[each for each in listeners("localhost", port) if each.who == "stranger"] for port in ports]
    if all(taken):
        yield warning(
            f"Other programs listen at {' and '.join(str(each[0]) for each in taken)}: no browser can come back, so a"
            " login shows a code instead.",
            *map(_who_is, ports),
        )
    else:
        yield ok(f"Browsers can come back to port {next(p for p, each in zip(ports, taken, strict=True) if not each)}.")


def listening_uid(address: str, port: int) -> int | None:
    """Whose socket listens there, as Linux tells everybody in /proc/net/tcp; None where nothing tells."""
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        except OSError:
            return None
        for line in lines:
            fields = line.split()
            local, state, uid = fields[1], fields[3], fields[7]
            place, _, at = local.partition(":")
            if state == _LISTENING and int(at, 16) == port and place in _spellings(address):
                return int(uid)
    return None


def _spellings(address: str) -> set[str]:
    """An address as the kernel writes it, and what else would be reached under it."""
    one = ip_address(address)
    wild: list[IPv4Address | IPv6Address] = [ip_address("::")]
    if one.version == 4:
        wild += [ip_address("0.0.0.0"), ip_address(f"::ffff:{address}")]  # nosec B104  # noqa: S104 - not bound
    return {_in_hex(each.packed) for each in (one, *wild)}


def _in_hex(packed: bytes) -> str:
    words = [packed[at : at + 4] for at in range(0, len(packed), 4)]
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)


def _who(address: str, port: int, mark: str | None) -> Who:
    """Asks without a key: nobody knows yet who that is."""
    url = f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
    try:
        answer: Any = loads(Service(url, mark=mark).send("GET", "/status", within=_WITHIN).body)
    except (OSError, HTTPException, ValueError, RecursionError):
        return "stranger"
    if not isinstance(answer, dict):
        return "stranger"
    is_problem = str(answer.get("type")).startswith("urn:pixir-auth:problem:")
    return "service" if is_problem or {"authenticated", "refresh", "version"} <= answer.keys() else "stranger"


def _owner(uid: int | None) -> str:
    if uid is None:
        return ""
    try:
        return f" (user {pwd.getpwuid(uid).pw_name})"
    except KeyError:
        return f" (user {uid})"


def _who_is(port: int) -> str:
    linux, others = f"ss -ltnp 'sport = :{port}'", f"lsof -nP -iTCP:{port} -sTCP:LISTEN"
    return f"See who it is: {linux if sys.platform == 'linux' else others}"
