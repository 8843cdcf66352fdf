"""Three replicas of the image on PostgreSQL, an issuer and callers, each in a container of its own.

    callers --- front --- replica-1..3 --- data --- postgres
                               +--------- issuer --- issuer

So a replica can be cut off from its database or its issuer, and still be asked.
"""

import base64
import json
import re
import secrets
import ssl
import time
import uuid
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psycopg

from tests.container.engine import TAG, docker, engine, until
from tests.issuer.certificates import Authority

if TYPE_CHECKING:
    from docker.models.containers import Container
    from docker.models.networks import Network

HERE = Path(__file__).parent
REPLICAS = ("replica-1", "replica-2", "replica-3")
ACCOUNTS = tuple(f"account-{number}" for number in range(8))
CALLERS = 60
ACCESS_LIFETIME = 6
LATENCY = 0.4
"""Seconds that the issuer takes to answer: so much befalls a refresh under way, with its token spent already."""

ISSUER_TIMEOUT = 6
DOMAIN = "issuer.test"
"""Each replica knows the issuer by a name of its own below it: so the issuer's log tells who has sent what."""

KNOBS = {"access_lifetime": ACCESS_LIFETIME, "latency": LATENCY, "retry_window": 600}
"""A refresh token that was spent last is answered a second time, and counted (`retry_count`). An issuer without that
would count reuse there and end the login: `retry_count` is what such an issuer would make of what happened."""

_UNCLEAR = re.compile(
    r"^(?P<at>\S+) warning service\.broker\.refresher(?: \[\w+\])?: "
    r"(?:(?P<died>who was refreshing )|refresh of )(?P<account>account-\d)(?(died) has died|: (?!connect_))",
    re.MULTILINE,
)
"""Lines of a replica's log; a connection that there never was is no doubt."""

_HARDENED: dict[str, Any] = {
    "read_only": True,
    "tmpfs": {"/tmp": ""},
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
}


@dataclass(frozen=True)
class Sent:
    """A refresh token on its way to the issuer, as the issuer's log has it. at: seconds since the epoch."""

    replica: str
    at: float
    refresh_token: str
    answered: bool


@dataclass(frozen=True)
class Unclear:
    """What became of a refresh is not known, as a replica's log has it. by: who has sent it; None: he has died."""

    account: str
    at: float
    by: str | None


@dataclass(frozen=True)
class Stored:
    """A login as the database holds it. error: why it is in trouble, if it is."""

    generation: int
    state: str
    error: str | None


