"""Houses whose every answer is checked against the rules for every answer."""

import io
import itertools
import logging
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from service.logs import _Json, _Text
from tests.kit import House
from tests.web.home import home, sane

_numbers = itertools.count(1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """One house for the tests of a module; each uses an account of its own."""
    async with home(tmp_path_factory.mktemp("shared"), issuer_timeout=0.5) as house:
        yield house


@pytest.fixture
def h(shared: House) -> Iterator[House]:
    """The shared house, with an issuer in its right mind."""
    shared.sandbox.clear_faults()
    shared.sandbox.knobs = sane()
    yield shared
    shared.sandbox.clear_faults()


@pytest.fixture
def account() -> str:
    """The name of an account that nobody has used."""
    return f"account-{next(_numbers)}"


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[io.StringIO]:
    """Everything that is logged, at DEBUG, as our own formatters write it and as records hold it."""
    written = io.StringIO()
    handlers = [logging.StreamHandler(written) for _ in range(3)]
    for handler, formatter in zip(handlers, (_Text(), _Json(), logging.Formatter("%(message)s")), strict=True):
        handler.setFormatter(formatter)
        logging.getLogger().addHandler(handler)
    caplog.set_level("DEBUG")
    yield written
    for handler in handlers:
        logging.getLogger().removeHandler(handler)
