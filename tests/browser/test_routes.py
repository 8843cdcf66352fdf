"""Every route of the application's own table, from every kind of origin; and where a link may lead."""

from typing import TYPE_CHECKING

import pytest

from tests.browser.scene import EVERYWHERE, Scene, Where, readers
from tests.web.routes import ALL, PATHS

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

pytestmark = pytest.mark.browser

NAMES = {f"{method} {path}" for method, path in ALL}


@pytest.mark.parametrize("where", EVERYWHERE, ids=str)
def test_no_route_answers_a_hostile_page(scene: Scene, context: "BrowserContext", where: Where) -> None:
    before = len(scene.answered())
    with scene.unchanged():
        got = scene.attack(context, where, f"http://localhost:{scene.port}", calls=ALL)
    assert got == dict.fromkeys(NAMES, "")
    assert {status for _, status in scene.answered()[before:]} == {403}
    assert len(scene.answered()) - before >= len(ALL)


@pytest.mark.parametrize("where", EVERYWHERE, ids=str)
def test_the_same_page_reads_an_open_server(scene: Scene, context: "BrowserContext", where: Where) -> None:
    assert readers(scene.attack(context, where, scene.open.url, calls=ALL)) == NAMES


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_a_window_at_our_own_name_shows_the_token(scene: Scene, context: "BrowserContext", host: str) -> None:
    window = context.new_page()
    window.goto(f"http://{host}:{scene.port}/token")
    assert scene.secrets[0] in window.content()


def test_a_link_leads_to_the_navigable_paths_alone(scene: Scene, context: "BrowserContext") -> None:
    window = context.new_page()
    led = {}
    with scene.unchanged():
        for path in PATHS:
            window.goto(scene.evil.at("evil.test", "link", f"http://localhost:{scene.port}{path}"))
            with window.expect_navigation() as arrived:
                window.click("a")
            led[path] = arrived.value.status
            scene.no_secret_in(window.content())
    assert {path for path, status in led.items() if status != 403} == {"/", "/login", "/callback", "/auth/callback"}
