"""Where the encryption key comes from, and what becomes of a start without a usable one."""

import base64
import hashlib
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from service.domain.secret import Secret
from service.settings import Settings, load_settings
from service.store import keys
from service.store.keys import NAME, KeyUnusable, key_source
from service.store.sqlite import SQLite
from service.store.store import Store
from service.store.vault import Key, Place, Vault

from .crowd import Crowds, first_start
from .samples import KEY, OTHER_KEY, credential, due, lines, open_store
from .test_files import SOMEBODY_ELSE, TRAPS, Trap, as_root, mode

PLACE = Place("credential", "refresh_token", "default", 1)
ENVIRONMENT = "PIXIR_AUTH_ENCRYPTION_KEY"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, and nothing in the environment that names a key."""
    for name in [name for name in os.environ if name.startswith("PIXIR_AUTH_") or name == "CREDENTIALS_DIRECTORY"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.setattr(keys, "DOCKER_SECRETS", tmp_path / "run" / "secrets")
    return tmp_path


def key_of(name: str) -> bytes:
    """A key for tests."""
    return hashlib.sha256(name.encode()).digest()


def write_key(path: Path, name: str, mode: int = 0o600) -> Path:
    """A key file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(base64.b64encode(key_of(name)) + b"\n")
    path.chmod(mode)
    return path


def own_key(home: Path) -> Path:
    """Where the key is made on first start."""
    return home / "config" / "pixir-auth" / "encryption.key"


def loaded(*, may_create: bool = False) -> bytes:
    """The name of the key that a start would use."""
    return Key(key_source(load_settings(), may_create=may_create).read()[0]).id


def named(name: str) -> bytes:
    """The name of a key for tests."""
    return Key(key_of(name)).id


# -- sources, in order ---------------------------------------------------------------------------------------------


def test_each_source_gives_way_to_the_one_before_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, base64.b64encode(key_of("environment")).decode())
    assert loaded() == named("environment")
    write_key(own_key(home), "own file")
    assert loaded() == named("own file")
    write_key(home / "run" / "secrets" / NAME, "docker secret", 0o444)
    assert loaded() == named("docker secret")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(home / "credentials"))
    assert loaded() == named("docker secret")  # the folder holds no key of ours
    write_key(home / "credentials" / NAME, "systemd credential", 0o400)
    assert loaded() == named("systemd credential")
    monkeypatch.setenv("PIXIR_AUTH_ENCRYPTION_KEY_FILE", str(write_key(home / "named", "named file")))
    assert loaded() == named("named file")


def test_a_key_from_the_environment_is_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, base64.b64encode(KEY).decode())
    loaded()
    assert ENVIRONMENT not in os.environ
    show = "import json, os; print(json.dumps(dict(os.environ)))"
    child = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    assert base64.b64encode(KEY).decode() not in json.loads(child.stdout).values()


def test_an_unused_key_in_the_environment_is_not_inherited_either(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, base64.b64encode(KEY).decode())
    write_key(own_key(home), "own file")
    loaded()
    assert ENVIRONMENT not in os.environ


