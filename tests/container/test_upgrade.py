"""Another image on the same volume: the login stays. What it costs is told, in seconds without an answer."""

import io
import json
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

from tests.store.fixtures import make_schema_1

from .engine import LOGIN, ROOT, TAG, Service, docker
from .project import Project

pytestmark = pytest.mark.docker

FIXTURES = Path(make_schema_1.__file__).parent
PREVIOUS, NEXT = f"{TAG}-previous", f"{TAG}-next"
OTHER_CODE = """
COPY service /previous
USER root
RUN ours=$(python -c 'import service; print(*service.__path__)') && rm -r "$ours" && mv /previous "$ours"
USER 10001:10001
"""


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True).stdout


def _code_of_another_schema(folder: Path) -> bool:
    """Puts the package there as it was before the last change of the schema. False: this clone has no history."""
    try:
        before = _git("log", "-1", "--format=%h^", "--", "service/store/migrations.py").decode().strip()
        archive = _git("archive", before, "service")
    except (OSError, subprocess.CalledProcessError):
        return False
    with tarfile.open(fileobj=io.BytesIO(archive)) as found:
        found.extractall(folder, filter="data")
    return True


@pytest.fixture(scope="module")
def previous(image: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Tag of an image with older code, which writes an older schema; with our own in a clone without its history."""
    folder = tmp_path_factory.mktemp("previous")
    recipe = f"FROM {image}\nENV PREVIOUS=1\n" + (OTHER_CODE if _code_of_another_schema(folder) else "")
    (folder / "Dockerfile").write_text(recipe)
    docker("build", "-t", PREVIOUS, str(folder))
    return PREVIOUS


def test_login_of_the_previous_image_is_served_by_this_one(previous: str, start: Callable[..., Service]) -> None:
    first = start(image=previous)
    first.wait_healthy()
    assert first.execute("printenv", "PREVIOUS") == "1"
    assert first.ask("PUT", "/credential", LOGIN)[0] == 200
    before = first.ask("GET", "/token")[1]
    docker("stop", first.name)
    second = start()
    second.wait_healthy()
    after = second.ask("GET", "/token")[1]
    assert after["access_token"] == before["access_token"] == LOGIN["access_token"]
    assert after["generation"] == before["generation"]


@pytest.mark.parametrize("schema", ["schema_1", "schema_2"])
def test_login_of_a_volume_with_an_older_schema_is_kept(
    schema: str, start: Callable[..., Service], volume: str, image: str
) -> None:
    """Whatever the history of the clone. Its token ends in 2027, so that only its status is looked at."""
    given = ["-v", f"{volume}:/data", "-v", f"{FIXTURES}:/fixtures:ro", "--user", "root", "--entrypoint", "install"]
    to_owner = ["-m", "600", "-o", "10001", "-g", "10001", f"/fixtures/{schema}.db", "/data/pixir-auth.db"]
    docker("run", "--rm", *given, image, *to_owner)
    key = "/run/secrets/pixir-auth-encryption-key"
    service = start("--network", "none", "-v", f"{FIXTURES / 'schema_1.key'}:{key}:ro")
    service.wait_healthy()
    told = service.ask("GET", "/status")[1]
    assert (told["email"], told["refresh"]["generation"]) == ("who@example.test", 1)
    assert told["refresh"]["state"] != "dead"


class Gaps(threading.Thread):
    """Asks for the token at the published port every 10 ms; when it was given, and which ones."""

    def __init__(self, address: str, key: str) -> None:
        super().__init__()
        self._address = address
        self._key = key
        self._over = threading.Event()
        self.served: list[float] = []
        self.tokens: set[str] = set()

    def run(self) -> None:
        while not self._over.wait(0.01):
            connection = HTTPConnection(self._address, 1455, timeout=1)
            try:
                connection.request("GET", "/token", headers={"Host": "localhost:1455", "Authorization": self._key})
                answer = connection.getresponse()
                told = json.loads(answer.read()) if answer.status == 200 else {}
            except (OSError, HTTPException):
                continue
            finally:
                connection.close()
            if told:
                self.served.append(time.monotonic())
                self.tokens.add(told["access_token"])

    def end(self) -> float:
        """The longest time between two answers."""
        self._over.set()
        self.join()
        return max(later - earlier for earlier, later in zip(self.served, self.served[1:], strict=False))


@pytest.fixture
def project(image: str) -> Iterator[Project]:
    """compose.yaml, up."""
    running = Project("v2")
    try:
        running.compose("up", "-d", "--no-build", "pixir-auth")
        yield running
    finally:
        running.compose("down", "-v", "-t", "5")


def test_compose_puts_a_new_image_in_place_and_the_token_stays(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {TAG}\nENV UPGRADED=1\n")
    docker("build", "-t", NEXT, str(tmp_path))
    service = project.service()
    service.wait_healthy()
    assert service.ask("PUT", "/credential", LOGIN)[0] == 200
    key = service.execute("cat", "/run/secrets/client/key")
    gaps = Gaps(project.published_at, f"Bearer {key}")
    gaps.start()
    replace(project, environment={"PIXIR_AUTH_IMAGE": NEXT}).compose("up", "-d", "--no-build", "pixir-auth")
    upgraded = project.service()
    upgraded.wait_healthy()
    gap = gaps.end()
    assert upgraded.execute("printenv", "UPGRADED") == "1"
    assert gaps.tokens == {LOGIN["access_token"]}
    with capsys.disabled():
        print(f"\nwithout service during an upgrade: {gap:.2f} s")
