"""Who is alive: each process holds a kernel lock on a file of its own for as long as it lives.

The kernel drops the lock when the process ends, however it ends, and keeps it while the process is merely stopped. That
holds across containers on one kernel, where process numbers mean nothing. Names are random and never used again.

A name says where its lock can be looked at, `kernel:folder/name`. Of an owner elsewhere nothing can be proven.
"""

import fcntl
import os
import secrets
from pathlib import Path
from typing import Literal

from service.domain.errors import StoreUnavailable
from service.store.files import UnsafePath, private_folder

Fate = Literal["alive", "dead", "unknown"]


class Owners:
    """The lock files of the processes on one database that share our folder, and our own."""

    def __init__(self, folder: Path, *, all_here: bool = True) -> None:
        """all_here: whoever uses the database shares this folder and kernel. So it is with a SQLite file."""
        self._folder = folder
        self._all_here = all_here
        self._held: dict[str, int] = {}
        self._name = self._enter()
        self._sweep()

    def present(self) -> str:
        """The name under which others can see that we live; a new one if somebody has removed our file.

        Raises StoreUnavailable.
        """
        try:
            if os.fstat(self._held[self._name]).st_nlink == 0:
                self._name = self._enter()
        except (OSError, UnsafePath) as exc:
            raise StoreUnavailable("The folder of the owner locks cannot be used just now.") from exc
        return f"{self._here}/{self._name}"

    def is_me(self, owner: str) -> bool:
        """Whether that is, or was, a name of this process."""
        return owner.rpartition("/")[2] in self._held

    def fate(self, owner: str) -> Fate:
        """Whether the process of that name lives; unknown when only another machine or container can tell."""
        place, _, name = owner.rpartition("/")
        if self.is_me(owner):
            return "alive"
        if place not in (self._here, ""):
            return "dead" if self._all_here else "unknown"  # all here: the machine was started anew since
        return "dead" if self._is_free(name) else "alive"

    def _is_free(self, name: str) -> bool:
        try:
            descriptor = os.open(self._path(name), os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            return True  # it ended in good order, or was swept up after it had died
        except OSError:
            return False  # not proven
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True

    def close(self) -> None:
        """We no longer own anything."""
        for name, descriptor in self._held.items():
            self._path(name).unlink(missing_ok=True)
            os.close(descriptor)
        self._held.clear()

    def _enter(self) -> str:
        private_folder(self._folder)
        self._here = _place(self._folder)
        name = secrets.token_hex(16)
        draft = self._folder / f"{name}.new"
        descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_RDWR, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        draft.rename(self._path(name))  # appears under its name only once it is locked
        self._held[name] = descriptor
        return name

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.lock"

    def _sweep(self) -> None:
        for path in self._folder.glob("*.lock"):
            if path.stem not in self._held and self._is_free(path.stem):
                path.unlink(missing_ok=True)


def living(folder: Path) -> int:
    """How many processes own something in a folder of locks, for somebody who leaves no trace in it. Raises OSError."""
    return sum(_is_held(path) for path in folder.glob("*.lock"))


def _is_held(path: Path) -> bool:
    """Asked with a shared lock: two who ask at once must not take each other for an owner."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _place(folder: Path) -> str:
    """A kernel since its start, and a folder in it: the same from every container that has the folder mounted."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    kernel = boot.read_text().strip() if boot.exists() else os.uname().nodename
    found = folder.stat()
    return f"{kernel}:{found.st_dev:x}.{found.st_ino:x}"
