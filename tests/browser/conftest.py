"""One machine and one Chromium for a module, an empty profile for each test."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.browser.chromium import chromium
from tests.browser.scene import Scene
from tests.browser.scene import scene as a_scene
from tests.kit.network import own_network

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext


@pytest.fixture(scope="module", autouse=True)
def network() -> Iterator[None]:
    """All of a module happens where no container comes and goes."""
    with own_network():
        yield


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A service that is logged in, and an attacker."""
    with a_scene(tmp_path_factory.mktemp("scene")) as made:
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """One Chromium."""
    with chromium() as launched:
        yield launched


@pytest.fixture
def context(browser: "Browser") -> Iterator["BrowserContext"]:
    """A profile without a past."""
    made = browser.new_context()
    yield made
    made.close()
