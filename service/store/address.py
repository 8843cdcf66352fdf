"""Which database the settings name."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from service.settings import Settings, SettingsError
from service.store.backend import Backend
from service.store.sqlite import SQLite


def chosen(settings: Settings) -> tuple[Backend, Path]:
    """The database, not opened yet, and the folder for what belongs to this machine alone. Raises SettingsError."""
    if settings.database_url is None:
        return SQLite(settings.data_dir / "pixir-auth.db"), settings.data_dir
    address = settings.database_url.get_secret_value()
    if address.partition(":")[0] in ("postgresql", "postgres"):
        return _postgres(address), settings.data_dir
    url = urlsplit(address if address.startswith("sqlite:///") else "")
    if url.scheme != "sqlite" or url.netloc or url.query or not url.path.strip("/"):
        raise SettingsError(
            "PIXIR_AUTH_DATABASE_URL: postgresql://…, sqlite:///relative and sqlite:////absolute paths are supported"
        )
    path = Path(unquote(url.path[1:]))
    return SQLite(path), path.parent


def _postgres(address: str) -> Backend:
    try:
        from service.store.postgres import Postgres  # noqa: PLC0415 - an extra: only who uses it needs its driver
    except ModuleNotFoundError as exc:
        raise SettingsError("PostgreSQL needs its driver: pip install 'pixir-auth[postgres]'") from exc
    try:
        return Postgres(address)
    except ValueError:
        raise SettingsError("PIXIR_AUTH_DATABASE_URL is not the address of a PostgreSQL database") from None
