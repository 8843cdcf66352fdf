"""The tests bite: whatever is taken out of the refresh, a named test notices."""

import ast
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.mutants.table import MUTANTS, Edit, Mutant
from tests.mutants.workshop import ROOT, OutOfDate, Verdict, Workshop, copied, edited

pytestmark = pytest.mark.long


@dataclass(frozen=True, slots=True)
class Control:
    """A copy without a mutation, and what all the tests together say of it."""

    folder: Path
    verdict: Verdict


@pytest.fixture(scope="session")
def workshop() -> Iterator[Workshop]:
    """Where the tests of a copy run."""
    with closing(Workshop()) as opened:
        yield opened


@pytest.fixture(scope="session")
def control(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Control:
    """Run once; the mutants are made of it, so that what Python has compiled is compiled once."""
    folder = copied(ROOT, tmp_path_factory.mktemp("control"))
    return Control(folder, workshop.run(folder, sorted({mutant.killer for mutant in MUTANTS})))


def test_the_tests_pass_on_an_unmutated_copy(control: Control) -> None:
    """Else a mutant would be killed by anything."""
    assert control.verdict.code == 0, control.verdict.output
    assert "skipped" not in control.verdict.output


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_mutant_is_killed_by_its_test(
    mutant: Mutant, control: Control, workshop: Workshop, tmp_path: Path
) -> None:
    verdict = workshop.run(copied(control.folder, tmp_path, mutant.edits), [mutant.killer])
    assert verdict.code == 1, verdict.output  # not 2 to 5: the test has to run, and to fail
    assert "1 failed" in verdict.output, verdict.output


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_edit_fits(mutant: Mutant) -> None:
    """And makes another program. Quick, so that whoever changes the code sees at once that the table has to follow."""
    for edit in mutant.edits:
        before = (ROOT / "service" / edit.file).read_text()
        after = edited(before, edit)
        assert ast.dump(ast.parse(after)) != ast.dump(ast.parse(before))


@pytest.mark.parametrize("text", ["", "old old"])
def test_an_edit_that_does_not_fit_exactly_once_is_refused(text: str) -> None:
    with pytest.raises(OutOfDate):
        edited(text, Edit("issuer.py", "old", "new"))


def test_every_mutant_has_a_name_of_its_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
