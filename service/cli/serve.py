"""`serve`: the service itself, in this process."""

from service.cli.console import Failure
from service.hardening import harden
from service.server import serve
from service.settings import SettingsError, load_settings


def run() -> int:
    """Serve until told to stop. The exit code."""
    harden()  # before the settings, which hold secrets
    try:
        settings = load_settings()
    except SettingsError as exc:
        raise Failure(str(exc)) from exc
    return serve(settings)
