"""`python -m tests.store.in_need FOLDER`: a store whose pair only the folder for temporary files takes."""

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

from service.store.rescue import Rescue
from service.store.vault import Vault

from .samples import KEY, credential, open_store


async def live(folder: Path) -> None:
    """From the start to the end, with a pair that only the last resort takes."""
    store = open_store(f"sqlite:{folder / 'data' / 'x.db'}")
    await store.install(credential())
    (folder / "no folder").touch()
    rescue = Rescue(folder / "no folder")
    assert list(rescue.found(Vault(KEY))) == []
    lost = replace(credential(), login_id=folder.name.encode().hex(), generation=2)
    assert not rescue.save(lost, Vault(KEY))
    assert [each.credential for each in rescue.found(Vault(KEY))] == [lost]
    await store.close()


if __name__ == "__main__":
    asyncio.run(live(Path(sys.argv[1])))
