"""What the running process forgoes: core dumps, and being looked into by another process of its own user."""

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.hardening import harden
from tests.kit.lacking import lacking
from tests.kit.processes import ROOT, Machine, Process, machine

pytestmark = [pytest.mark.long, pytest.mark.skipif(sys.platform != "linux", reason="prctl and /proc are Linux's")]

NOBODY = 65534

_LOOK = """
import os, sys
pid = sys.argv[1]
for name in ("environ", "mem", "maps", "fd/0", "cwd"):
    path = f"/proc/{pid}/{name}"
    try:
        os.readlink(path) if name in ("fd/0", "cwd") else os.close(os.open(path, os.O_RDONLY))
    except PermissionError:
        continue
    print(name)
"""

_WAIT = "import sys; print('ready', flush=True); sys.stdin.read()"


@pytest.fixture(scope="module")
def as_a_user() -> list[str]:
    """A command that runs another one as an ordinary user: as root may look into everything, we take another then.

    It may read every file, for the interpreter may be in root's home; that opens no process.
    """
    if os.geteuid() != 0:
        return []
    may_read = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *may_read]
    if not shutil.which("setpriv") or subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        lacking("there is no setpriv, or it may not change the user here")
    return command


@pytest.fixture(scope="module")
def m(tmp_path_factory: pytest.TempPathFactory, as_a_user: list[str]) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("machine")
    with machine(folder) as made:
        yield made


@pytest.fixture(scope="module")
def issuer(m: Machine) -> Process:
    return m.issuer()


@pytest.fixture(scope="module")
def service(m: Machine, issuer: Process, as_a_user: list[str]) -> Process:
    """A service of an ordinary user, in a folder of its own; core dumps would be allowed."""
    if as_a_user:
        os.chown(m.folder, NOBODY, NOBODY)
    unlimited = ["sh", "-c", 'ulimit -S -c "$(ulimit -H -c)"; exec "$@"', "sh"]
    running = m.service(issuer, under=[*as_a_user, *unlimited])
    m.install(running, issuer)
    return running


def seen(as_a_user: list[str], pid: int) -> list[str]:
    """What another process of the same user can look into."""
    looked = subprocess.run(
        [*as_a_user, sys.executable, "-c", _LOOK, str(pid)], capture_output=True, text=True, check=True
    )
    return looked.stdout.split()


def test_another_process_of_the_same_user_cannot_look_into_it(service: Process, as_a_user: list[str]) -> None:
    with subprocess.Popen(
        [*as_a_user, sys.executable, "-c", _WAIT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as ordinary:
        assert ordinary.stdout is not None
        assert ordinary.stdout.readline() == b"ready\n"
        assert seen(as_a_user, ordinary.pid) == ["environ", "mem", "maps", "fd/0", "cwd"], "this would have shown it"
        ordinary.communicate()
    assert seen(as_a_user, service.pid) == []


def test_no_debugger_of_the_same_user_can_attach(service: Process, as_a_user: list[str]) -> None:
    script = (
        "import ctypes, sys; libc = ctypes.CDLL(None, use_errno=True);"
        "sys.exit(ctypes.get_errno() if libc.ptrace(0x4206, int(sys.argv[1]), None, None) else 0)"  # PTRACE_SEIZE
    )
    tried = subprocess.run([*as_a_user, sys.executable, "-c", script, str(service.pid)], check=False)
    assert os.strerror(tried.returncode) == "Operation not permitted"


def test_the_kernel_says_no_core(service: Process) -> None:
    limits = Path(f"/proc/{service.pid}/limits").read_text().splitlines()
    (core,) = [line.split() for line in limits if line.startswith("Max core file size")]
    assert core[4:6] == ["0", "0"]


def test_it_works_all_the_same(service: Process) -> None:
    assert service.client.get("/token").json()["access_token"]
    assert service.client.get("/readyz").status_code == 200


def test_what_it_makes_is_its_own_alone(m: Machine, service: Process) -> None:
    made = list((m.folder / "data").rglob("*"))
    assert made
    assert {path.lstat().st_mode & 0o077 for path in made} == {0}


def dumped(process: subprocess.Popen[bytes]) -> bool:
    """Whether it left a core when it died."""
    ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert ended is not None
    assert ended.si_status == signal.SIGSEGV
    return ended.si_code == os.CLD_DUMPED


@pytest.mark.parametrize("hardened", [False, True])
def test_no_core_is_left_when_it_crashes(tmp_path: Path, hardened: bool) -> None:
    """The same program, with and without: so that it is known to leave one here."""
    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        lacking("no process may dump core here")
    script = (
        "import os, resource, signal;"
        "hard = resource.getrlimit(resource.RLIMIT_CORE)[1];"
        "resource.setrlimit(resource.RLIMIT_CORE, (hard, hard));"
        f"{'from service.hardening import harden; harden();' if hardened else ''}"
        "os.kill(os.getpid(), signal.SIGSEGV)"
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, env=environ) as crashing:
        assert dumped(crashing) is not hardened
    if hardened:
        assert list(tmp_path.iterdir()) == []


def test_the_service_itself_leaves_no_core(m: Machine, service: Process, as_a_user: list[str]) -> None:
    """The last of these tests: it ends the service."""
    service.signal(signal.SIGSEGV)
    assert not dumped(service._child)
    assert service.ended() == -signal.SIGSEGV
    assert [path for path in (*ROOT.glob("core*"), *m.folder.rglob("core*")) if path.is_file()] == []


# where it cannot be had


def test_what_cannot_be_had_is_told_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_args: object, **_options: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(resource, "setrlimit", refused)
    monkeypatch.setattr("ctypes.CDLL", refused)
    before = os.umask(0)
    try:
        harden()
        assert os.umask(before) == 0o077
    finally:
        os.umask(before)
    assert [record.getMessage() for record in caplog.records] == [
        "core dumps cannot be switched off (PermissionError)",
        "other processes of this user can look into this one (PermissionError)",
    ]
