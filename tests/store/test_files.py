"""Files that only we may read: 0600 and 0700 from birth, never through somebody else's hands."""

import os
import re
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from service.store.files import UnsafePath, create_private, private_file, private_folder, read_private
from service.store.generations import Generations
from service.store.owner import Owners
from service.store.rescue import Rescue
from service.store.vault import Vault

from .samples import KEY, ROOT, bare, credential, open_store

SOMEBODY_ELSE = 65534

LOST = replace(credential(), login_id="abc1", generation=3)
"""A pair that no database has taken."""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


@pytest.fixture
def open_umask() -> Iterator[None]:
    """A umask that forbids nothing."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> str:
    """What `ls` shows."""
    return stat.filemode(path.lstat().st_mode)


def modes(folder: Path) -> dict[str, str]:
    """Of everything below a folder."""
    return {str(path.relative_to(folder)): mode(path) for path in sorted(folder.rglob("*"))}


@pytest.mark.usefixtures("open_umask")
async def test_every_file_is_ours_alone_whatever_the_umask(tmp_path: Path) -> None:
    store = open_store(f"sqlite:{tmp_path / 'data' / 'x.db'}")
    owners = Owners(tmp_path / "data" / "owners")
    generations = Generations(tmp_path / "config" / "generations.db")
    rescue = Rescue(tmp_path / "data")
    await store.install(credential())
    generations.note("login-1", 1)
    create_private(tmp_path / "config" / "encryption.key", b"key")
    rescue.lay_ballast()
    assert rescue.save(LOST, Vault(KEY))
    assert modes(tmp_path) == {
        "config": "drwx------",
        "config/encryption.key": "-rw-------",
        "config/generations.db": "-rw-------",
        "config/generations.db-shm": "-rw-------",
        "config/generations.db-wal": "-rw-------",
        "data": "drwx------",
        "data/abc1-3.rescue": "-rw-------",
        "data/ballast": "-rw-------",
        "data/owners": "drwx------",
        f"data/owners/{bare(owners.present())}.lock": "-rw-------",
        "data/x.db": "-rw-------",
        "data/x.db-shm": "-rw-------",
        "data/x.db-wal": "-rw-------",
    }
    owners.close()
    generations.close()
    await store.close()


@pytest.mark.usefixtures("open_umask")
def test_folders_made_on_the_way_are_closed_to_others(tmp_path: Path) -> None:
    private_folder(tmp_path / "local" / "share" / "pixir-auth")
    assert set(modes(tmp_path).values()) == {"drwx------"}


async def test_a_database_opened_to_others_is_closed_again(tmp_path: Path) -> None:
    address = f"sqlite:{tmp_path / 'data' / 'x.db'}"
    await open_store(address).close()
    (tmp_path / "data" / "x.db").chmod(0o666)
    store = open_store(address)
    assert modes(tmp_path) == {
        "data": "drwx------",
        "data/x.db": "-rw-------",
        "data/x.db-shm": "-rw-------",
        "data/x.db-wal": "-rw-------",
    }
    await store.close()


@pytest.mark.parametrize("loose", [0o777, 0o720, 0o702, 0o1777])
def test_a_folder_that_others_can_write_to_is_refused_and_left_as_it_is(tmp_path: Path, loose: int) -> None:
    """They could have put something in already, and it may be more than our folder."""
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(loose)
    with pytest.raises(UnsafePath, match="can be written to by others"):
        open_store(f"sqlite:{folder / 'x.db'}")
    assert list(folder.iterdir()) == []
    assert stat.S_IMODE(folder.stat().st_mode) == loose


@pytest.mark.parametrize("readable", [0o755, 0o750, 0o701])
def test_a_folder_that_others_can_only_read_is_used_as_it_is(tmp_path: Path, readable: int) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(readable)
    private_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == readable


def test_a_mode_that_is_closer_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.touch(0o400)
    private_file(path)
    assert mode(path) == "-r--------"


def test_what_is_in_a_file_stays_there(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"content")
    private_file(path)
    assert path.read_bytes() == b"content"


# -- what somebody else may have prepared --------------------------------------------------------------------------


def a_link(path: Path, target: Path) -> None:
    path.symlink_to(target)


def a_dangling_link(path: Path, target: Path) -> None:
    path.symlink_to(target.with_name("nowhere"))


def a_pipe(path: Path, target: Path) -> None:
    os.mkfifo(path)


def a_folder(path: Path, target: Path) -> None:
    path.mkdir()


def a_hard_link(path: Path, target: Path) -> None:
    path.hardlink_to(target)


def somebody_elses_file(path: Path, target: Path) -> None:
    path.write_bytes(b"prepared")
    os.chown(path, SOMEBODY_ELSE, SOMEBODY_ELSE)


Trap = Callable[[Path, Path], None]
TRAPS = [a_link, a_dangling_link, a_pipe, a_folder, pytest.param(somebody_elses_file, marks=as_root)]
ALSO_WRITTEN = [*TRAPS, a_hard_link]
"""For what is written into: to read a file of ours by another of its names does no harm."""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A file of the user's that nobody may touch."""
    path = tmp_path / "target"
    path.write_bytes(b"precious")
    path.chmod(0o644)
    return path


