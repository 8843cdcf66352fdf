"""The sandbox stands alone, so that agreement between it and the service proves something."""

import ast
import sys
from pathlib import Path

import pytest

ROOM = Path(__file__).parents[2] / "service" / "sandbox"


def foreign(file: Path) -> set[str]:
    """The first names of what a file imports from outside the room and the standard library."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("beyond" if node.level > 1 else (node.module or "").partition(".")[0] if not node.level else "")
    return found - sys.stdlib_module_names - {""}


@pytest.mark.parametrize("file", sorted(ROOM.glob("*.py")), ids=lambda file: file.stem)
def test_only_starlette_and_a_server_to_run_it(file: Path) -> None:
    assert foreign(file) <= ({"uvicorn"} if file.stem == "__main__" else {"starlette"})
