"""Stores to test. A test that takes `store` or `address` is part of the contract and runs on every backend."""

import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from service.store.store import Store
from tests.kit.database import lay
from tests.kit.postgres import Server

from .crowd import Crowds
from .samples import open_store, path_of


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the data of this test is kept: the address of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:{tmp_path / 'data' / 'pixir-auth.db'}"
    found: Server = request.getfixturevalue("postgres")
    return found.empty()


@pytest.fixture
async def another(address: str) -> AsyncIterator[Callable[..., Store]]:
    """Opens further stores on the same data, as other processes would; other keys may be given."""
    opened: list[Store] = []

    if address.startswith("sqlite:"):
        lay(path_of(address))

    def open_another(*keys: bytes) -> Store:
        opened.append(open_store(address, *keys))
        return opened[-1]

    yield open_another
    for store in opened:
        await store.close()


@pytest.fixture
async def store(another: Callable[..., Store]) -> Store:
    """An empty store."""
    return another()


@pytest.fixture
def nothing_hangs() -> Iterator[None]:
    """A system call that waits for ever fails the test instead of stopping them all."""

    def too_long(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError("this has waited too long")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, 10)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowds]:
    """Lets real processes do one thing at the same moment."""
    crowds = Crowds(tmp_path_factory.mktemp("crowd") / "stderr")
    yield crowds
    crowds.close()