def test_a_named_file_that_is_not_there_is_an_error_and_no_other_source_is_asked(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_key(own_key(home), "own file")
    monkeypatch.setenv("PIXIR_AUTH_ENCRYPTION_KEY_FILE", str(home / "missing"))
    with pytest.raises(KeyUnusable, match="missing cannot be read"):
        loaded(may_create=True)


def test_a_docker_secret_may_be_named_and_is_readable_by_all(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_key(home / "run" / "secrets" / "by-another-name", "docker secret", 0o444)
    monkeypatch.setenv("PIXIR_AUTH_ENCRYPTION_KEY_FILE", str(path))
    assert loaded() == named("docker secret")


@pytest.mark.parametrize(("data", "warnings"), [("", 1), ("config/pixir-auth", 1), ("share", 0), ("config/pixir", 0)])
def test_a_key_made_inside_the_data_folder_is_told_once(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, data: str, warnings: int
) -> None:
    monkeypatch.setenv("PIXIR_AUTH_DATA_DIR", str(home / data))
    for may_create in (True, False):  # a first start and a later one
        loaded(may_create=may_create)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == warnings
    assert all(str(own_key(home)) in line and "PIXIR_AUTH_ENCRYPTION_KEY_FILE" in line for line in told)


def test_the_key_may_be_moved_out_as_that_warning_says(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = loaded(may_create=True)
    moved = own_key(home).rename(home / "secret")
    monkeypatch.setenv("PIXIR_AUTH_ENCRYPTION_KEY_FILE", str(moved))
    assert loaded() == made


# -- what a source says later --------------------------------------------------------------------------------------


def test_a_source_has_news_once_when_its_file_was_replaced_or_edited(home: Path) -> None:
    path = write_key(own_key(home), "one")
    source = key_source(load_settings(), may_create=False)
    assert (source.read(), source.news(), source.news()) == ([key_of("one")], [key_of("one")], None)
    write_key(path.with_name("draft"), "other").replace(path)
    assert (source.news(), source.news()) == ([key_of("other")], None)
    path.write_bytes(lines(key_of("third"), key_of("other")))
    assert (source.news(), source.news()) == ([key_of("third"), key_of("other")], None)


@pytest.mark.parametrize("trouble", ["gone", "half written", "open to others"])
def test_a_source_in_trouble_has_no_news_and_says_why_once(
    home: Path, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    path = write_key(own_key(home), "one")
    source = key_source(load_settings(), may_create=False)
    source.news()
    if trouble == "gone":
        path.unlink()
    elif trouble == "half written":
        path.write_bytes(lines(KEY)[:20])
    else:
        write_key(path, "other", 0o644)
    assert source.news() is None
    (told,) = caplog.messages
    assert told.startswith("the encryption keys cannot be read again (")
    assert lines(KEY)[:20].decode() not in told
    assert trouble == "gone" or source.news() is None
    write_key(path, "mended")
    assert source.news() == [key_of("mended")]
    assert len(caplog.messages) == 1


def test_what_somebody_else_has_read_meanwhile_is_news_all_the_same(home: Path) -> None:
    path = write_key(own_key(home), "one")
    source = key_source(load_settings(), may_create=False)
    source.news()
    write_key(path, "other")
    assert source.read() == source.news() == [key_of("other")]


def test_a_fault_of_the_moment_does_not_hide_news_for_ever(home: Path) -> None:
    path = write_key(own_key(home), "one")
    source = key_source(load_settings(), may_create=False)
    source.news()
    write_key(path, "other")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))  # the file can be looked at and not be opened
    try:
        assert source.news() is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert source.news() == [key_of("other")]


def test_a_key_from_the_environment_has_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, lines(KEY, OTHER_KEY).decode())
    source = key_source(load_settings(), may_create=False)
    assert source.read() == [KEY, OTHER_KEY]
    assert source.news() is None


# -- first start ---------------------------------------------------------------------------------------------------


def test_a_key_is_made_on_first_start_and_used_ever_after(home: Path) -> None:
    first = loaded(may_create=True)
    assert len(base64.b64decode(own_key(home).read_bytes(), validate=False)) == 32
    assert mode(own_key(home)) == "-rw-------"
    assert mode(own_key(home).parent) == "drwx------"
    assert [path.name for path in own_key(home).parent.iterdir()] == ["encryption.key"]
    assert loaded() == first == loaded(may_create=True)


def test_every_installation_makes_a_key_of_its_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = loaded(may_create=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "another"))
    assert loaded(may_create=True) != first


def test_no_key_is_made_where_one_was_given(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, base64.b64encode(KEY).decode())
    loaded(may_create=True)
    assert not own_key(home).exists()


@pytest.mark.long
async def test_processes_that_start_at_once_make_one_key_and_one_database(home: Path, crowd: Crowds) -> None:
    address = f"sqlite:{home / 'data' / 'x.db'}"
    names = crowd(first_start, 4, address, str(home / "config"))
    store = Store(SQLite(home / "data" / "x.db"), lambda is_new: key_source(load_settings(), may_create=is_new), due)
    accounts = await store.accounts("", 10)
    await store.close()
    assert [(each.account, each.state) for each in accounts] == [(name, "active") for name in sorted(names)]
    assert [path.name for path in own_key(home).parent.iterdir()] == ["encryption.key"]


