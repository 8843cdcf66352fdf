"""An installation for `doctor` to look at: real files that a service has made, with one login of known tokens."""

import hashlib
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from service.doctor.doctor import examine_installation
from service.doctor.finding import Finding
from tests.kit import house
from tests.kit.lacking import lacking

ACCESS = "CANARY-access-5d1f0c2b9e"
REFRESH = "CANARY-refresh-83aa71e4d6"
ACCOUNT_ID = "CANARY-account-id-2f77"


@dataclass(frozen=True)
class Patient:
    """`folder` holds everything; `data` is the data folder and `key` the key file."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def database(self) -> Path:
        return self.data / "pixir-auth.db"

    @property
    def key(self) -> Path:
        return self.folder / "encryption.key"

    def execute(self, statement: str) -> None:
        """Change the database behind everybody's back, and leave no log beside it."""
        with closing(sqlite3.connect(self.database)) as database, database:
            database.execute(statement)


async def installed(folder: Path) -> Patient:
    """What a service leaves behind that has run, been given a login, and ended in good order."""
    folder.mkdir()
    login = {"access_token": ACCESS, "refresh_token": REFRESH, "account_id": ACCOUNT_ID}
    async with house(folder) as h:
        answer = await h.client.put("/credential", json={"kind": "subscription", **login})
        assert answer.status_code == 200
    return Patient(folder)


def examined() -> list[Finding]:
    """What doctor finds in the environment of this process."""
    return examine_installation()


def found(check: str) -> Finding:
    """The one finding of a check."""
    (one,) = (each for each in examined() if each.check == check)
    return one


def state(check: str) -> str:
    """How it is."""
    return found(check).state


def tree(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Every file and folder below: mode, instant of the last change, digest."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in folder.rglob("*")
    }


def as_root() -> None:
    """Skips where a file cannot be given to another user."""
    if os.geteuid() != 0:
        lacking("only root can give files away")
