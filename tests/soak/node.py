"""Where oidc-provider is, if this machine has it. Nothing but the standard library: asked before any test runs."""

import os
import shutil
from pathlib import Path
from typing import Final

PACKAGE: Final = "oidc-provider"
WANTED: Final = f"{PACKAGE}@9.13.3"


def oidc_modules() -> Path | None:
    """The folder of Node modules that has oidc-provider."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pixir-auth-ci" / "node_modules"
    places = [*filter(None, os.environ.get("NODE_PATH", "").split(os.pathsep)), str(cache)]
    return next((Path(place) for place in places if (Path(place) / PACKAGE).is_dir()), None)


def what_is_missing() -> str | None:
    """What this machine lacks to run oidc-provider."""
    if shutil.which("node") is None:
        return "Node is not on the PATH"
    if oidc_modules() is None:
        return f"{PACKAGE} is neither in NODE_PATH nor in the cache (npm install {WANTED}; see .ci/run)"
    return None