@pytest.mark.parametrize("in_the_way", ["file", "file above", "link"])
def test_a_folder_for_the_key_that_cannot_be_made_is_told(home: Path, in_the_way: str) -> None:
    if in_the_way == "file above":
        (home / "config").touch()
    elif in_the_way == "file":
        (home / "config").mkdir()
        (home / "config" / "pixir-auth").touch()
    else:
        (home / "config").mkdir()
        (home / "elsewhere").mkdir()
        (home / "config" / "pixir-auth").symlink_to(home / "elsewhere")
    with pytest.raises(KeyUnusable, match="pixir-auth"):
        loaded(may_create=True)
    assert not list((home / "elsewhere").glob("*"))


# -- unusable keys -------------------------------------------------------------------------------------------------

UNUSABLE = {
    "empty": b"",
    "short": base64.b64encode(KEY[:31]),
    "long": base64.b64encode(KEY + b"x"),
    "zeros": base64.b64encode(bytes(32)),
    "a password": b"correct horse battery staple",
    "a password without spaces": b"correcthorsebatterystaple",
    "hexadecimal": KEY.hex().encode(),
    "raw bytes": KEY,
    "a line that is no key": base64.b64encode(KEY) + b"\n" + base64.b64encode(KEY[:31]),
    "an empty line": base64.b64encode(KEY) + b"\n\n" + base64.b64encode(OTHER_KEY),
    "two on one line": base64.b64encode(KEY) + b" " + base64.b64encode(OTHER_KEY),
    "not ASCII": "schlüssel".encode(),
    "a large file": b"A" * 100_000,
}


@pytest.mark.parametrize("content", UNUSABLE.values(), ids=list(UNUSABLE))
def test_a_file_without_a_key_is_refused_and_kept(home: Path, content: bytes) -> None:
    path = write_key(own_key(home), "")
    path.write_bytes(content)
    with pytest.raises(KeyUnusable) as refused:
        loaded(may_create=True)
    assert str(refused.value) == f"{path} does not hold 32 random bytes in base64"
    assert refused.value.__suppress_context__
    assert path.read_bytes() == content


@pytest.mark.parametrize("count", [2, 8, 9])
def test_a_source_holds_up_to_eight_keys(home: Path, count: int) -> None:
    keys = [key_of(f"{number}") for number in range(count)]
    write_key(own_key(home), "").write_bytes(lines(*keys))
    if count > 8:
        with pytest.raises(KeyUnusable, match="holds a key twice, or more than 8"):
            loaded()
    else:
        assert key_source(load_settings(), may_create=False).read() == keys


def test_a_key_that_is_there_twice_is_refused(home: Path) -> None:
    write_key(own_key(home), "").write_bytes(lines(KEY, OTHER_KEY, KEY))
    with pytest.raises(KeyUnusable, match=r"encryption\.key holds a key twice"):
        loaded()


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b" \n\n"])
def test_lines_may_end_as_editors_end_them(home: Path, end: bytes) -> None:
    text = lines(KEY, OTHER_KEY).replace(b"\n", b"\r\n" if b"\r" in end else b"\n").rstrip() + end
    write_key(own_key(home), "").write_bytes(text)
    assert key_source(load_settings(), may_create=False).read() == [KEY, OTHER_KEY]


