"""`doctor` at the ports, at the service and at the issuer: real sockets, and whatever may be at their other end."""

import contextlib
import http.server
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

import certifi
import pytest

from service import __version__
from service.doctor import network, ports
from service.doctor.doctor import WITHIN
from service.doctor.finding import Told
from service.settings import Settings, load_settings
from service.store.owner import Owners
from tests.issuer.certificates import Authority
from tests.kit.ports import free_port

from .conftest import in_process_of_its_own
from .fake import FakeService, Reply, problem
from .patient import as_root, examined, found

pytestmark = pytest.mark.long

Environment = pytest.MonkeyPatch


@contextmanager
def listening(address: str, port: int = 0, *, uid: int | None = None) -> Iterator[int]:
    """A program that accepts connections and never says a word; of another user, if one is given. The port."""
    program = (
        "import os, socket, sys\n"
        "family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET\n"
        "if sys.argv[3]: os.setuid(int(sys.argv[3]))\n"
        "server = socket.create_server((sys.argv[1], int(sys.argv[2])), family=family)\n"
        "print(server.getsockname()[1], flush=True)\n"
        "held = [server.accept() for _ in range(100)]\n"
    )
    command = [sys.executable, "-I", "-c", program, address, str(port), "" if uid is None else str(uid)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


@pytest.fixture
def at_port(monkeypatch: Environment) -> Callable[[int], Settings]:
    """Settings with a port, and an issuer that refuses connections."""

    def make(port: int) -> Settings:
        monkeypatch.setenv("PIXIR_AUTH_PORT", str(port))
        monkeypatch.setenv("PIXIR_AUTH_CODEX_ISSUER", f"http://127.0.0.1:{free_port()}")
        return load_settings()

    return make


def port_states(settings: Settings) -> list[tuple[str, str]]:
    """State and sentence of each finding about the port."""
    listeners = ports.listeners(settings.host, settings.port)
    return [(state, detail) for state, detail, _ in ports.port_told(settings, listeners)]


# -- the port --------------------------------------------------------------------------------------------------------


def test_a_free_port_is_told(at_port: Callable[[int], Settings]) -> None:
    settings = at_port(free_port())
    assert port_states(settings) == [("ok", f"Port {settings.port} is free.")]


def test_a_port_of_its_own_choice_is_no_trouble(at_port: Callable[[int], Settings]) -> None:
    assert port_states(at_port(0))[0][0] == "ok"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "0.0.0.0"])
def test_another_program_at_the_port_is_trouble_in_time(at_port: Callable[[int], Settings], address: str) -> None:
    """It accepts, and never answers."""
    began = time.monotonic()
    with listening(address) as port:
        ((state, detail),) = port_states(at_port(port))
    assert state == "trouble"
    assert detail.startswith("Another program listens at ")
    assert time.monotonic() - began < 8


@pytest.mark.skipif(sys.platform != "linux", reason="nothing else tells it")
def test_the_kernel_tells_whose_the_program_is(at_port: Callable[[int], Settings]) -> None:
    as_root()
    for address in ("127.0.0.1", "::1"):
        with listening(address, uid=65534) as port:
            assert ports.listening_uid(address, port) == 65534
            ((_, detail),) = port_states(at_port(port))
            assert "nobody" in detail or "65534" in detail
    assert ports.listening_uid("127.0.0.1", free_port()) is None


def test_the_service_at_one_family_only_is_trouble(fake: FakeService, at_port: Callable[[int], Settings]) -> None:
    settings = at_port(int(fake.url.rpartition(":")[2]))
    assert [each.who for each in ports.listeners("localhost", settings.port)] == ["service", "nobody"]
    assert port_states(settings)[0][0] == "trouble"
    assert port_states(settings.model_copy(update={"host": "127.0.0.1"}))[0][0] == "ok"


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (problem(401, "key_required"), "service"),
        (Reply(body={"status": "ok"}), "stranger"),
        (Reply(404, body=["x"]), "stranger"),
        (Reply(raw=b"SSH-2.0-x\r\n"), "stranger"),
    ],
)
def test_the_service_is_known_by_its_answer(fake: FakeService, reply: Reply, expected: str) -> None:
    fake.replies["GET", "/status"] = reply
    (listener,) = ports.listeners("127.0.0.1", int(fake.url.rpartition(":")[2]))
    assert listener.who == expected


def test_callback_ports(monkeypatch: Environment, callback_ports: None, at_port: Callable[[int], Settings]) -> None:
    def told() -> Told:
        (one,) = ports.callback_ports_told(at_port(free_port()))
        return one

    with contextlib.ExitStack() as taken:
        for port in (1455, 1457):
            assert told()[0] == "ok"
            try:
                taken.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                pytest.skip(f"somebody else has port {port}")
        assert told()[0] == "warning"
    assert [each[0] for each in ports.callback_ports_told(at_port(1455))] == ["ok"]


# -- the service -----------------------------------------------------------------------------------------------------


