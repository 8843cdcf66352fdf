"""`backup` and `restore`: what the service keeps, sealed, in a file, and back.

Promises a whole file that only its owner reads, or none, and that nothing is restored from half of one.
"""

import json
import os
import secrets
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Final

from service.cli.accounts import status_lines
from service.cli.client import Body, Problem, Service
from service.cli.console import DONE, FAILED, MISUSED, Failure, out_bytes, say
from service.cli.usage import nothing_typed_but

_VERSION: Final = "pixir_auth_backup"

_BATCH: Final = 200 * 1024
"""Bytes that are sent at a time: the service takes bodies of up to 256 KiB."""

_ROWS: Final = 500
"""Rows that are sent at a time."""

_LONGEST: Final = 4 * 1024 * 1024
"""Bytes of a line: more than the tokens of an account can be."""

_WITHIN: Final = 600.0
"""Seconds until the first byte of a backup: the service writes it down as a whole before."""

_LISTS: Final = {"credential": "credentials", "client_key": "client_keys"}


def back_up(service: Service, target: str) -> int:
    """Write a backup into a new file, or to stdout with `-`."""
    end = _downloaded(service, out_bytes) if target == "-" else _saved(service, Path(target))
    keys = ", ".join(map(str, end.get("keys") or ()))
    say(
        f"Backed up {end.get('credentials')} accounts and {end.get('client_keys')} client keys.",
        f"It opens only with the encryption key {keys}, which is not in it: keep that apart.",
        "Whatever is refreshed from now on makes that account's copy in it worthless.",
    )
    return DONE


def _saved(service: Service, path: Path) -> Body:
    """A draft beside it gets its name when it is whole and on disk."""
    if os.path.lexists(path):
        raise Failure("There is something of that name already; a backup is written over nothing.")
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}.new")
    try:
        descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                end = _downloaded(service, _taker(file))
                file.flush()
                os.fsync(file.fileno())
            os.link(draft, path)  # fails if somebody was faster; a rename would throw his file away
        finally:
            draft.unlink()
        sync_folder(path.parent)
    except OSError as exc:
        raise Failure(f"The backup cannot be written ({exc.strerror}).") from exc
    return end


def _taker(file: IO[bytes]) -> Callable[[bytes], None]:
    def take(piece: bytes) -> None:
        try:
            file.write(piece)
        except OSError as exc:
            raise Failure(f"The backup cannot be written ({exc.strerror}).") from exc

    return take


def _downloaded(service: Service, take: Callable[[bytes], None]) -> Body:
    """Hand the backup on; what its last line says."""
    last = b""

    def passing(piece: bytes) -> None:
        nonlocal last
        last += piece
        last = last[last.rfind(b"\n", 0, -1) + 1 :]
        take(piece)

    service.download("/backup", passing, within=_WITHIN)
    end = _object(last).get("end")
    if not isinstance(end, dict):
        raise Failure("The backup has no end: it is of no use.")
    return end


@dataclass
class _Tally:
    """What became of what was sent: names by outcome."""

    accounts: dict[str, list[str]] = field(default_factory=dict)
    keys: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, row: Body, outcome: str) -> None:
        """One row."""
        names, name = (self.accounts, "account") if kind == "credential" else (self.keys, "name")
        names.setdefault(outcome, []).append(str(row.get(name)))


def restore(service: Service, source: str, *, replace: bool, keys: bool, unspent: Collection[str], every: bool) -> int:
    """Send a backup to the service, and confirm what was not refreshed since it was made."""
    with _opened(source) as file:
        head = _checked(file)
        tally = _sent(service, file, head, replace=replace, keys=keys)
    say(*_told(tally))
    confirmed = confirm(service, tally.accounts.get("restored", ()) if every else unspent)
    is_whole = not any(tally.accounts.get(each) for each in ("held", "damaged")) and not tally.keys.get("damaged")
    return confirmed if is_whole else FAILED


def confirm(service: Service, accounts: Collection[str]) -> int:
    """Say that the refresh tokens of these restored accounts are unspent."""
    code = DONE
    for account in sorted(set(accounts)):
        try:
            with nothing_typed_but(account):
                say(*status_lines(service.call("POST", "/restore/confirm", query={"account": account})))
        except Problem as problem:
            say(f"{account}: {problem.lines[0]}")
            code = max(code, MISUSED if problem.exit_code == MISUSED else FAILED)
    return code