@pytest.mark.parametrize("content", ["changeme", base64.b64encode(bytes(32)).decode()])
def test_an_environment_without_a_key_is_refused_and_named(monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    monkeypatch.setenv(ENVIRONMENT, content)
    with pytest.raises(KeyUnusable, match=f"^{ENVIRONMENT} does not hold"):
        loaded(may_create=True)
    assert ENVIRONMENT not in os.environ


@pytest.mark.parametrize("loose", [0o644, 0o640, 0o666])
def test_a_key_file_that_others_may_read_is_refused(home: Path, loose: int) -> None:
    path = write_key(own_key(home), "own file", loose)
    with pytest.raises(KeyUnusable, match="0600 or 0400"):
        loaded()
    assert mode(path)[4:] != "------"  # it has been seen by now: closing it would hide that


@pytest.mark.usefixtures("nothing_hangs")
@pytest.mark.parametrize("trap", TRAPS)
def test_a_prepared_key_file_is_refused(home: Path, trap: Trap) -> None:
    target = write_key(home / "target", "somebody else's", 0o600)
    own_key(home).parent.mkdir(0o700, parents=True)
    trap(own_key(home), target)
    before = os.lstat(own_key(home))
    with pytest.raises(KeyUnusable, match="encryption"):
        loaded(may_create=True)
    assert os.lstat(own_key(home)).st_mode == before.st_mode
    assert target.read_bytes() == base64.b64encode(key_of("somebody else's")) + b"\n"


@as_root
def test_a_key_folder_of_somebody_else_is_refused(home: Path) -> None:
    folder = own_key(home).parent
    folder.mkdir(parents=True)
    os.chown(folder, SOMEBODY_ELSE, SOMEBODY_ELSE)
    with pytest.raises(KeyUnusable, match="belongs to another user"):
        loaded(may_create=True)
    assert list(folder.iterdir()) == []


@as_root
def test_a_key_file_of_root_may_be_used_by_the_service(home: Path) -> None:
    """As systemd and orchestrators deliver it: owned by root, readable for the one user of the service."""
    path = write_key(own_key(home), "own file", 0o400)
    assert path.stat().st_uid == 0
    assert loaded() == named("own file")


# -- a key that is gone --------------------------------------------------------------------------------------------


async def a_used_database(home: Path) -> Path:
    """With a login in it."""
    path = home / "data" / "x.db"
    store = open_store(f"sqlite:{path}")
    await store.install(credential())
    await store.close()
    return path


def start(path: Path) -> Store:
    """As the service does it."""
    return Store(SQLite(path), lambda is_new: key_source(Settings(), may_create=is_new), due)


async def test_without_its_key_a_used_database_is_not_touched(home: Path) -> None:
    path = await a_used_database(home)
    before = path.read_bytes()
    with pytest.raises(KeyUnusable, match=r"put it back as .*/encryption\.key"):
        start(path)
    assert path.read_bytes() == before
    assert not own_key(home).exists()


@pytest.mark.parametrize("content", UNUSABLE.values(), ids=list(UNUSABLE))
async def test_with_an_unusable_key_a_used_database_is_not_touched(home: Path, content: bytes) -> None:
    path = await a_used_database(home)
    before = path.read_bytes()
    write_key(own_key(home), "").write_bytes(content)
    with pytest.raises(KeyUnusable):
        start(path)
    assert path.read_bytes() == before


async def test_with_another_key_a_used_database_is_refused_and_not_changed(home: Path) -> None:
    path = await a_used_database(home)
    before = path.read_bytes()
    write_key(own_key(home), "another")
    with pytest.raises(
        KeyUnusable, match=rf"^the key in .*/encryption\.key is not .*\({Key(KEY).id.hex()}\): put that"
    ):
        start(path)
    assert path.read_bytes() == before


async def test_where_nobody_has_logged_in_yet_another_key_is_refused_too(home: Path) -> None:
    """A second replica that has made a key of its own would hand out nothing that the first can read."""
    path = home / "data" / "x.db"
    await open_store(f"sqlite:{path}").close()
    before = path.read_bytes()
    with pytest.raises(KeyUnusable, match="put it back as"):
        start(path)
    write_key(own_key(home), "another")
    with pytest.raises(KeyUnusable, match="put that one back"):
        start(path)
    assert path.read_bytes() == before


async def test_after_a_logout_the_key_is_still_wanted(home: Path) -> None:
    path = home / "data" / "x.db"
    store = open_store(f"sqlite:{path}")
    await store.install(credential())
    await store.forget("default")
    await store.close()
    with pytest.raises(KeyUnusable):
        start(path)


def test_the_vault_of_the_settings_seals(home: Path) -> None:
    vault = Vault(*key_source(Settings(), may_create=True).read())
    sealed = vault.seal(Secret("token"), PLACE)
    assert Vault(*key_source(Settings(), may_create=False).read()).open(sealed, PLACE) == Secret("token")
