"""A process that owns something: says its name and lives until its input ends, or is told to end in good order.

`python -m tests.store.owner_process FOLDER`
"""

import sys
from pathlib import Path

from service.store.owner import Owners

if __name__ == "__main__":
    owners = Owners(Path(sys.argv[1]))
    print(owners.present(), flush=True)
    if sys.stdin.readline():
        owners.close()
