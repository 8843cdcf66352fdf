"""The page of the accounts in a real browser: a person signs in and out by clicks, and nobody else has a hand in it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.browser.scene import Scene, shown
from tests.browser.scene import scene as a_scene
from tests.browser.test_login import is_free, is_in, led
from tests.kit.ports import callback_ports

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A service where the issuer sends browsers back to, logged in."""
    with callback_ports(), a_scene(tmp_path_factory.mktemp("scene"), next(filter(is_free, (1455, 1457)))) as made:
        yield made


@pytest.fixture
def account(scene: Scene) -> str:
    """The one account, logged in whatever the test before left."""
    if not is_in(scene, "default"):
        sign_in = {"account": "default"}
        login = scene.service.client.post("/login", json=sign_in).raise_for_status().json()
        back = scene.issuer.client.get(login["authorize_url"]).headers["location"]
        scene.service.client.get(back).raise_for_status()
    return "default"


def front(scene: Scene, host: str = "localhost") -> str:
    """The address of the page."""
    return f"http://{host}:{scene.port}/"


def sign_out(window: "Page", account: str) -> None:
    """Both clicks."""
    window.click("summary")
    with window.expect_navigation():
        window.click(f"text=Sign out of {account}")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_a_person_signs_out_and_in_by_clicks(scene: Scene, context: "BrowserContext", account: str, host: str) -> None:
    heard: list[str] = []
    context.on("console", lambda said: heard.append(said.text))
    window = context.new_page()
    window.goto(front(scene, host))
    assert "ada@example.com" in window.content()
    assert "refreshes itself" in window.content()
    sign_out(window, account)
    assert window.url == front(scene)
    assert "was logged out" in window.content()
    assert not is_in(scene, account)
    window.click("a.button")
    window.wait_for_selector("text=Logged in")
    assert is_in(scene, account)
    window.click("text=All accounts")
    assert window.url == front(scene)
    assert "refreshes itself" in window.content()
    assert not [said for said in heard if "Security Policy" in said]
    scene.no_secret_in(shown(context))


def test_one_click_signs_nobody_out(scene: Scene, context: "BrowserContext", account: str) -> None:
    window = context.new_page()
    window.goto(front(scene))
    button, summary = window.locator("button"), window.locator("summary")
    assert not button.is_visible()
    with scene.unchanged():
        first = summary.bounding_box()
        summary.dblclick()
        summary.click()
        second = button.bounding_box()
    assert first is not None
    assert second is not None
    assert second["y"] >= first["y"] + first["height"], "the second click is at another place"


def test_the_page_runs_no_script(scene: Scene, context: "BrowserContext", account: str) -> None:
    window = context.new_page()
    window.goto(front(scene))
    assert window.evaluate("getComputedStyle(document.body).maxWidth") == "544px"
    assert window.locator("script, img, link, iframe").count() == 0
    window.evaluate("document.body.append(Object.assign(document.createElement('script'), {textContent: 'ran = 1'}))")
    assert window.evaluate("window.ran") is None


def test_a_link_of_another_site_shows_the_page_and_does_nothing(
    scene: Scene, context: "BrowserContext", account: str
) -> None:
    window = context.new_page()
    with scene.unchanged():
        led(scene, window, front(scene))
        assert "ada@example.com" in window.content()
        assert context.cookies() == []
    sign_out(window, account)  # the page is our own, whoever led there
    assert not is_in(scene, account)


def test_the_window_that_opened_the_page_sees_nothing_of_it(
    scene: Scene, context: "BrowserContext", account: str
) -> None:
    opener = context.new_page()
    opener.goto(scene.evil.at("evil.test", "link"))
    with context.expect_page() as opened, scene.unchanged():
        opener.evaluate("url => { window.led = window.open(url) }", front(scene))
    opened.value.wait_for_selector("text=Accounts")
    assert opener.evaluate("() => window.led.closed"), "the opener has no hold on it"
