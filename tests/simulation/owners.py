"""Who is alive, for a Refresher. The one place to change when owners learn to judge otherwise."""

from typing import Literal

Fate = Literal["alive", "dead", "unknown"]


class Registry:
    """What the kernel knows: which processes have ended. A stopped one has not."""

    def __init__(self) -> None:
        self.ended: set[str] = set()


class FakeOwners:
    """As `service.store.owner.Owners`: one name for each process, dead only when it has really ended."""

    def __init__(self, name: str, registry: Registry) -> None:
        self._name = name
        self._registry = registry

    def present(self) -> str:
        """Our name."""
        return self._name

    def is_me(self, owner: str) -> bool:
        """Whether that is ours."""
        return owner == self._name

    def is_dead(self, owner: str) -> bool:
        """Whether that process has surely ended."""
        return self.fate(owner) == "dead"

    def fate(self, owner: str) -> Fate:
        """The same in three words: all are on one machine here, so nothing stays unknown."""
        return "dead" if owner in self._registry.ended else "alive"
