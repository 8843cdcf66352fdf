"""The Kubernetes examples: what the schemas, the restricted pod security standard and the service itself want."""

import base64
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from service.settings import Settings
from service.store.keys import DOCKER_SECRETS, NAME
from tests.kit.processes import ROOT, Machine, Process, machine

EXAMPLES = ROOT / "deploy" / "kubernetes"
OWN = 10001
"""The user of the image."""

VERSIONS = ("1.33", "1.37")
"""Of Kubernetes: an old one and a new one."""

pytestmark = pytest.mark.kubernetes


def documents(example: str) -> list[dict[str, Any]]:
    """Every object that an example makes."""
    yaml = pytest.importorskip("yaml")
    listed = yaml.safe_load((EXAMPLES / example / "kustomization.yaml").read_text())
    found = [
        each for name in listed["resources"] for each in yaml.safe_load_all((EXAMPLES / example / name).read_text())
    ]
    assert {file.name for file in (EXAMPLES / example).iterdir()} == {"kustomization.yaml", *listed["resources"]}
    return found


def of_kind(example: str, kind: str) -> dict[str, Any]:
    """The one object of that kind."""
    (found,) = (each for each in documents(example) if each["kind"] == kind)
    return found


def pod(example: str) -> dict[str, Any]:
    found: dict[str, Any] = of_kind(example, "Deployment")["spec"]["template"]["spec"]
    return found


def containers(example: str) -> list[dict[str, Any]]:
    return [*pod(example)["initContainers"], *pod(example)["containers"]]


def served_by(example: str) -> dict[str, Any]:
    """The container that the service runs in."""
    (found,) = (each for each in containers(example) if each["name"] == "pixir-auth")
    return found


EVERY = pytest.mark.parametrize("example", ["sidecar", "replicas"])


