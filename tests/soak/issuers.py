"""Two issuers to soak against: our sandbox, and npm's certified oidc-provider. Both strict: a spent token ends a login.

Each mints logins without a browser, and counts what it grants apart from anybody else.
"""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from tests.kit.processes import Machine
from tests.soak.node import oidc_modules, what_is_missing

_SCRIPT: Final = Path(__file__).with_name("oidc_provider.mjs")


@dataclass(frozen=True, slots=True)
class Standing:
    """How a login stands at its issuer. granted: refreshes since it was minted."""

    granted: int
    alive: bool


@dataclass(frozen=True)
class Issuer:
    """Where it is, and what a soak asks of it. mint: by label; logins: by label."""

    url: str
    mint: Callable[[str], dict[str, Any]]
    logins: Callable[[], dict[str, Standing]]
    close: Callable[[], None]


def sandbox(machine: Machine, access_lifetime: int) -> Issuer:
    """The sandbox, as a process."""
    process = machine.issuer(access_lifetime=access_lifetime)

    def mint(label: str) -> dict[str, Any]:
        user = {"subject": label, "email": f"{label}@example.test", "account_id": label}
        return _object(process.client.post("/_sandbox/issue", json={"user": user}))

    def logins() -> dict[str, Standing]:
        families = _object(process.client.get("/_sandbox/state"))["families"]
        return {one["account_id"]: Standing(one["generation"] - 1, one["alive"]) for one in families}

    return Issuer(process.url, mint, logins, process.close)


def oidc_provider(machine: Machine, access_lifetime: int) -> Issuer:
    """oidc-provider, in Node."""
    modules = oidc_modules()
    if modules is None:
        raise RuntimeError(what_is_missing())
    with (machine.folder / "issuer.log").open("ab") as log:
        child = subprocess.Popen(
            ["node", str(_SCRIPT), str(modules), str(access_lifetime)], stdout=subprocess.PIPE, stderr=log, text=True
        )
    output = child.stdout
    assert output is not None
    url = output.readline().strip()
    if not url:
        raise RuntimeError((machine.folder / "issuer.log").read_text())
    client = httpx.Client(base_url=url, trust_env=False)

    def mint(label: str) -> dict[str, Any]:
        return _object(client.post("/_soak/mint", json={"label": label}))

    def logins() -> dict[str, Standing]:
        found = _object(client.get("/_soak/logins"))
        return {label: Standing(one["granted"], one["alive"]) for label, one in found.items()}

    def close() -> None:
        client.close()
        child.terminate()
        child.wait(30)
        output.close()

    return Issuer(url, mint, logins, close)


ISSUERS: Final[dict[str, Callable[[Machine, int], Issuer]]] = {"sandbox": sandbox, "oidc-provider": oidc_provider}
"""By the name that the command line takes."""


def _object(answer: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = answer.raise_for_status().json()
    return found
