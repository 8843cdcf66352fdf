"""The file that `backup` writes: its owner's alone, whole or not there, and never in the place of another."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ROOT, Run
from .fake import FakeService, Received, Reply, running
from .test_backup import account, lines, serve, text

pytestmark = pytest.mark.long


def started(*under: str, stdout: int | None = None, arguments: tuple[str, ...]) -> subprocess.CompletedProcess[bytes]:
    """The command under another one."""
    line = [*under, sys.executable, "-B", "-m", "service", *arguments]
    return subprocess.run(line, cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, check=False, timeout=60)


def test_nobody_else_reads_it_whatever_the_umask(fake: FakeService, run: Run, tmp_path: Path) -> None:
    serve(fake, text(lines()))
    before = os.umask(0)
    ran = run("backup", str(tmp_path / "a.backup"))
    os.umask(before)
    assert ran.code == 0
    assert (tmp_path / "a.backup").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("is_link", [False, True])
def test_what_comes_into_its_place_meanwhile_stays(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_link: bool
) -> None:
    path, target = tmp_path / "a.backup", tmp_path / "theirs"
    target.write_text("theirs")

    class Slow(FakeService):
        """Somebody is faster."""

        def answer(self, asked: Received) -> Reply:
            path.symlink_to(target) if is_link else path.write_text("theirs")
            return super().answer(asked)

    with running(Slow()) as fake:
        monkeypatch.setenv("PIXIR_AUTH_PUBLIC_URL", fake.url)
        serve(fake, text(lines()))
        ran = run("backup", str(path))
    assert (ran.code, "File exists" in ran.err) == (1, True)
    assert (path.is_symlink(), path.read_text(), target.read_text()) == (is_link, "theirs", "theirs")
    assert not list(tmp_path.glob("*.new"))


@pytest.mark.parametrize("rows", [1, 400], ids=["at the end", "on the way"])
def test_a_disk_that_takes_no_more_leaves_nothing(fake: FakeService, tmp_path: Path, rows: int) -> None:
    serve(fake, text(lines(*(account(f"a{number}", filler="x" * 3000) for number in range(rows)))))
    done = started("sh", "-c", 'ulimit -f 2; exec "$@"', "sh", arguments=("backup", str(tmp_path / "a.backup")))
    assert done.returncode == 1
    assert b"cannot be written" in done.stderr
    assert not list(tmp_path.glob("a.*"))


def test_a_stdout_that_takes_no_more_is_a_failure(fake: FakeService) -> None:
    serve(fake, text(lines()))
    full = os.open("/dev/full", os.O_WRONLY)
    done = started(stdout=full, arguments=("backup", "-"))
    os.close(full)
    assert done.returncode == 1
    assert b"Backed up" not in done.stderr


_CALLS = "fsync,?link,linkat,?unlink,unlinkat"


@pytest.mark.strace
def test_it_is_on_disk_before_it_has_its_name(fake: FakeService, tmp_path: Path) -> None:
    serve(fake, text(lines()))
    record = tmp_path / "record"
    strace = ("strace", "-e", f"trace={_CALLS}", "-o", str(record))
    assert started(*strace, arguments=("backup", str(tmp_path / "a.backup"))).returncode == 0
    calls = [line.partition("(")[0].removesuffix("at") for line in record.read_text().splitlines() if "= 0" in line]
    assert calls == ["fsync", "link", "unlink", "fsync"]


@pytest.mark.strace
@pytest.mark.parametrize(
    ("calls", "when", "draft", "whole"),
    [("fsync", 1, 1, 0), ("?link,linkat", 1, 1, 0), ("?unlink,unlinkat", 1, 1, 1), ("fsync", 2, 0, 1)],
)
def test_killed_before_any_of_these_it_is_whole_or_not_there(
    fake: FakeService, run: Run, tmp_path: Path, calls: str, when: int, draft: int, whole: int
) -> None:
    content = text(lines(account("work")))
    serve(fake, content)
    path = tmp_path / "a.backup"
    strace = ("strace", "-o", os.devnull, "-e", f"inject={calls}:signal=KILL:when={when}")
    assert started(*strace, arguments=("backup", str(path))).returncode == -9
    drafts = list(tmp_path.glob("a.backup.*.new"))
    assert (len(drafts), len(list(tmp_path.glob("a.*")))) == (draft, draft + whole)
    assert [each.stat().st_mode & 0o777 for each in drafts] == [0o600] * draft
    if whole:
        assert path.read_bytes() == content
    else:
        assert run("backup", str(path)).code == 0, "what stays is in nobody's way"