@pytest.mark.usefixtures("nothing_hangs")
@pytest.mark.parametrize("trap", ALSO_WRITTEN)
@pytest.mark.parametrize("beside", ["", "-wal", "-shm", "-journal"])
def test_a_prepared_database_is_refused(tmp_path: Path, target: Path, trap: Trap, beside: str) -> None:
    (tmp_path / "data").mkdir(0o700)
    path = tmp_path / "data" / f"x.db{beside}"
    trap(path, target)
    before = os.lstat(path)
    with pytest.raises(UnsafePath, match=rf"x\.db{beside}"):
        open_store(f"sqlite:{tmp_path / 'data' / 'x.db'}")
    assert os.lstat(path) == before
    assert (target.read_bytes(), mode(target)) == (b"precious", "-rw-r--r--")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["data", "target"]


@pytest.mark.usefixtures("nothing_hangs")
@pytest.mark.parametrize("trap", ALSO_WRITTEN)
def test_a_prepared_record_of_generations_is_refused(tmp_path: Path, target: Path, trap: Trap) -> None:
    trap(tmp_path / "generations.db", target)
    with pytest.raises(UnsafePath, match=r"generations\.db"):
        Generations(tmp_path / "generations.db")
    assert (target.read_bytes(), mode(target)) == (b"precious", "-rw-r--r--")


@pytest.mark.usefixtures("nothing_hangs")
@pytest.mark.parametrize("trap", [a_link, a_dangling_link, a_pipe, a_hard_link])
def test_a_prepared_folder_of_owners_is_refused(tmp_path: Path, target: Path, trap: Trap) -> None:
    trap(tmp_path / "owners", target)
    with pytest.raises((UnsafePath, FileExistsError)):
        Owners(tmp_path / "owners")
    assert (target.read_bytes(), mode(target)) == (b"precious", "-rw-r--r--")


@pytest.mark.usefixtures("nothing_hangs")
@pytest.mark.parametrize("trap", ALSO_WRITTEN)
def test_a_prepared_lock_is_not_waited_for_and_leads_nowhere(tmp_path: Path, target: Path, trap: Trap) -> None:
    (tmp_path / "owners").mkdir(0o700)
    trap(tmp_path / "owners" / "abc.lock", target)
    owners = Owners(tmp_path / "owners")
    owners.fate("abc")
    owners.close()
    assert (target.read_bytes(), mode(target)) == (b"precious", "-rw-r--r--")


@pytest.mark.usefixtures("nothing_hangs")
@pytest.mark.parametrize("trap", ALSO_WRITTEN)
def test_prepared_ballast_is_not_written_through(tmp_path: Path, target: Path, trap: Trap) -> None:
    trap(tmp_path / "ballast", target)
    rescue = Rescue(tmp_path)
    rescue.lay_ballast()
    rescue.free_ballast()
    assert (target.read_bytes(), mode(target)) == (b"precious", "-rw-r--r--")


@pytest.mark.usefixtures("nothing_hangs")
@pytest.mark.parametrize("trap", ALSO_WRITTEN)
def test_where_a_rescue_file_is_prepared_the_pair_is_kept_elsewhere(tmp_path: Path, target: Path, trap: Trap) -> None:
    (tmp_path / "first").mkdir(0o700)
    trap(tmp_path / "first" / "abc1-3.rescue", target)
    assert Rescue(tmp_path / "first", tmp_path / "second").save(LOST, Vault(KEY))
    assert (target.read_bytes(), mode(target)) == (b"precious", "-rw-r--r--")
    (found,) = Rescue(tmp_path / "second").found(Vault(KEY))
    assert found.credential == LOST


def test_a_pair_that_was_kept_before_is_kept(tmp_path: Path) -> None:
    rescue = Rescue(tmp_path / "first", tmp_path / "second")
    assert rescue.save(LOST, Vault(KEY))
    assert rescue.save(LOST, Vault(KEY))
    assert modes(tmp_path) == {"first": "drwx------", "first/abc1-3.rescue": "-rw-------"}


