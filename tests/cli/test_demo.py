"""`demo`: logged in by itself, every line that it prints works when pasted, and nothing is left behind."""

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from service.cli import demo, visitor
from service.cli.client import Service
from service.cli.console import DONE, FAILED, LOGIN_REQUIRED, MISUSED, Failure

from .conftest import ROOT
from .conftest import in_process_of_its_own as command
from .fake import FakeService, Reply, problem
from .terminal import terminal

pytestmark = pytest.mark.usefixtures("callback_ports")
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on the PATH")


class Demo:
    """A demo that somebody started."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def lines(self) -> list[str]:
        """What it says to paste, once it is ready."""
        assert self.process.stdout is not None
        found: list[str] = []
        while not (found and "account=second&format=text" in found[-1]):
            line = self.process.stdout.readline()
            assert line, self.stderr()
            found.append(line.rstrip("\n"))
        return found

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)

    def stderr(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read()


@contextmanager
def started(folder: Path) -> Iterator[Demo]:
    theirs = {
        "PIXIR_AUTH_DATABASE_URL": "sqlite:////nowhere/at/all.db",
        "PIXIR_AUTH_UNIX_SOCKET": "/nowhere/at/all.sock",
        "PIXIR_AUTH_CLIENT_KEY_FILE": "/nowhere/at/all.key",
        "PIXIR_AUTH_REQUIRE_HEADER": "X-Of-Theirs",
    }
    environ = {**os.environ, **theirs, "TMPDIR": str(folder)}
    command = [sys.executable, "-P", "-c", demo._SERVE, "demo", str(ROOT)]
    foreign = folder.parent / "service"  # in the current folder, and not ours
    foreign.mkdir()
    (foreign / "__init__.py").write_text("raise SystemExit('the wrong service')")
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environ, cwd=folder.parent, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield Demo(process)
        finally:
            with suppress(subprocess.TimeoutExpired):
                process.terminate()
                process.wait(30)
            process.kill()


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def paste(line: str) -> str:
    """What a shell shows for the line."""
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, (line, done.stderr)
    return done.stdout


@needs_curl
@pytest.mark.long
def test_every_line_works_when_pasted(scratch: Path, alone: Path) -> None:
    with started(scratch) as running:
        shown = running.lines()
        assert all(line.startswith(("# ", "curl ")) for line in shown)
        answers = [paste(line) for line in shown if line.startswith("curl ")]
        assert running.stop() == DONE
        status, token, api, newer, longer, device, _approved, second = answers
        assert '"authenticated":true' in status
        assert token.count("\n") == 1
        assert "ada@example.com" in api
        assert '"generation":2' in newer
        assert token.strip() not in newer
        assert '"access_token":' in longer
        assert '"user_code":' in device
        assert second.count("\n") == 1
        assert second != token
        told = running.stderr()
    assert "Ctrl-C" in told
    assert "Traceback" not in told
    assert not list(scratch.iterdir())
    assert not list(alone.iterdir())


@pytest.mark.long
def test_every_command_works_at_a_real_service(scratch: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with started(scratch) as running:
        shown = running.lines()
        monkeypatch.setenv("PIXIR_AUTH_PORT", shown[1].partition("http://localhost:")[2].partition("/")[0])
        approve = next(line for line in shown if "_sandbox/approve" in line)
        assert command("status").code == DONE
        token = command("token")
        assert token.code == DONE
        assert token.out.strip() in command("headers").out
        assert json.loads(command("accounts", "--json").out)["accounts"][0]["email"] == "ada@example.com"
        assert json.loads(command("export", "--format", "codex").out)["tokens"]["access_token"] == token.out.strip()
        assert command("token", "--account", "other").code == FAILED
        assert command("login", "--provider", "nobody").code == MISUSED

        with terminal("login", "--device", "--account", "device") as person:
            person.wait_for("left.")
            paste(approve)
            assert person.end() == DONE
        with terminal("login", "--no-browser", "--account", "browser") as person:
            person.wait_for("left.")
            if "A browser login is not possible" not in person.seen:
                url = next(line.strip() for line in person.seen.splitlines() if "/oauth/authorize?" in line)
                person.type(visitor._visit("GET", url) + "\n")
            else:
                paste(approve)
            assert person.end() == DONE

        file = tmp_path / "auth.json"
        file.write_text('{"tokens":{"access_token":"a","refresh_token":"r","id_token":"i"}}')
        assert command("import", str(file), "--account", "foreign").code == DONE
        assert command("token", "--account", "foreign").code == LOGIN_REQUIRED
        logged_out = command("logout")
        assert (logged_out.code, logged_out.out) == (DONE, "")
        assert "has revoked" in logged_out.err
        assert command("status").code == LOGIN_REQUIRED
        assert command("token").code == LOGIN_REQUIRED
        assert running.stop() == DONE


@pytest.mark.long
def test_whole_output_is_a_script(scratch: Path) -> None:
    """Comments and commands: it can be piped into a shell."""
    with started(scratch) as running:
        script = "\n".join(running.lines())
        subprocess.run(["bash", "-n"], input=script, text=True, check=True, timeout=10)
        assert running.stop(signal.SIGINT) == DONE


@pytest.mark.long
def test_taken_callback_ports_do_not_hinder(scratch: Path) -> None:
    with ExitStack() as taken:
        for port in (1455, 1457):
            with suppress(OSError):  # somebody else has it: just as well
                taken.enter_context(socket.create_server(("127.0.0.1", port)))
        with started(scratch) as running:
            shown = running.lines()
            assert "1455" not in shown[1]
            assert running.stop(signal.SIGHUP) == DONE


@pytest.mark.long
@pytest.mark.parametrize("after", [0.0, 1.0])
def test_end_before_it_is_ready(scratch: Path, after: float) -> None:
    with started(scratch) as running:
        assert running.process.stderr is not None
        running.process.stderr.readline()  # from here on it has something to tidy up
        time.sleep(after)
        assert running.stop() == DONE
    assert not list(scratch.iterdir())


@pytest.fixture
def quiet_signals() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("quiet_signals")
def test_service_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(Failure, match="ended by itself") as caught:
        demo.run()
    assert caught.value.exit_code == FAILED


@pytest.mark.usefixtures("quiet_signals")
def test_service_that_is_never_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_READY_WITHIN", 0.1)
    with subprocess.Popen(["sleep", "30"]) as process:
        with pytest.raises(Failure, match="not ready"):
            demo._until(lambda: False, process, demo.Stop())
        process.kill()


@pytest.mark.usefixtures("quiet_signals")
def test_ctrl_c_that_reaches_the_service_first_is_no_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    both = tmp_path / "both"
    both.write_text("#!/bin/sh\nkill -TERM $PPID\nexit 1\n")
    both.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(both))
    assert demo.run() == DONE


@pytest.mark.long
@pytest.mark.usefixtures("quiet_signals")
def test_failure_after_the_end_was_asked_for_is_none(scratch: Path) -> None:
    """The service ends while somebody logs in at it: only Ctrl-C did that."""
    with started(scratch) as running:
        assert running.process.stderr is not None
        running.process.stderr.readline()
        children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children")
        while not children.read_text():
            time.sleep(0.01)
        service = int(children.read_text().split()[0])
        running.process.send_signal(signal.SIGINT)
        os.kill(service, signal.SIGINT)
        assert running.process.wait(30) == DONE


@pytest.mark.usefixtures("quiet_signals")
def test_ignored_signals_stay_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    demo.Stop()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_service_that_will_not_end_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stubborn = tmp_path / "stubborn"
    stubborn.write_text("#!/bin/sh\ntrap '' TERM\ntouch ready\nwhile :; do sleep 0.1; done\n")
    stubborn.chmod(0o700)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(stubborn))
    monkeypatch.setattr(demo, "_STOP_WITHIN", 0.2)
    with demo._service([], tmp_path, "http://127.0.0.1:2") as process:
        while not (tmp_path / "ready").exists():
            time.sleep(0.02)
    assert process.returncode == -signal.SIGKILL


def test_settings_of_the_person_do_not_reach_the_service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    theirs = ("PIXIR_AUTH_DATABASE_URL", "PIXIR_AUTH_UNIX_SOCKET", "PIXIR_AUTH_CLIENT_KEY_FILE", "pixir_auth_host")
    for name in (*theirs, "OPENAI_API_KEY", "CREDENTIALS_DIRECTORY"):
        monkeypatch.setenv(name, "x")
    environ = demo.environment(tmp_path, "http://127.0.0.1:5")
    assert "x" not in environ.values()
    assert {name: value for name, value in environ.items() if name.upper().startswith("PIXIR_AUTH_")} == {
        "PIXIR_AUTH_CONFIG": str(tmp_path / "pixir-auth.toml"),
        "PIXIR_AUTH_ENCRYPTION_KEY_FILE": str(tmp_path / "key"),
        "PIXIR_AUTH_DATA_DIR": str(tmp_path / "data"),
        "PIXIR_AUTH_CODEX_ISSUER": "http://127.0.0.1:5",
        "PIXIR_AUTH_LOG_LEVEL": "warning",
    }


def port_of(sockets: list[socket.socket]) -> int:
    """Where they listen, once they no longer do."""
    port: int = sockets[0].getsockname()[1]
    for each in sockets:
        each.close()
    return port


def test_port_is_1455_or_a_free_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with suppress(OSError), socket.create_server(("127.0.0.1", 1455)):
        assert port_of(demo.listening()) != 1455
    monkeypatch.setattr(demo, "_PORT", port_of(demo.listening()))
    assert port_of(demo.listening()) == demo._PORT
    with socket.create_server(("::1", demo._PORT), family=socket.AF_INET6):
        assert port_of(demo.listening()) != demo._PORT


def test_no_port_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(demo, "listen", taken)
    with pytest.raises(Failure, match="No port is free"):
        demo.listening()


@pytest.mark.usefixtures("quiet_signals")
def test_nobody_else_can_be_at_the_port_from_before_the_service_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What would be the service finds its port taken, on both addresses, and ends the demo."""
    found, program = tmp_path / "found", tmp_path / "program"
    monkeypatch.setattr(demo, "_PORT", port_of(demo.listening()))
    program.write_text(
        f"#!{sys.executable}\n"
        "import os, signal, socket\n"
        "found = []\n"
        "for family, address in ((socket.AF_INET, '127.0.0.1'), (socket.AF_INET6, '::1')):\n"
        "    try:\n"
        f"        socket.create_server((address, {demo._PORT}), family=family)\n"
        "    except OSError as exc:\n"
        "        found.append(exc.errno)\n"
        f"open({str(found)!r}, 'w').write(str(found))\n"
        "os.kill(os.getppid(), signal.SIGTERM)\n"
    )
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    assert demo.run() == DONE
    assert found.read_text() == str([errno.EADDRINUSE] * 2)


