"""`backup` and `restore`: a whole file or none, and nothing restored from half of one."""

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import Run, in_process_of_its_own
from .fake import FakeService, Reply, problem

HEAD: dict[str, Any] = {"pixir_auth_backup": 1, "key": "00112233", "fingerprints": "AAAA"}


def lines(*rows: dict[str, Any], **end: Any) -> list[dict[str, Any]]:
    kinds = [row["kind"] for row in rows]
    count = {"credentials": kinds.count("credential"), "client_keys": kinds.count("client_key")}
    return [HEAD, *rows, {"end": {**count, "keys": ["00112233"], **end}}]


def account(name: str, **row: Any) -> dict[str, Any]:
    return {"kind": "credential", "row": {"account": name, **row}, "mac": "0" * 64}


CLIENT_KEY: dict[str, Any] = {"kind": "client_key", "row": {"name": "ci"}, "mac": "1" * 64}


def text(document: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in document)


def serve(fake: FakeService, content: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/jsonl\r\nContent-Length: %d\r\n\r\n" % len(content)
    fake.replies["GET", "/backup"] = Reply(raw=head + content)


def outcomes(*credentials: str, keys: tuple[str, ...] = ()) -> Reply:
    return Reply(body={"credentials": list(credentials), "client_keys": list(keys)})


def written(folder: Path, document: list[dict[str, Any]]) -> str:
    path = folder / "a.backup"
    path.write_bytes(text(document))
    return str(path)


def test_a_backup_is_a_new_file_for_its_owner_alone(fake: FakeService, run: Run, tmp_path: Path) -> None:
    content = text(lines(account("work"), CLIENT_KEY))
    serve(fake, content)
    path = tmp_path / "a.backup"
    ran = run("backup", str(path))
    assert (ran.code, ran.out) == (0, "")
    assert "1 accounts and 1 client keys" in ran.err
    assert "00112233" in ran.err
    assert path.read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.glob("a.*")) == [path]


def test_a_backup_is_written_over_nothing(fake: FakeService, run: Run, tmp_path: Path) -> None:
    serve(fake, text(lines()))
    path = tmp_path / "a.backup"
    for prepare in (lambda: path.write_text("old"), lambda: path.unlink() or path.symlink_to("nowhere")):
        prepare()
        assert run("backup", str(path)).code == 1
    assert not fake.requests


@pytest.mark.parametrize("size", [0, 1, 60, -1, -30])
def test_half_a_backup_leaves_nothing(fake: FakeService, run: Run, tmp_path: Path, size: int) -> None:
    content = text(lines(account("work")))
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/jsonl\r\nContent-Length: %d\r\n\r\n" % len(content)
    fake.replies["GET", "/backup"] = Reply(raw=head + content[:size] if size >= 0 else head + content[: size - 1])
    assert run("backup", str(tmp_path / "a.backup")).code != 0
    assert not list(tmp_path.glob("a.*"))


def test_a_refusal_leaves_nothing(fake: FakeService, run: Run, tmp_path: Path) -> None:
    fake.replies["GET", "/backup"] = problem(403, "scope")
    ran = run("backup", str(tmp_path / "a.backup"))
    assert ran.code == 1
    assert "scope" in ran.err
    assert not list(tmp_path.glob("a.*"))


def test_to_stdout_it_is_alone_there(fake: FakeService) -> None:
    content = text(lines(account("work")))
    serve(fake, content)
    ran = in_process_of_its_own("backup", "-")
    assert (ran.code, ran.out) == (0, content.decode())


def test_what_is_restored_is_told_and_the_keys_stay_away(fake: FakeService, run: Run, tmp_path: Path) -> None:
    file = written(tmp_path, lines(account("work"), account("home"), CLIENT_KEY))
    fake.replies["POST", "/restore"] = outcomes("restored", "here")
    ran = run("restore", file)
    assert ran.code == 0
    assert "1 restored, not to be refreshed yet: work" in ran.err
    assert "1 left as they are here: home" in ran.err
    (asked,) = fake.sent("POST", "/restore")
    assert asked.json["fingerprints"] == "AAAA"
    assert [each["row"]["account"] for each in asked.json["credentials"]] == ["work", "home"]
    assert (asked.json["client_keys"], asked.json["replace"]) == ([], False)


def test_keys_and_replacing_are_asked_for(fake: FakeService, run: Run, tmp_path: Path) -> None:
    file = written(tmp_path, lines(account("work"), CLIENT_KEY))
    fake.replies["POST", "/restore"] = outcomes("restored", keys=("restored",))
    ran = run("restore", file, "--keys", "--replace")
    assert ran.code == 0
    assert "1 client keys restored: ci\nThey are good again, also one that was revoked" in ran.err
    (asked,) = fake.sent("POST", "/restore")
    assert asked.json["client_keys"] == [{"row": {"name": "ci"}, "mac": "1" * 64}]
    assert asked.json["replace"] is True