@pytest.fixture
def served(fake: FakeService, monkeypatch: Environment, alone: Path) -> Iterator[FakeService]:
    """A service that answers, and a live process on the data folder."""
    monkeypatch.setenv("PIXIR_AUTH_HOST", "127.0.0.1")
    monkeypatch.setenv("PIXIR_AUTH_PORT", fake.url.rpartition(":")[2])
    monkeypatch.setenv("PIXIR_AUTH_CODEX_ISSUER", f"http://127.0.0.1:{free_port()}")
    fake.replies["GET", "/status"] = Reply(body={**fake.accounts["default"], "version": __version__})
    owners = Owners(alone / "data" / "pixir-auth" / "owners")
    yield fake
    owners.close()


def test_a_service_that_answers_us_is_well(served: FakeService) -> None:
    told = found("service")
    assert (told.state, told.detail.count(__version__)) == ("ok", 1)


def test_nothing_but_questions_is_asked(served: FakeService) -> None:
    examined()
    assert {(each.method, each.path) for each in served.requests} <= {
        *(("GET", "/status"), ("GET", "/readyz"), ("HEAD", "/"))
    }


@pytest.mark.parametrize(
    ("path", "reply", "expected", "said"),
    [
        ("/status", Reply(body={"authenticated": True, "refresh": {}, "version": "0.0.1"}), "warning", "Restart"),
        (
            "/status",
            problem(403, "wrong_user", "It belongs to another.", "Ask the owner."),
            "trouble",
            "Ask the owner.",
        ),
        ("/status", problem(401, "key_required", "A key.", "Do: keys add"), "trouble", "Do: keys add"),
        ("/readyz", problem(503, "store_unavailable", "Full.", "Check free space."), "trouble", "Check free space."),
        ("/readyz", Reply(delay=5), "trouble", "timed out"),
    ],
)
def test_how_the_service_stands_is_told(served: FakeService, path: str, reply: Reply, expected: str, said: str) -> None:
    served.replies["GET", path] = reply
    told = found("service")
    assert (told.state, said in str(told)) == (expected, True), told


def test_no_service_is_a_warning(at_port: Callable[[int], Settings]) -> None:
    at_port(free_port())
    told = found("service")
    assert (told.state, "Start it with: pixir-auth serve" in told.next_actions) == ("warning", True)


def test_a_process_on_the_folder_that_is_not_where_the_settings_say_is_trouble(
    at_port: Callable[[int], Settings], alone: Path
) -> None:
    at_port(free_port())
    owners = Owners(alone / "data" / "pixir-auth" / "owners")
    told = found("service")
    owners.close()
    assert (told.state, "PIXIR_AUTH_PORT" in told.next_actions[0]) == ("trouble", True)