def _sent(service: Service, file: IO[bytes], head: Body, *, replace: bool, keys: bool) -> _Tally:
    tally = _Tally()
    for rows in _batches(file, keys=keys):
        body: Body = {**{name: head[name] for name in (_VERSION, "fingerprints")}, "replace": replace}
        for kind, name in _LISTS.items():
            body[name] = [{"row": row["row"], "mac": row["mac"]} for row in rows if row["kind"] == kind]
        try:
            with nothing_typed_but("default"):
                answer = service.call("POST", "/restore", body=body)
        except Problem as problem:
            if problem.code != "invalid_credential":
                raise
            raise Failure(*problem.lines, f"  - The key is the one with the id {head.get('key')}.") from problem
        for kind, name in _LISTS.items():
            ours = [row for row in rows if row["kind"] == kind]
            for row, outcome in zip(ours, answer.get(name) or (), strict=False):
                tally.add(kind, row["row"], str(outcome))
    return tally


def _batches(file: IO[bytes], *, keys: bool) -> Iterator[list[Body]]:
    """Rows that fit into one body."""
    batch: list[Body] = []
    size = 0
    for line in _lines(file):
        row = _object(line)
        if "kind" not in row or (row["kind"] == "client_key" and not keys):
            continue
        if batch and (size + len(line) > _BATCH or len(batch) == _ROWS):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += len(line)
    yield batch  # empty: the key of an empty backup is looked at too


def _checked(file: IO[bytes]) -> Body:
    """The first line of a whole backup; the file stands at its beginning again."""
    head: Body = {}
    end: Body = {}
    count = Counter[str]()
    for number, line in enumerate(_lines(file)):
        row = _object(line)
        if number == 0:
            head = row
            if not isinstance(head.get("fingerprints"), str) or _VERSION not in head:
                raise Failure("That is not a backup of pixir-auth.")
            if head[_VERSION] != 1:
                raise Failure("That is a backup of a newer version: update the service.")
        elif end or not _is_known(row):
            raise Failure(f"The backup is damaged in line {number + 1}; nothing was restored.")
        elif "end" in row:
            end = row["end"]
        else:
            count[_LISTS[row["kind"]]] += 1
    if not head:
        raise Failure("That is not a backup of pixir-auth.")
    if not end or any(end.get(name) != count[name] for name in _LISTS.values()):
        raise Failure("The backup is not whole; nothing was restored.")
    file.seek(0)
    return head


def _is_known(row: Body) -> bool:
    if isinstance(row.get("end"), dict):
        return True
    return row.get("kind") in _LISTS and isinstance(row.get("row"), dict) and isinstance(row.get("mac"), str)


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    while line := file.readline(_LONGEST):
        yield line


def _object(line: bytes) -> dict[str, Any]:
    with suppress(ValueError, RecursionError):
        found = json.loads(line)
        if isinstance(found, dict):
            return found
    return {}


@contextmanager
def _opened(source: str) -> Iterator[IO[bytes]]:
    """The file, to be read twice; what comes from stdin is kept meanwhile in a file without a name."""
    try:
        with TemporaryFile() if source == "-" else Path(source).open("rb") as file:
            if source == "-":
                shutil.copyfileobj(sys.stdin.buffer, file)
                file.seek(0)
            yield file
    except OSError as exc:
        raise Failure(f"The backup cannot be read ({exc.strerror}).") from exc


def _told(tally: _Tally) -> list[str]:
    lines = [f"{len(names)} {_SAID.get(outcome, outcome)}: {_few(names)}" for outcome, names in tally.accounts.items()]
    lines += [f"{len(names)} client keys {outcome}: {_few(names)}" for outcome, names in tally.keys.items()]
    if tally.keys.get("restored"):
        lines.append("They are good again, also one that was revoked since the backup: pixir-auth keys revoke NAME.")
    if tally.accounts.get("restored"):
        lines.append(
            "Accounts are served while their tokens are valid, and refreshed only when you confirm that nobody has"
        )
        lines.append("since the backup: pixir-auth restore --confirm-unspent NAME. Else log in anew.")
    return lines or ["Nothing is in that backup."]


_SAID: Final = {
    "restored": "restored, not to be refreshed yet",
    "spent": "restored, but refreshed since the backup, or sent twice: log in anew",
    "ended": "restored as they were, logged out or dead",
    "here": "left as they are here",
    "held": "not restored, for another account here holds that login",
    "damaged": "not restored, for they were changed, or their key is missing",
}


def _few(names: list[str]) -> str:
    return ", ".join(names[:10]) + (" …" if len(names) > 10 else "")


def sync_folder(folder: Path) -> None:
    """Have what the folder says of its files on the disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