@pytest.mark.parametrize("trap", [a_link, pytest.param(somebody_elses_file, marks=as_root)])
def test_a_prepared_data_folder_is_refused(tmp_path: Path, target: Path, trap: Trap) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(0o755)
    path = tmp_path / "data"
    if trap is a_link:
        path.symlink_to(elsewhere)
    else:
        path.mkdir(0o777)
        os.chown(path, SOMEBODY_ELSE, SOMEBODY_ELSE)
    with pytest.raises(UnsafePath, match="data"):
        open_store(f"sqlite:{path / 'x.db'}")
    assert mode(elsewhere) == "drwxr-xr-x"
    assert list(elsewhere.iterdir()) == []


@pytest.mark.usefixtures("nothing_hangs")
@pytest.mark.parametrize("trap", [a_dangling_link, a_pipe], ids=["dangling link", "pipe"])
def test_a_data_folder_that_is_no_folder_is_an_error(tmp_path: Path, target: Path, trap: Trap) -> None:
    trap(tmp_path / "data", target)
    with pytest.raises((UnsafePath, FileExistsError)):
        open_store(f"sqlite:{tmp_path / 'data' / 'x.db'}")


@pytest.mark.usefixtures("nothing_hangs")
@pytest.mark.parametrize("trap", TRAPS)
def test_a_prepared_private_file_is_not_read(tmp_path: Path, target: Path, trap: Trap) -> None:
    path = tmp_path / "x"
    target.chmod(0o600)  # it could be read, if it were asked for by its own name
    trap(path, target)
    with pytest.raises((UnsafePath, OSError)):
        read_private(path)
    assert target.read_bytes() == b"precious"


@pytest.mark.parametrize("loose", [0o644, 0o640, 0o604, 0o660, 0o601])
def test_a_file_open_to_others_is_not_read(tmp_path: Path, loose: int) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"secret")
    path.chmod(loose)
    with pytest.raises(UnsafePath, match="0600 or 0400"):
        read_private(path)
    assert read_private(path, strict=False) == b"secret"


@pytest.mark.parametrize("closed", [0o600, 0o400])
def test_a_closed_file_is_read(tmp_path: Path, closed: int) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"secret")
    path.chmod(closed)
    assert read_private(path) == b"secret"


_READ = "import os, sys; os.setgid(10001); os.setuid(10001); os.umask(0); read_private(Path(sys.argv[1]))"


@as_root
@pytest.mark.parametrize(
    ("owner", "group", "bits", "is_read"),
    [
        (0, 10001, 0o440, True),  # Kubernetes: fsGroup
        (0, 10001, 0o640, True),
        (0, 10001, 0o460, False),
        (0, 10001, 0o444, False),
        (0, 10002, 0o444, False),
        (10001, 10001, 0o400, True),
        (10001, 10001, 0o440, False),
        (10002, 10001, 0o440, False),
    ],
)
def test_root_may_give_a_file_to_our_group(tmp_path: Path, owner: int, group: int, bits: int, is_read: bool) -> None:
    with tempfile.TemporaryDirectory() as shared:  # pytest's own folders are closed to other users
        Path(shared).chmod(0o755)
        path = Path(shared) / "x"
        path.write_bytes(b"secret")
        os.chown(path, owner, group)
        path.chmod(bits)
        program = f"from pathlib import Path; from service.store.files import read_private; {_READ}"
        ran = subprocess.run(
            [sys.executable, "-c", program, path], cwd=ROOT, capture_output=True, text=True, check=False
        )
    assert (ran.returncode == 0, "UnsafePath" in ran.stderr) == (is_read, not is_read), ran.stderr


@as_root
@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="access lists are set so on Linux only")
def test_what_systemd_gives_with_an_access_list_is_read() -> None:
    """Since 254 its credentials are root's, and an access list lets us read: its mask shows as the group's r."""
    with tempfile.TemporaryDirectory() as shared:
        Path(shared).chmod(0o755)
        path = Path(shared) / "x"
        path.write_bytes(b"secret")
        path.chmod(0o400)
        entries = [(1, 4, -1), (2, 4, 10001), (4, 0, -1), (16, 4, -1), (32, 0, -1)]  # tag, right, user: acl(5)
        listed = struct.pack("=I", 2) + b"".join(struct.pack("=HHi", *each) for each in entries)
        try:
            os.setxattr(path, "system.posix_acl_access", listed)
        except OSError:
            pytest.skip("this file system has no access lists")
        assert mode(path) == "-r--r-----"
        program = f"from pathlib import Path; from service.store.files import read_private; {_READ}"
        subprocess.run([sys.executable, "-c", program, path], env={}, cwd=ROOT, check=True)


