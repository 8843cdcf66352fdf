"""What can be turned, ordered or asked is in the documentation."""

import dataclasses
from pathlib import Path

from service.sandbox import Fault, Knobs, Received, Sandbox, User, faults
from service.sandbox.__main__ import parser
from service.sandbox.control import Control

DOCS = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text()


def names() -> list[str]:
    options = [option for action in parser()._actions for option in action.option_strings[:1] if option != "-h"]
    members = [name for name in vars(Sandbox) if not name.startswith("_")]
    values = [field.name for value in (Fault, Knobs, Received, User) for field in dataclasses.fields(value)]
    routes = [route.path for route in Control(Sandbox()).routes()]
    return [*options, *members, *values, *routes, *faults.NAMED]


def test_everything_is_documented() -> None:
    assert [name for name in names() if name not in DOCS] == []


async def test_the_example_works() -> None:
    example = DOCS.split("```python\n")[1].split("```")[0]
    body = "".join(f"    {line}\n" for line in example.splitlines())
    scope: dict[str, object] = {}
    exec(f"async def run():\n{body}", scope)
    await scope["run"]()
