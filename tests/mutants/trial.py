"""Tries mutants: quickly where that is enough, and again from the start where it was not.

Quickly: the tests are collected once, with the module as it is; for every mutant this process forks, and the child
puts the mutant's functions and values in place of those that others have imported. The tests that noticed the last
mutants go first: neighbours are noticed by the same. What was made at import stays as it was, and a decorator that is
gone has left its mark, so a mutant may survive that should not. Then the second look: a fork in which nothing of the
service has been imported yet, and the mutant is what its first import finds.
"""

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.context import ForkProcess
from pathlib import Path
from types import CodeType, MemberDescriptorType, ModuleType
from typing import Any, Final, Literal

import pytest
from hypothesis import Phase, settings

from tests.mutants.operators import Mutant
from tests.mutants.targets import Target

AT_ONCE: Final = 2
LIBRARIES: Final = (
    *("xdist.plugin", "pytest_asyncio", "pytest_cov", "hypothesis.strategies", "hypothesis.stateful"),
    *("fastapi", "httpx", "sqlmodel", "psycopg", "sqlalchemy.dialects.postgresql", "sqlalchemy.dialects.sqlite"),
    *("pydantic.v1", "pydantic_settings", "platformdirs", "uvicorn"),
    *("cryptography.hazmat.primitives.ciphers.aead", "cryptography.hazmat.primitives.kdf.hkdf"),
)
"""What is slow to import: imported once, before any fork."""

IMPORTED_BEFORE: Final = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
"""For pytest, of libraries that its process has imported before: their asserts stay as they are."""

_OPTIONS: Final = (
    *("-n0", "-x", "-s", "--tb=line", "--no-cov", "-p", "no:cacheprovider", "--hypothesis-profile=mutants"),
    *IMPORTED_BEFORE,
)
_NO_CONFTEST: Final = 4
"""Exit code of pytest where not even its own set-up can be imported: somebody else does not bear the mutant."""

_STILLBORN: Final = 70
"""Exit code of a child whose mutant cannot even be imported: no test is needed for that."""

_NOTICED_BY: Final = "noticed-by"
"""File of a trial: the number of the test that failed."""

_REMEMBERED: Final = 3
"""Tests that go first: they belong to several files, and each file that is begun anew costs its fixtures."""

_UNCLEAR: Final = 71
"""Exit code of a child in which something failed that is no test."""

_FORK: Final = multiprocessing.get_context("fork")

Fate = Literal["killed", "survived", "stillborn"]
Try = Callable[[Mutant, Path], int]
"""Tries one mutant, in a folder of its own; the exit code of the tests."""


def prepare() -> None:
    """Import what all trials need; the quick tests are what is tried, in CI too."""
    os.environ.pop("CI", None)
    sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]  # as tests/conftest.py has it
    for library in LIBRARIES:
        importlib.import_module(library)
    phases = (Phase.explicit, Phase.generate)  # the first failure is enough, and nobody reads it
    settings.register_profile("mutants", database=None, derandomize=True, deadline=None, phases=phases)


def looked_at_quickly(target: Target, mutants: list[Mutant], folder: Path, seconds: float) -> list[Fate]:
    """The fate of each mutant; of none if the tests do not bear it that the module is replaced under them."""
    answer, question = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_collected, args=(target, mutants, folder, seconds, question))
    process.start()
    question.close()
    try:
        fates: list[Fate] = answer.recv()
    except EOFError:
        fates = []
    process.join()
    return fates


def looked_at_afresh(target: Target, mutants: Iterable[Mutant], folder: Path, seconds: float) -> Iterator[Fate]:
    """The fate of each mutant, in order of the mutants."""

    def attempt(mutant: Mutant, own: Path) -> int:
        sys.meta_path.insert(0, _Instead(target.module, mutant.code))
        try:
            importlib.import_module(target.module)
        except BaseException:  # noqa: BLE001 - a mutant may raise anything
            return _STILLBORN
        return int(pytest.main(_asked(target, own)))

    return _tried(mutants, attempt, folder, seconds)


def _asked(target: Target, folder: Path) -> list[str]:
    return [*_OPTIONS, f"--basetemp={folder / 'tests'}", *(f"tests/{one}" for one in target.tests)]


# -- one after another, two at once ----------------------------------------------------------------------------------


@dataclass(slots=True)
class _Trial:
    process: ForkProcess
    mutant: Mutant
    folder: Path
    until: float


def _tried(
    mutants: Iterable[Mutant], attempt: Try, folder: Path, seconds: float, learn: Callable[[Path], None] | None = None
) -> Iterator[Fate]:
    """The fates in order; `learn` is given the folder of each trial when it ends, before the next one begins."""
    left = enumerate(mutants)
    running: dict[int, _Trial] = {}
    ended: dict[int, Fate] = {}
    following = 0
    while True:
        while len(running) < AT_ONCE and (item := next(left, None)):
            running[item[0]] = _started(item[1], attempt, folder / str(item[0]), seconds)
        if not running:
            return
        patience = max(0.0, min(one.until for one in running.values()) - time.monotonic())
        ready = multiprocessing.connection.wait([one.process.sentinel for one in running.values()], patience)
        for number, trial in list(running.items()):
            if trial.process.sentinel in ready or time.monotonic() >= trial.until:
                ended[number] = _fate(running.pop(number), in_time=trial.process.sentinel in ready)
                if learn:
                    learn(trial.folder)
        while following in ended:
            yield ended[following]
            following += 1


