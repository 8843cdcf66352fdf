"""The examination as a whole: which checks there are, in which order, and which at the same time."""

import time
from functools import partial
from typing import Final

from service.doctor import folders, network, ports, running
from service.doctor.finding import Finding, Series, Told, examined
from service.doctor.records import Records
from service.settings import SettingsError, load_settings
from service.store.address import chosen

WITHIN: Final = 7.0
"""Seconds for all of it."""

_SETTINGS_WITHIN: Final = 2.0


def examine_installation(within: float = WITHIN) -> list[Finding]:
    """What there is to say about this installation. `within`: seconds, whatever hangs."""
    deadline = time.monotonic() + within
    usable: list[Records] = []

    def settings() -> list[Told]:
        try:
            loaded = load_settings()
            backend, folder = chosen(loaded)
        except SettingsError as exc:
            return [folders.faults(exc)]
        usable.append(Records(loaded, backend, folder / "owners"))
        return list(folders.settings_told(loaded))

    first = examined({"settings": settings}, within=min(within, _SETTINGS_WITHIN))
    return [*first, *(each for one in usable for each in _rest(one, deadline - time.monotonic()))]


def _rest(records: Records, within: float) -> list[Finding]:
    settings = records.settings
    mounts = folders.mounts()
    found: list[ports.Listener] = []

    def port() -> list[Told]:
        found.extend(ports.listeners(settings.host, settings.port, settings.require_header) if settings.port else ())
        return list(ports.port_told(settings, found))

    def service() -> list[Told]:
        is_strange = any(each.who != "nobody" and not each.is_ours for each in found)
        return list(running.service_told(records.owners, is_strange=is_strange))

    here: Series = {
        "data folder": partial(folders.folder_told, records.owners.parent, "PIXIR_AUTH_DATA_DIR", mounts),
        "config folder": partial(folders.folder_told, settings.key_folder, "XDG_CONFIG_HOME", mounts),
        "database": records.database,
        "encryption key": records.key,
        "logins": records.logins,
        "copies": records.copies,
    }
    there: Series = {"port": port, "callback ports": partial(ports.callback_ports_told, settings), "service": service}
    away: Series = {
        "issuer": partial(network.issuer_told, settings.codex_issuer),
        "proxy": partial(network.proxy_told, settings.codex_issuer),
    }
    return examined(here, there, away, within=within)