@pytest.mark.usefixtures("nothing_hangs")
def test_where_it_is_allowed_a_link_is_followed_and_a_pipe_is_not_waited_for(tmp_path: Path, target: Path) -> None:
    """Orchestrators mount secrets as links; nothing makes it right to hang."""
    a_link(tmp_path / "link", target)
    assert read_private(tmp_path / "link", strict=False) == b"precious"
    a_pipe(tmp_path / "pipe", target)
    with pytest.raises(UnsafePath, match="not a regular file"):
        read_private(tmp_path / "pipe", strict=False)


# -- the way to our folder ------------------------------------------------------------------------------------------

ANOTHER = 12345
"""A user who is neither of us, nor root, nor what the kernel calls those that it cannot name."""


@pytest.fixture
def above(tmp_path: Path) -> Path:
    """A folder above the one that we want."""
    folder = tmp_path / "above"
    folder.mkdir(0o755)
    return folder


@pytest.mark.parametrize("loose", [0o777, 0o757, 0o703])
@pytest.mark.parametrize("rest", ["data", "between/data"])
def test_a_way_through_a_folder_that_everybody_can_write_to_is_refused(above: Path, loose: int, rest: str) -> None:
    """They could exchange what is in it for a folder of their own."""
    above.chmod(loose)
    with pytest.raises(UnsafePath, match=rf"{above} can be written to by everybody"):
        open_store(f"sqlite:{above / rest / 'x.db'}")
    assert list(above.iterdir()) == []


def test_a_way_is_refused_too_that_was_there_before(above: Path) -> None:
    private_folder(above / "data")
    above.chmod(0o777)
    with pytest.raises(UnsafePath, match=str(above)):
        private_folder(above / "data")


@pytest.mark.parametrize("closed", [0o1777, 0o775, 0o755, 0o700])
def test_a_way_that_nobody_can_exchange_is_taken(above: Path, closed: int) -> None:
    """In a sticky folder everybody can make something, but not take away what is ours."""
    above.chmod(closed)
    private_folder(above / "data")
    assert mode(above / "data") == "drwx------"


@as_root
def test_a_way_through_somebody_elses_folder_is_refused(above: Path) -> None:
    os.chown(above, ANOTHER, ANOTHER)
    with pytest.raises(UnsafePath, match=f"{above} belongs to another user"):
        private_folder(above / "data")
    assert list(above.iterdir()) == []


@as_root
def test_a_folder_of_an_owner_whom_the_kernel_cannot_name_is_none_of_anybody_here(above: Path) -> None:
    """So the folders above look in a container with users of its own."""
    overflow = int(Path("/proc/sys/kernel/overflowuid").read_text())
    os.chown(above, overflow, overflow)
    private_folder(above / "data")


@pytest.mark.parametrize("loose", [False, True])
def test_a_link_on_the_way_is_looked_through(tmp_path: Path, above: Path, loose: bool) -> None:
    (tmp_path / "link").symlink_to(above)
    above.chmod(0o777 if loose else 0o755)
    if not loose:
        private_folder(tmp_path / "link" / "data")
        assert mode(above / "data") == "drwx------"
        return
    with pytest.raises(UnsafePath, match=str(above)):
        private_folder(tmp_path / "link" / "data")


@as_root
def test_a_link_of_somebody_else_on_the_way_is_refused(tmp_path: Path, above: Path) -> None:
    (tmp_path / "link").symlink_to(above)
    os.chown(tmp_path / "link", ANOTHER, ANOTHER, follow_symlinks=False)
    with pytest.raises(UnsafePath, match="link belongs to another user"):
        private_folder(tmp_path / "link" / "data")


def test_a_folder_that_a_link_stands_in_counts_too(tmp_path: Path, above: Path) -> None:
    """Whoever can write there can lead it elsewhere."""
    (tmp_path / "safe").mkdir(0o700)
    (above / "link").symlink_to(tmp_path / "safe")
    above.chmod(0o777)
    with pytest.raises(UnsafePath, match=str(above)):
        private_folder(above / "link" / "data")


# -- all or nothing ------------------------------------------------------------------------------------------------


def test_a_new_file_is_whole_closed_and_alone(tmp_path: Path) -> None:
    assert create_private(tmp_path / "x", b"content")
    assert (tmp_path / "x").read_bytes() == b"content"
    assert modes(tmp_path) == {"x": "-rw-------"}


