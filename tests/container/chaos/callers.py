"""Runs in a container of the image: callers who ask for tokens until SIGTERM; what they were answered, as JSON.

Each asks one replica only, so that one that is paused keeps nobody from asking the others.
"""

import asyncio
import json
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import httpx

PATIENCE = 40.0
"""Seconds: longer than any replica is paused, and than any other lets somebody wait."""

SECRETS = Path("/run/secrets")


def client(replica: str) -> httpx.AsyncClient:
    """Who calls one replica."""
    return httpx.AsyncClient(
        base_url=f"http://{replica}:1455",
        headers={"Authorization": f"Bearer {(SECRETS / 'client-key').read_text()}"},
        timeout=PATIENCE,
        limits=httpx.Limits(keepalive_expiry=1.0),  # a service closes what is idle for 5 s: not to be met on its way
        trust_env=False,
    )


async def ask(replica: httpx.AsyncClient, query: dict[str, Any]) -> dict[str, Any]:
    """One answer; status 0: none, and `code` says why."""
    try:
        answer = await replica.get("/token", params=query)
        told = answer.json()
    except httpx.HTTPError as exc:
        return {"status": 0, "code": type(exc).__name__}
    if answer.status_code != 200:
        return {"status": answer.status_code, "code": told.get("code"), "again": answer.headers.get("Retry-After")}
    return {"status": 200, **{name: told.get(name) for name in ("generation", "access_token", "expires_in", "warning")}}


async def call(number: int, order: dict[str, Any], over: asyncio.Event, answers: list[dict[str, Any]]) -> None:
    """One caller. Now and then he reports that the token he was given is rejected."""
    chance = random.Random(f"{order['seed']} caller {number}")
    replica = order["replicas"][number % len(order["replicas"])]
    seen: dict[str, int] = {}
    async with client(replica) as asked:
        while not over.is_set():
            account = chance.choice(order["accounts"])
            query: dict[str, Any] = {"account": account, "min_ttl": chance.choice([0, 0, 1, 2])}
            if account in seen and chance.random() < 0.05:
                query["newer_than"] = seen[account]
            found = {"replica": replica, "account": account, "asked": time.time(), **await ask(asked, query)}
            answers.append({**found, "at": time.time()})
            seen[account] = found.get("generation", seen.get(account, 0))
            await asyncio.sleep(chance.uniform(0.3, 1.0))


async def main() -> None:
    """Install the logins, then as many callers as were ordered."""
    order = json.loads(sys.argv[1])
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    async with client(order["replicas"][0]) as first:
        for account, login in json.loads((SECRETS / "logins").read_text()).items():
            (await first.put("/credential", params={"account": account}, json=login)).raise_for_status()
    answers: list[dict[str, Any]] = []
    async with asyncio.TaskGroup() as group:
        for number in range(order["callers"]):
            group.create_task(call(number, order, over, answers))
    print(json.dumps(answers))


asyncio.run(main())
