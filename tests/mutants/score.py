"""The share of mutants that the quick tests notice, module by module, for the code that decides who gets in."""

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.mutants.operators import Mutant, mutants
from tests.mutants.targets import TARGETS, Target
from tests.mutants.trial import Fate, looked_at_afresh, looked_at_quickly, prepare

ROOT: Final = Path(__file__).parents[2]

FLOOR: Final = 0.9
"""Least share of killed mutants of a module."""


@dataclass(frozen=True, slots=True)
class Score:
    """What became of the mutants of one module."""

    target: Target
    fates: list[tuple[Mutant, Fate]]
    seconds: float

    def count(self, fate: Fate) -> int:
        """How many have met it."""
        return sum(one == fate for _, one in self.fates)

    @property
    def survivors(self) -> list[Mutant]:
        """Those that are not known to be the same program."""
        return [one for one, fate in self.fates if fate == "survived" and one.name not in self.target.equivalent]

    @property
    def share(self) -> float:
        """Killed of those that count."""
        return self.count("killed") / (self.count("killed") + len(self.survivors))

    @property
    def wrong_excuses(self) -> list[str]:
        """Names in the table of equivalents of mutants that were killed, or that there are none of."""
        return sorted(set(self.target.equivalent) - {one.name for one, fate in self.fates if fate == "survived"})

    def __str__(self) -> str:
        counted = self.count("killed") + len(self.survivors)
        equivalent = self.count("survived") - len(self.survivors)
        first = (
            f"{self.target.module}: {self.share:.1%} of {counted} mutants killed; beside them {equivalent} equivalent, "
            f"{self.count('stillborn')} that cannot be imported; {self.seconds:.0f} s"
        )
        survived = [f"  survived, line {one.line}: {one.name}" for one in self.survivors]
        return "\n".join([first, *survived, *(f"  wrongly listed as equivalent: {one}" for one in self.wrong_excuses)])


def score(target: Target, folder: Path) -> Score:
    """Try every mutant of a module. Raises RuntimeError if its tests do not pass on the module as it is."""
    began = time.monotonic()
    source = target.file.read_text()
    itself = Mutant(0, "the module as it is", compile(source, str(target.file), "exec"))
    if list(looked_at_afresh(target, [itself], folder / "itself", 300)) != ["survived"]:
        raise RuntimeError((folder / "itself" / "0" / "output").read_text())
    patience = 10 + 5 * (time.monotonic() - began)
    made = list(mutants(source, str(target.file)))
    found = looked_at_quickly(target, made, folder / "quickly", patience) or ["survived"] * len(made)
    fates: dict[int, Fate] = dict(enumerate(found))
    again = [number for number, fate in fates.items() if fate == "survived"]
    fates |= zip(
        again, looked_at_afresh(target, [made[number] for number in again], folder / "afresh", patience), strict=True
    )
    return Score(target, [(made[number], fate) for number, fate in fates.items()], time.monotonic() - began)


def main(names: list[str]) -> int:
    """Print the scores of all modules, or of those whose names end so; 1 if one is below the floor."""
    os.chdir(ROOT)
    prepare()
    failed = False
    for target in TARGETS:
        if names and not target.module.endswith(tuple(names)):
            continue
        with tempfile.TemporaryDirectory(prefix="pixir-auth-mutants-") as folder:
            result = score(target, Path(folder))
        print(result, flush=True)
        failed |= result.share < FLOOR or bool(result.wrong_excuses)
    return int(failed)
