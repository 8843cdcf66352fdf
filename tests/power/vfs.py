"""SQLite's way to the disk (https://www.sqlite.org/vfs.html), noted down: real files, locks and shared memory of its
own "unix" VFS, and beside them a `Disk` that hears of every change and every sync.

Nothing is really synced: whether it would have been is what the `Disk` knows. Temporary files are not noted.
"""

import itertools
from pathlib import Path

import apsw

from tests.power.disk import Content, Disk, Truncate, Write

_NUMBERS = itertools.count()

_JOURNALS = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL | apsw.SQLITE_OPEN_WAL
"""Kinds of file with whose first sync the "unix" VFS syncs the folder too (os_unix.c, UNIXFILE_DIRSYNC)."""


class NotedVFS(apsw.VFS):
    """The "unix" VFS, noted on a disk; its name is `name`."""

    def __init__(self, disk: Disk) -> None:
        self.name = f"noted-{next(_NUMBERS)}"
        self._disk = disk
        super().__init__(self.name, "unix")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        """Open a file, noted if it has a name."""
        return apsw.VFSFile("unix", None, flags) if name is None else NotedFile(self._disk, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        """Remove a name."""
        super().xDelete(filename, False)
        self._disk.delete(Path(filename).name)
        if syncdir:
            self._disk.sync_folder()


class NotedFile(apsw.VFSFile):
    """An open file."""

    def __init__(self, disk: Disk, name: str | apsw.URIFilename, flags: list[int]) -> None:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        super().__init__("unix", name, flags)
        self._disk = disk
        self._name = Path(path).name
        self._content: Content = disk.open(self._name)
        self._sync_folder = bool(flags[0] & apsw.SQLITE_OPEN_CREATE and flags[0] & _JOURNALS)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        """Write."""
        super().xWrite(data, offset)
        self._disk.change(self._name, self._content, Write(offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        """Cut."""
        super().xTruncate(newsize)
        self._disk.change(self._name, self._content, Truncate(newsize))

    def xSync(self, flags: int) -> None:  # noqa: N802
        """Sync, the folder too if the file is new."""
        self._disk.sync(self._name, self._content)
        if self._sync_folder:
            self._disk.sync_folder()
            self._sync_folder = False

    def xSectorSize(self) -> int:  # noqa: N802
        """As the disk has it."""
        return self._disk.sector
