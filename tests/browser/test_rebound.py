"""A page whose own name comes to lead to us (DNS rebinding): to Chromium the same origin, to the guard another Host."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.browser.chromium import chromium
from tests.browser.scene import Scene, shown
from tests.browser.web import page
from tests.web.routes import ALL, PATHS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Route

pytestmark = pytest.mark.browser

REBOUND = ["rebind.test", "0.0.0.0", "evil.localhost", "localhost."]
"""Names that lead to this machine and are not ours."""


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """One Chromium without a guard of its own: to it, a page that came from nowhere is one of the public network."""
    with chromium("--disable-features=LocalNetworkAccessChecks,HttpsUpgrades") as launched:
        yield launched


def rebound(scene: Scene, context: "BrowserContext", host: str, calls: list[tuple[str, str]]) -> dict[str, str]:
    """A page that was loaded from this very host and port, before the name led to the service; what it could read.

    Only that first answer is made up here. All the page then asks for goes over the network.
    """
    origin = f"http://{host}:{scene.port}"
    run = scene.told(origin, calls=calls)

    def loaded(route: "Route") -> None:
        route.fulfill(status=200, content_type="text/html", body=page(run))

    context.route(f"{origin}/kittens", loaded)
    return scene.report(context, f"{origin}/kittens", run)


@pytest.mark.parametrize("host", REBOUND)
def test_a_rebound_page_is_refused_by_every_route(scene: Scene, context: "BrowserContext", host: str) -> None:
    before = len(scene.answered())
    with scene.unchanged():
        got = rebound(scene, context, host, ALL)
    assert len(got) == len(ALL)
    assert all("host_not_allowed" in seen for seen in got.values())  # a page of the same origin: it reads the refusal
    scene.no_secret_in(str(got) + shown(context))
    told = scene.answered()[before:]
    assert {status for route, status in told if route != "/forward-auth"} == {421}
    assert {status for route, status in told if route == "/forward-auth"} == {403}  # all that a proxy understands


def test_a_page_at_our_own_name_would_read_the_token(scene: Scene, context: "BrowserContext") -> None:
    got = rebound(scene, context, "localhost", [("GET", "/token")])
    assert scene.secrets[0] in got["GET /token"]


@pytest.mark.parametrize("host", REBOUND)
def test_a_window_at_a_rebound_name_shows_nothing(scene: Scene, context: "BrowserContext", host: str) -> None:
    window = context.new_page()
    with scene.unchanged():
        for path in PATHS:
            answer = window.goto(f"http://{host}:{scene.port}{path}")
            assert answer is not None
            assert answer.status == (403 if path == "/forward-auth" else 421)
            scene.no_secret_in(window.content())
