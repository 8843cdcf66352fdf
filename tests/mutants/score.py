"""The share of mutants that the quick tests notice, module by module, for the code that decides who gets in.

This process imports the heavy libraries once and forks for every mutant; the child puts the mutant in the module's
place before anything of `service` is imported, and runs the module's tests until one fails.
"""

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.context import ForkProcess
from pathlib import Path
from types import CodeType, ModuleType
from typing import Final, Literal

from tests.mutants.operators import Mutant, mutants
from tests.mutants.targets import TARGETS, Target

ROOT: Final = Path(__file__).parents[2]

FLOOR: Final = 0.9
"""Least share of killed mutants of a module."""

AT_ONCE: Final = 2
LIBRARIES: Final = (
    *("pytest", "xdist.plugin", "pytest_asyncio", "pytest_cov", "hypothesis.strategies", "hypothesis.stateful"),
    *("fastapi", "httpx", "sqlmodel", "psycopg", "sqlalchemy.dialects.postgresql", "sqlalchemy.dialects.sqlite"),
    *("pydantic.v1", "pydantic_settings", "platformdirs", "uvicorn"),
    *("cryptography.hazmat.primitives.ciphers.aead", "cryptography.hazmat.primitives.kdf.hkdf"),
)
_OPTIONS: Final = (
    *("-n0", "-x", "--tb=line", "--no-cov", "-p", "no:cacheprovider", "--hypothesis-profile=mutants"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),  # for libraries that this process has imported before
)
_STILLBORN: Final = 70
"""Exit code of a child whose mutant cannot even be imported: no test is needed for that."""

_UNCLEAR: Final = 71
"""Exit code of a child in which pytest itself failed."""

Fate = Literal["killed", "survived", "stillborn"]


@dataclass(slots=True)
class Score:
    """What became of the mutants of one module."""

    target: Target
    fates: dict[Fate, list[Mutant]] = field(default_factory=lambda: {"killed": [], "survived": [], "stillborn": []})

    @property
    def survivors(self) -> list[Mutant]:
        """Those that are not known to be the same program."""
        return [one for one in self.fates["survived"] if one.name not in self.target.equivalent]

    @property
    def share(self) -> float:
        """Killed of those that count."""
        killed = len(self.fates["killed"])
        counted = killed + len(self.survivors)
        return killed / counted if counted else 0.0

    @property
    def wrong_excuses(self) -> list[str]:
        """Names in the table of equivalents that did not survive, or are no mutants at all."""
        survived = {one.name for one in self.fates["survived"]}
        return sorted(set(self.target.equivalent) - survived)


