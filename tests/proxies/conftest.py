"""A provider and a service that is logged in, for any proxy."""

import threading
from collections.abc import Iterator

import pytest

from tests.kit.processes import Machine, Process, machine

from .upstream import KEY, Upstream


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def m(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with machine(tmp_path_factory.mktemp("proxy")) as made:
        yield made


@pytest.fixture(scope="module")
def issuer(m: Machine) -> Process:
    return m.issuer()


@pytest.fixture(scope="module")
def running(m: Machine, issuer: Process) -> Process:
    """The client key of the proxy is that of the file."""
    key = m.folder / "key"
    key.touch(mode=0o600)
    key.write_text(KEY)
    return m.service(issuer, client_key_file=key)


@pytest.fixture
def service(m: Machine, issuer: Process, running: Process) -> Process:
    """Logged in."""
    m.install(running, issuer)
    return running