def _started(mutant: Mutant, attempt: Try, folder: Path, seconds: float) -> _Trial:
    folder.mkdir(parents=True)
    process = _FORK.Process(target=_child, args=(mutant, attempt, folder))
    process.start()
    return _Trial(process, mutant, folder, time.monotonic() + seconds)


def _child(mutant: Mutant, attempt: Try, folder: Path) -> None:
    """Runs in the fork, and ends it: nothing that the parent has opened is closed twice."""
    os.setsid()  # what the tests start ends with it
    output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for stream in (1, 2):
        os.dup2(output, stream)
    code = _UNCLEAR
    try:
        code = attempt(mutant, folder)
    finally:
        sys.stdout.flush()
        os._exit(code)


def _fate(trial: _Trial, *, in_time: bool) -> Fate:
    """Of a child that is ending, or whose time is up. Raises RuntimeError if pytest itself failed."""
    if not in_time:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(trial.process.pid or 0, signal.SIGKILL)
    trial.process.join()
    if not in_time:
        return "killed"  # it hangs where the program does not: noticed
    match trial.process.exitcode:
        case 0:
            return "survived"
        case 1 | 2:  # a test failed, or a file of tests could not be imported
            return "killed"
        case code if code in (_STILLBORN, _NO_CONFTEST):
            return "stillborn"
        case code:
            raise RuntimeError(f"{trial.mutant.name}: ended with {code}\n{(trial.folder / 'output').read_text()}")


# -- quickly ---------------------------------------------------------------------------------------------------------


class _Forks:
    """A plugin of pytest that runs the collected tests once for every mutant, each time in a fork."""

    def __init__(self, target: Target, mutants: list[Mutant], folder: Path, seconds: float) -> None:
        self._target = target
        self._mutants = mutants
        self._folder = folder
        self._seconds = seconds
        self._noticed: list[int] = []  # which tests have noticed a mutant, the last one first
        self.fates: list[Fate] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """In the place of pytest's own loop."""
        itself = Mutant(0, "", compile(self._target.file.read_text(), str(self._target.file), "exec"))

        def attempt(mutant: Mutant, own: Path) -> int:
            factory: Any = session.config._tmp_path_factory  # type: ignore[attr-defined]
            factory._given_basetemp = own / "tests"
            try:
                _replace(self._target.module, mutant.code)
            except BaseException:  # noqa: BLE001 - a mutant may raise anything
                return _STILLBORN
            order = self._order(len(session.items))
            for number, following in zip(order, [*order[1:], None], strict=True):
                nextitem = None if following is None else session.items[following]
                session.config.hook.pytest_runtest_protocol(item=session.items[number], nextitem=nextitem)
                if session.testsfailed:
                    (own / _NOTICED_BY).write_text(str(number))
                    return 1
            return 0

        if list(_tried([itself], attempt, self._folder / "itself", 300)) == ["survived"]:
            self.fates = list(_tried(self._mutants, attempt, self._folder, self._seconds, self._learn))
        return True

    def _order(self, count: int) -> list[int]:
        """Numbers of the tests: those that have noticed the last mutants first."""
        return [*self._noticed, *(number for number in range(count) if number not in self._noticed)]

    def _learn(self, folder: Path) -> None:
        told = folder / _NOTICED_BY
        if told.exists():
            number = int(told.read_text())
            self._noticed = [number, *(other for other in self._noticed if other != number)][:_REMEMBERED]


def _collected(target: Target, mutants: list[Mutant], folder: Path, seconds: float, answer: Any) -> None:
    forks = _Forks(target, mutants, folder, seconds)
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main(_asked(target, folder), plugins=[forks])
    answer.send(forks.fates)


def _replace(name: str, code: CodeType) -> None:
    """Run a module's new code in its old namespace, and give what it made to whoever had imported the old."""
    module = sys.modules[name]
    old = dict(vars(module))
    exec(code, vars(module))
    for attribute, value in old.items():
        if isinstance(value, type) and value.__module__ == name and isinstance(vars(module).get(attribute), type):
            setattr(module, attribute, _renewed(value, vars(module)[attribute]))
    for other in list(sys.modules.values()):
        for attribute, value in list(vars(other).items()) if isinstance(other, ModuleType) else ():
            if attribute in old and old[attribute] is value and not attribute.startswith("__"):
                setattr(other, attribute, vars(module)[attribute])


def _renewed(old: type, new: type) -> type:
    """The old class with what the new one does: there may be instances of it already."""
    for name, value in vars(new).items():
        if not isinstance(value, MemberDescriptorType) and name not in ("__dict__", "__weakref__"):
            setattr(old, name, value)
    return old


# -- afresh ----------------------------------------------------------------------------------------------------------


class _Instead(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a mutant where the module is asked for."""

    def __init__(self, name: str, code: CodeType) -> None:
        self._name = name
        self._code = code

    def find_spec(
        self, name: str, _path: object = None, _target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The mutant, for its name alone."""
        return importlib.util.spec_from_loader(name, self) if name == self._name else None

    def exec_module(self, module: ModuleType) -> None:
        """Make it."""
        module.__file__ = self._code.co_filename
        exec(self._code, vars(module))
