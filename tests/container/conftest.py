"""The image of this tree, and containers of it that leave nothing behind."""

import uuid
from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.kit.lacking import lacking

from .engine import HARDENED, TAG, Service, build, docker, engine, stand_in
from .project import COMMANDS, there_is


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Tag of the image of this tree."""
    build(tmp_path_factory.mktemp("base"))
    return TAG


@pytest.fixture(scope="module", params=COMMANDS)
def version(request: pytest.FixtureRequest) -> str:
    """Of Docker Compose: each that is promised to work."""
    asked: str = request.param
    if not there_is(asked):
        lacking(f"there is no Docker Compose {asked}")
    return asked


@pytest.fixture(scope="session")
def postgres_image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Tag of the image of a PostgreSQL server."""
    return stand_in("postgres", tmp_path_factory.mktemp("postgres"))


@pytest.fixture(scope="session", autouse=True)
def _engine_is_left() -> Iterator[None]:
    yield
    if engine.cache_info().currsize:
        engine().close()


@pytest.fixture
def volume() -> Iterator[str]:
    """A volume of this test alone."""
    name = f"pixir-auth-test-{uuid.uuid4().hex[:12]}"
    docker("volume", "create", name)
    yield name
    docker("volume", "rm", "-f", name)


@pytest.fixture
def start(image: str, volume: str) -> Iterator[Callable[..., Service]]:
    """Starts hardened containers of the service over the test's volume, and removes them."""
    names: list[str] = []

    def _start(*options: str, image: str = image, entrypoint: Sequence[str] = ()) -> Service:
        names.append(f"pixir-auth-test-{uuid.uuid4().hex[:12]}")
        looks = ["--health-interval", "1s"]  # instead of the image's 10: these tests wait for the first one
        command = ["--entrypoint", entrypoint[0], image, *entrypoint[1:]] if entrypoint else [image]
        docker("run", "-d", "--name", names[-1], "-v", f"{volume}:/data", *looks, *HARDENED, *options, *command)
        return Service(names[-1])

    yield _start
    for name in reversed(names):  # who shares a namespace goes before whose it is
        docker("rm", "-f", "-v", name)