def test_a_file_that_is_there_already_wins(tmp_path: Path) -> None:
    assert create_private(tmp_path / "x", b"first")
    assert not create_private(tmp_path / "x", b"second")
    assert (tmp_path / "x").read_bytes() == b"first"
    assert modes(tmp_path) == {"x": "-rw-------"}


def test_a_prepared_place_is_not_written_through(tmp_path: Path, target: Path) -> None:
    (tmp_path / "x").symlink_to(target)
    assert not create_private(tmp_path / "x", b"secret")
    assert target.read_bytes() == b"precious"


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="x"):
        create_private(tmp_path / "missing" / "x", b"secret")
    assert modes(tmp_path) == {}


def test_a_draft_left_by_a_crash_does_not_stop_the_next_start(tmp_path: Path) -> None:
    """Process numbers come again, in a container at every start: a name made of them would be in the way for ever."""
    (tmp_path / f"x.{os.getpid()}.new").write_bytes(b"half of")
    assert create_private(tmp_path / "x", b"content")
    assert (tmp_path / "x").read_bytes() == b"content"


# -- SQLite's own files --------------------------------------------------------------------------------------------


def content(path: Path) -> bytes:
    return path.read_bytes()


@pytest.mark.usefixtures("nothing_hangs")
@pytest.mark.parametrize("trap", ALSO_WRITTEN)
@pytest.mark.parametrize("beside", ["-wal", "-shm", "-journal"])
async def test_what_is_prepared_beside_a_database_in_use_before_is_refused(
    tmp_path: Path, target: Path, trap: Trap, beside: str
) -> None:
    address = f"sqlite:{tmp_path / 'data' / 'x.db'}"
    await open_store(address).close()
    trap(tmp_path / "data" / f"x.db{beside}", target)
    with pytest.raises(UnsafePath, match=rf"x\.db{beside}"):
        open_store(address)
    assert (content(target), mode(target)) == (b"precious", "-rw-r--r--")


async def test_a_log_opened_to_others_is_closed_again(tmp_path: Path) -> None:
    address = f"sqlite:{tmp_path / 'data' / 'x.db'}"
    first = open_store(address)
    await first.install(credential())
    for path in (tmp_path / "data").iterdir():
        path.chmod(0o666)
    second = open_store(address)
    assert set(modes(tmp_path / "data").values()) == {"-rw-------"}
    await first.close()
    await second.close()


def is_locked(path: Path) -> bool:
    """Whether another process may not write."""
    script = (
        "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('UPDATE credential SET failures = 8')"
    )
    ended = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=False)
    return "database is locked" in ended.stderr


async def test_the_database_is_not_opened_beside_sqlite(tmp_path: Path) -> None:
    """Closing any other descriptor of the file would drop SQLite's locks (howtocorrupt, section 2.2)."""
    path = tmp_path / "data" / "x.db"
    store = open_store(f"sqlite:{path}")
    with store._backend.writing() as connection:
        connection.exec_driver_sql("UPDATE credential SET failures = 7")
        private_folder(path.parent)
        private_file(path)
        assert is_locked(path)
    assert not is_locked(path)
    await store.close()


# -- nothing that others could have foreseen -------------------------------------------------------------------------

PATH = re.compile(r'"([^"]+)"')


def touched(log: Path, folder: Path) -> set[str]:
    """Names in a folder that any system call was given."""
    names = {found for line in log.read_text().splitlines() for found in PATH.findall(line)}
    return {name.removeprefix(f"{folder}/").split("/")[0] for name in names if name.startswith(f"{folder}/")}


@pytest.mark.long
@pytest.mark.strace
def test_no_name_in_the_shared_temporary_folder_can_be_foreseen(tmp_path: Path) -> None:
    """Two lives of a store that has to go there: what both touch, a stranger could have put there before."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    lives = []
    for life in ("one", "two"):
        log = tmp_path / f"{life}.strace"
        environ = {**os.environ, "TMPDIR": str(shared), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "tests.store.in_need", str(tmp_path / life)]
        traced = ["strace", "-f", "-o", str(log), "-s", "4096", "-e", "trace=%file", *command]
        subprocess.run(traced, cwd=ROOT, env=environ, check=True)
        lives.append(touched(log, shared))
        (left,) = shared.iterdir()
        assert mode(left) == "drwx------"
        shutil.rmtree(left)  # else the next one would find it, as it should
    assert all(any(name.startswith("pixir-auth-rescue-") for name in each) for each in lives)
    assert lives[0] & lives[1] == set()
