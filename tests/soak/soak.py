"""One soak: services, issuer, callers and nemesis for some time, then calm, then the reckoning."""

import asyncio
import random
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx

from tests.kit.processes import Machine, Process, machine
from tests.soak.flat import Sample, grown, sampled
from tests.soak.history import (
    ACCESS_LIFETIME,
    TIME_LIMIT,
    Answered,
    Ended,
    History,
    Installed,
    Lost,
    check,
    concerning,
    hashed,
)
from tests.soak.issuers import ISSUERS, Issuer
from tests.soak.nemesis import FAMILIES, Nemesis, Replica
from tests.soak.proxy import RATES, Link, Proxy

FAULTS: Final = ("wire", *(name for family in FAMILIES.values() for name in family))
"""All there are; `wire` stands for what befalls single requests on their way to the issuer."""

_RECOVERY: Final = 120.0
"""Seconds after the last fault in which every login must be well again."""

_PATIENCE: Final = 15.0
"""Seconds that a caller waits: longer than a service lets anybody wait, so that silence is a finding."""

_PATIENCE_OF_OURS: Final = 2.0
"""Seconds that the soak itself waits for a replica before it asks another."""

_WELL: Final = {"idle", "due"}
_FAULTY_LINE: Final = re.compile(r".*(?:ended by an error in this program|an error that nobody expected).*")


@dataclass(frozen=True)
class Plan:
    """What to soak, and for how long.

    database: an address, or None for SQLite in the folder of the run; only there can `lock` be among the faults, and
    only there are the write-ahead log and the integrity of the file looked at.
    """

    seconds: float
    issuer: str
    seed: int
    faults: frozenset[str]
    database: str | None = None
    accounts: int = 6
    callers: int = 8
    replicas: int = 3


@dataclass(frozen=True)
class Outcome:
    """What came of it. calm: seconds until all was well after the last fault."""

    history: History
    samples: list[Sample]
    calm: float
    violations: list[str]


async def soak(plan: Plan, folder: Path) -> Outcome:
    """Run a plan in an empty folder."""
    with machine(folder) as m:
        issuer = ISSUERS[plan.issuer](m, ACCESS_LIFETIME)
        try:
            outcome = await _Soak(plan, m, issuer).run()
        finally:
            await asyncio.to_thread(m.close)
            issuer.close()
    outcome.violations.extend(_left_behind(folder))
    return outcome


def complaint(plan: Plan, outcome: Outcome, folder: Path) -> str:
    """What to tell about violations: the seed, each of them, and what befell the logins that they are about."""
    outcome.history.write(folder / "history.jsonl")
    told = "\n".join(outcome.violations[:20])
    lines = [f"seed {plan.seed}, {len(outcome.violations)} violations; history.jsonl and logs in {folder}", told]
    for label in sorted(set(re.findall(r"account-\d+\.\d+", told))):
        lines += [f"{label}:", *(f"  {one}" for one in concerning(outcome.history, label))]
    return "\n".join(lines)


