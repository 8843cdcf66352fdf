"""Who is alive: told by the kernel, for processes that live, sleep, die and end."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.domain.errors import StoreUnavailable
from service.store.files import UnsafePath
from service.store.owner import Owners, living

from .samples import ROOT, bare
from .test_files import SOMEBODY_ELSE, Trap, a_link, a_pipe, as_root, modes

COMMAND = [sys.executable, "-m", "tests.store.owner_process"]


@dataclass
class Other:
    """Another process that owns something."""

    process: subprocess.Popen[str]
    name: str

    def stop(self) -> None:
        """It sleeps, as in a suspended container."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)

    def kill(self) -> None:
        """It dies without a word."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """It ends in good order."""
        self.process.communicate("end\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the locks are."""
    return tmp_path / "owners"


@pytest.fixture
def other(folder: Path) -> Iterator[Callable[[], Other]]:
    """Starts another process; none survives the test."""
    started: list[Other] = []

    def start() -> Other:
        process = subprocess.Popen(
            [*COMMAND, str(folder)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        started.append(Other(process, process.stdout.readline().strip()))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.kill()
        each.process.communicate()


@pytest.fixture
def mine(folder: Path) -> Iterator[Owners]:
    """This process."""
    owners = Owners(folder)
    yield owners
    owners.close()


def test_who_lives_is_not_dead(mine: Owners, other: Callable[[], Other]) -> None:
    assert mine.fate(other().name) == "alive"
    assert mine.fate(mine.present()) == "alive"


def test_who_is_stopped_is_not_dead(mine: Owners, other: Callable[[], Other]) -> None:
    sleeper = other()
    sleeper.stop()
    assert mine.fate(sleeper.name) == "alive"


def test_who_was_killed_is_dead(mine: Owners, other: Callable[[], Other]) -> None:
    victim = other()
    victim.kill()
    assert (mine._folder / f"{bare(victim.name)}.lock").exists()
    assert mine.fate(victim.name) == "dead"
    assert mine.fate(victim.name) == "dead"


def test_who_was_killed_while_stopped_is_dead(mine: Owners, other: Callable[[], Other]) -> None:
    victim = other()
    victim.stop()
    victim.kill()
    assert mine.fate(victim.name) == "dead"


def test_who_ended_in_good_order_is_dead(mine: Owners, other: Callable[[], Other]) -> None:
    gone = other()
    gone.end()
    assert not (mine._folder / f"{bare(gone.name)}.lock").exists()
    assert mine.fate(gone.name) == "dead"


def test_nobody_is_dead(mine: Owners) -> None:
    assert mine.fate("0" * 32) == "dead"


def test_asking_does_not_kill(mine: Owners, other: Callable[[], Other]) -> None:
    living, asker = other(), Owners(mine._folder)
    for _ in range(3):
        assert mine.fate(living.name) == "alive"
        assert asker.fate(living.name) == "alive"
    asker.close()


def test_two_owners_in_one_process_are_two(mine: Owners, folder: Path) -> None:
    second = Owners(folder)
    assert second.present() != mine.present()
    assert mine.fate(second.present()) == "alive"
    assert second.fate(mine.present()) == "alive"
    name = second.present()
    second.close()
    assert mine.fate(name) == "dead"


def test_a_lock_is_not_kept_by_what_its_owner_started(mine: Owners, folder: Path) -> None:
    """A program that outlives the service must not make it look alive."""
    starter = f"""
import subprocess, sys
from pathlib import Path
from service.store.owner import Owners, living
owners = Owners(Path({str(folder)!r}))
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=0, stdout=subprocess.DEVNULL)
print(owners.present())
"""
    read, write = os.pipe()  # the child waits for its end
    ended = subprocess.run(
        [sys.executable, "-c", starter], cwd=ROOT, stdin=read, stdout=subprocess.PIPE, text=True, check=True
    )
    assert mine.fate(ended.stdout.strip()) == "dead"
    os.close(read)
    os.close(write)


def test_the_lock_appears_under_its_name_once_it_is_locked(folder: Path, tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    log = tmp_path / "strace"
    calls = ["-f", "-y", "-e", "trace=openat,flock,rename,renameat,renameat2"]
    traced = subprocess.run(
        [strace, "-o", str(log), *calls, *COMMAND, str(folder)], cwd=ROOT, input="", capture_output=True, check=False
    )
    if traced.returncode != 0:
        pytest.skip(f"strace does not work here: {traced.stderr[:200]!r}")
    name = bare(traced.stdout.decode().strip())
    seen = re.findall(rf"(openat|flock|rename)\w*\(.*{name}\.new.*\) = \d", log.read_text())
    assert seen == ["openat", "flock", "rename"]


def test_the_living_are_counted_without_a_trace(mine: Owners, folder: Path, other: Callable[[], Other]) -> None:
    dead, sleeper, _ = other(), other(), other()
    dead.kill()
    sleeper.stop()
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert living(folder) == 3
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert mine.fate(sleeper.name) == "alive"
    assert mine.fate(dead.name) == "dead"


def test_nobody_lives_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert living(tmp_path / "nothing") == 0


# -- sweeping up ---------------------------------------------------------------------------------------------------


def test_a_start_sweeps_up_the_dead_and_keeps_the_living(
    mine: Owners, folder: Path, other: Callable[[], Other]
) -> None:
    dead, sleeper, living = other(), other(), other()
    dead.kill()
    sleeper.stop()
    newcomer = Owners(folder)
    assert {path.stem for path in folder.glob("*.lock")} == {
        bare(mine.present()),
        bare(sleeper.name),
        bare(living.name),
        bare(newcomer.present()),
    }
    assert newcomer.fate(dead.name) == "dead"
    newcomer.close()


def test_an_owner_leaves_nothing_behind(folder: Path) -> None:
    Owners(folder).close()
    assert list(folder.iterdir()) == []


# -- a user who tidies up ------------------------------------------------------------------------------------------


def test_closing_is_not_spoiled_by_a_removed_lock(folder: Path) -> None:
    owners = Owners(folder)
    (folder / f"{bare(owners.present())}.lock").unlink()
    owners.close()


def test_who_is_present_keeps_his_name(mine: Owners) -> None:
    assert mine.present() == mine.present()


def test_whose_lock_was_removed_takes_another_name_and_remains_himself(mine: Owners, folder: Path) -> None:
    """Under the old name the others must take him for dead: what he does from now on needs a name they can see."""
    other = Owners(folder)
    before = mine.present()
    (folder / f"{bare(before)}.lock").unlink()
    after = mine.present()
    assert after != before
    assert (other.fate(before), other.fate(after)) == ("dead", "alive")
    assert (mine.is_me(before), mine.is_me(after), mine.is_me(other.present())) == (True, True, False)
    assert (mine.fate(before), mine.fate(after)) == ("alive", "alive")
    other.close()


def test_whose_folder_was_removed_makes_it_again(folder: Path, tmp_path: Path) -> None:
    owners = Owners(folder)
    before = owners.present()
    shutil.rmtree(folder)
    after = owners.present()
    assert after != before
    assert modes(tmp_path) == {"owners": "drwx------", f"owners/{bare(after)}.lock": "-rw-------"}
    owners.close()


@pytest.mark.parametrize("trap", [a_link, a_pipe])
def test_whose_folder_became_something_else_says_so(folder: Path, tmp_path: Path, trap: Trap) -> None:
    owners = Owners(folder)
    shutil.rmtree(folder)
    (tmp_path / "elsewhere").mkdir()
    trap(folder, tmp_path / "elsewhere")
    with pytest.raises(StoreUnavailable):
        owners.present()
    assert list((tmp_path / "elsewhere").iterdir()) == []
    folder.unlink()
    owners.close()


def test_who_has_several_names_leaves_nothing_behind(folder: Path) -> None:
    owners = Owners(folder)
    for _ in range(3):
        (folder / f"{bare(owners.present())}.lock").unlink()
        owners.present()
    owners.close()
    assert list(folder.iterdir()) == []


# -- locks that are none -------------------------------------------------------------------------------------------


def test_a_lock_that_is_a_link_proves_nothing(mine: Owners, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "target").touch()
    (folder / "prepared.lock").symlink_to(tmp_path / "target")
    assert mine.fate("prepared") == "alive"


def test_a_lock_that_is_a_folder_proves_nothing(mine: Owners, folder: Path) -> None:
    (folder / "prepared.lock").mkdir()
    assert mine.fate("prepared") == "alive"


def test_a_start_is_not_stopped_by_what_is_no_lock(folder: Path) -> None:
    folder.mkdir(0o700)
    (folder / "prepared.lock").mkdir()
    Owners(folder).close()
    assert (folder / "prepared.lock").exists()


def test_locks_are_private(mine: Owners, tmp_path: Path) -> None:
    assert modes(tmp_path) == {"owners": "drwx------", f"owners/{bare(mine.present())}.lock": "-rw-------"}


def test_names_do_not_tell_and_do_not_repeat(folder: Path) -> None:
    owners = [Owners(folder) for _ in range(20)]
    assert len({each.present() for each in owners}) == 20
    assert all(re.fullmatch("[0-9a-f]{32}", bare(each.present())) for each in owners)
    for each in owners:
        each.close()


@as_root
def test_a_folder_of_somebody_else_is_refused(folder: Path) -> None:
    folder.mkdir()
    os.chown(folder, SOMEBODY_ELSE, SOMEBODY_ELSE)
    with pytest.raises(UnsafePath):
        Owners(folder)
    assert list(folder.iterdir()) == []


def test_a_folder_that_is_a_link_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafePath):
        Owners(folder)
    assert list((tmp_path / "elsewhere").iterdir()) == []
