"""An empty SQLite database of the newest schema, for tests that are not about how it is made."""

import functools
import tempfile
from pathlib import Path

from service.store.files import private_file, private_folder
from service.store.migrations import migrate
from service.store.sqlite import WRITE, open_engine


def lay(path: Path) -> None:
    """Put one there, if there is none: half of what it costs to open a new one is to make its schema."""
    if not path.exists():
        private_folder(path.parent)
        private_file(path)
        path.write_bytes(_empty())


@functools.cache
def _empty() -> bytes:
    """The file as the migrations make it: without keys, without rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "empty.db"
        engine = open_engine(path, connections=1)
        with engine.connect().execution_options(**WRITE) as connection, connection.begin():
            migrate(connection)
        engine.dispose()  # and with the last connection goes the write-ahead log
        return path.read_bytes()
