"""Each operator makes the mutants it should, and the score tells a test that bites from one that does not."""

from pathlib import Path

import pytest

from tests.mutants.operators import mutants
from tests.mutants.targets import TARGETS


def names(source: str) -> set[str]:
    return {mutant.name.partition(": ")[2] for mutant in mutants(source, "sample.py")}


@pytest.mark.parametrize(
    ("source", "mutant"),
    [
        ("x = a == b", "a == b -> a != b"),
        ("x = a < b", "a < b -> a <= b"),
        ("x = a < b", "a < b -> a >= b"),
        ("x = a in b", "a in b -> a not in b"),
        ("x = a is None", "a is None -> a is not None"),
        ("x = a and b", "a and b -> a or b"),
        ("x = a or b", "a or b -> a"),
        ("x = not a", "not a -> a"),
        ("x = 1 if a else 2", "1 if a else 2 -> 1 if not a else 2"),
        ("if a():\n    b()", "if a() -> if not a()"),
        ("x = 5", "5 -> 6"),
        ("x = 5", "5 -> 4"),
        ("x = True", "True -> False"),
        ("x = 'word'", "'word' -> 'wordx'"),
        ("x = b''", "b'' -> b'x'"),
        ("x = a + b", "a + b -> a - b"),
        ("x = f(a, b=c)", "f(a, b=c) -> f(a)"),
        ("x = {a, b}", "{a, b} -> {b}"),
        ("x = a[b:]", "[b:] -> [:]"),
        ("def f():\n    return x", "return x -> return None"),
        ("def f():\n    g()", "g() -> pass"),
        ("def f():\n    raise E", "raise E -> pass"),
        ("def f():\n    if a:\n        return\n    g()", "return -> pass"),
        ("@g\ndef f():\n    return None", "@g f -> f"),
        ("try:\n    f()\nexcept E:\n    pass", "except E: pass -> except E: raise"),
        ("try:\n    f()\nexcept (E, F):\n    pass", "except (E, F): pass -> except (F,): pass"),
    ],
)
def test_each_operator(source: str, mutant: str) -> None:
    assert mutant in names(source)


@pytest.mark.parametrize("source", ['"""Doc."""', "x: 'int'", "def f(a: Literal['b']) -> 'C': ...", "x = 'a sentence'"])
def test_what_decides_nothing_is_left_alone(source: str) -> None:
    assert names(source) == set()


def test_a_mutant_differs_in_one_place_and_is_taken_back() -> None:
    made = list(mutants("x = [1, 2]", "sample.py"))
    values = []
    for mutant in made:
        space: dict[str, object] = {}
        exec(mutant.code, space)
        values.append(space["x"])
    assert values == [[2, 2], [0, 2], [1, 3], [1, 1]]


def test_every_counted_module_and_its_tests_are_there() -> None:
    root = Path(__file__).parents[1]
    assert [one.module for one in TARGETS if not one.file.is_file()] == []
    assert [test for one in TARGETS for test in one.tests if not (root / test.partition("::")[0]).is_file()] == []


@pytest.mark.long
def test_every_equivalent_mutant_is_one_of_the_mutants() -> None:
    """Quick, so that whoever changes the code sees at once that the table has to follow."""
    for target in TARGETS:
        made = {mutant.name for mutant in mutants(target.file.read_text(), str(target.file))}
        assert set(target.equivalent) <= made, target.module
