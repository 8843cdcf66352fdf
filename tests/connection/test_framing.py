"""What is not HTTP/1.1, or not clearly so, gets one clean refusal; all else one clean answer, in order."""

import re

import httpx
import pytest

from tests.connection.raw import heard, opened, ours, said
from tests.kit.processes import Process
from tests.web.expect import lawful_now, problem

pytestmark = pytest.mark.long

GET = b"GET /healthz HTTP/1.1\r\nTO_US\r\n\r\n"
STATUS = b"GET /status HTTP/1.1\r\nTO_US\r\n\r\n"
POST = b"POST /logout HTTP/1.1\r\nTO_US\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
JSON = b"Content-Type: application/json\r\n"
UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"

UNREADABLE = {
    "length and chunks": POST + b"Content-Length: 4\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "chunks and length": POST + CHUNKED + b"Content-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 0\r\nContent-Length: 2\r\n\r\n{}",
    "twice the same length": POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "a list of lengths": POST + b"Content-Length: 2, 2\r\n\r\n{}",
    "signed length": POST + b"Content-Length: +2\r\n\r\n{}",
    "negative length": POST + b"Content-Length: -2\r\n\r\n{}",
    "length beyond all numbers": POST + b"Content-Length: 99999999999999999999\r\n\r\n{}",
    "odd chunks": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunks of something": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunks twice": POST + CHUNKED + CHUNKED + b"\r\n0\r\n\r\n",
    "chunks behind a blank": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "chunks behind a control character": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "chunks in 1.0": POST.replace(b"/1.1", b"/1.0") + CHUNKED + b"\r\n0\r\n\r\n",
    "no chunk": POST + CHUNKED + b"\r\nzz\r\n",
    "chunk longer than it says": POST + JSON + CHUNKED + b"\r\n2\r\n{}}}\r\n0\r\n\r\n",
    "bare newlines": GET.replace(b"\r\n", b"\n"),
    "one bare newline": b"GET /healthz HTTP/1.1\r\nTO_US\nX: y\r\n\r\n",
    "one bare return": b"GET /healthz HTTP/1.1\r\nTO_US\rX: y\r\n\r\n",
    "folded header": b"GET /healthz HTTP/1.1\r\nTO_US\r\nX: a\r\n b\r\n\r\n",
    "NUL in a value": b"GET /healthz HTTP/1.1\r\nTO_US\r\nX: a\0b\r\n\r\n",
    "NUL in a name": b"GET /healthz HTTP/1.1\r\nTO_US\r\nX\0: ab\r\n\r\n",
    "no colon": b"GET /healthz HTTP/1.1\r\nTO_US\r\nX\r\n\r\n",
    "no name": b"GET /healthz HTTP/1.1\r\nTO_US\r\n: x\r\n\r\n",
    "connect": b"CONNECT localhost:443 HTTP/1.1\r\nTO_US\r\n\r\n",
    "connect to a path": b"CONNECT /token HTTP/1.1\r\nTO_US\r\n\r\n",
    "whole URL": b"GET http://evil/token HTTP/1.1\r\nTO_US\r\n\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nTO_US\r\n\r\n",
    "fragment": b"GET /token#x HTTP/1.1\r\nTO_US\r\n\r\n",
    "byte that is no ASCII": b"GET /\xff HTTP/1.1\r\nTO_US\r\n\r\n",
    "a body and another protocol": POST + JSON + UPGRADE + b"Content-Length: 2\r\n\r\n{}",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "2.0": GET.replace(b"1.1", b"2.0"),
    "1.2": GET.replace(b"1.1", b"1.2"),
    "0.9": GET.replace(b"1.1", b"0.9"),
    "no version": b"GET /healthz\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "no HTTP": b"hello\r\n\r\n",
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_can_be_read_in_two_ways_is_not_read_at_all(service: Process, case: str) -> None:
    with opened(service, UNREADABLE[case] + GET + GET) as connection:
        back = heard(connection)
    assert back.is_closed
    assert not back.is_reset
    assert back.statuses == [400]
    lawful_now(back.answers[0])
    problem(back.answers[0], 400, "malformed_request")
    assert back.answers[0].headers["connection"] == "close"
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", back.answers[0].headers["date"])
    assert service.client.get("/status").json()["authenticated"], "nothing has come of it"


LARGE = {
    "header": b"GET /healthz HTTP/1.1\r\nTO_US\r\nX: " + b"a" * 32768 + b"\r\n\r\n",
    "header without an end": b"GET /healthz HTTP/1.1\r\nTO_US\r\nX: " + b"a" * 131072,
    "name without an end": b"GET /healthz HTTP/1.1\r\nTO_US\r\n" + b"a" * 131072,
    "target": b"GET /" + b"a" * 32768 + b" HTTP/1.1\r\nTO_US\r\n\r\n",
    "target without an end": b"GET /" + b"a" * 131072,
    "headers": b"GET /healthz HTTP/1.1\r\nTO_US\r\n" + b"X: " + (b"a" * 1000 + b"\r\nX: ") * 33 + b"\r\n\r\n",
    "many headers": b"GET /healthz HTTP/1.1\r\nTO_US\r\n" + b"a:\r\n" * 100 + b"\r\n",
}


@pytest.mark.parametrize("case", LARGE)
def test_a_large_head_is_refused(service: Process, case: str) -> None:
    back = said(service, LARGE[case])
    assert (back.is_closed, back.is_reset, back.statuses) == (True, False, [431])
    lawful_now(back.answers[0])
    problem(back.answers[0], 431, "headers_too_large")
    assert "aaa" not in back.answers[0].text


def test_the_largest_head_that_is_read(service: Process) -> None:
    headers = {f"x-{number}": "a" * 1000 for number in range(31)}
    assert service.client.get("/status", headers=headers).status_code == 200
    assert service.client.get("/status", headers={f"x-{number}": "" for number in range(90)}).status_code == 200
    in_pieces = b"GET /healthz HTTP/1.1\r\nTO_US\r\nX: " + b"a" * 30000 + b"\r\n\r\n"
    with opened(service) as connection:
        for start in range(0, len(in_pieces), 1000):
            connection.sendall(ours(service, in_pieces[start : start + 1000]))
        assert heard(connection, until=1).statuses == [200]


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"TLS/1.0"])
def test_another_protocol_is_not_spoken(service: Process, protocol: bytes) -> None:
    raw = GET.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: " + protocol + b"\r\n\r\n")
    back = said(service, raw + STATUS * 2)
    assert (back.statuses, back.is_closed, back.is_reset) == ([200], True, False)
    assert back.answers[0].headers["connection"] == "close"


