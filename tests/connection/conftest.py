"""One service for the tests of a file."""

from collections.abc import Iterator

import pytest

from tests.kit.processes import Machine, Process, machine


@pytest.fixture(scope="module")
def m(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine."""
    with machine(tmp_path_factory.mktemp("machine")) as made:
        yield made


@pytest.fixture(scope="module")
def service(m: Machine) -> Process:
    """A service with a login."""
    issuer = m.issuer()
    service = m.service(issuer)
    m.install(service, issuer)
    return service