class _Instead(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a mutant where the module is asked for."""

    def __init__(self, name: str, code: CodeType) -> None:
        self._name = name
        self._code = code

    def find_spec(
        self, name: str, _path: object = None, _target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The mutant, for its name alone."""
        return (
            importlib.util.spec_from_loader(name, self, origin=self._code.co_filename) if name == self._name else None
        )

    def exec_module(self, module: ModuleType) -> None:
        """Make it."""
        module.__file__ = self._code.co_filename
        exec(self._code, module.__dict__)


def _child(target: Target, code: CodeType, folder: Path) -> None:
    """Runs in the fork; ends it."""
    os.setsid()  # what the tests start ends with it
    output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for stream in (1, 2):
        os.dup2(output, stream)
    sys.meta_path.insert(0, _Instead(target.module, code))
    try:
        importlib.import_module(target.module)
    except BaseException:  # noqa: BLE001 - a mutant may raise anything
        os._exit(_STILLBORN)
    import pytest  # noqa: PLC0415 - imported long ago
    from hypothesis import Phase, settings  # noqa: PLC0415

    settings.register_profile(
        "mutants", database=None, derandomize=True, deadline=None, phases=(Phase.explicit, Phase.generate)
    )
    options = [*_OPTIONS, f"--basetemp={folder / 'tests'}"]
    end = _UNCLEAR
    try:
        end = int(pytest.main([*options, *(f"tests/{one}" for one in target.tests)]))
    finally:
        sys.stdout.flush()
        os._exit(end)


@dataclass(slots=True)
class _Trial:
    process: ForkProcess
    mutant: Mutant
    folder: Path
    until: float


def _started(target: Target, mutant: Mutant, folder: Path, seconds: float) -> _Trial:
    folder.mkdir()
    process = multiprocessing.get_context("fork").Process(target=_child, args=(target, mutant.code, folder))
    process.start()
    return _Trial(process, mutant, folder, time.monotonic() + seconds)


def _fate(trial: _Trial) -> Fate:
    """Waits for nothing: the child has ended, or its time is up."""
    if trial.process.is_alive():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(trial.process.pid or 0, signal.SIGKILL)
        trial.process.join()
        return "killed"  # it hangs where the program does not: noticed
    match trial.process.exitcode:
        case 0:
            return "survived"
        case 1 | 2:  # a test failed, or a file of tests could not be imported
            return "killed"
        case code if code == _STILLBORN:
            return "stillborn"
        case code:
            raise RuntimeError(
                f"{trial.mutant.name}: pytest ended with {code}\n{(trial.folder / 'output').read_text()}"
            )


def _tried(target: Target, wanted: Iterable[Mutant], folder: Path, seconds: float) -> Iterator[tuple[Mutant, Fate]]:
    left = iter(wanted)
    running: list[_Trial] = []
    number = 0
    while True:
        while len(running) < AT_ONCE and (mutant := next(left, None)):
            running.append(_started(target, mutant, folder / f"{target.module}-{number}", seconds))
            number += 1
        if not running:
            return
        ready = multiprocessing.connection.wait(
            [one.process.sentinel for one in running], max(0.0, min(one.until for one in running) - time.monotonic())
        )
        for trial in [one for one in running if one.process.sentinel in ready or time.monotonic() >= one.until]:
            running.remove(trial)
            yield trial.mutant, _fate(trial)


def score(target: Target, folder: Path) -> Score:
    """Try every mutant of a module. Raises RuntimeError if its tests do not pass on the module as it is."""
    source = target.file.read_text()
    began = time.monotonic()
    itself = Mutant(0, "the module as it is", compile(source, str(target.file), "exec"))
    ((_, fate),) = _tried(target, [itself], folder / "control", 300) if (folder / "control").mkdir() is None else ()
    if fate != "survived":
        raise RuntimeError(
            f"{target.module}: its tests do not pass\n{next((folder / 'control').rglob('output')).read_text()}"
        )
    result = Score(target)
    patience = 5 + 5 * (time.monotonic() - began)
    for mutant, fate in _tried(target, mutants(source, str(target.file)), folder, patience):
        result.fates[fate].append(mutant)
    return result


def main(names: list[str]) -> int:
    """Print the scores of all modules, or of those whose names end so; 1 if one is below the floor."""
    os.chdir(ROOT)
    sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]  # as tests/conftest.py has it
    for library in LIBRARIES:
        importlib.import_module(library)
    failed = False
    for target in TARGETS:
        if names and not target.module.endswith(tuple(names)):
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="pixir-auth-mutants-") as folder:
            result = score(target, Path(folder))
        counts = {fate: len(found) for fate, found in result.fates.items()}
        print(
            f"{target.module}: {result.share:.1%} of {counts['killed'] + len(result.survivors)} mutants killed, "
            f"{counts['survived'] - len(result.survivors)} equivalent, {counts['stillborn']} stillborn, "
            f"{time.monotonic() - began:.0f} s",
            flush=True,
        )
        for mutant in result.survivors:
            print(f"  survived: line {mutant.line}: {mutant.name}")
        for name in result.wrong_excuses:
            print(f"  listed as equivalent, and is not there or was killed: {name}")
        failed |= result.share < FLOOR or bool(result.wrong_excuses)
    return int(failed)