def test_what_is_large_goes_in_parts_that_the_service_takes(fake: FakeService, run: Run, tmp_path: Path) -> None:
    file = written(tmp_path, lines(*(account(f"a{number}", filler="x" * 60_000) for number in range(10))))
    fake.replies["POST", "/restore"] = [outcomes(*["restored"] * 3)] * 4
    assert run("restore", file).code == 0
    asked = fake.sent("POST", "/restore")
    assert [len(each.json["credentials"]) for each in asked] == [3, 3, 3, 1]
    assert max(len(each.body) for each in asked) < 256 * 1024


@pytest.mark.parametrize("outcome", ["damaged", "held"])
def test_what_could_not_be_restored_is_a_failure(fake: FakeService, run: Run, tmp_path: Path, outcome: str) -> None:
    fake.replies["POST", "/restore"] = outcomes("restored", outcome)
    ran = run("restore", written(tmp_path, lines(account("a"), account("b"))))
    assert ran.code == 1
    assert "1 not restored" in ran.err


@pytest.mark.parametrize("cut", [0, 10, 100, -2, -40])
def test_of_half_a_backup_nothing_is_restored(fake: FakeService, run: Run, tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.backup"
    path.write_bytes(text(lines(account("a"), account("b")))[:cut])
    assert run("restore", str(path)).code == 1
    assert not fake.requests


@pytest.mark.parametrize(
    "document",
    [
        [{"kind": "subscription"}],
        [{**HEAD, "pixir_auth_backup": 2}],
        [HEAD, account("a"), {"end": {"credentials": 2, "client_keys": 0}}],
        [HEAD, {"kind": "login", "row": {}, "mac": ""}, {"end": {"credentials": 0, "client_keys": 0}}],
        [HEAD, {"end": {"credentials": 0, "client_keys": 0}}, account("a")],
    ],
)
def test_what_is_no_backup_is_not_sent(
    fake: FakeService, run: Run, tmp_path: Path, document: list[dict[str, Any]]
) -> None:
    assert run("restore", written(tmp_path, document)).code == 1
    assert not fake.requests


def test_the_key_that_is_missing_is_named(fake: FakeService, run: Run, tmp_path: Path) -> None:
    fake.replies["POST", "/restore"] = problem(422, "invalid_credential", "It is not here.", "Add that key.")
    ran = run("restore", written(tmp_path, lines(account("a"))))
    assert ran.code == 1
    assert "00112233" in ran.err


def test_all_that_was_restored_is_confirmed_and_nothing_else(fake: FakeService, run: Run, tmp_path: Path) -> None:
    fake.replies["POST", "/restore"] = outcomes("restored", "here", "spent", "ended", "of a later version")
    fake.replies["POST", "/restore/confirm"] = Reply(body=fake.accounts["default"])
    file = written(tmp_path, lines(*(account(name) for name in "abcde")))
    ran = run("restore", file, "--confirm-all-unspent")
    assert ran.code == 0
    for told in ("1 restored as they were, logged out or dead: d", "1 of a later version: e"):
        assert told in ran.err
    assert [each.query for each in fake.sent("POST", "/restore/confirm")] == [{"account": "a"}]


def test_some_are_confirmed_later_and_one_that_cannot_be_holds_nobody_up(fake: FakeService, run: Run) -> None:
    fake.replies["POST", "/restore/confirm"] = [
        problem(409, "login_required", "A refresh got no answer."),
        Reply(body=fake.accounts["default"]),
    ]
    ran = run("restore", "--confirm-unspent", "a", "--confirm-unspent", "b")
    assert ran.code == 1
    assert "a: " in ran.err
    assert len(fake.sent("POST", "/restore/confirm")) == 2


@pytest.mark.parametrize(
    "options", [[], ["--replace"], ["--keys", "--confirm-unspent", "a"], ["--confirm-all-unspent"]]
)
def test_without_a_file_there_is_nothing_to_restore(fake: FakeService, run: Run, options: list[str]) -> None:
    assert run("restore", *options).code == 2
    assert not fake.requests


def test_it_comes_from_stdin_too(fake: FakeService) -> None:
    fake.replies["POST", "/restore"] = outcomes("restored")
    ran = in_process_of_its_own("restore", "-", stdin=text(lines(account("work"))))
    assert ran.code == 0, ran.err
    assert len(fake.sent("POST", "/restore")) == 1