def test_a_client_that_offers_http2_is_answered(service: Process) -> None:
    back = said(service, GET.replace(b"\r\n\r\n", b"\r\n" + UPGRADE + b"\r\n"))
    assert (back.statuses, back.is_closed) == ([200], True)


@pytest.mark.usefixtures("callback_ports")
def test_a_trailer_is_no_header(service: Process) -> None:
    body = POST + CHUNKED + b"\r\n0\r\nHost: evil\r\nOrigin: https://evil.example\r\n\r\n"
    back = said(service, body.replace(b"/logout", b"/login") + GET, until=2)
    assert back.statuses == [201, 200]
    service.client.delete(back.answers[0].headers["location"])


# in order


def test_requests_sent_at_once_are_answered_in_order(service: Process) -> None:
    back = said(service, STATUS + GET + STATUS + GET, until=4)
    assert ["authenticated" in answer.json() for answer in back.answers] == [True, False, True, False]
    assert not back.is_closed


def test_ten_thousand_requests_in_one_packet_are_too_many(service: Process) -> None:
    back = said(service, GET * 10_000)
    assert back.is_closed
    assert 1 < len(back.statuses) < 100
    assert set(back.statuses[:-1]) == {200}
    problem(back.answers[-1], 400, "malformed_request")


@pytest.mark.parametrize(
    "wrong", [b"hello\r\n\r\n", POST + CHUNKED + b"\r\nzz\r\n", POST + b"Content-Length: x\r\n\r\n"]
)
def test_a_refusal_waits_for_the_answers_before_it(service: Process, wrong: bytes) -> None:
    back = said(service, STATUS * 3 + wrong + STATUS)
    assert (back.statuses, back.is_closed) == ([200, 200, 200, 400], True)
    assert service.client.get("/status").json()["authenticated"]


def test_empty_lines_between_requests_are_let_go_by(service: Process) -> None:
    assert said(service, b"\r\n\r\n" + GET + b"\r\n" + GET, until=2).statuses == [200, 200]


def test_a_connection_is_kept(service: Process) -> None:
    with opened(service) as connection:
        for method in (GET, STATUS, POST.replace(b"logout", b"nothing") + JSON + b"Content-Length: 2\r\n\r\n{}", GET):
            connection.sendall(ours(service, method))
            assert len(heard(connection, until=1).statuses) == 1


def test_whoever_asks_for_the_end_gets_it(service: Process) -> None:
    back = said(service, GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert (back.statuses, back.is_closed, back.is_reset) == ([200], True, False)
    old = said(service, GET.replace(b"1.1", b"1.0"))
    assert (old.statuses, old.is_closed, old.is_reset) == ([200], True, False)


# answers to who is still sending


def test_an_answer_is_read_by_who_is_still_sending(service: Process) -> None:
    for content in (b" " * 20_000_000, iter([b" " * 100_000] * 200)):
        with httpx.Client(trust_env=False, timeout=10) as client:
            answer = client.post(f"{service.url}/login", content=content, headers={"Content-Type": "application/json"})
            lawful_now(answer)
            problem(answer, 413, "payload_too_large")
            assert answer.headers["connection"] == "close"
        headers = {"Content-Type": "application/json", "Host": "evil.example"}
        answer = httpx.post(f"{service.url}/login", content=b" " * 20_000_000, headers=headers, trust_env=False)
        problem(answer, 421, "host_not_allowed")


def test_a_body_that_came_whole_leaves_the_connection_open(service: Process) -> None:
    refused = POST.replace(b"TO_US", b"Host: evil") + JSON + b"Content-Length: 2\r\n\r\n{}"
    back = said(service, refused + GET, until=2)
    assert (back.statuses, back.is_closed) == ([421, 200], False)


def test_nobody_has_to_send_what_is_refused(service: Process) -> None:
    expecting = POST.replace(b"TO_US", b"Host: evil") + JSON + b"Expect: 100-continue\r\nContent-Length: 2000\r\n\r\n"
    back = said(service, expecting)
    assert (back.statuses, back.is_closed) == ([421], True)


def test_nothing_of_all_this_is_in_the_log(service: Process) -> None:
    before = service.log.read_text()
    for raw in (*UNREADABLE.values(), *LARGE.values()):
        said(service, raw)
    said_since = service.log.read_text().removeprefix(before).splitlines()
    # Who was refused by the other tests is told of with a count, some time later.
    assert [line for line in said_since if "host_not_allowed" not in line] == []
