"""Files that only we may read: made 0600 (folders 0700) from birth, never through a symbolic link or a second name, and
on a way that nobody else can exchange.

Never opens a file that SQLite may have open: closing any descriptor of it would drop SQLite's locks.
"""

import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


class UnsafePath(Exception):
    """A path that somebody else could have prepared or can change. The text names the path."""


def private_folder(path: Path) -> None:
    """Make sure of a folder that is ours and that nobody else can write to; a new one is 0700.

    What was there before keeps its mode: it may be more than our folder.
    """
    _refuse_open_way(path)
    for folder in reversed([path, *path.parents]):
        if not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)  # pathlib's `parents` would leave those to the umask
            _sync_folder(folder.parent)
    _refuse_shared(path)


def refuse_unsafe_folder(path: Path) -> None:
    """The same without a change. Raises UnsafePath, FileNotFoundError; what is not there yet has a safe way or not."""
    _refuse_open_way(path)
    _refuse_shared(path)


def private_file(path: Path) -> None:
    """Make sure of a file to write into that is ours and 0600, empty if it is new; loose permissions are taken back."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY, 0o600))
    except FileExistsError:
        private_if_there(path)


def private_if_there(path: Path) -> None:
    """The same for a file that somebody else makes, and may take away at any moment: nothing if there is none."""
    with suppress(FileNotFoundError):
        if refuse_unsafe_file(path) & ~0o600:
            path.chmod(0o600)


def refuse_unsafe_file(path: Path) -> int:
    """The same without a change: the permissions that a file of ours has. Raises UnsafePath, FileNotFoundError."""
    found = _owned(path, stat.S_ISREG)
    if found.st_nlink > 1:
        raise UnsafePath(f"{path} has another name: what is written into it would change another file")
    return stat.S_IMODE(found.st_mode)


def create_private(path: Path, content: bytes) -> bool:
    """Write a new 0600 file durably, all or nothing; False when it is there already."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}.new")
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)  # fails if somebody was faster; a rename would throw their file away
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    _sync_folder(path.parent)
    return True


def read_private(path: Path, *, strict: bool = True, limit: int = 4096) -> bytes:
    """The content of a small file that must be regular and, if strict, ours or root's and closed to others."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | (os.O_NOFOLLOW if strict else 0))
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise UnsafePath(f"{path} is not a regular file")
        if strict and not _is_ours_alone(found):
            raise UnsafePath(f"{path} must belong to the user of the service, with mode 0600 or 0400")
        return file.read(limit)


def _is_ours_alone(found: os.stat_result) -> bool:
    """Whether it is ours or root's and closed to others.

    Where we are not root, root's may be readable for our group: so Kubernetes gives a file away (`fsGroup`). Or for
    root's own: `stat` shows so what systemd gives with an access list.
    """
    if found.st_uid == os.geteuid():
        return not found.st_mode & 0o077
    closed = 0o037 if found.st_gid in (0, os.getegid()) else 0o077
    return found.st_uid == 0 and not found.st_mode & closed


def _refuse_shared(path: Path) -> None:
    if _owned(path, stat.S_ISDIR).st_mode & 0o022:
        raise UnsafePath(f"{path} can be written to by others: chmod go-w it, or choose a folder of its own")


def _owned(path: Path, is_kind: Callable[[int], bool]) -> os.stat_result:
    found = path.lstat()
    if not is_kind(found.st_mode):
        raise UnsafePath(f"{path} is not what it should be: a link, or another kind of file")
    if found.st_uid != os.geteuid():
        raise UnsafePath(f"{path} belongs to another user")
    return found


def _refuse_open_way(path: Path) -> None:
    """Whoever owns a folder above ours, or can write there, could put a folder of his own in its place."""
    nobody_here = _overflow_uid()
    resolved = Path(os.path.realpath(path.parent))
    for above in {*path.absolute().parents, resolved, *resolved.parents}:
        try:
            found = above.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue  # not there yet: it will be ours, or cannot be made
        if found.st_uid not in (os.geteuid(), 0, nobody_here):
            raise UnsafePath(f"{path} is not safe: {above} belongs to another user")
        if stat.S_ISDIR(found.st_mode) and found.st_mode & 0o002 and not found.st_mode & stat.S_ISVTX:
            raise UnsafePath(f"{path} is not safe: {above} can be written to by everybody")


def _overflow_uid() -> int | None:
    """What the kernel calls owners whom it cannot name here: in a container with users of its own, those outside."""
    try:
        return int(Path("/proc/sys/kernel/overflowuid").read_text())
    except (OSError, ValueError):
        return None


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