class Scene:
    """All of it. Nothing of it is left after `down`."""

    def __init__(self, folder: Path, postgres_image: str, seed: int) -> None:
        self._folder = folder
        self._postgres_image = postgres_image
        self._seed = seed
        self._issuer = httpx.Client()
        self._name = f"pixir-auth-chaos-{uuid.uuid4().hex[:8]}"
        self._containers: dict[str, Container] = {}
        self._networks: dict[str, Network] = {}
        self._client_key, self._password = secrets.token_urlsafe(32), secrets.token_hex(16)
        self._encryption_key = base64.b64encode(secrets.token_bytes(32)).decode()
        self._trusted = docker("run", "--rm", "--entrypoint", "python", TAG, "-m", "certifi")

    def up(self) -> None:
        """Everything; each account has a login that the issuer has given, and that has been refreshed."""
        for name in ("front", "data", "issuer"):
            self._networks[name] = engine().networks.create(f"{self._name}-{name}")
        self._start_postgres()
        self._start_issuer()
        for name in REPLICAS:
            self._create_replica(name)
        self.start(*REPLICAS)
        self._start_callers()
        self.wait_refreshed(dict.fromkeys(ACCOUNTS, 1))

    def wait_refreshed(self, since: dict[str, int]) -> None:
        """Until every login is of a later generation than then."""
        until(lambda: all(now > since[one] for one, now in self.generations().items()), "all logins are refreshed")

    def generations(self) -> dict[str, int]:
        """Where the issuer stands, by account."""
        return {one["account_id"]: one["generation"] for one in self.state()["families"]}

    def down(self) -> None:
        """Whatever is there of it; what was said stays in the folder."""
        self._issuer.close()
        for name, container in self._containers.items():
            (self._folder / f"{name}.log").write_bytes(container.logs())
            container.remove(v=True, force=True)
        for network in self._networks.values():
            network.remove()

    # -- what is done to a replica -------------------------------------------------------------------------------------

    def container(self, name: str) -> "Container":
        """By its short name."""
        return self._containers[name]

    def cut(self, replica: str, networks: tuple[str, ...]) -> None:
        """Take it out of networks, as if its cable were pulled: what is on its way is lost, nobody is told."""
        for name in networks:
            self._networks[name].disconnect(self._containers[replica])

    def mend(self, replica: str, networks: tuple[str, ...]) -> None:
        """Put it back, at an address of its own choosing."""
        for name in networks:
            self._networks[name].connect(self._containers[replica])

    def start(self, *replicas: str) -> None:
        """Start them, and wait until they serve."""
        since = time.time()
        for name in replicas:
            self._containers[name].start()
        for name in replicas:
            until(lambda it=self._containers[name]: b" serves http" in it.logs(since=since), f"{name} serves")

    # -- what can be known ---------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """The issuer's counters and logins."""
        found: dict[str, Any] = self._issuer.get("/_sandbox/state").raise_for_status().json()
        return found

    def sent(self) -> list[Sent]:
        """All refresh tokens that have reached the issuer, in order."""
        return [
            Sent(
                one["headers"]["host"].partition(".")[0], one["at"], one["form"]["refresh_token"], one["status"] == 200
            )
            for one in self._issuer.get("/_sandbox/requests").raise_for_status().json()
        ]

    def unclear(self) -> list[Unclear]:
        """Every refresh of an outcome that is not known, in order."""
        found = [
            Unclear(each["account"], datetime.fromisoformat(each["at"]).timestamp(), None if each["died"] else name)
            for name in REPLICAS
            for each in _UNCLEAR.finditer(self.log(name))
        ]
        return sorted(found, key=lambda one: one.at)

    def stored(self) -> dict[str, Stored]:
        """What the database holds, by account."""
        found = self._query("SELECT account, generation, state, last_error FROM credential")
        return {account: Stored(generation, state, error) for account, generation, state, error in found}

    def second_tries(self) -> list[tuple[Any, ...]]:
        """Accounts whose refresh token is being sent a second time, or is about to be."""
        soon = "greatest(next_attempt_at, expires_at - 1) < extract(epoch FROM clock_timestamp()) + 3"
        return self._query(
            "SELECT account FROM credential WHERE state = 'active' AND uncertain_since IS NOT NULL"
            f" AND (attempt_id IS NOT NULL OR {soon})"
        )

    def _query(self, sql: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(f"postgresql://pixir-auth:{self._password}@{self._database}/pixir-auth") as connection:
            return connection.execute(sql.encode()).fetchall()

    def answers(self) -> list[dict[str, Any]]:
        """End the callers: everything that they were answered."""
        callers = self._containers["callers"]
        callers.stop(timeout=30)
        said = callers.logs().decode()
        assert callers.wait()["StatusCode"] == 0, said[-4000:]
        found: list[dict[str, Any]] = json.loads(said)
        return found

    def end_replicas(self) -> None:
        """SIGTERM to all at once: each finishes the refresh that it has under way."""
        for name in REPLICAS:
            self._containers[name].kill("SIGTERM")
        for name in REPLICAS:
            assert self._containers[name].wait(timeout=60)["StatusCode"] == 0, self.log(name)

    def log(self, name: str) -> str:
        """What a container has said."""
        return self._containers[name].logs().decode()

    # -- setting up ----------------------------------------------------------------------------------------------------

    def _create(self, name: str, network: str, also: tuple[str, ...] = (), **options: Any) -> "Container":
        """A container that its network knows by its name. also: further names there."""
        joined = self._networks[network].name
        known = engine().api.create_endpoint_config(aliases=[name, *also])
        given = {"image": TAG, "name": f"{self._name}-{name}", "network": joined, **_HARDENED, **options}
        self._containers[name] = engine().containers.create(networking_config={joined: known}, **given)
        return self._containers[name]

    def _secret(self, name: str, text: str) -> str:
        """A mount of a secret, as Docker mounts its own."""
        file = self._folder / name
        file.write_text(text)
        file.chmod(0o444)
        return f"{file}:/run/secrets/{name}:ro"

    def _program(self, name: str, order: dict[str, Any]) -> dict[str, Any]:
        """A file beside this one, as what a container runs."""
        return {
            "entrypoint": ["python", f"/{name}"],
            "command": [json.dumps(order)],
            "healthcheck": {"test": ["NONE"]},  # the image's own asks the service
            "volumes": [f"{HERE / name}:/{name}:ro"],
        }

    def _start_postgres(self) -> None:
        postgres = self._create(
            "postgres",
            "data",
            image=self._postgres_image,
            environment={"POSTGRES_USER": "pixir-auth", "POSTGRES_PASSWORD_FILE": "/run/secrets/password"},
            volumes=[self._secret("password", self._password)],
            ports={"5432/tcp": ("127.0.0.1", None)},
            read_only=False,
            cap_drop=[],
        )
        postgres.start()
        self._database = _published(postgres)
        ready = ["pg_isready", "-q", "-h", "127.0.0.1", "-U", "pixir-auth"]
        until(lambda: postgres.exec_run(ready).exit_code == 0, "PostgreSQL answers")

    def _start_issuer(self) -> None:
        authority = Authority.new(self._folder / "authority.pem")
        authority.server(f"*.{DOMAIN}")
        authority.file.chmod(0o444)
        program = self._program("issuer.py", KNOBS)
        shown = self._secret("issuer.pem", (self._folder / f"*.{DOMAIN}-False.pem").read_text())
        names = tuple(f"{name}.{DOMAIN}" for name in REPLICAS)
        program["volumes"].append(shown)
        issuer = self._create("issuer", "issuer", names, ports={"8443/tcp": ("127.0.0.1", None)}, **program)
        issuer.start()
        self._issuer = httpx.Client(
            base_url=f"https://{_published(issuer)}",
            verify=ssl.create_default_context(cafile=str(authority.file)),
            trust_env=False,
            event_hooks={"request": [lambda request: request.extensions.update(sni_hostname=names[0])]},
        )
        until(self._issuer_answers, "the issuer answers")

    def _issuer_answers(self) -> bool:
        try:
            return self._issuer.get("/_sandbox/state").status_code == 200
        except httpx.TransportError:
            return False

    def _create_replica(self, name: str) -> None:
        settings = {
            "HOST": "0.0.0.0",
            "ALLOWED_HOSTS": f"{name}:1455",
            "CLIENT_KEY_FILE": "/run/secrets/client-key",
            "ENCRYPTION_KEY_FILE": "/run/secrets/encryption-key",
            "DATABASE_URL": f"postgresql://pixir-auth:{self._password}@postgres/pixir-auth",
            "CODEX_ISSUER": f"https://{name}.{DOMAIN}:8443",
            "ISSUER_TIMEOUT": str(ISSUER_TIMEOUT),
            "REFRESH_FLOOR": "1",
        }
        volumes = [
            self._secret("client-key", self._client_key),
            self._secret("encryption-key", self._encryption_key),
            f"{self._folder / 'authority.pem'}:{self._trusted}:ro",
        ]
        self._create(
            name,
            "front",
            environment={f"PIXIR_AUTH_{key}": value for key, value in settings.items()},
            volumes=volumes,
            healthcheck={"test": ["NONE"]},  # it would only take time from what is shown here
        )
        self.mend(name, ("data", "issuer"))

    def _minted(self, account: str) -> dict[str, Any]:
        """A login of somebody who signed in at the issuer."""
        user = {"subject": account, "email": f"{account}@example.test", "account_id": account}
        tokens = self._issuer.post("/_sandbox/issue", json={"user": user}).raise_for_status().json()
        return {
            "kind": "subscription",
            **{name: tokens[name] for name in ("access_token", "refresh_token", "id_token")},
        }

    def _start_callers(self) -> None:
        order = {"replicas": REPLICAS, "accounts": ACCOUNTS, "callers": CALLERS, "seed": self._seed}
        logins = json.dumps({account: self._minted(account) for account in ACCOUNTS})
        program = self._program("callers.py", order)
        program["volumes"] += [self._secret("client-key", self._client_key), self._secret("logins", logins)]
        self._create("callers", "front", **program).start()


def _published(container: "Container") -> str:
    """Where its one port is on this machine."""
    container.reload()
    ((where,),) = container.ports.values()
    return f"{where['HostIp']}:{where['HostPort']}"
