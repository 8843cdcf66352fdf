"""What a check has found, and checks that end in time."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

State = Literal["ok", "warning", "trouble"]

Actions = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """`detail`: a sentence that says what is so; `next_actions`: what to do, unless it is ok. No secret in either."""

    check: str
    state: State
    detail: str
    next_actions: Actions = ()


Told = tuple[State, str, Actions]
"""A finding of a check that does not say its own name."""

Check = Callable[[], Iterable[Told]]

Series = Mapping[str, Check]
"""Checks by name, to be done one after another: a later one may use what an earlier one has found."""

_ONCE_MORE: Final = "Run it again; if it happens again, look at what it is about by hand."


def ok(detail: str) -> Told:
    """All is well."""
    return "ok", detail, ()


def warning(detail: str, *actions: str) -> Told:
    """It works, but somebody should know."""
    return "warning", detail, actions


def trouble(detail: str, *actions: str) -> Told:
    """It does not work, or will not."""
    return "trouble", detail, actions


def examined(*series: Series, within: float) -> list[Finding]:
    """What the checks find, in their order: the series at the same time, and whatever hangs is left after `within` s.

    The threads are daemons: nothing can interrupt who looks up a name or waits for a file, and nobody waits for him.
    """
    found: dict[str, list[Told]] = {}
    threads = [threading.Thread(target=_work, args=(each, found), daemon=True) for each in series]
    deadline = time.monotonic() + within
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = [trouble(f"This was not found out within {within:.0f} s: what it asks does not answer.", _ONCE_MORE)]
    return [Finding(name, *told) for each in series for name in each for told in found.get(name, late)]


def _work(series: Series, found: dict[str, list[Told]]) -> None:
    for name, check in series.items():
        try:
            found[name] = list(check())
        except Exception as exc:  # noqa: BLE001 - whatever one check stumbles over, the others are wanted
            found[name] = [trouble(f"This could not be found out ({type(exc).__name__}).", _ONCE_MORE)]
