"""Two commits with a mark on a descriptor before and after each: for somebody who watches the system calls.

`python -m tests.store.commits ADDRESS MARKS`
"""

import asyncio
import os
import sys
from dataclasses import replace

from service.domain.secret import Secret

from .samples import attempt, credential, open_store


async def main(address: str, marks: str) -> None:
    """Claim and settle."""
    descriptor = os.open(marks, os.O_WRONLY | os.O_CREAT, 0o600)
    store = open_store(address)
    seen = await store.install(credential())
    os.write(descriptor, b"<claim>")
    claim = await store.claim(seen, attempt())
    os.write(descriptor, b"</claim>")
    assert claim is not None
    after = replace(claim, generation=2, attempt=None, refresh_token=Secret("the next"))
    os.write(descriptor, b"<settle>")
    settled = await store.settle(claim, after)
    os.write(descriptor, b"</settle>")
    assert settled
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
