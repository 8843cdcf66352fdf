"""What a newcomer installs, and what goes into the image, is exactly what was tested, and says why it is there."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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
    assert not {name for name in names if name.endswith((".pyc", ".db", ".key", ".env"))}