@pytest.mark.long
def test_demos_that_start_at_once_do_not_meet(tmp_path: Path) -> None:
    """Each is logged in at its own service and its own issuer, by one login that nobody has replaced."""
    with ExitStack() as stack:
        folders = [tmp_path / name / "scratch" for name in ("one", "two", "three")]
        for folder in folders:
            folder.mkdir(parents=True)
        running = [stack.enter_context(started(folder)) for folder in folders]
        services = [each.lines()[1].split()[-1].removesuffix("/status") for each in running]
        assert len(set(services)) == len(services)
        for service in services:
            audit = Service(service).get("/audit")["entries"]
            assert [entry["outcome"] for entry in audit if entry["deed"] == "login"] == ["done"]
        assert [each.stop() for each in running] == [DONE] * len(running)


# -- the person of the demo --------------------------------------------------------------------------------------


@pytest.fixture
def service(fake: FakeService) -> Service:
    fake.authorize_url = f"{fake.url}/authorize?state=s"
    fake.replies["GET", "/authorize"] = Reply(302, headers={"Location": f"{fake.url}/back?code=c"})
    fake.replies["GET", "/back"] = Reply(200, {})
    return Service(fake.url)


def test_device_code_is_approved_on_the_issuers_page(fake: FakeService, service: Service) -> None:
    page = {"flow": "device", "user_code": "AB-1", "verification_uri": f"{fake.url}/codex/device", "state": "complete"}
    fake.replies["POST", "/login"] = Reply(201, page)
    fake.replies["POST", "/codex/device"] = Reply(200, {})
    visitor.finish_login(service)
    (asked,) = fake.sent("POST", "/codex/device")
    assert asked.body == b"user_code=AB-1&decision=approve"
    assert asked.headers["content-type"] == "application/x-www-form-urlencoded"