def test_a_service_on_another_folder_is_a_warning(
    served: FakeService, monkeypatch: Environment, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIXIR_AUTH_DATA_DIR", str(tmp_path / "elsewhere"))
    assert (found("service").state, "another data folder" in found("service").detail) == ("warning", True)


def test_a_stranger_at_the_port_is_not_sent_the_client_key(
    served: FakeService, monkeypatch: Environment, alone: Path
) -> None:
    key = alone / "client.key"
    key.touch(0o600)
    key.write_text("CANARY-client-key-" + "x" * 22)
    monkeypatch.setenv("PIXIR_AUTH_CLIENT_KEY_FILE", str(key))
    examined()
    assert any("authorization" in each.headers for each in served.requests), "the service gets it"
    served.requests.clear()
    served.replies["GET", "/status"] = Reply(body={"hello": "world"})
    told = found("service")
    assert told.state == "warning"
    assert not [each for each in served.requests if "authorization" in each.headers]


# -- the issuer ------------------------------------------------------------------------------------------------------


class _Answering(http.server.BaseHTTPRequestHandler):
    """Tells a time, and what it was asked."""

    ahead = 0.0
    asked: list[str] = []

    def do_HEAD(self) -> None:
        self.asked.append(f"{self.requestline} {self.headers.get('Authorization')}")
        self.send_response_only(302)
        self.send_header("Location", "/elsewhere")
        self.send_header("Date", formatdate(time.time() + self.ahead, usegmt=True))
        self.end_headers()


@contextmanager
def issuing(context: ssl.SSLContext | None = None, ahead: float = 0.0) -> Iterator[tuple[int, list[str]]]:
    """An issuer; its port, and what it was asked."""
    handler = type("Answering", (_Answering,), {"ahead": ahead, "asked": []})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.handle_error = lambda _request, _address: None  # type: ignore[method-assign]  # who does not trust us leaves
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server.server_address[1], handler.asked  # type: ignore[attr-defined]
        server.shutdown()


def issuer(address: str) -> list[Told]:
    return list(network.issuer_told(address))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.new(tmp_path_factory.mktemp("authority") / "authority.pem")


def test_an_issuer_that_is_trusted_is_asked_once_and_not_followed(
    authority: Authority, monkeypatch: Environment
) -> None:
    monkeypatch.setattr(certifi, "where", lambda: str(authority.file))
    with issuing(authority.server()) as (port, asked):
        assert [each[0] for each in issuer(f"https://127.0.0.1:{port}")] == ["ok"]
        assert asked == ["HEAD / HTTP/1.1 None"]


@pytest.mark.parametrize("server", ["self signed", "another name", "ended", "nobody's"])
def test_an_issuer_that_the_service_would_not_trust_is_trouble(
    authority: Authority, monkeypatch: Environment, server: str
) -> None:
    if server != "nobody's":
        monkeypatch.setattr(certifi, "where", lambda: str(authority.file))
    contexts = {
        "self signed": authority.self_signed,
        "another name": lambda: authority.server("issuer.test"),
        "ended": lambda: authority.server(ended=True),
        "nobody's": authority.server,
    }
    with issuing(contexts[server]()) as (port, asked):
        ((state, detail, actions),) = issuer(f"https://127.0.0.1:{port}")
    assert (state, "certificate" in detail, "open TLS" in str(actions)) == ("trouble", True, True)
    assert asked == []


def test_a_port_without_tls_is_trouble() -> None:
    with issuing() as (port, _):
        ((state, detail, _),) = issuer(f"https://127.0.0.1:{port}")
    assert (state, "does not speak TLS" in detail) == ("trouble", True)


def test_an_issuer_that_accepts_and_never_answers_is_trouble_in_time() -> None:
    began = time.monotonic()
    with listening("127.0.0.1") as port:
        for scheme in ("http", "https"):
            ((state, detail, _),) = issuer(f"{scheme}://127.0.0.1:{port}")
            assert (state, "in time" in detail) == ("trouble", True)
    assert time.monotonic() - began < 9


def test_an_issuer_that_nobody_is_or_knows_is_trouble() -> None:
    assert "refuses the connection" in issuer(f"http://127.0.0.1:{free_port()}")[0][1]
    assert "not known by that name" in issuer("https://no-such-host.invalid")[0][1]


@pytest.mark.parametrize("address", ["http://127.0.0.1:{}", "https://127.0.0.1:{}", "http://[::1]:{}"])
def test_the_hint_asks_the_issuer_as_the_service_does(address: str) -> None:
    url = address.format(free_port())
    ((_, _, actions),) = issuer(url)
    assert actions[-1].split()[-1] == f"{url}/"


@pytest.mark.parametrize("answer", [b"HTTP/1.1 CANARY\r\n\r\n", b"CANARY\r\n\r\n"])
def test_what_the_issuer_answers_is_not_repeated(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            there, _ = server.accept()
            with there:
                there.recv(65536)
                there.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        ((state, *said),) = issuer(f"http://127.0.0.1:{server.getsockname()[1]}")
        thread.join()
    assert (state, "CANARY" in str(said)) == ("trouble", False)


@pytest.mark.parametrize(("ahead", "expected"), [(0, None), (30, None), (600, "behind"), (-600, "ahead of")])
def test_a_clock_that_is_wrong_is_a_warning(ahead: float, expected: str | None) -> None:
    with issuing(ahead=ahead) as (port, _):
        warnings = [detail for state, detail, _ in issuer(f"http://127.0.0.1:{port}") if state == "warning"]
    assert [expected in each for each in warnings if expected] == ([True] if expected else [])
    assert len(warnings) == (expected is not None)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "ok"),
        ({"HTTPS_PROXY": "http://CANARY:CANARY@proxy:1"}, "warning"),
        ({"all_proxy": "socks5://CANARY"}, "warning"),
        ({"http_proxy": "http://CANARY"}, "ok"),
        ({"https_proxy": "http://CANARY", "no_proxy": "localhost,.openai.com"}, "ok"),
    ],
)
def test_a_proxy_that_the_service_ignores_is_told(
    monkeypatch: Environment, environment: dict[str, str], expected: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ((state, *said),) = network.proxy_told("https://auth.openai.com")
    assert (state, "CANARY" in str(said)) == (expected, False)


# -- all of it -------------------------------------------------------------------------------------------------------


def test_the_whole_ends_in_time_whatever_hangs(monkeypatch: Environment, alone: Path) -> None:
    """Every port accepts and never answers, and PostgreSQL too."""
    with listening("0.0.0.0") as port, listening("::1", port):
        monkeypatch.setenv("PIXIR_AUTH_PORT", str(port))
        monkeypatch.setenv("PIXIR_AUTH_CODEX_ISSUER", f"https://127.0.0.1:{port}")
        monkeypatch.setenv("PIXIR_AUTH_DATABASE_URL", f"postgresql://me@127.0.0.1:{port}/x?connect_timeout=60")
        began = time.monotonic()
        told = examined()
        assert time.monotonic() - began < WITHIN + 1
        assert "not found out within" in str([each for each in told if each.check == "database"])
        ran = in_process_of_its_own("doctor", "--json")  # no thread that hangs keeps it from its end
        assert (ran.code, ran.err) == (1, "")
