"""A real Chromium, driven by playwright. Nothing of playwright is imported before it is known to be there."""

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES: Final = ("chromium", "chromium-browser", "google-chrome")

QUIET: Final = ("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
"""Nothing leaves this machine by itself."""

ELSEWHERE: Final = ("evil.test", "rebind.test", "evil.localhost")
"""Names that lead to this machine, as far as this Chromium knows; no others resolve."""


def what_is_missing() -> str | None:
    """What this machine lacks to run it."""
    if not any(map(shutil.which, NAMES)):
        return "there is no Chromium on the PATH (apt-get install chromium)"
    if importlib.util.find_spec("playwright") is None:
        return "there is no playwright (pip install -c constraints.txt -e '.[browser]')"
    return None


@contextmanager
def chromium(*flags: str) -> Iterator["Browser"]:
    """A browser that has seen nothing yet."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - a clone need not have it

    found = next(filter(None, map(shutil.which, NAMES)))
    rules = ", ".join(f"MAP {name} 127.0.0.1" for name in ELSEWHERE)
    given = [*QUIET, f"--host-resolver-rules={rules}", *flags]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found,
            args=given,
            chromium_sandbox=os.getuid() != 0,  # as root it does not start with one
        )
        try:
            yield browser
        finally:
            browser.close()
