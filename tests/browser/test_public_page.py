"""A page of the public network, as Chromium sees it: its own guard (Local Network Access) is not what saves us."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.browser.chromium import chromium
from tests.browser.scene import Scene, Where, readers, shown, until
from tests.browser.test_hostile_pages import READERS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext

pytestmark = pytest.mark.browser

HERE = Where("evil.test")

SECURE = Where("localhost")
"""Only a page that came safely may ask the person to let it in; this one counts as public all the same."""

AHEAD = {"speculation-prefetch-login", "speculation-prerender-login"}
WINDOWS = {
    *("window-post", "window-empty", "window-plain", "window-multipart", "window-redirected", "window-get"),
    "open-token",
}
"""What Chromium does not hold back: looking ahead, and leading a whole window here."""


@pytest.fixture(scope="module")
def browser(scene: Scene) -> Iterator["Browser"]:
    """One Chromium that takes the attacker's server for a public one."""
    with chromium(f"--ip-address-space-overrides=127.0.0.1:{scene.evil.port}=public") as launched:
        yield launched


def test_windows_arrive_whatever_chromium_holds_back(scene: Scene, context: "BrowserContext") -> None:
    scene.open.seen.clear()
    got = scene.attack(context, HERE, scene.open.url + "/{}", patience=3000)
    until(context, lambda: scene.open.seen >= WINDOWS | AHEAD)
    assert not readers(got)
    assert "fetch" not in scene.open.seen


def test_a_public_page_gets_nothing(scene: Scene, context: "BrowserContext") -> None:
    before = len(scene.answered())
    with scene.unchanged():
        got = scene.attack(context, HERE, f"http://localhost:{scene.port}", patience=3000)
        until(context, lambda: len(scene.answered()) - before >= len(WINDOWS | AHEAD))
    assert {status for _, status in scene.answered()[before:]} == {403}
    scene.no_secret_in(str(got) + shown(context))


def test_a_public_page_that_was_let_in_attacks_as_any_other(scene: Scene, context: "BrowserContext") -> None:
    context.grant_permissions(["local-network-access"])
    scene.open.seen.clear()
    got = scene.attack(context, SECURE, scene.open.url + "/{}")
    until(context, lambda: set(got) - {"csp-report"} <= scene.open.seen)
    assert readers(got) == READERS


def test_a_public_page_that_was_let_in_gets_nothing(scene: Scene, context: "BrowserContext") -> None:
    context.grant_permissions(["local-network-access"])
    before = len(scene.answered())
    with scene.unchanged():
        got = scene.attack(context, SECURE, f"http://localhost:{scene.port}")
        until(context, lambda: len(scene.answered()) - before >= len(got) - 1)
    assert {status for _, status in scene.answered()[before:]} == {403}
    scene.no_secret_in(str(got) + shown(context))