@EVERY
@pytest.mark.parametrize("version", VERSIONS)
def test_the_schemas_have_nothing_to_say_against_it(example: str, version: str) -> None:
    import kubernetes_validate  # noqa: PLC0415 - not everybody has it

    for each in documents(example):
        kubernetes_validate.validate(each, version, strict=True)
    spoilt = of_kind(example, "Deployment")
    spoilt["spec"]["template"]["spec"]["runAsUsr"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(spoilt, version, strict=True)


@EVERY
def test_nothing_runs_with_more_than_it_needs(example: str) -> None:
    """The restricted pod security standard, and a root folder that nobody can write to."""
    context = pod(example)["securityContext"]
    assert (context["runAsNonRoot"], context["runAsUser"], context["runAsGroup"]) == (True, OWN, OWN)
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod(example)["automountServiceAccountToken"] is False
    assert {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & set(pod(example)) == set()
    for each in containers(example):
        assert each["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@EVERY
def test_a_refresh_under_way_is_not_killed(example: str) -> None:
    assert pod(example)["terminationGracePeriodSeconds"] > Settings.model_fields["issuer_timeout"].default + 10


@EVERY
def test_secrets_are_files_where_the_service_takes_them_as_kubernetes_makes_them(example: str) -> None:
    (volume,) = (each for each in pod(example)["volumes"] if "secret" in each)
    (mount,) = (each for each in served_by(example)["volumeMounts"] if each["name"] == volume["name"])
    assert (Path(mount["mountPath"]), mount["readOnly"], "subPath" in mount) == (DOCKER_SECRETS, True, False)
    assert volume["secret"]["defaultMode"] == 0o440
    assert pod(example)["securityContext"]["fsGroup"] == OWN
    env = {each["name"]: each["value"] for each in served_by(example).get("env", ())}
    assert {"PIXIR_AUTH_DATABASE_URL", "PIXIR_AUTH_ENCRYPTION_KEY", "OPENAI_API_KEY"} & set(env) == set()
    files = [value for name, value in env.items() if name.endswith(("_FILE", "_CONFIG"))]
    assert all(Path(each).parent == DOCKER_SECRETS for each in files)


def test_the_sidecar_is_one_and_starts_before_the_application() -> None:
    assert served_by("sidecar")["restartPolicy"] == "Always"
    assert served_by("sidecar") in pod("sidecar")["initContainers"]
    assert "env" not in served_by("sidecar"), "it stays on loopback"
    assert "ports" not in served_by("sidecar")


def test_the_policy_lets_in_the_port_of_the_service_and_lets_out_what_it_needs() -> None:
    policy = of_kind("replicas", "NetworkPolicy")["spec"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    assert policy["podSelector"] == of_kind("replicas", "Deployment")["spec"]["selector"]
    (entry,) = policy["ingress"]
    assert [each["port"] for each in entry["ports"]] == [Settings.model_fields["port"].default]
    assert {each["port"] for way in policy["egress"] for each in way["ports"]} == {53, 5432, 443}


# the service itself, as the examples run it


@pytest.fixture(scope="module")
def m(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with machine(tmp_path_factory.mktemp("machine")) as made:
        yield made


@pytest.fixture(scope="module")
def issuer(m: Machine) -> Process:
    return m.issuer()


@pytest.mark.long
@EVERY
def test_the_probes_are_answered_by_a_service_with_these_settings(m: Machine, issuer: Process, example: str) -> None:
    settings = {each["name"]: each["value"] for each in served_by(example).get("env", ())}
    with machine(m.folder / example) as own:
        own.folder.mkdir()
        files = {"pixir-auth-client-key": "k" * 40, "pixir-auth.toml": "refresh_floor = 1\n"}
        for name, text in files.items():
            (own.folder / name).touch(0o600)
            (own.folder / name).write_text(text)
        given = {
            name.removeprefix("PIXIR_AUTH_").lower(): value.replace(str(DOCKER_SECRETS), str(own.folder))
            for name, value in settings.items()
        }
        service = own.service(issuer, **(given | {"log_format": "text"}))  # as the test reads it
        port = urlsplit(service.url).port or 0
        for probe in ("startupProbe", "livenessProbe", *(["readinessProbe"] if example == "replicas" else [])):
            asked = served_by(example)[probe]
            if "exec" in asked:
                command = [each.replace("1455", str(port)) for each in asked["exec"]["command"]]
                assert subprocess.run([sys.executable, *command[1:]], check=False, timeout=30).returncode == 0
                command[-1] = "/nowhere"
                assert subprocess.run([sys.executable, *command[1:]], check=False, timeout=30).returncode == 1
            else:
                get = asked["httpGet"]
                headers = {each["name"]: each["value"].replace("1455", str(port)) for each in get["httpHeaders"]}
                where = f"http://127.0.0.1:{port}{get['path']}"
                assert httpx.get(where, headers=headers, trust_env=False, timeout=60).status_code == 200
                assert httpx.get(where, headers={"Host": "10.0.0.7:1455"}, trust_env=False).status_code == 421
        if example == "replicas":
            key = {"Authorization": f"Bearer {'k' * 40}", "Host": "pixir-auth:1455"}
            assert httpx.get(f"{service.url}/status", headers=key, trust_env=False, timeout=60).status_code == 200


INSIDE = """
volume=$1 secrets=$2 data=$3 hold=$4 closed=$5 needed=$6; shift 6
umask 022
if [ "$closed" ]; then  # the Python of these tests lies where only root may go: another view of the same files
  for each in $needed; do mkdir -p "$hold$each"; mount --rbind "$each" "$hold$each"; done
  mount -t tmpfs -o mode=755 tmpfs "$closed"
  for each in $needed; do mkdir -p "$each"; mount --rbind "$hold$each" "$each"; done
fi
prepare() { setpriv --reuid 10001 --regid 10001 --groups 10001 --no-new-privs --bounding-set -all -- "$@"; }
prepare install -d -m 0700 "$volume/data"
mount --bind "$volume/data" "$data"
mount -t tmpfs tmpfs /run
mkdir /run/secrets
mount --bind "$secrets" /run/secrets
exec setpriv --reuid 10001 --regid 10001 --groups 10001 --no-new-privs --bounding-set -all -- "$@"
"""
"""What the kubelet does: the container `folder`, then the mounts of the other one, with the kernel's own means."""


@pytest.mark.long
@pytest.mark.unshare
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be the kubelet")
@pytest.mark.parametrize("bits", [0o2777, 0o2775], ids=["emptyDir", "a disk"])
def test_it_starts_on_a_volume_and_a_secret_as_the_kubelet_makes_them(issuer: Process, bits: int) -> None:
    with tempfile.TemporaryDirectory() as shared, machine(Path(shared)) as own:
        own.folder.chmod(0o755)
        volume, secrets, data, hold = (own.folder / name for name in ("volume", "secrets", "data", "hold"))
        for folder in (volume, secrets, data, hold):
            folder.mkdir()
        os.chown(volume, 0, OWN)
        volume.chmod(bits)
        kubelet_secret(secrets, {NAME: base64.b64encode(bytes(range(32))), "pixir-auth-client-key": b"k" * 40})
        needed = [os.path.realpath(each) for each in (sys.base_prefix, sys.prefix, ROOT)]
        told = [*map(str, (volume, secrets, data, hold)), closed_above(needed), " ".join(needed)]
        env = ["env", "-u", "COVERAGE_PROCESS_CONFIG", f"XDG_CONFIG_HOME={data}/config"]  # it could not write there
        under = [*env, "unshare", "-m", "sh", "-ec", INSIDE, "sh", *told]
        given = {"data_dir": data, "client_key_file": DOCKER_SECRETS / "pixir-auth-client-key"}
        service = own.service(issuer, under=under, **given)
        assert service.client.get("/readyz").status_code == 200
        key = {"Authorization": f"Bearer {'k' * 40}"}
        assert service.client.get("/status", headers=key).status_code == 200
        assert (volume / "data" / "pixir-auth.db").stat().st_uid == OWN
        assert not list((volume / "data").rglob("encryption.key")), "the key is the one of the secret"
        service.close()


def kubelet_secret(folder: Path, files: dict[str, bytes]) -> None:
    """A secret volume with `fsGroup`: links to links to files of root's that the group may read."""
    kept = folder / "..2026_01_01"
    kept.mkdir()
    (folder / "..data").symlink_to(kept.name)
    for name, content in files.items():
        (kept / name).write_bytes(content)
        os.chown(kept / name, 0, OWN)
        (kept / name).chmod(0o440)
        (folder / name).symlink_to(f"..data/{name}")


def closed_above(paths: list[str]) -> str:
    """The uppermost folder above these that only its owner may go through, if there is one."""
    above = sorted({str(each) for path in paths for each in (Path(path), *Path(path).parents)}, key=len)
    return next((each for each in above if not Path(each).stat().st_mode & 0o001), "")
