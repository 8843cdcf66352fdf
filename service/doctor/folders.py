"""The settings and the folders: can they be used, and are they ours alone."""

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from service.doctor.finding import Told, ok, trouble, warning
from service.settings import PREFIX, Settings, SettingsError, config_file
from service.store.files import UnsafePath, read_private, refuse_unsafe_folder
from service.store.keys import DOCKER_SECRETS

_NO_ROOM: Final = 2 * 1024 * 1024
"""Bytes without which the ballast, or a rescue file, does not fit."""

_LITTLE_ROOM: Final = 64 * 1024 * 1024

_SHARED: Final = re.compile(
    r"nfs\d?|cifs|smb\w*|9p|afs|ceph|lustre|gfs2?|ocfs2|glusterfs|virtiofs|vboxsf|prl_fs|drvfs|fakeowner"
    r"|fuse\.(sshfs|glusterfs|grpcfuse|osxfs|s3fs|rclone|vmhgfs-fuse|ceph\S*)"
)
"""File systems that other machines write to as well: SQLite's log needs memory that all its readers share."""


def faults(exc: SettingsError) -> Told:
    """Settings that cannot be used: which, and where they are written."""
    names = dict.fromkeys(re.findall(rf"{PREFIX}[A-Z_]+|OPENAI_API_KEY", str(exc)))
    here = [name for name in names if name in os.environ]
    actions = [f"Correct it in the environment, or: unset {' '.join(here)}"] if here else []
    if len(here) < len(names) or not names:
        wanted = ", ".join(name.removeprefix(PREFIX).lower() for name in names if name not in here)
        actions.append(f"Correct {wanted or 'it'} in {config_file()}")
    return trouble(f"The service does not start: {exc}.", *actions)


def settings_told(settings: Settings) -> Iterator[Told]:
    """Settings that can be used."""
    path = settings.client_key_file
    if path is not None:
        try:
            read_private(path, strict=not path.is_relative_to(DOCKER_SECRETS))
        except UnsafePath as exc:
            yield trouble(f"PIXIR_AUTH_CLIENT_KEY_FILE: {exc}.", f"Run: chmod 600 {shlex.quote(str(path))}")
        except OSError as exc:
            yield trouble(f"PIXIR_AUTH_CLIENT_KEY_FILE: {path} cannot be read ({exc.strerror}).", "Put it back.")
    file = config_file()
    yield ok(f"Read from the environment and {file}." if file.is_file() else f"Read; there is no {file}.")


def folder_told(path: Path, setting: str, mounts: str | None) -> Iterator[Told]:
    """A folder of the service's. `setting`: what names another one. mounts: as `mounts` gives it."""
    elsewhere = f"Or name another folder in {setting}."
    try:
        refuse_unsafe_folder(path)
    except FileNotFoundError:
        yield _not_there(path, elsewhere)
        return
    except UnsafePath as exc:
        yield trouble(f"The service does not start: {exc}.", f"Look at it: ls -ld {_quoted(path)}", elsewhere)
        return
    except OSError as exc:
        yield trouble(f"{path} cannot be looked at ({exc.strerror}).", elsewhere)
        return
    found = [*_access(path, elsewhere), *_room(path), *_place(path, mounts, elsewhere)]
    yield from found or [ok(f"{path} is ours alone to write to, and has room.")]


def mounts() -> str | None:
    """What is mounted where, as this process sees it."""
    try:
        return Path("/proc/self/mountinfo").read_text(errors="replace")
    except OSError:
        return None


def file_system(path: Path, mounts: str) -> str | None:
    """The type of the file system that a path is on. Of several mounts in one place the last is the one seen."""
    best, found = -1, None
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), (fields.split() + [""] * 5)[4])
        if point and rest and path.is_relative_to(point) and len(point) >= best:
            best, found = len(point), rest.split()[0]
    return found


def _not_there(path: Path, elsewhere: str) -> Told:
    above = next(each for each in path.absolute().parents if each.exists())
    if above.is_dir() and os.access(above, os.W_OK | os.X_OK):
        return ok(f"{path} is not there yet: the first start makes it.")
    return trouble(f"{path} is not there and cannot be made in {above}.", f"Look: ls -ld {_quoted(above)}", elsewhere)


def _access(path: Path, elsewhere: str) -> Iterator[Told]:
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        yield trouble(
            f"{path} cannot be written to: a read-only file system, or its mode.",
            f"Run: chmod u+rwx {_quoted(path)}",
            elsewhere,
        )


def _room(path: Path) -> Iterator[Told]:
    found = os.statvfs(path)
    free = found.f_bavail * found.f_frsize
    action = f"Free some: df -h {_quoted(path)}; df -i {_quoted(path)}"
    if free < _NO_ROOM or (found.f_files and not found.f_favail):
        yield trouble(f"The disk of {path} is full: nothing is refreshed that could not be stored.", action)
    elif free < _LITTLE_ROOM:
        yield warning(f"The disk of {path} has {free // 1024**2} MiB left.", action)


def _place(path: Path, mounts: str | None, elsewhere: str) -> Iterator[Told]:
    kind = mounts and file_system(path.resolve(), mounts)
    if kind and _SHARED.fullmatch(kind):
        yield warning(
            f"{path} is on a file system that other machines may share ({kind}): SQLite can lose logins there.",
            "Move it to a local disk, with the service stopped.",
            elsewhere,
        )


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
