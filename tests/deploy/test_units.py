"""The systemd units and the launchd agent: what they forbid, and that the service needs none of it."""

import os
import plistlib
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.server import _GRACE
from service.settings import Settings
from tests.kit.ports import callback_ports
from tests.kit.processes import ROOT, machine

UNITS = ROOT / "deploy" / "systemd"
KINDS = ("user", "system")

MOST_EXPOSED = {"system": 2.0, "user": 6.5}
"""`systemd-analyze security`, 0 to 10. A user's manager cannot drop capabilities, which are half of that scale."""


def unit(kind: str, name: str = "pixir-auth.service") -> list[tuple[str, str]]:
    """The assignments of a unit, in order."""
    lines = (UNITS / kind / name).read_text().splitlines()
    return [(key, value) for key, found, value in (line.partition("=") for line in lines) if found and key[0] != "#"]


def one(kind: str, key: str, name: str = "pixir-auth.service") -> str:
    """The value of what is assigned once."""
    (value,) = (value for each, value in unit(kind, name) if each == key)
    return value


@pytest.mark.parametrize("kind", KINDS)
def test_the_socket_is_localhost_and_nothing_else(kind: str) -> None:
    listens = [value for key, value in unit(kind, "pixir-auth.socket") if key.startswith("Listen")]
    port = Settings.model_fields["port"].default
    assert listens == [f"127.0.0.1:{port}", f"[::1]:{port}"]
    assert one(kind, "BindIPv6Only", "pixir-auth.socket") == "ipv6-only"


@pytest.mark.parametrize("kind", KINDS)
def test_a_refresh_under_way_is_not_killed(kind: str) -> None:
    assert float(one(kind, "TimeoutStopSec")) > Settings.model_fields["issuer_timeout"].default + _GRACE
    assert one(kind, "Type") == "notify"
    assert one(kind, "Restart") == "on-failure"


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_holds_stays_in_it(kind: str) -> None:
    wanted = {
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "UMask": "0077",
        "LimitCORE": "0",
        "PrivateTmp": "yes",
        "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX AF_NETLINK",
        **({"CapabilityBoundingSet": "", "ProtectHome": "yes", "PrivateDevices": "yes"} if kind == "system" else {}),
    }
    assert {key: one(kind, key) for key in wanted} == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_users_stay_users(kind: str) -> None:
    """With users of its own the service could not tell who calls; so it could not without /proc/sys."""
    assert {"PrivateUsers", "ProcSubset", "DynamicUser"} & {key for key, _ in unit(kind)} == set()


@pytest.mark.systemd
@pytest.mark.parametrize("kind", KINDS)
def test_exposure_is_below_a_fixed_score(kind: str) -> None:
    score = analyze("security", "--offline=true", "--no-pager", UNITS / kind / "pixir-auth.service")
    found = re.search(r"exposure level for \S+: ([0-9.]+)", score.stdout)
    assert found, score.stderr
    assert float(found[1]) <= MOST_EXPOSED[kind]


@pytest.mark.systemd
@pytest.mark.parametrize("kind", KINDS)
def test_systemd_has_nothing_to_say_against_them(kind: str, tmp_path: Path) -> None:
    program = shutil.which("true") or ""
    for name in ("pixir-auth.service", "pixir-auth.socket"):
        text = (UNITS / kind / name).read_text()
        (tmp_path / name).write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={program}", text, flags=re.MULTILINE))
    scope = ["--user"] if kind == "user" else []
    units = [tmp_path / "pixir-auth.service", tmp_path / "pixir-auth.socket"]
    checked = analyze("verify", "--man=no", *scope, *units, XDG_RUNTIME_DIR=str(tmp_path))
    assert (checked.returncode, checked.stderr) == (0, "")
    spoilt = tmp_path / "pixir-auth.socket"
    spoilt.write_text(spoilt.read_text().replace("BindIPv6Only", "BindIPv6Olny"))
    assert "BindIPv6Olny" in analyze("verify", "--man=no", *scope, *units, XDG_RUNTIME_DIR=str(tmp_path)).stderr


def analyze(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """What systemd-analyze says."""
    command = ["systemd-analyze", *map(str, arguments)]
    environ = {**os.environ, **environment}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=60)