class _Soak:
    def __init__(self, plan: Plan, m: Machine, issuer: Issuer) -> None:
        self._plan = plan
        self._issuer = issuer
        self._history = History()
        rates = RATES if "wire" in plan.faults else {}
        self._proxy = Proxy(issuer.url, self._history, rates, plan.seed)
        settings: dict[str, Any] = {"refresh_floor": 1, "issuer_timeout": TIME_LIMIT}
        if plan.database is not None:
            settings["database_url"] = plan.database

        def start(link: Link) -> Process:
            return m.service(link, **settings)  # type: ignore[arg-type]  # of an issuer only the address is read

        self._replicas = [Replica(slot, Link(self._proxy, slot), start) for slot in range(plan.replicas)]
        self._file = m.folder / "data" / "pixir-auth.db" if plan.database is None else None
        fresh = httpx.Limits(keepalive_expiry=1.0)  # a service closes what is idle for 5 s: not to be met on its way
        self._client = httpx.AsyncClient(timeout=_PATIENCE, limits=fresh, trust_env=False)
        self._labels: dict[str, str] = {}
        self._chance = random.Random(f"{plan.seed} install")

    async def run(self) -> Outcome:
        """Everything, in order."""
        try:
            for replica in self._replicas:
                replica.link.open()
                await replica.start()
            for number in range(self._plan.accounts):
                await self._install(f"account-{number}", base=1)
            return await self._run()
        finally:
            await self._proxy.stop()
            for replica in self._replicas:
                replica.link.close()
            await self._client.aclose()

    async def _run(self) -> Outcome:
        raged, over = asyncio.Event(), asyncio.Event()
        nemesis = Nemesis(self._replicas, self._history, self._file, self._plan.seed)
        steady = self._replicas[0]
        async with asyncio.TaskGroup() as group:
            for caller in range(self._plan.callers):
                group.create_task(self._call(caller, over))
            group.create_task(self._watch(over))
            samples = group.create_task(sampled(lambda: steady.process.pid, self._file, raged))
            harm = group.create_task(nemesis.rage(set(self._plan.faults), raged))
            await asyncio.sleep(self._plan.seconds)
            raged.set()
            self._proxy.heal()
            await harm
            calm = await self._calm()
            over.set()
        await self._reckon()
        return Outcome(self._history, samples.result(), calm, [*check(self._history), *grown(samples.result())])

    # -- callers -------------------------------------------------------------------------------------------------

    async def _call(self, caller: int, over: asyncio.Event) -> None:
        chance = random.Random(f"{self._plan.seed} caller {caller}")
        generations: dict[str, int] = {}
        while not over.is_set():
            account = chance.choice(list(self._labels))
            query: dict[str, Any] = {"account": account, "min_ttl": chance.choice([0, 0, 0, 1, 4])}
            if account in generations and chance.random() < 0.05:
                query["newer_than"] = generations[account]
            answer = await self._ask(caller, chance.choice(self._replicas), query)
            self._history.answered.append(answer)
            if answer.status == 200:
                generations[account] = answer.generation
            await asyncio.sleep(chance.uniform(0.05, 0.3))

    async def _ask(self, caller: int, replica: Replica, query: dict[str, Any]) -> Answered:
        asked = time.monotonic()
        made = Answered(asked, 0.0, caller, replica.slot, query["account"], 0)
        try:
            answer = await self._client.get(f"{replica.url}/token", params=query)
            body = answer.json()
        except httpx.HTTPError as exc:
            made.code = type(exc).__name__
        else:
            made.status = answer.status_code
            made.code, made.warning = body.get("code", ""), body.get("warning", "")
            made.generation = body.get("generation", 0)
            made.token = hashed(body["access_token"]) if made.status == 200 else ""
        made.at = time.monotonic()
        made.disturbed = self._history.disturbances(replica.slot, asked)
        return made

    # -- logins --------------------------------------------------------------------------------------------------

    async def _watch(self, over: asyncio.Event) -> None:
        """Note every login that is over, and install the account anew."""
        while not over.is_set():
            for account, refresh in (await self._standings()).items():
                if refresh["state"] == "dead":
                    await self._replace(account, refresh)
            await asyncio.sleep(0.5)

    async def _replace(self, account: str, refresh: dict[str, Any]) -> None:
        lost = Lost(time.monotonic(), account, self._labels[account], refresh["generation"], refresh["last_error"])
        self._history.lost.append(lost)
        await self._install(account, base=lost.generation + 1)

    async def _install(self, account: str, base: int) -> None:
        label = f"{account}.{base}"
        login = await asyncio.to_thread(self._issuer.mint, label)
        self._proxy.know(label, login["refresh_token"])
        expires_at = datetime.now(UTC) + timedelta(seconds=ACCESS_LIFETIME)
        body = {
            "kind": "subscription",
            "access_token": login["access_token"],
            "refresh_token": login["refresh_token"],
            "expires_at": expires_at.isoformat(),
        }
        installed = Installed(time.monotonic(), account, label, base, hashed(login["access_token"]))
        self._history.installed.append(installed)
        self._labels[account] = label
        answer = await self._somewhere("PUT", "/credential", params={"account": account}, json=body)
        if answer.status_code != 200:
            self._history.errors.append(f"install of {account} refused: {answer.text}")

    async def _standings(self) -> dict[str, dict[str, Any]]:
        """The `refresh` of each account's status."""
        answer = await self._somewhere("GET", "/accounts")
        return {one["account"]: one["refresh"] for one in answer.json()["accounts"]}

    async def _somewhere(self, method: str, path: str, **request: Any) -> httpx.Response:
        """An answer, from whichever replica can give one. What is asked must bear being asked twice."""
        while True:
            url = f"{self._chance.choice(self._replicas).url}{path}"
            try:
                answer = await self._client.request(method, url, timeout=_PATIENCE_OF_OURS, **request)
            except httpx.TransportError:
                await asyncio.sleep(0.1)
                continue
            if answer.status_code != 503:
                return answer
            await asyncio.sleep(0.5)

    # -- the end -------------------------------------------------------------------------------------------------

    async def _calm(self) -> float:
        """Wait until all is well; how long that took."""
        began = time.monotonic()
        while {refresh["state"] for refresh in (await self._standings()).values()} - _WELL:
            if time.monotonic() - began > _RECOVERY:
                self._history.errors.append(f"not well {_RECOVERY} s after the last fault")
                break
            await asyncio.sleep(0.5)
        return time.monotonic() - began

    async def _reckon(self) -> None:
        """Let nothing more through, and compare how everybody says that it stands."""
        for replica in self._replicas:
            replica.link.refuse()
        standings = await self._settled()
        logins = await asyncio.to_thread(self._issuer.logins)
        self._history.issued = {one.label: logins[one.label].granted for one in self._history.installed}
        for account, refresh in standings.items():
            label = self._labels[account]
            ended = Ended(account, label, refresh["generation"], logins[label].granted, logins[label].alive)
            self._history.final.append(ended)

    async def _settled(self) -> dict[str, dict[str, Any]]:
        """How the accounts stand once no refresh is under way any more."""
        while True:
            standings = await self._standings()
            is_busy = any(replica.link.busy.is_set() for replica in self._replicas)
            if not is_busy and all(refresh["state"] != "in_flight" for refresh in standings.values()):
                return standings
            await asyncio.sleep(0.1)


def _left_behind(folder: Path) -> Iterator[str]:
    """What is wrong with the files."""
    if (database := folder / "data" / "pixir-auth.db").exists():
        yield from _unsound(database)
    for log in folder.glob("service-*.log"):
        yield from (f"{log.name}: {found}" for found in _FAULTY_LINE.findall(log.read_text(errors="replace")))


def _unsound(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        (found,) = connection.execute("PRAGMA integrity_check").fetchone()
    return [] if found == "ok" else [f"integrity_check: {found}"]
