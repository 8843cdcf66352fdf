"""`doctor` on what is kept on disk: each check on a good and a bad installation, and that looking changes nothing."""

import base64
import json
import os
import shutil
import signal
import sqlite3
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from service.doctor import finding
from service.doctor.finding import Finding, ok, trouble
from service.doctor.folders import file_system, folder_told
from service.settings import load_settings
from service.store.address import chosen
from service.store.examine import examine
from tests.kit.ports import free_port
from tests.kit.postgres import Server
from tests.kit.processes import machine

from .conftest import in_process_of_its_own
from .fake import FakeService
from .patient import ACCESS, ACCOUNT_ID, REFRESH, Patient, as_root, examined, found, installed, state, tree

pytestmark = pytest.mark.long

HERE = ("settings", "data folder", "config folder", "database", "encryption key", "logins", "copies")
"""The checks of what is kept on disk."""


@pytest.fixture
async def patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: Path) -> Patient:
    """A sound installation, whose service does not run and whose issuer nobody is."""
    made = await installed(tmp_path / "installation")
    monkeypatch.setenv("PIXIR_AUTH_DATA_DIR", str(made.data))
    monkeypatch.setenv("PIXIR_AUTH_ENCRYPTION_KEY_FILE", str(made.key))
    monkeypatch.setenv("PIXIR_AUTH_PORT", str(free_port()))
    monkeypatch.setenv("PIXIR_AUTH_CODEX_ISSUER", f"http://127.0.0.1:{free_port()}")
    return made


def findings(out: str) -> dict[str, Finding]:
    """What --json has given."""
    return {each["check"]: Finding(**each) for each in json.loads(out)}


# -- the command -----------------------------------------------------------------------------------------------------


def test_sound_installation(patient: Patient, tmp_path: Path) -> None:
    before = tree(tmp_path)
    ran = in_process_of_its_own("doctor", "--json")
    told = findings(ran.out)
    assert {name: told[name].state for name in HERE} == dict.fromkeys(HERE, "ok")
    assert told["service"].state == "warning"
    assert "pixir-auth serve" in str(told["service"].next_actions)
    assert (ran.code, told["issuer"].state) == (1, "trouble")
    assert tree(tmp_path) == before


