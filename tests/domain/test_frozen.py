"""Values do not change: what was decided on stays what it was."""

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import pytest

import service.domain
import service.oauth


def values() -> Iterator[type]:
    """Every dataclass of the two pure rooms."""
    for room in (service.domain, service.oauth):
        for module in pkgutil.iter_modules(room.__path__, f"{room.__name__}."):
            for _, kind in inspect.getmembers(importlib.import_module(module.name), dataclasses.is_dataclass):
                if inspect.isclass(kind) and kind.__module__ == module.name:
                    yield kind


VALUES = list(values())


def test_there_are_values() -> None:
    assert {"Credential", "Tokens", "Wish", "Login", "Provider", "Answer", "Callback"} <= {
        one.__name__ for one in VALUES
    }


@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: kind.__name__)
def test_a_value_is_frozen_and_has_no_room_for_more(kind: type) -> None:
    blank: object = object.__new__(kind)
    assert not hasattr(blank, "__dict__")
    for field in dataclasses.fields(kind):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(blank, field.name, None)
