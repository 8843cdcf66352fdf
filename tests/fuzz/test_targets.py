"""Whatever bytes others send, each reader keeps its laws: on seeds, on bytes made up, and on what coverage leads to."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import HAS_ATHERIS, plain_environment
from tests.fuzz.targets import TARGETS, Target

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
RUNS = 30_000
SECONDS = 12
"""For one target: all of them together stay below a minute and a half."""

needs_atheris = pytest.mark.skipif(not HAS_ATHERIS, reason="atheris has no wheel for this platform")

SEEDS = sorted({seed for target in TARGETS.values() for seed in target.seeds()})


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A seed of any reader with one piece replaced."""
    seed = draw(st.sampled_from(SEEDS))
    start = draw(st.integers(0, len(seed)))
    return seed[:start] + draw(st.binary(max_size=12)) + seed[start + draw(st.integers(0, 8)) :]


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_seeds_keep_the_laws(target: Target) -> None:
    for seed in SEEDS:  # those of the others too
        target(seed)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_made_up_bytes_keep_the_laws(target: Target) -> None:
    @settings(max_examples=300, deadline=None)
    @given(st.binary(max_size=200) | damaged())
    def law(data: bytes) -> None:
        target(data)

    law()


def fuzzed(name: str, folder: Path, runs: int = RUNS) -> tuple[int, int, str]:
    """Exit code, inputs tried and output of a run under atheris."""
    command = [sys.executable, "-m", "tests.fuzz", name, f"-runs={runs}", f"-max_total_time={SECONDS}", "-seed=1"]
    done = subprocess.run(
        [*command, f"-artifact_prefix={folder}/"],
        cwd=ROOT,
        env={**plain_environment(), "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    output = done.stdout + done.stderr
    tried = re.search(r"Done (\d+) runs", output)
    return done.returncode, int(tried[1]) if tried else 0, output


@needs_atheris
@pytest.mark.fuzz
@pytest.mark.parametrize("name", TARGETS)
def test_bytes_that_coverage_leads_to_keep_the_laws(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, tried, output = fuzzed(name, tmp_path)
    assert code == 0, output[-4000:]
    assert tried > 0
    with capsys.disabled():
        print(f"\n{name}: {tried} inputs")


@needs_atheris
@pytest.mark.fuzz
def test_a_broken_law_is_found(tmp_path: Path) -> None:
    """A reader that fails on one word in four thousand million: only coverage leads there."""
    code, _, output = fuzzed("planted", tmp_path, 2_000_000)
    assert code != 0
    assert "the planted fault" in output