def test_login_that_fails_ends_the_demo(fake: FakeService, service: Service) -> None:
    fake.replies["GET", "/login/login-1"] = Reply(body={"state": "failed", "detail": "It was refused."})
    with pytest.raises(Failure, match="It was refused"):
        visitor.finish_login(service)
    assert fake.sent("GET", "/back")[0].query == {"code": "c"}


def test_login_that_never_ends_ends_the_demo(
    fake: FakeService, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visitor, "_WITHIN", 0.1)
    fake.replies["GET", "/login/login-1"] = Reply(body={"state": "pending", "id": "login-1"}, delay=0.2)
    with pytest.raises(Failure, match="pending"):
        visitor.finish_login(service)


@pytest.mark.parametrize("location", ["http://issuer.example/x", "https://localhost/x", "file:///x", ""])
def test_visitor_stays_on_this_machine(fake: FakeService, service: Service, location: str) -> None:
    fake.replies["GET", "/authorize"] = Reply(302, headers={"Location": location})
    with pytest.raises(Failure, match="left this machine"):
        visitor.finish_login(service)


def test_page_that_does_not_load(fake: FakeService, service: Service) -> None:
    fake.replies["GET", "/back"] = Reply(raw=b"")
    with pytest.raises(Failure, match="did not load"):
        visitor.finish_login(service)
    fake.replies["GET", "/back"] = problem(400, "login_mismatch")
    with pytest.raises(Failure, match="HTTP 400"):
        visitor.finish_login(service)


def test_not_ready_until_the_store_is(fake: FakeService, service: Service) -> None:
    assert visitor.is_ready(service)
    fake.replies["GET", "/readyz"] = problem(503, "store_unavailable")
    assert not visitor.is_ready(service)
