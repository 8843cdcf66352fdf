"""The score itself: tests that say little leave mutants alive, and the module's own tests do not."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants.score import ROOT

SCORE = """
import sys
from pathlib import Path
from tests.mutants.score import score
from tests.mutants.targets import Target
from tests.mutants.trial import prepare
prepare()
print(score(Target("service.domain.secret", tuple(sys.argv[2:])), Path(sys.argv[1])))
"""


def scored(folder: Path, *tests: str) -> tuple[float, str]:
    """Killed of a hundred, and what was said; in a process that has no threads yet, because it forks."""
    command = [sys.executable, "-c", SCORE, str(folder), *tests]
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV"))}
    done = subprocess.run(command, cwd=ROOT, env=plain, capture_output=True, text=True, check=True, timeout=300)
    found = re.search(r"^service\.domain\.secret: ([\d.]+)% of \d+ mutants killed", done.stdout, re.MULTILINE)
    assert found, done.stdout + done.stderr
    return float(found[1]), done.stdout


@pytest.mark.long
def test_tests_that_say_little_leave_mutants_alive(tmp_path: Path) -> None:
    share, said = scored(tmp_path, "domain/test_secret.py::test_reveal_gives_the_text")
    assert share < 50
    assert "Secret.__eq__(): " in said


@pytest.mark.long
def test_the_modules_own_tests_leave_the_equivalent_one_alone(tmp_path: Path) -> None:
    share, said = scored(tmp_path, "domain/test_secret.py")
    assert share >= 90
    assert re.findall(r"^  survived, line \d+: (.*)$", said, re.MULTILINE) == [
        "Secret.__hash__(): 'Secret' -> 'Secretx'"
    ]
