"""`export --with-refresh-token`: the service gives a login up, and this process, which alone can open it, writes it.

Promises that the service keeps it, sealed, until it is on a disk: whatever fails on the way, the same command gives it
again.
"""

import json
import os
import stat
import sys
from pathlib import Path
from typing import Final

from service.cli.backup import sync_folder
from service.cli.client import Body, Problem, Service
from service.cli.console import UNREACHABLE, Failure, say
from service.cli.usage import nothing_typed_but
from service.sealing import Opener

_AGAIN = "If the login was given up by then it is not lost: the same command gives it again."


class Handover:
    """One login, out of the service's hands."""

    def __init__(self, service: Service, account: str) -> None:
        """Fetch it. Raises Failure."""
        self._service = service
        self._account = account
        opener = Opener()
        try:
            answer = self._asked("/export", {"public_key": opener.public_key})
        except Failure as exc:
            if isinstance(exc, Problem) and exc.status < 500:
                raise  # nothing was given up
            raise not_lost(exc) from exc
        self._generation = answer.get("generation")
        self._again = answer.get("again") is True
        try:
            self.login: Body = json.loads(opener.open(str(answer.get("sealed")), account).reveal())
        except ValueError as exc:
            raise Failure("The service answered with what does not open.", _AGAIN, exit_code=UNREACHABLE) from exc

    def finish(self) -> None:
        """It has been written: tell the service if it is surely kept, and the person what it means."""
        erased = _is_on_disk() and self._confirmed()
        say(
            f"This service has given up the login of account {self._account}: whoever uses what was written refreshes"
            f" it from now on. To take it back, log in here again: pixir-auth login --account {self._account}"
        )
        if self._again:
            say("warning: it was given before; if that copy has been used since, this one is spent")
        if not erased:
            say(f"A sealed copy stays, to be given again, until: pixir-auth logout --account {self._account}")

    def _confirmed(self) -> bool:
        try:
            self._asked("/export/confirm", {"generation": self._generation})
        except Failure:
            return False
        return True

    def _asked(self, path: str, body: Body) -> Body:
        with nothing_typed_but(self._account):
            return self._service.call("POST", path, query={"account": self._account}, body=body)


def not_lost(exc: Failure) -> Failure:
    """Something went wrong on the way."""
    return Failure(*exc.lines, _AGAIN, exit_code=exc.exit_code)


def _is_on_disk() -> bool:
    """Whether what was written is in a file that will be there after a power cut: of what a pipe, a terminal or a file
    without a name has taken, nobody knows where it is."""
    try:
        written = sys.stdout.fileno()
        found = os.fstat(written)
        if not stat.S_ISREG(found.st_mode) or not found.st_nlink:
            return False
        os.fsync(written)
        place = Path(_PLACE.format(written)).readlink()
        if not place.samefile(_PLACE.format(written)):
            return False
        sync_folder(place.parent)
    except (AttributeError, OSError, ValueError):
        return False
    return True


_PLACE: Final = "/proc/self/fd/{}"
"""Where Linux says what a descriptor leads to. Elsewhere nobody does, and the copy stays."""
