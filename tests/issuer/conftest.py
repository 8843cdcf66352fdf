"""The way out, as the service opens it, in an environment that says nothing."""

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import certifi
import pytest

from service.issuer import Issuer

from .certificates import Authority


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy or certificate setting of whoever runs the tests."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith(("SSL", "REQUESTS_", "CURL_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificate of an authority that has signed nothing."""
    return Authority.new(tmp_path_factory.mktemp("authorities") / "stranger.pem").file


@pytest.fixture(autouse=True)
def one_authority(stranger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the hundred and forty that everybody trusts takes longer than most of these tests."""
    monkeypatch.setattr(certifi, "where", lambda: str(stranger))


@pytest.fixture
async def issuer() -> AsyncIterator[Callable[..., Issuer]]:
    """Opens ways out, made after the environment is as the test wants it."""
    opened: list[Issuer] = []

    def open_one(timeout: float = 10.0) -> Issuer:
        opened.append(Issuer(timeout=timeout))
        return opened[-1]

    yield open_one
    for each in opened:
        await each.close()
