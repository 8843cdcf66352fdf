"""One issuer for all tests of a worker, and for each scene a machine of its own."""

import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.crash.scene import Database, Scene, Sqlite, scene
from tests.kit.processes import Process, machine

Begin = Callable[..., Awaitable[Scene]]


@pytest.fixture(scope="session")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """The sandbox issuer: strict, unless a test says otherwise for a while."""
    with machine(tmp_path_factory.mktemp("issuer")) as m:
        yield m.issuer()


@pytest.fixture(params=[Sqlite()], ids=["sqlite"])
def database(request: pytest.FixtureRequest) -> Database:
    """Every kind of database there is."""
    kind: Database = request.param
    return kind


@pytest.fixture
def begin(tmp_path: Path, issuer: Process, database: Database) -> Iterator[Begin]:
    """Makes a scene, on a machine of its own; knobs of the issuer as `scene` takes them."""
    with ExitStack() as machines:

        async def begun(**knobs: Any) -> Scene:
            folder = Path(tempfile.mkdtemp(dir=tmp_path))
            return await scene(machines.enter_context(machine(folder)), issuer, database, **knobs)

        yield begun
