"""Everything that a page of another site can do, from every kind of origin: it reads nothing and changes nothing."""

from typing import TYPE_CHECKING

import pytest

from tests.browser.scene import EVERYWHERE, Scene, Where, readers, shown, until
from tests.browser.web import TREASURE

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

pytestmark = pytest.mark.browser

READERS = {
    *("fetch", "fetch-credentials", "fetch-with-key", "fetch-forwarded", "fetch-redirected", "fetch-in-worker"),
    *("xhr", "xhr-post", "script", "import-scripts", "event-source", "web-socket", "post-json", "put", "delete"),
}
"""The attacks that read what an open server says; of the others it is the request that does harm."""

PICKY = {"fetch-later", "speculation-prefetch-login", "speculation-prerender-login"}
"""What Chromium lets only some origins do; `localhost` is one that may."""

WINDOWS = 9
"""How many windows the attacks open."""

anywhere = pytest.mark.parametrize("where", EVERYWHERE, ids=str)


@anywhere
def test_the_attacks_work_where_nothing_guards(scene: Scene, context: "BrowserContext", where: Where) -> None:
    scene.open.seen.clear()
    got = scene.attack(context, where, scene.open.url + "/{}")
    missing = set() if where == Where("localhost") else PICKY
    until(context, lambda: set(got) - missing <= scene.open.seen)
    assert readers(got) == READERS
    until(context, lambda: len(context.pages) == 1 + WINDOWS)
    until(context, lambda: shown(context).count(TREASURE) >= WINDOWS + 4)  # and frames


@anywhere
def test_a_hostile_page_gets_nothing(scene: Scene, context: "BrowserContext", where: Where) -> None:
    _gets_nothing(scene, context, where, f"http://localhost:{scene.port}", 403)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_a_hostile_page_gets_nothing_by_our_other_names(scene: Scene, context: "BrowserContext", host: str) -> None:
    _gets_nothing(scene, context, Where("evil.test"), f"http://{host}:{scene.port}", 403)


@pytest.mark.parametrize("host", ["rebind.test", "0.0.0.0", "evil.localhost", "localhost."])
def test_a_name_that_is_not_ours_gets_nothing(scene: Scene, context: "BrowserContext", host: str) -> None:
    _gets_nothing(scene, context, Where("evil.test"), f"http://{host}:{scene.port}", 421)


def _gets_nothing(scene: Scene, context: "BrowserContext", where: Where, target: str, status: int) -> None:
    before = len(scene.answered())
    with scene.unchanged():
        got = scene.attack(context, where, target)
        until(context, lambda: len(scene.answered()) - before >= len(got) - len(PICKY))
        until(context, lambda: len(context.pages) == 1 + WINDOWS)
    assert {status for _, status in scene.answered()[before:]} == {status}
    assert set("".join(got.values()).replace("load", "").replace("error", "")) <= set("undefined")
    scene.no_secret_in(shown(context))
