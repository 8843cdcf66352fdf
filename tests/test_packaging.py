"""What a newcomer installs, and what goes into the image, is exactly what was tested, and says why it is there."""

import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
LISTS = ("constraints.txt", "constraints-hashed.txt", "constraints-build.txt")


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def dependencies() -> list[str]:
    """Every requirement of a clone, those of the extras too."""
    about = project()["project"]
    return [*about["dependencies"], *(one for extra in about["optional-dependencies"].values() for one in extra)]


def pins(name: str) -> dict[str, str]:
    """Package -> version of a constraints file."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", (ROOT / name).read_text(), re.MULTILINE)
    return {canonicalize_name(package): version for package, version in found}


def uncovered(wanted: list[str], name: str) -> list[str]:
    """The requirements that no pin of a file meets."""
    have = pins(name)
    needs = [Requirement(one) for one in wanted]
    return [str(one) for one in needs if have.get(canonicalize_name(one.name), "none") not in one.specifier]


def test_constraints_cover_every_dependency() -> None:
    assert uncovered(dependencies(), "constraints.txt") == [], "run .ci/lock"


def test_image_list_covers_the_dependencies_at_the_tested_versions() -> None:
    assert uncovered(project()["project"]["dependencies"], "constraints-hashed.txt") == [], "run .ci/lock"
    assert pins("constraints-hashed.txt").items() <= pins("constraints.txt").items()


def test_build_list_covers_the_build_requirements() -> None:
    assert uncovered(project()["build-system"]["requires"], "constraints-build.txt") == [], "run .ci/lock"


@pytest.mark.parametrize("name", LISTS[1:])
def test_every_pin_of_the_image_has_a_hash(name: str) -> None:
    entries = re.split(r"\n(?=\S)", (ROOT / name).read_text())
    bare = [entry for entry in entries if not entry.startswith("#") and "--hash=sha256:" not in entry]
    assert bare == []


@pytest.mark.parametrize("name", LISTS)
def test_lists_name_no_address_and_no_path(name: str) -> None:
    found = [line for line in (ROOT / name).read_text().splitlines() if re.search(r"://|^-|^\s*[/.]|@ ", line)]
    assert found == []


def test_every_dependency_says_what_it_is_for() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    silent = [one for one in dependencies() if not re.search(rf'"{re.escape(one)}",?\s+# \S', text)]
    assert silent == []


FLOORS = {
    "starlette": "1.3.1",  # Host with "/?#" changes the path that middleware sees (CVE-2026-48710, -54282, -54283)
    "h11": "0.16.0",  # lenient ends of chunks (CVE-2025-43859)
    "pydantic-settings": "2.14.2",  # a secrets folder that leads outside (GHSA-4xgf-cpjx-pc3j)
    "filelock": "3.20.3",  # a lock file opened through a link (CVE-2025-68146, CVE-2026-22701)
}
"""Package -> least version, if it is there at all."""

NEVER = {
    "python-multipart": "forms are not read here, and its parser has had one hole after another",
    "authlib": "kept states in a cache that no browser was bound to (CVE-2025-68158)",
}


@pytest.mark.parametrize("name", LISTS)
def test_no_version_with_a_known_hole(name: str) -> None:
    have = pins(name)
    assert {one for one in FLOORS if one in have and Version(have[one]) < Version(FLOORS[one])} == set()
    assert set(have) & set(NEVER) == set()


def test_what_has_a_floor_is_there() -> None:
    assert {"starlette", "h11", "pydantic-settings"} <= set(pins("constraints.txt"))


SECRETS = re.compile(r".*\.(pyc|db|sqlite3?|key|pem|env|rescue)|(.*/)?(\.env.*|auth\.json|\.hypothesis/.*)")
"""Names of files that a distribution must not hold."""


@pytest.mark.long
def test_sdist_holds_no_secret(tmp_path: Path) -> None:
    build = "import sys; from hatchling.build import build_sdist; build_sdist(sys.argv[1])"
    environment = tmp_path / "build"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    for command in (["-m", "pip", "install", "-qr", ROOT / "constraints-build.txt"], ["-c", build, tmp_path]):
        subprocess.run([python, *command], check=True, stdin=subprocess.DEVNULL, timeout=300, cwd=ROOT)
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    assert "service/app.py" in names
    old_stores = "tests/store/fixtures/"  # made for the tests of migrations, with a key that opens nothing else
    assert [name for name in names if SECRETS.fullmatch(name) and not name.startswith(old_stores)] == []


@pytest.mark.parametrize("name", ["a.key", "data/x.db", ".env", "sub/.env.local", "auth.json", "x-1.rescue", "a.pem"])
def test_a_secret_is_known_by_its_name(name: str) -> None:
    assert SECRETS.fullmatch(name)
    assert not SECRETS.fullmatch("service/environment.py")


@pytest.mark.long
def test_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    outside = {name for name in names if not name.startswith("service/") and ".dist-info/" not in name}
    assert outside == set()
    assert "service/py.typed" in names
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert not {name for name in names if SECRETS.fullmatch(name)}