def test_people_read_it_on_stderr_with_what_to_do(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    patient.key.chmod(0o644)
    ran = in_process_of_its_own("doctor")
    assert (ran.code, ran.out) == (1, "")
    lines = ran.err.splitlines()
    assert any(line.startswith("ok       database: ") for line in lines)
    at = next(number for number, line in enumerate(lines) if line.startswith("trouble  encryption key: "))
    assert f"         - Run: chmod 600 {patient.key}" in lines[at:]


def test_warnings_alone_are_no_failure(patient: Patient, fake: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXIR_AUTH_CODEX_ISSUER", fake.url)
    fake.accounts["default"]["version"] = "0.0.1"
    ran = in_process_of_its_own("doctor", "--json")
    assert {each.state for each in findings(ran.out).values()} == {"ok", "warning"}, ran.out
    assert ran.code == 0


def test_no_secret_is_said(patient: Patient, alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "CANARY-api-key")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:CANARY-proxy@proxy.test:1")
    monkeypatch.setenv("PIXIR_AUTH_CODEX_ISSUER", "https://me:CANARY-issuer@127.0.0.1:1")
    monkeypatch.setenv("PIXIR_AUTH_PUBLIC_URL", "http://me:CANARY-url@127.0.0.1:1/?CANARY-query")
    (alone / ".codex").mkdir()
    (alone / ".codex" / "auth.json").write_text(codex(REFRESH))
    key = patient.key.read_text().strip()
    ran = in_process_of_its_own("doctor")
    patient.execute("UPDATE credential SET state = 'dead', reason = 'CANARY'")
    for said in (ran.out + ran.err, str(examined())):
        assert "CANARY" not in said
        assert key not in said


def test_an_empty_machine_is_no_trouble_and_stays_empty(alone: Path) -> None:
    ran = in_process_of_its_own("doctor", "--json")
    told = findings(ran.out)
    assert {name: told[name].state for name in HERE if name != "logins"} == dict.fromkeys(set(HERE) - {"logins"}, "ok")
    assert told["logins"].next_actions == ["Run: pixir-auth login"]  # type: ignore[comparison-overlap]
    assert tree(alone) == {}


# -- time ------------------------------------------------------------------------------------------------------------


def test_what_hangs_is_left_and_the_others_are_told() -> None:
    never = threading.Event()

    def hangs() -> Iterator[Any]:
        never.wait()
        yield ok("never")

    began = time.monotonic()
    told = finding.examined(
        {"a": lambda: [ok("a")], "b": hangs, "c": lambda: [ok("c")]}, {"d": lambda: [ok("d")]}, within=0.3
    )
    never.set()
    assert time.monotonic() - began < 5
    assert [(each.check, each.state) for each in told] == [
        *(("a", "ok"), ("b", "trouble"), ("c", "trouble")),
        ("d", "ok"),
    ]


def test_a_check_that_fails_says_no_more_than_how() -> None:
    def fails() -> list[Any]:
        raise RuntimeError("CANARY")

    (told, after) = finding.examined({"a": fails, "b": lambda: [trouble("b")]}, within=5)
    assert (told.state, "RuntimeError" in told.detail, "CANARY" in str(told)) == ("trouble", True, False)
    assert after.detail == "b"


# -- settings --------------------------------------------------------------------------------------------------------


def test_a_fault_in_the_environment_is_named_without_its_value(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIXIR_AUTH_PORT", "CANARY")
    told = found("settings")
    assert (told.state, "CANARY" in str(told)) == ("trouble", False)
    assert "PIXIR_AUTH_PORT" in told.detail
    assert told.next_actions == ("Correct it in the environment, or: unset PIXIR_AUTH_PORT",)


@pytest.mark.parametrize("content", ["prot = 1455", 'log_level = "CANARY"', "port = [CANARY", "\xff"])
def test_a_fault_in_the_file_is_told_with_the_file(
    patient: Patient, alone: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    file = alone / "settings.toml"
    file.write_text(content, encoding="latin-1")
    monkeypatch.setenv("PIXIR_AUTH_CONFIG", str(file))
    told = found("settings")
    assert (told.state, "CANARY" in str(told)) == ("trouble", False)
    assert str(file) in told.next_actions[0]


@pytest.mark.skipif(sys.platform != "linux", reason="a file that exists and cannot be read, even by root")
def test_a_file_that_cannot_be_read_is_told(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXIR_AUTH_CONFIG", "/proc/self/mem")
    told = found("settings")
    assert (told.state, "cannot be read" in told.detail) == ("trouble", True)


def test_settings_that_cannot_be_used_are_the_one_finding(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXIR_AUTH_DATABASE_URL", "mysql://me:CANARY@db/x")
    told = found("settings")
    assert (told.state, "PIXIR_AUTH_DATABASE_URL" in told.detail, "CANARY" in str(told)) == ("trouble", True, False)


def test_a_client_key_that_others_can_read_is_trouble(
    patient: Patient, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = alone / "client.key"
    file.write_text("x" * 30)
    file.chmod(0o644)
    monkeypatch.setenv("PIXIR_AUTH_CLIENT_KEY_FILE", str(file))
    assert f"Run: chmod 600 {file}" in str(examined())


# -- folders ---------------------------------------------------------------------------------------------------------


def test_a_folder_that_others_can_write_to_is_trouble(patient: Patient) -> None:
    patient.data.chmod(0o777)
    told = found("data folder")
    assert (told.state, "chmod go-w" in told.detail) == ("trouble", True)


def test_a_folder_of_another_user_is_trouble(patient: Patient) -> None:
    as_root()
    os.chown(patient.data, 65534, 65534)
    assert (state("data folder"), "another user" in found("data folder").detail) == ("trouble", True)


def test_a_folder_that_cannot_be_made_is_trouble(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXIR_AUTH_DATA_DIR", str(patient.key / "below" / "a" / "file"))
    assert state("data folder") == "trouble"


def test_a_folder_that_is_a_file_is_trouble(patient: Patient) -> None:
    shutil.rmtree(patient.data)
    patient.data.write_text("")
    assert state("data folder") == "trouble"


Room = namedtuple("Room", "f_bavail f_frsize f_files f_favail")


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        (Room(10**6, 4096, 10**6, 10**6), "ok"),
        (Room(10**4, 4096, 0, 0), "warning"),
        (Room(10, 4096, 10**6, 10**6), "trouble"),
        (Room(10**6, 4096, 10**6, 0), "trouble"),
    ],
)
def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: Room, expected: str) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _path: room)  # the kernel's word; no disk here is so full
    tmp_path.chmod(0o700)
    assert [each[0] for each in folder_told(tmp_path, "X", None)] == [expected]


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /home rw shared:2 - nfs4 server:/home rw,vers=4.2
31 30 0:41 / /home/a\\040b rw - ext4 /dev/sdb1 rw
32 22 0:42 / /mnt rw - ext4 /dev/sdc1 rw
33 22 0:43 / /mnt rw - fuse.sshfs me@server:/ rw
nonsense
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/var/lib", "ext4"),
        ("/home/me", "nfs4"),
        ("/homestead", "ext4"),
        ("/home/a b/c", "ext4"),
        ("/mnt", "fuse.sshfs"),
    ],
)
def test_the_file_system_is_that_of_the_nearest_mount(path: str, expected: str) -> None:
    assert file_system(Path(path), MOUNTS) == expected


def test_a_folder_that_other_machines_share_is_a_warning(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    line = f"30 22 0:40 / {tmp_path} rw shared:2 - nfs4 server:/home rw"
    ((state, detail, _),) = folder_told(tmp_path, "PIXIR_AUTH_DATA_DIR", line)
    assert (state, "nfs4" in detail) == ("warning", True)
    ((state, *_),) = folder_told(tmp_path, "PIXIR_AUTH_DATA_DIR", line.replace("nfs4", "xfs"))
    assert state == "ok"


# -- the database ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("schema", "expected"), [(99, "trouble"), (2, "ok")])
def test_the_schema_of_another_version_is_told(patient: Patient, schema: int, expected: str) -> None:
    patient.execute(f"UPDATE schema_version SET version = {schema}")
    told = found("database")
    assert told.state == expected
    assert f"schema {schema}" in told.detail
    assert state("logins") == "warning"


def test_what_is_no_database_is_trouble(patient: Patient) -> None:
    patient.database.write_bytes(b"CANARY" * 4096)
    told = found("database")
    assert (told.state, "CANARY" in str(told)) == ("trouble", False)


def test_a_damaged_database_is_trouble(patient: Patient) -> None:
    whole = patient.database.read_bytes()
    with patient.database.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(len(whole) - 4096))
    assert state("database") == "trouble"


def test_a_database_that_others_can_read_is_a_warning(patient: Patient) -> None:
    patient.database.chmod(0o644)
    assert f"Run: chmod 600 {patient.database}" in str(examined())
    assert patient.database.stat().st_mode & 0o777 == 0o644


def test_a_database_with_a_second_name_is_trouble(patient: Patient, tmp_path: Path) -> None:
    os.link(patient.database, tmp_path / "second")
    assert state("database") == "trouble"


def test_a_database_that_somebody_has_locked_is_not_waited_for(patient: Patient) -> None:
    with closing(sqlite3.connect(patient.database, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        found("database")
        assert time.monotonic() - began < 8


async def test_what_a_killed_process_has_left_in_the_log_is_seen_and_stays(patient: Patient, tmp_path: Path) -> None:
    """The copy is of a moment at which somebody writes: as after a kill, the last commit is in the log alone."""
    with closing(sqlite3.connect(patient.database)) as writer:
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        writer.execute("UPDATE credential SET state = 'dead', reason = 'refresh_token_reused'")
        writer.commit()
        for suffix in ("", "-wal"):
            shutil.copy(f"{patient.database}{suffix}", f"{tmp_path}/copy{suffix}")
    for suffix in ("", "-wal"):
        shutil.copy(f"{tmp_path}/copy{suffix}", f"{patient.database}{suffix}")
    before = tree(patient.folder)
    assert state("logins") == "trouble"
    assert state("database") == "ok"
    assert tree(patient.folder) == before
    assert not Path(f"{patient.database}-shm").exists()


def test_a_rescue_file_is_told(patient: Patient) -> None:
    (patient.data / "ab-2.rescue").touch(0o600)
    told = found("logins")
    assert (told.state, "wait to be stored" in told.detail) == ("warning", True)


def test_a_postgres_that_is_there(patient: Patient, postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXIR_AUTH_DATABASE_URL", postgres.empty())
    assert (state("database"), state("encryption key")) == ("ok", "ok")
    backend, _ = chosen(load_settings())
    assert examine(backend, patient.data / "owners", []).is_new


def test_a_postgres_that_is_not_there(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXIR_AUTH_DATABASE_URL", f"postgresql://me:CANARY@127.0.0.1:{free_port()}/x")
    told = found("database")
    assert (told.state, "CANARY" in str(told)) == ("trouble", False)


# -- the key ---------------------------------------------------------------------------------------------------------


def test_a_key_that_is_gone_is_trouble_and_none_is_made(
    patient: Patient, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIXIR_AUTH_ENCRYPTION_KEY_FILE")
    assert state("encryption key") == "trouble"
    assert not list(alone.rglob("encryption.key"))


def test_another_key_is_told_with_the_id_of_the_right_one(patient: Patient) -> None:
    with closing(sqlite3.connect(patient.database)) as database:
        (sealed,) = database.execute("SELECT value FROM sealed").fetchone()
    patient.key.write_bytes(base64.b64encode(os.urandom(32)))
    told = found("encryption key")
    assert (told.state, sealed[1:9].hex() in told.detail) == ("trouble", True)


@pytest.mark.parametrize("content", [b"", b"CANARY", base64.b64encode(b"short")])
def test_what_is_no_key_is_trouble(patient: Patient, content: bytes) -> None:
    patient.key.write_bytes(content)
    told = found("encryption key")
    assert (told.state, "CANARY" in str(told)) == ("trouble", False)


def test_a_key_beside_the_data_is_a_warning(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = patient.data / "encryption.key"
    patient.key.rename(inside)
    monkeypatch.setenv("PIXIR_AUTH_ENCRYPTION_KEY_FILE", str(inside))
    assert state("encryption key") == "warning"


# -- logins ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "expected", "said"),
    [
        ("state = 'dead', reason = 'refresh_token_reused'", "trouble", "pixir-auth login"),
        ("account = 'work', state = 'dead', reason = 'outcome_unknown'", "trouble", "pixir-auth login --account work"),
        ("generation = 7", "trouble", "pixir-auth login"),  # does not open at another generation
        ("state = 'restored'", "warning", "pixir-auth restore --confirm-unspent default"),
        ("last_error = 'issuer_refused: invalid_client'", "warning", "PIXIR_AUTH_CODEX_ISSUER"),
        ("last_error = 'read_timeout', failures = 3", "warning", "read_timeout"),
        (
            "state = 'logged_out', access_token_sealed = NULL, refresh_token_sealed = NULL",
            "warning",
            "pixir-auth login",
        ),
    ],
)
def test_how_a_login_stands_is_told_with_what_to_do(patient: Patient, change: str, expected: str, said: str) -> None:
    if change.startswith("account"):  # what is sealed for one account does not open for another
        change += ", access_token_sealed = NULL, refresh_token_sealed = NULL"
    patient.execute(f"UPDATE credential SET {change}")
    told = found("logins")
    assert (told.state, said in str(told)) == (expected, True), told


def test_an_api_key_is_as_good_as_a_login(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    patient.execute("DELETE FROM credential")
    monkeypatch.setenv("OPENAI_API_KEY", "CANARY-api-key")
    assert state("logins") == "ok"


# -- copies ----------------------------------------------------------------------------------------------------------


def codex(refresh_token: str, account_id: str = ACCOUNT_ID) -> str:
    tokens = {"access_token": ACCESS, "refresh_token": refresh_token, "account_id": account_id}
    return json.dumps({"tokens": tokens})


PIXIR = json.dumps({"kind": "subscription", "access_token": ACCESS, "refresh_token": REFRESH})


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (".codex/auth.json", codex(REFRESH), "trouble"),
        (".pixir/auth.json", PIXIR, "trouble"),
        (".codex/auth.json", codex("another"), "warning"),
        (".codex/auth.json", codex("another", "other"), "ok"),
        (".codex/auth.json", codex(""), "ok"),  # as `export` makes it
        (".codex/auth.json", '{"OPENAI_API_KEY": "sk-x"}', "ok"),
        (".codex/auth.json", "[" * 100_000, "ok"),
    ],
)
def test_who_else_holds_a_login(patient: Patient, alone: Path, name: str, content: str, expected: str) -> None:
    (alone / name).parent.mkdir()
    (alone / name).write_text(content)
    told = found("copies")
    assert (told.state, "CANARY" in str(told)) == (expected, False)


def test_a_login_that_was_imported_and_refreshed_is_known_by_its_first_token(patient: Patient, alone: Path) -> None:
    patient.execute("UPDATE credential SET refresh_fingerprint = 'of a later one'")
    (alone / ".codex").mkdir()
    (alone / ".codex" / "auth.json").write_text(codex(REFRESH))
    assert state("copies") == "trouble"


@pytest.mark.parametrize("token", [REFRESH, "a later one"])
def test_who_was_given_the_login_holds_it_by_right(patient: Patient, alone: Path, token: str) -> None:
    patient.execute("UPDATE credential SET state = 'logged_out', reason = 'logged_out'")
    (alone / ".codex").mkdir()
    (alone / ".codex" / "auth.json").write_text(codex(token))
    assert state("copies") == "ok"


def test_codex_may_live_elsewhere(patient: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEX_HOME", str(tmp_path / "codex"))
    (tmp_path / "codex").mkdir()
    (tmp_path / "codex" / "auth.json").write_text(codex(REFRESH))
    assert state("copies") == "trouble"


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(patient: Patient, alone: Path) -> None:
    (alone / ".codex").mkdir()
    os.mkfifo(alone / ".codex" / "auth.json")
    assert state("copies") == "ok"


# -- beside a process ------------------------------------------------------------------------------------------------


def test_after_a_kill_and_beside_a_process_nothing_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m").mkdir()
    with machine(tmp_path / "m") as m:
        issuer = m.issuer()
        service = m.service(issuer)
        m.install(service, issuer)
        for name, value in {
            "XDG_CONFIG_HOME": m.folder / "config",
            "PIXIR_AUTH_DATA_DIR": m.folder / "data",
            "PIXIR_AUTH_CODEX_ISSUER": issuer.url,
            "PIXIR_AUTH_PORT": service.url.rpartition(":")[2],
        }.items():
            monkeypatch.setenv(name, str(value))
        ran = in_process_of_its_own("doctor", "--json")
        assert (ran.code, {each.state for each in findings(ran.out).values()}) == (0, {"ok"}), ran.out
        assert service.client.get("/token").status_code == 200
        service.signal(signal.SIGKILL)
        service.ended()
        before = tree(m.folder)
        told = findings(in_process_of_its_own("doctor", "--json").out)
        assert [told[name].state for name in ("database", "logins", "port", "service")] == ["ok", "ok", "ok", "warning"]
        assert tree(m.folder) == before
