"""A disk whose power can fail. What was synced stays; of all that was not, any part may be there, in any order.

Writes are torn into sectors, and each sector survives whole, in part, or not at all; what a file had grown by without
its bytes is whatever lay on the disk before. A name that was made or removed counts once its folder was synced. Bytes
beside those written are never harmed: that is what SQLite takes for granted (SQLITE_IOCAP_POWERSAFE_OVERWRITE).
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes put somewhere in a file."""

    offset: int
    data: bytes

    def torn(self, sector: int) -> Iterator["Write"]:
        """The same, sector by sector."""
        start, end = self.offset, self.offset + len(self.data)
        for at in range(start - start % sector, end, sector):
            first, last = max(at, start), min(at + sector, end)
            yield Write(first, self.data[first - start : last - start])

    def onto(self, image: bytearray, rng: Random | None = None) -> None:
        """Put it there. With `rng`, a gap before it holds zeros or what lay there before the file did."""
        if (gap := self.offset - len(image)) > 0:
            image += rng.randbytes(gap) if rng is not None and rng.random() < 0.5 else bytes(gap)
        image[self.offset : self.offset + len(self.data)] = self.data


@dataclass(frozen=True, slots=True)
class Truncate:
    """A file cut to a size."""

    size: int

    def torn(self, sector: int) -> Iterator["Truncate"]:
        """It cannot be torn."""
        yield self

    def onto(self, image: bytearray, rng: Random | None = None) -> None:
        """Cut."""
        del image[self.size :]


@dataclass(slots=True)
class Content:
    """The bytes of a file: those that are durable, and every change since the last sync."""

    durable: bytearray = field(default_factory=bytearray)
    since: list[Write | Truncate] = field(default_factory=list)

    def sync(self) -> None:
        """All changes become durable."""
        for change in self.since:
            change.onto(self.durable)
        self.since.clear()

    def survivor(self, rng: Random, sector: int) -> bytes:
        """What the power leaves of it."""
        image = bytearray(self.durable)
        chance = rng.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        left = [piece for change in self.since for piece in change.torn(sector) if rng.random() < chance]
        rng.shuffle(left)
        for piece in left:
            if isinstance(piece, Write) and rng.random() < 0.05:
                piece = _half(piece, rng)  # noqa: PLW2901
            piece.onto(image, rng)
        return bytes(image)


@dataclass(slots=True)
class Loss:
    """When the power fails: at the `nth` event of a kind (`sync x`; "": of any), or at the event number `at_latest`."""

    nth: int
    kind: str = ""
    at_latest: int = sys.maxsize

    def strikes(self, events: list[str]) -> bool:
        """Whether the last of these events is the one."""
        at = len(events) if not self.kind else events.count(self.kind) if events[-1] == self.kind else 0
        return at == self.nth or len(events) == self.at_latest


class Disk:
    """One folder. When the power fails, whoever uses it does not notice, but `survivors` is what he finds afterwards,
    and nothing he does from then on counts."""

    def __init__(self, files: Mapping[str, bytes], *, rng: Random, sector: int, loss: Loss | None = None) -> None:
        """`files`: what is there, durably, by name."""
        self.sector = sector
        self.survivors: dict[str, bytes] | None = None
        self.events: list[str] = []
        self.struck: str | None = None
        """The change or sync at which the power failed."""
        self._rng = rng
        self._loss = loss
        self._names: dict[str, list[Content | None]] = {name: [Content(bytearray(it))] for name, it in files.items()}
        """What each name has meant since the folder was last synced; the first is durable."""

    def has_failed(self) -> bool:
        """Whether the power is gone."""
        return self.survivors is not None

    def open(self, name: str) -> Content:
        """The file of that name, made if need be."""
        meant = self._names.setdefault(name, [None])
        if meant[-1] is None:
            meant.append(Content())
            self._passes(f"create {name}")
        content = meant[-1]
        assert content is not None
        return content

    def change(self, name: str, content: Content, change: Write | Truncate) -> None:
        """A change is on its way: from now on it may be there after a loss."""
        content.since.append(change)
        self._passes(f"{type(change).__name__.lower()} {name}")

    def sync(self, name: str, content: Content) -> None:
        """Durable when this returns; if the power fails at it, as good as not begun."""
        self._passes(f"sync {name}")
        content.sync()

    def delete(self, name: str) -> None:
        """The name goes; its bytes live on while the folder is not synced."""
        self._names[name].append(None)
        self._passes(f"delete {name}")

    def sync_folder(self) -> None:
        """All names are durable when this returns."""
        self._passes("sync the folder")
        self._names = {name: meant[-1:] for name, meant in self._names.items() if meant[-1] is not None}

    def _passes(self, event: str) -> None:
        self.events.append(event)
        if self._loss is None or self.has_failed() or not self._loss.strikes(self.events):
            return
        self.struck = event
        chosen = {name: self._rng.choice(meant) for name, meant in sorted(self._names.items())}
        left = {name: it.survivor(self._rng, self.sector) for name, it in chosen.items() if it is not None}
        self.survivors = left


def _half(piece: Write, rng: Random) -> Write:
    """The part of a sector before or after the point at which the power failed."""
    at = rng.randrange(len(piece.data) + 1)
    return Write(piece.offset, piece.data[:at]) if rng.random() < 0.5 else Write(piece.offset + at, piece.data[at:])
