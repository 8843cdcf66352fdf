"""The running service, asked as any other command asks it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from service import __version__
from service.cli.address import the_service
from service.cli.client import Body, Problem, Service
from service.cli.console import Failure
from service.doctor.finding import Told, ok, trouble, warning
from service.store.owner import living

_WITHIN: Final = 2.0
"""Seconds for an answer: /status reads the database at most."""


def service_told(owners: Path, *, is_strange: bool) -> Iterator[Told]:
    """Is there one, does it know us, can it use its store, and is it this version.

    is_strange: another program has been found at its port, which must not be sent a client key.
    """
    processes = living(owners) if owners.is_dir() else 0
    try:
        service = the_service()
        if is_strange and service.unix_socket is None:
            yield warning("The service was not asked: another program is in its place.", "See port.")
            return
        status = service.get("/status", within=_WITHIN)
    except Problem as problem:
        yield trouble(f"The service does not serve us: {problem.lines[0]}", *_actions(problem))
    except Failure as failure:
        yield _nobody(failure, processes)
    else:
        yield from _said(service, status, processes)


def _said(service: Service, status: Body, processes: int) -> Iterator[Told]:
    version = str(status.get("version"))
    told: list[Told] = []
    if version != __version__:
        told.append(warning(f"The service is version {version}, this command {__version__}.", "Restart the service."))
    try:
        service.get("/readyz", within=_WITHIN)
    except Failure as failure:
        told.append(trouble(f"The service is not ready: {failure.lines[0]}", *_actions(failure)))
    if not processes:
        told.append(
            warning(
                "The service that answers works on another data folder than the settings here name.",
                "Run doctor with the same environment and user as the service.",
            )
        )
    beside = f"; {processes} processes share its data folder" if processes > 1 else ""
    yield from told or [ok(f"The service answers us, version {version}, and can use its store{beside}.")]


def _nobody(failure: Failure, processes: int) -> Told:
    said = failure.lines[0]
    if processes:
        return trouble(
            f"A service runs on this data folder, but not where the settings here say. {said}",
            "Give both the same PIXIR_AUTH_PORT, PIXIR_AUTH_PUBLIC_URL and PIXIR_AUTH_UNIX_SOCKET.",
        )
    return warning(said, *_actions(failure))


def _actions(failure: Failure) -> list[str]:
    return [line.removeprefix("  - ") for line in failure.lines[1:]]
