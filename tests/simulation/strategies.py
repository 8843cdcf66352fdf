"""Three ways to share a refresh token that lose logins: databases that keep another kind of lock.

All else is the product's own code: what is wrong with them is wrong with the lock.
"""

from dataclasses import replace
from typing import Final

from service.domain.credential import Attempt, Credential
from tests.simulation.disk import Disk, Row

LEASE: Final = 40.0
"""Seconds that a lease lasts: longer than one call to the issuer may take, as it should be."""


class LeaseBlind(Disk):
    """A lease: when it runs out another takes over and sends again. The result is written whatever happened since."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._since: dict[str, float] = {}

    def load(self, account: str) -> Credential | None:
        """An intent whose lease is over counts for nothing."""
        self._release(account)
        return super().load(account)

    def claim(self, credential: Credential, attempt: Attempt) -> Credential | None:
        """The lease begins."""
        self._release(credential.account)
        after = super().claim(credential, attempt)
        if after is not None:
            self._since[credential.account] = self._time()
        return after

    def settle(self, before: Credential, after: Credential) -> bool:
        """Blindly."""
        row = self.rows[before.account]
        if after.generation != before.generation and row.credential.state != "logged_out":
            self._write(after, row.first_token)
            return True
        return super().settle(before, after)

    def _release(self, account: str) -> None:
        row = self.rows.get(account)
        if row and row.credential.attempt and self._time() - self._since[account] > LEASE:
            self._put(unlocked(row))


class LeaseFence(LeaseBlind):
    """The same with classic fencing: who has lost the lease may not write any more."""

    def settle(self, before: Credential, after: Credential) -> bool:
        """Only by who holds the lease."""
        return _is_locked_by(self.rows[before.account], before) and Disk.settle(self, before, after)


class RowLock(Disk):
    """A lock held in an open transaction: it vanishes with the connection while its holder lives."""

    def settle(self, before: Credential, after: Credential) -> bool:
        """In the transaction that holds the lock."""
        return _is_locked_by(self.rows[before.account], before) and super().settle(before, after)

    def restarted(self) -> None:
        """Every transaction is rolled back."""
        for row in list(self.rows.values()):
            if row.credential.attempt is not None:
                self._put(unlocked(row))


def unlocked(row: Row) -> Row:
    """As if the attempt had never been."""
    return replace(row, credential=replace(row.credential, attempt=None, sends=max(0, row.credential.sends - 1)))


def _is_locked_by(row: Row, before: Credential) -> bool:
    return before.attempt is not None and row.credential.attempt == before.attempt