# what it needs of the kernel


def calls_in(name: str, listed: str) -> set[str]:
    """The system calls of a set, as `systemd-analyze syscall-filter` lists all of them."""
    found: set[str] = set()
    for part in re.split(r"\n(?=\S)", listed):
        head, *members = part.split("\n")
        if head == name:
            names = [each.strip() for each in members if each.strip() and not each.strip().startswith("#")]
            found.update(*(calls_in(each, listed) if each[0] == "@" else {each} for each in names))
    return found


def allowed(kind: str) -> set[str]:
    """The system calls that a unit lets through."""
    listed = analyze("syscall-filter", "--no-pager").stdout
    through: set[str] = set()
    for key, value in unit(kind):
        if key == "SystemCallFilter":
            calls = set[str]().union(*(calls_in(each, listed) or {each} for each in value.removeprefix("~").split()))
            through = through - calls if value[0] == "~" else through | calls
    return through


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The system calls of a whole life, in the words of strace: start, login, refresh, unix socket, new key, end."""
    with machine(tmp_path_factory.mktemp("machine")) as m:
        issuer = m.issuer()
        record = m.folder / "strace"
        traced = ("strace", "-D", "-f", "-qq", "-o", str(record))
        service = m.service(issuer, under=traced, unix_socket=m.folder / "run" / "auth.sock", refresh_floor=0)
        m.install(service, issuer)
        generation = service.client.get("/token").raise_for_status().json()["generation"]
        service.client.get("/token", params={"newer_than": generation}).raise_for_status()
        service.client.post("/rekey").raise_for_status()
        with callback_ports():
            service.client.post("/login", json={"flow": "browser"}).raise_for_status()
            service.client.post("/logout").raise_for_status()
            service.signal(signal.SIGTERM)
            assert service.ended() == 0
        yield [line.partition(" ")[2].strip() for line in record.read_text().splitlines()]


@pytest.mark.long
@pytest.mark.strace
@pytest.mark.systemd
@pytest.mark.parametrize("kind", KINDS)
def test_no_call_of_a_whole_life_is_forbidden(life: list[str], kind: str) -> None:
    made = {found[1] for line in life if (found := re.match(r"(\w+)\(", line))}
    assert {"execve", "sendto", "recvfrom", "prctl", "umask"} <= made
    as_root = {"fchown"} if os.geteuid() == 0 else set()  # SQLite gives its files away, where it is root
    assert made - allowed(kind) - as_root == set()


@pytest.mark.long
@pytest.mark.strace
def test_no_memory_of_a_whole_life_is_both_writable_and_executable(life: list[str]) -> None:
    assert [line for line in life if re.search(r"^mmap\(.*PROT_WRITE\|PROT_EXEC|^\w*mprotect\(.*PROT_EXEC", line)] == []


@pytest.mark.long
@pytest.mark.strace
@pytest.mark.parametrize("kind", KINDS)
def test_no_other_family_of_sockets_is_used(life: list[str], kind: str) -> None:
    made = {found[1] for line in life if (found := re.match(r"socket(?:pair)?\((\w+)", line))}
    assert made == set(one(kind, "RestrictAddressFamilies").split())


# launchd


def test_the_agent_of_macos_starts_the_service_and_keeps_it_running() -> None:
    with (ROOT / "deploy" / "launchd" / "pixir-auth.plist").open("rb") as file:
        agent = plistlib.load(file)
    assert agent["Label"] == "pixir-auth"
    *shell, line = agent["ProgramArguments"]
    assert shell == ["/bin/sh", "-c"]
    assert line.startswith('exec "$HOME/.local/bin/pixir-auth" serve 2>>"$HOME/')
    assert (agent["RunAtLoad"], agent["KeepAlive"]) == (True, {"SuccessfulExit": False})
    assert agent["ExitTimeOut"] > Settings.model_fields["issuer_timeout"].default + _GRACE
    assert (agent["Umask"], agent["HardResourceLimits"]) == (0o077, {"Core": 0})
    assert "EnvironmentVariables" not in agent, "it can be read by whoever can read the file"
