"""Every route of the application's own table, from every kind of origin, and from a name that was rebound to us."""

from typing import TYPE_CHECKING

import pytest

from tests.browser.scene import EVERYWHERE, Scene, Where, readers, shown, until
from tests.browser.web import page
from tests.web.routes import ALL, PATHS

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Route

pytestmark = pytest.mark.browser

REBOUND = ["rebind.test", "0.0.0.0", "evil.localhost", "localhost."]
"""Names that lead to this machine and are not ours."""

NAMES = {f"{method} {path}" for method, path in ALL}


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


@pytest.mark.parametrize("where", EVERYWHERE, ids=str)
def test_no_route_answers_a_hostile_page(scene: Scene, context: "BrowserContext", where: Where) -> None:
    before = len(scene.answered())
    with scene.unchanged():
        got = scene.attack(context, where, f"http://localhost:{scene.port}", calls=ALL)
    assert got == dict.fromkeys(NAMES, "")
    assert set(scene.answered()[before:]) == {("-", 403)}
    assert len(scene.answered()) - before >= len(ALL)


@pytest.mark.parametrize("where", EVERYWHERE, ids=str)
def test_the_same_page_reads_an_open_server(scene: Scene, context: "BrowserContext", where: Where) -> None:
    assert readers(scene.attack(context, where, scene.open.url, calls=ALL)) == NAMES


@pytest.mark.parametrize("host", REBOUND)
def test_a_rebound_page_is_refused_by_every_route(scene: Scene, context: "BrowserContext", host: str) -> None:
    before = len(scene.answered())
    with scene.unchanged():
        got = rebound(scene, context, host, ALL)
    assert set(got) == NAMES
    assert all("host_not_allowed" in seen for seen in got.values())  # a page of the same origin: it reads the refusal
    scene.no_secret_in(str(got) + shown(context))
    assert set(scene.answered()[before:]) == {("-", 421)}


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
            assert answer.status == 421
            scene.no_secret_in(window.content())


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_a_window_at_our_own_name_shows_the_token(scene: Scene, context: "BrowserContext", host: str) -> None:
    window = context.new_page()
    window.goto(f"http://{host}:{scene.port}/token")
    assert scene.secrets[0] in window.content()


def test_a_link_leads_to_the_navigable_paths_alone(scene: Scene, context: "BrowserContext") -> None:
    window = context.new_page()
    led = {}
    with scene.unchanged():
        for path in [*PATHS, "/"]:
            window.goto(scene.evil.at("evil.test", "link", f"http://localhost:{scene.port}{path}"))
            with window.expect_navigation() as arrived:
                window.click("a")
            led[path] = arrived.value.status
            scene.no_secret_in(window.content())
    assert {path for path, status in led.items() if status != 403} == {"/", "/login", "/callback", "/auth/callback"}
