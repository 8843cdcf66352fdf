"""The file that leads to the service: ours alone from birth, in nobody's place, and gone when it is of no use."""

import asyncio
import errno
import fcntl
import os
import socket
import stat
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from service.store.files import UnsafePath
from service.unix import _LONGEST, UnixSocket

SOMEBODY_ELSE = 65534

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def any_umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "run"
    made.mkdir(0o700)
    return made


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "auth.sock"


def mode(path: Path) -> str:
    return stat.filemode(path.lstat().st_mode)


def dead(path: Path) -> None:
    """What a process that was killed leaves behind."""
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))
        gone.listen()


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


# who can connect


@pytest.mark.usefixtures("any_umask")
def test_it_is_ours_alone_whatever_the_umask(path: Path) -> None:
    with UnixSocket(path, 5):
        assert mode(path) == "srw-------"
        assert [each.name for each in path.parent.iterdir()] == ["auth.sock"]


@pytest.mark.usefixtures("any_umask")
def test_it_is_ours_alone_where_a_dead_one_was_open_to_all(path: Path) -> None:
    dead(path)
    path.chmod(0o666)
    with UnixSocket(path, 5):
        assert mode(path) == "srw-------"
        assert connects(path)


def test_it_has_its_mode_before_anybody_can_connect(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    listen = socket.socket.listen

    def watched(self: socket.socket, backlog: int) -> None:
        seen.append(mode(Path(self.getsockname())))
        listen(self, backlog)

    monkeypatch.setattr(socket.socket, "listen", watched)
    with UnixSocket(path, 5):
        assert seen == ["srw-------"]


@pytest.mark.usefixtures("any_umask")
def test_its_folder_is_made_for_us_alone(tmp_path: Path) -> None:
    with UnixSocket(tmp_path / "a" / "b" / "auth.sock", 5):
        assert mode(tmp_path / "a") == mode(tmp_path / "a" / "b") == "drwx------"


@pytest.mark.parametrize("loose", [0o777, 0o770, 0o1777])
def test_a_folder_that_others_can_write_to_is_refused(folder: Path, path: Path, loose: int) -> None:
    folder.chmod(loose)
    with pytest.raises(UnsafePath, match="can be written to by others"):
        UnixSocket(path, 5)
    assert list(folder.iterdir()) == []


@as_root
def test_a_folder_of_somebody_else_is_refused(folder: Path, path: Path) -> None:
    os.chown(folder, SOMEBODY_ELSE, SOMEBODY_ELSE)
    with pytest.raises(UnsafePath, match="belongs to another user"):
        UnixSocket(path, 5)
    assert list(folder.iterdir()) == []


@as_root
def test_another_user_does_not_get_in_even_where_the_folder_is_open(
    folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tried() -> int:
        with socket.socket(socket.AF_UNIX) as client:
            os.seteuid(SOMEBODY_ELSE)
            try:
                return client.connect_ex(path.name)
            finally:
                os.seteuid(0)

    folder.chmod(0o755)
    monkeypatch.chdir(folder)  # whatever is above it
    with UnixSocket(path, 5):
        assert tried() == errno.EACCES
        path.chmod(0o666)
        assert tried() == 0, "this would have shown it"


# in whose place


def test_a_dead_one_is_replaced(path: Path) -> None:
    dead(path)
    assert not connects(path)
    with UnixSocket(path, 5):
        assert connects(path)


@pytest.mark.parametrize("backlog", [5, 0], ids=["free", "full"])
def test_a_live_one_is_left_alone(path: Path, backlog: int) -> None:
    with UnixSocket(path, backlog), socket.socket(socket.AF_UNIX) as waiting:
        waiting.connect(str(path))  # nobody accepts: with a backlog of 0 there is room for no other
        before = path.lstat()
        with pytest.raises(OSError, match="in use by another process") as caught:
            UnixSocket(path, 5)
        assert caught.value.errno == errno.EADDRINUSE
        assert (path.lstat().st_ino, path.lstat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
        assert [each.name for each in path.parent.iterdir()] == ["auth.sock"]


def test_a_live_one_of_another_kind_is_left_alone(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(OSError, match="in use by another process"):
            UnixSocket(path, 5)


def a_file(path: Path, target: Path) -> None:
    path.write_bytes(b"precious")


def a_link(path: Path, target: Path) -> None:
    path.symlink_to(target)


def a_link_to_nowhere(path: Path, target: Path) -> None:
    path.symlink_to(target.with_name("nowhere"))


def a_link_to_a_dead_socket(path: Path, target: Path) -> None:
    dead(target.with_name("dead.sock"))
    path.symlink_to(target.with_name("dead.sock"))


def a_hard_link(path: Path, target: Path) -> None:
    path.hardlink_to(target)


def a_pipe(path: Path, target: Path) -> None:
    os.mkfifo(path)


def a_folder(path: Path, target: Path) -> None:
    path.mkdir()


def somebody_elses(path: Path, target: Path) -> None:
    dead(path)
    os.chown(path, SOMEBODY_ELSE, SOMEBODY_ELSE)


TRAPS = [a_file, a_link, a_link_to_nowhere, a_link_to_a_dead_socket, a_hard_link, a_pipe, a_folder]


@pytest.mark.parametrize("trap", [*TRAPS, pytest.param(somebody_elses, marks=as_root)])
def test_anything_else_is_refused_and_untouched(tmp_path: Path, path: Path, trap: Callable[[Path, Path], None]) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    target.chmod(0o644)
    trap(path, target)
    before = path.lstat()
    with pytest.raises(UnsafePath, match=r"auth\.sock"):
        UnixSocket(path, 5)
    assert path.lstat() == before
    assert (target.read_bytes(), mode(target)) == (b"precious", "-rw-r--r--")
    assert [each.name for each in path.parent.iterdir()] == ["auth.sock"]


def test_who_waited_for_his_turn_finds_whoever_came_before(folder: Path, path: Path) -> None:
    """Else two could find the same dead one, and the later take the place of the earlier."""
    dead(path)
    outcomes: list[object] = []

    def take() -> None:
        try:
            outcomes.append(UnixSocket(path, 5))
        except OSError as exc:
            outcomes.append(exc.errno)

    turn = os.open(folder, os.O_RDONLY)
    fcntl.flock(turn, fcntl.LOCK_EX)
    waiting = threading.Thread(target=take)
    waiting.start()
    deadline = time.monotonic() + 5
    while len(list(folder.iterdir())) < 2:  # it listens already, under a name of its own
        assert time.monotonic() < deadline
        time.sleep(0.001)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as earlier:
        earlier.bind(str(path))
        earlier.listen()
        os.close(turn)
        waiting.join()
        assert outcomes == [errno.EADDRINUSE]
        assert connects(path)


def test_a_folder_that_somebody_keeps_locked_does_not_hold_us_up_for_ever(
    folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.unix._TURN_WITHIN", 0.05)
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(OSError, match="locked by another process"):
        UnixSocket(path, 5)
    os.close(descriptor)
    assert list(folder.iterdir()) == []


# how long it is there


def test_it_is_gone_at_the_end(path: Path) -> None:
    with UnixSocket(path, 5):
        pass
    assert list(path.parent.iterdir()) == []


def test_what_is_not_ours_any_more_stays(path: Path) -> None:
    with UnixSocket(path, 5):
        path.unlink()
        dead(path)
    assert mode(path).startswith("s")


def test_who_comes_after_us_is_not_removed(path: Path) -> None:
    first = UnixSocket(path, 5)
    first.remove()
    with UnixSocket(path, 5), first:
        pass
    with UnixSocket(path, 5) as second:
        first.remove()
        assert connects(path)
        second.remove()


def test_a_file_that_somebody_removed_is_no_trouble(path: Path) -> None:
    with UnixSocket(path, 5):
        path.unlink()


# what the path can be


def test_a_path_is_as_long_as_the_kernel_lets_it_be(folder: Path) -> None:
    longest = folder / ("x" * (_LONGEST - len(str(folder)) - 1))
    with UnixSocket(longest, 5):
        assert connects(longest)
    longer = longest.with_name(longest.name + "x")
    with pytest.raises(OSError, match=r"more than 1\d+ bytes") as caught:
        UnixSocket(longer, 5)
    assert caught.value.errno == errno.ENAMETOOLONG
    with pytest.raises(OSError, match="too long"):
        dead(longer)
    assert list(folder.iterdir()) == []


def test_bytes_are_counted_not_letters(folder: Path) -> None:
    with pytest.raises(OSError, match=r"more than 1\d+ bytes"):
        UnixSocket(folder / ("ü" * (_LONGEST - len(str(folder)) - 1)), 5)


def test_a_relative_path_is_one_from_here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with UnixSocket(Path("auth.sock"), 5):
        assert connects(folder / "auth.sock")


def test_a_path_without_a_name_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(UnsafePath, match="something else than a socket"):
        UnixSocket(Path(), 5)


# both event loops serve it


@pytest.mark.skipif(sys.platform != "linux", reason="SO_PEERCRED is Linux's")
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_an_event_loop_serves_it_and_knows_who_is_there(
    path: Path, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """As uvicorn does: by `create_server`, whatever the family."""
    told: list[tuple[int, bytes]] = []

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            other = transport.get_extra_info("socket")
            told.append((other.family, other.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)))
            transport.close()

    async def serve() -> None:
        with UnixSocket(path, 5) as ours:
            server = await asyncio.get_running_loop().create_server(Protocol, sock=ours.listener)
            reader, writer = await asyncio.open_unix_connection(path)
            assert await reader.read() == b""
            writer.close()
            server.close()
            await server.wait_closed()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(serve())
    ((family, credentials),) = told
    assert family == socket.AF_UNIX
    assert struct.unpack("3i", credentials)[1] == os.geteuid()
