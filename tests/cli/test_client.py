"""The client: bounded, direct, and silent about what it must not say."""

import socket
from collections.abc import Iterator

import pytest

from service.cli import client
from service.cli.client import Problem, Service, login_path
from service.cli.console import FAILED, LOGIN_REQUIRED, UNREACHABLE, Failure

from .fake import ACCESS, FakeService, Reply, login_required, problem, running


@pytest.fixture
def service(fake: FakeService) -> Service:
    return Service(fake.url)


def failing(service: Service) -> Failure:
    with pytest.raises(Failure) as caught:
        service.get("/status")
    return caught.value


def test_what_is_sent(fake: FakeService, service: Service) -> None:
    service.call("PUT", "/credential", query={"account": "a", "left_out": None}, body={"kind": "api_key"})
    (asked,) = fake.requests
    assert asked.query == {"account": "a"}
    assert asked.json == {"kind": "api_key"}
    assert asked.headers["accept"] == "application/json"
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["host"] == fake.url.removeprefix("http://")
    assert asked.headers["user-agent"].startswith("pixir-auth/")


def test_base_path_of_the_address_is_kept(fake: FakeService) -> None:
    fake.replies["GET", "/base/status"] = Reply(body={"authenticated": False})
    assert Service(f"{fake.url}/base").get("/status") == {"authenticated": False}


def test_every_address_of_the_name_is_tried(fake: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    """`localhost` is ::1 and 127.0.0.1, and a service may listen on either."""
    port = int(fake.url.rpartition(":")[2])
    addresses = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args: addresses)
    assert Service(f"http://localhost:{port}").get("/readyz") == {"status": "ok"}


def test_login_id_cannot_lead_elsewhere() -> None:
    assert login_path("../token?x#y") == "/login/..%2Ftoken%3Fx%23y"


def test_problem_is_told_with_what_to_do(fake: FakeService, service: Service) -> None:
    fake.replies["GET", "/status"] = problem(
        503, "issuer_unavailable", "It is down.", "Wait.", "Or not.", retry_after=7
    )
    failure = failing(service)
    assert isinstance(failure, Problem)
    assert failure.code == "issuer_unavailable"
    assert failure.exit_code == FAILED
    assert failure.lines == (
        "Refused: It is down. [issuer_unavailable]",
        "  - Wait.",
        "  - Or not.",
        "  - Worth another try in 7 s.",
    )


def test_login_required_is_told_apart(fake: FakeService, service: Service) -> None:
    fake.replies["GET", "/status"] = login_required()
    failure = failing(service)
    assert failure.exit_code == LOGIN_REQUIRED
    assert failure.lines[0].endswith("[login_required: never_logged_in]")


def test_problem_of_strange_members_is_still_told(fake: FakeService, service: Service) -> None:
    strange = {"title": 5, "detail": None, "code": ["x"], "next_actions": {"a": 1}, "retry_after": "soon"}
    fake.replies["GET", "/status"] = Reply(500, strange, media_type="application/problem+json")
    assert failing(service).lines == ("The service refused.",)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(307, {}, headers={"Location": "/elsewhere"}),
        Reply(200, {"a": 1}, media_type="text/html"),
        Reply(200, ["not", "an", "object"]),
        Reply(404, {"detail": "no problem document"}),
        Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{not json " + ACCESS.encode()),
        Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + b"[" * 100_000),
        Reply(raw=b"HTTP/1.1 200 OK\r\n\r\n{}"),
        Reply(raw=b"HTTP/1.1 " + ACCESS.encode() + b"\r\n\r\n"),
        Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + ACCESS.encode()),
        Reply(raw=ACCESS.encode()),
        Reply(raw=b""),
    ],
)
def test_what_is_not_the_service_is_not_reached(fake: FakeService, service: Service, reply: Reply) -> None:
    fake.replies["GET", "/status"] = reply
    failure = failing(service)
    assert failure.exit_code == UNREACHABLE
    assert ACCESS not in repr(failure.lines)
    assert not fake.sent("GET", "/elsewhere")


def test_answer_has_a_size(monkeypatch: pytest.MonkeyPatch, service: Service) -> None:
    monkeypatch.setattr(client, "_MAX_ANSWER", 10)
    assert failing(service).exit_code == UNREACHABLE


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    failure = failing(Service(f"http://127.0.0.1:{port}"))
    assert failure.exit_code == UNREACHABLE
    assert failure.lines[0] == f"No service answers at http://127.0.0.1:{port} (connection refused)."


def test_waiting_ends(fake: FakeService, service: Service) -> None:
    fake.replies["GET", "/status"] = Reply(delay=2)
    with pytest.raises(Failure, match="timed out") as caught:
        service.get("/status", within=0.1)
    assert caught.value.exit_code == UNREACHABLE


@pytest.mark.parametrize("url", ["http://", "http://no.such.host.invalid:1", "http://localhost:99999", "http://[::1"])
def test_address_that_leads_nowhere(url: str) -> None:
    assert failing(Service(url)).exit_code == UNREACHABLE


def test_what_somebody_put_into_the_address_is_not_shown() -> None:
    failure = failing(Service("http://user:pass@127.0.0.1:1/base?key=hidden"))
    assert "http://127.0.0.1:1/base (" in failure.lines[0]


def test_tls_is_spoken_where_the_address_says_so(fake: FakeService) -> None:
    assert "SSL" in failing(Service(fake.url.replace("http:", "https:"))).lines[0]


@pytest.fixture
def proxy() -> Iterator[FakeService]:
    with running(FakeService()) as other:
        yield other


def test_proxy_of_the_environment_is_not_used(
    fake: FakeService, service: Service, proxy: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("ALL_PROXY", proxy.url)
    service.get("/status")
    assert len(fake.requests) == 1
    assert not proxy.requests


def test_answer_without_content(fake: FakeService, service: Service) -> None:
    fake.replies["DELETE", "/x"] = Reply(204)
    assert service.call("DELETE", "/x") == {}


def test_whole_answers_are_given_as_they_came(fake: FakeService) -> None:
    fake.replies["GET", "/x"] = Reply(302, headers={"Location": "/y"})
    assert Service(fake.url).send("GET", "/x").status == 302
