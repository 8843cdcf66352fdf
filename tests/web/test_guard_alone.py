"""The guard before an application that is none: what it reads, decides, adds and writes down, to the letter."""

import asyncio
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from service.broker.keys import Keys
from service.domain.caller import Caller, Peer, owner
from service.domain.secret import Secret
from service.logs import request_id
from service.web import guard
from service.web.callers import OPEN, Callers
from service.web.guard import ALWAYS, MAX_BODY, NAVIGABLE, Allowed, Asker, Guard, allowed_for, asker_of, dress, refusal

HOST = (b"host", b"localhost:1455")
JSON = (b"content-type", b"application/json")
HAS_BODY = (b"content-length", b"2")
ALLOWED = allowed_for(1455, "http://localhost:1455", ())
LED = Asker((b"localhost:1455",), None, b"cross-site", b"navigate", b"document")

Headers = tuple[tuple[bytes, bytes], ...]
Warm = Callable[[Any, Asker, Caller, Any], Awaitable[bool]]
OWN = 1000


class Told(list[tuple[str, str, str, str]]):
    """Who was refused."""

    def __call__(self, deed: str, who: str, outcome: str, /, *, detail: str) -> None:
        self.append((deed, who, outcome, detail))


class OneKey:
    """What the guard asks of the keys: there is one."""

    async def holder(self, key: Secret) -> Caller | None:
        return HOLDER if key == Secret("good") else None


HOLDER = Caller("key ci", frozenset({"token"}))


def callers(told: Told | None = None) -> Callers:
    """The owner asks, if the scope does not say otherwise."""
    return Callers(
        cast("Keys", OneKey()),
        OWN,
        Told() if told is None else told,
        peer_of=lambda scope: scope.get("peer", Peer(OWN)),
    )


class App:
    """Answers with its status and keeps what it got; reads `reads` messages first."""

    def __init__(self, reads: int = 0, headers: Headers = (), status: int = 200) -> None:
        self.reads = reads
        self.headers = headers
        self.status = status
        self.scopes: list[Any] = []
        self.got: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        self.got += [await receive() for _ in range(self.reads)]
        await send({"type": "http.response.start", "status": self.status, "headers": list(self.headers)})
        await send({"type": "http.response.body", "body": b""})


async def asked(
    app: App,
    headers: Headers = (HOST,),
    messages: tuple[Any, ...] = (),
    warm: Warm | None = None,
    method: str = "GET",
    path: str = "/token",
    kind: str = "http",
    allowed: Allowed = ALLOWED,
    told: Told | None = None,
    counted: list[tuple[str, int, str]] | None = None,
    **scope: Any,
) -> list[Any]:
    """What the guard sends; `counted`: what it tells of the request."""
    inbox = list(messages)
    sent: list[Any] = []

    async def receive() -> Any:
        return inbox.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    asking = {"type": kind, "method": method, "path": path, "headers": list(headers), **scope}
    tell = [] if counted is None else counted
    await Guard(app, allowed, callers(told), warm, lambda *what: tell.append(what))(asking, receive, send)
    return sent


def body(content: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": content, "more_body": more}


# what is written in the documentation


def test_bounds() -> None:
    assert (guard.MAX_BODY, guard.BODY_WITHIN) == (256 * 1024, 5.0)


def test_where_a_link_may_lead_and_what_is_open() -> None:
    assert sorted(NAVIGABLE) == ["/", "/auth/callback", "/callback", "/login"]
    assert sorted(OPEN) == ["/auth/callback", "/callback", "/healthz", "/readyz"]


def test_names_and_origins() -> None:
    ours = {b"localhost:1455", b"127.0.0.1:1455", b"[::1]:1455"}
    assert ALLOWED.hosts == ours
    assert ALLOWED.origins == {b"http://" + one for one in ours}
    assert ALLOWED.required_header is None


def test_names_and_origins_behind_another_name() -> None:
    allowed = allowed_for(80, "HTTPS://Auth.example.org/pixir", ("Other:80",), "X-Mark")
    bare = {b"localhost", b"127.0.0.1", b"[::1]"}
    ours = bare | {one + b":80" for one in bare}
    assert allowed.hosts == ours | {b"auth.example.org", b"other:80"}
    assert allowed.origins == {b"http://" + one for one in ours} | {b"https://auth.example.org"}
    assert allowed.required_header == b"x-mark"


# what is read


@pytest.mark.parametrize(
    ("headers", "asker"),
    [
        ((), Asker(())),
        ((HOST, (b"host", b"b")), Asker((b"localhost:1455", b"b"))),
        (((b"origin", b"http://a"),), Asker((), origin=b"http://a")),
        (((b"origin", b"http://a"), (b"origin", b"http://a")), Asker((), origin=b"null")),
        (((b"sec-fetch-site", b"same-site"),), Asker((), fetch_site=b"same-site")),
        (((b"sec-fetch-mode", b"cors"),), Asker((), fetch_mode=b"cors")),
        (((b"sec-fetch-dest", b"image"),), Asker((), fetch_dest=b"image")),
        (((b"sec-purpose", b"prefetch"),), Asker((), purpose=b"prefetch")),
        (((b"sec-fetch-user", b"?1"), (b"sec-gpc", b"1"), (b"fetch-site", b"x")), Asker(())),
        (((b"accept", b"a/\xe9"), (b"accept", b"b")), Asker((), accept="a/\xe9")),
        (((b"content-length", b"0"),), Asker((), has_body=True)),
        (((b"transfer-encoding", b"chunked"),), Asker((), has_body=True)),
        (((b"content-type", b"text/plain"),), Asker(())),
        (((b"authorization", b"a"), (b"authorization", b"b")), Asker((), authorization=(b"a", b"b"))),
        (((b"forwarded", b"for=1"),), Asker((), is_forwarded=True)),
        (((b"via", b"1.1 x"),), Asker((), is_forwarded=True)),
        (((b"x-forwarded-for", b"1"),), Asker((), is_forwarded=True)),
        (((b"x_forwarded", b"1"),), Asker((), is_forwarded=True)),
        (((b"x-real-ip", b"1"), (b"viable", b"1"), (b"forwarded-not", b"1")), Asker(())),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_what_the_headers_say(headers: Headers, asker: Asker) -> None:
    assert asker_of({"headers": list(headers)}) == asker


# what is decided


@pytest.mark.parametrize(
    ("asker", "method", "path", "code"),
    [
        (Asker((b"localhost:1455",)), "GET", "/token", None),
        (Asker(()), "GET", "/token", "host_not_allowed"),
        (Asker((b"localhost:1455",) * 2), "GET", "/token", "host_not_allowed"),
        (Asker((b"evil",)), "GET", "/token", "host_not_allowed"),
        (LED, "GET", "/login", None),
        (LED, "GET", "/token", "cross_site"),
        (LED, "POST", "/login", "cross_site"),
        (Asker(LED.hosts, b"null", b"cross-site", b"navigate", b"document"), "GET", "/callback", None),
        (Asker(LED.hosts, None, b"same-site", b"navigate", b"document"), "GET", "/login", None),
        (Asker(LED.hosts, None, b"cross-site", b"cors", b"document"), "GET", "/login", "cross_site"),
        (Asker(LED.hosts, None, b"cross-site", b"navigate", b"iframe"), "GET", "/login", "cross_site"),
        (Asker(LED.hosts, None, b"cross-site", b"navigate", b"document", b"prefetch"), "GET", "/", "cross_site"),
        (Asker(LED.hosts, None, b"none", b"navigate", b"document", b"prefetch"), "GET", "/login", "cross_site"),
        (Asker(LED.hosts, None, b"none", b"navigate", b"document", b"prefetch"), "GET", "/status", None),
        (Asker(LED.hosts, b"HTTP://LOCALHOST:1455", b"same-origin", b"cors", b"empty"), "POST", "/logout", None),
        (Asker(LED.hosts, b"http://evil", b"same-origin", b"cors", b"empty"), "POST", "/logout", "cross_site"),
    ],
)
def test_who_is_refused(asker: Asker, method: str, path: str, code: str | None) -> None:
    no = refusal(asker, method, path, ALLOWED)
    assert (no and no[0]) == code


# what is added


def test_every_answer_is_dressed() -> None:
    assert dict(ALWAYS) == {
        b"cache-control": b"no-store",
        b"x-content-type-options": b"nosniff",
        b"x-frame-options": b"DENY",
        b"referrer-policy": b"no-referrer",
        b"cross-origin-resource-policy": b"same-origin",
        b"cross-origin-opener-policy": b"same-origin",
    }
    plain = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
    assert dress([]) == [*ALWAYS, plain]
    own = (b"Content-Security-Policy", b"default-src 'self'")
    assert dress([own]) == [own, *ALWAYS]


async def test_the_applications_own_headers_stay() -> None:
    start, end = await asked(App(headers=((b"x-own", b"1"),)))
    assert start["headers"] == dress([(b"x-own", b"1")])
    assert end == {"type": "http.response.body", "body": b""}


# what is passed on


async def test_the_lifespan_is_the_applications_own() -> None:
    app = App()
    (start, _) = await asked(app, (), kind="lifespan")
    assert start["headers"] == []
    assert len(app.scopes) == 1


async def test_a_websocket_is_closed_unasked() -> None:
    app = App()
    assert await asked(app, kind="websocket") == [{"type": "websocket.close", "code": 1008}]
    assert app.scopes == []


@pytest.mark.parametrize("is_warm", [True, False])
async def test_what_is_warm_goes_no_further(is_warm: bool) -> None:
    seen: list[Asker] = []

    async def warm(_scope: Any, asker: Asker, caller: Caller, _send: Any) -> bool:
        assert caller == owner(OWN)
        seen.append(asker)
        return is_warm

    app = App()
    await asked(app, warm=warm)
    assert seen == [Asker((b"localhost:1455",))]
    assert len(app.scopes) == (not is_warm)
    await asked(app, ((b"host", b"evil"),), warm=warm)
    await asked(app, (HOST, HAS_BODY, JSON), (body(b"{}"),), warm=warm)
    assert len(seen) == 1, "who is refused, or sends something, is not answered from memory"


async def test_a_body_is_given_once_and_then_what_really_comes() -> None:
    app = App(reads=2)
    later = {"type": "http.disconnect"}
    await asked(app, (HOST, HAS_BODY, JSON), (body(b"{", more=True), body(b"}"), later))
    assert app.got == [body(b"{}"), later]


async def test_a_message_may_leave_out_what_is_not_there() -> None:
    app = App(reads=1)
    await asked(app, (HOST, HAS_BODY), ({"type": "http.request"},))
    assert app.got == [body(b"")]


async def test_who_leaves_in_the_middle_is_not_answered() -> None:
    app = App()
    assert await asked(app, (HOST, HAS_BODY, JSON), (body(b"{", more=True), {"type": "http.disconnect"})) == []
    assert app.scopes == []


@pytest.mark.parametrize(("size", "status"), [(256 * 1024, 200), (256 * 1024 + 1, 413)])
async def test_the_bound_of_a_body_is_exact(size: int, status: int) -> None:
    start, *_ = await asked(App(), (HOST, HAS_BODY, JSON), (body(b" " * size),))
    assert start["status"] == status


async def test_who_is_asked_nothing_may_leave_nothing_in_memory() -> None:
    for path in sorted(OPEN):
        app = App()
        start, *_ = await asked(app, (HOST, HAS_BODY, JSON), (body(b"1", more=True),), path=path)
        assert (start["status"], app.scopes) == (413, []), "it does not wait for the rest"
        start, *_ = await asked(app, (HOST, HAS_BODY), (body(b""),), path=path)
        assert start["status"] == 200


@pytest.mark.parametrize(
    ("kinds", "status"),
    [
        ((b"application/json",), 200),
        ((b'Application/JSON; Charset="utf-8"',), 200),
        ((b"text/plain",), 415),
        ((b"application/json", b"application/json"), 415),
        ((), 415),
    ],
)
async def test_a_body_is_json(kinds: tuple[bytes, ...], status: int) -> None:
    headers = (HOST, HAS_BODY, *((b"content-type", kind) for kind in kinds))
    start, *_ = await asked(App(), headers, (body(b"{}"),))
    assert start["status"] == status


# a client key for a refresh token

ASKED = b'{"grant_type":"refresh_token","refresh_token":"good"}'
FORM = (b"content-type", b"application/x-www-form-urlencoded")


async def refresh(
    content: bytes = ASKED, *more: Any, headers: Headers = (HOST, HAS_BODY, JSON), app: App | None = None, **asking: Any
) -> tuple[int, Any]:
    """The status of the answer and what it says, if it is a refusal."""
    start, *pieces = await asked(
        app or App(), headers, (body(content), *more), method="POST", path="/oauth/token", **asking
    )
    told = b"".join(piece["body"] for piece in pieces)
    return start["status"], json.loads(told) if told else None


async def test_the_key_in_the_body_is_who_asks_and_the_body_goes_no_further() -> None:
    for peer in (Peer(OWN), Peer(1001), Peer(None)):
        for headers in ((HOST, HAS_BODY, JSON), (HOST, HAS_BODY, JSON, (b"authorization", b"Bearer bad"))):
            app, counted = App(), []
            assert await refresh(app=app, peer=peer, headers=headers, counted=counted) == (200, None)
            (scope,) = app.scopes
            assert scope["state"] == {"caller": HOLDER, "stand_in": Secret("good")}
            assert counted == [("POST /oauth/token", 200, "key")]


async def test_elsewhere_no_body_holds_a_key() -> None:
    app = App()
    await asked(app, (HOST, HAS_BODY, JSON), (body(ASKED),), method="POST", path="/login")
    assert app.scopes[0]["state"] == {"caller": owner(OWN), "stand_in": None}
    for method, path in (("PUT", "/oauth/token"), ("POST", "/oauth/token/"), ("POST", "/token")):
        start, *_ = await asked(App(), (HOST, HAS_BODY, FORM), (body(b"a=b"),), method=method, path=path)
        assert start["status"] == 415, "nor is a form read"


async def test_who_has_no_good_key_is_noted_and_let_go_whoever_he_is() -> None:
    told, app = Told(), App()
    status, answer = await refresh(ASKED.replace(b"good", b"bad"), app=app, told=told)
    assert (status, answer["error"], app.scopes) == (400, "invalid_grant", [])
    assert told == [("refused", "uid 1000", "key_required", "POST /oauth/token")]
    start, _ = await asked(
        App(), (HOST, JSON), (body(ASKED.replace(b"good", b"bad")),), method="POST", path="/oauth/token"
    )
    assert (b"connection", b"close") in start["headers"]


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ((b"host", b"evil"), "host_not_allowed"),
        ((b"origin", b"http://evil"), "cross_site"),
        ((b"sec-fetch-site", b"cross-site"), "cross_site"),
    ],
)
async def test_of_who_may_not_ask_no_body_is_read(header: tuple[bytes, bytes], code: str) -> None:
    told = Told()
    start, answer = await asked(
        App(), (HOST, HAS_BODY, FORM, header), (), method="POST", path="/oauth/token", told=told
    )
    assert (start["status"], json.loads(answer["body"])["code"]) == (421 if header[0] == b"host" else 403, code)
    assert told == [("refused", "uid 1000", code, "POST /oauth/token")]


@pytest.mark.parametrize(
    ("headers", "content", "status", "code"),
    [
        ((HOST, HAS_BODY, JSON), b"{}", 400, "invalid_request"),
        ((HOST, JSON), b"", 400, "invalid_request"),
        ((HOST, HAS_BODY, JSON), b'{"grant_type":"password"}', 400, "unsupported_grant_type"),
        ((HOST, HAS_BODY, JSON), b" " * (16 * 1024 + 1), 413, "payload_too_large"),
        ((HOST, HAS_BODY), ASKED, 415, "unsupported_media_type"),
        ((HOST, HAS_BODY, (b"content-type", b"text/plain")), ASKED, 415, "unsupported_media_type"),
    ],
)
async def test_what_holds_no_key_is_nobodys_and_fills_no_log(
    headers: Headers, content: bytes, status: int, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="service.access")
    told, app, counted = Told(), App(), []
    got, answer = await refresh(content, headers=headers, app=app, told=told, counted=counted)
    assert (got, answer["status"], answer["code"]) == (status, status, code)
    assert (told, app.scopes, caplog.records) == ([], [], [])
    assert counted == [("POST /oauth/token", status, "anybody")]


async def test_a_form_and_json_are_the_same_and_the_bound_is_exact() -> None:
    form = b"grant_type=refresh_token&refresh_token=good"
    charset = (b"content-type", b"Application/x-www-form-urlencoded; charset=UTF-8")
    assert await refresh(form, headers=(HOST, HAS_BODY, FORM)) == (200, None)
    assert await refresh(form, headers=(HOST, HAS_BODY, charset)) == (200, None)
    assert await refresh(form + b"&x=" + b"x" * (16 * 1024 - len(form) - 3), headers=(HOST, FORM)) == (200, None)
    assert await refresh(ASKED.ljust(16 * 1024)) == (200, None)
    assert (await refresh(ASKED, headers=(HOST, HAS_BODY, FORM)))[0] == 400


async def test_half_of_a_key_is_none_and_nobody_is_answered() -> None:
    app = App()
    messages = (body(ASKED, more=True), {"type": "http.disconnect"})
    assert await asked(app, (HOST, HAS_BODY, JSON), messages, method="POST", path="/oauth/token") == []
    assert app.scopes == []


async def test_a_mark_is_needed_here_too() -> None:
    marked = allowed_for(1455, "http://localhost:1455", (), "X-Mark")
    assert (await refresh(allowed=marked))[1]["code"] == "header_required"
    assert (await refresh(allowed=marked, headers=(HOST, JSON, (b"x-mark", b""))))[0] == 200


# who is let in


@pytest.mark.parametrize(
    ("peer", "headers", "path", "entry"),
    [
        (Peer(OWN), (HOST,), "/token", None),
        (Peer(0), (HOST,), "/token", None),
        (Peer(OWN, is_unix=True), ((b"host", b"LocalHost"),), "/token", None),
        (Peer(OWN), ((b"host", b"localhost"),), "/token", ("uid 1000", "host_not_allowed", "GET /token")),
        (Peer(OWN, is_unix=True), ((b"host", b"evil"),), "/token", ("uid 1000", "host_not_allowed", "GET /token")),
        (Peer(1001), (HOST, (b"authorization", b"Bearer good")), "/token", None),
        (Peer(OWN), (HOST, (b"authorization", b"Bearer bad")), "/token", ("uid 1000", "key_required", "GET /token")),
        (Peer(OWN), (HOST, (b"authorization", b"Bearer good")), "/status", ("key ci", "scope", "GET /status")),
        (Peer(1001), (HOST,), "/token", ("uid 1001", "wrong_user", "GET /token")),
        (Peer(1001), (HOST,), "/nowhere", ("uid 1001", "wrong_user", "GET -")),
        (Peer(None), (HOST,), "/login/x", ("unknown", "key_required", "GET /login/{login_id}")),
        (Peer(None), (HOST,), "/healthz", None),
        (Peer(OWN), (HOST, (b"via", b"x")), "/token", ("uid 1000", "key_required", "GET /token")),
        (Peer(OWN), (HOST, (b"origin", b"null")), "/token", ("uid 1000", "cross_site", "GET /token")),
    ],
)
async def test_whoever_is_refused_is_told_of(
    peer: Peer, headers: Headers, path: str, entry: tuple[str, str, str] | None
) -> None:
    told, app = Told(), App()
    start, *_ = await asked(app, headers, path=path, peer=peer, told=told)
    assert told == ([] if entry is None else [("refused", *entry)])
    assert len(app.scopes) == (entry is None)
    assert (start["status"] == 200) == (entry is None)


@pytest.mark.parametrize(
    ("peer", "headers", "path", "is_kept"),
    [
        (Peer(1001), (HOST,), "/token", False),
        (Peer(None), (HOST,), "/token", False),
        (Peer(OWN), ((b"host", b"evil"),), "/token", True),
        (Peer(OWN), (HOST, (b"origin", b"null")), "/token", True),
        (Peer(OWN), (HOST, (b"authorization", b"Bearer good")), "/status", True),
    ],
)
async def test_a_connection_that_a_stranger_has_opened_is_closed_with_its_refusal(
    peer: Peer, headers: Headers, path: str, is_kept: bool
) -> None:
    start, *_ = await asked(App(), headers, path=path, peer=peer)
    assert ((b"connection", b"close") not in start["headers"]) == is_kept


async def test_what_is_too_large_is_told_how_large_it_may_be() -> None:
    answer = await asked(App(), (HOST, HAS_BODY, JSON), (body(b" " * (MAX_BODY + 1)),))
    assert json.loads(answer[1]["body"])["detail"] == "At most 262144 bytes."


async def test_the_application_is_told_who_asks() -> None:
    app = App()
    await asked(app)
    await asked(app, path="/healthz")
    assert [scope.get("state", {}).get("caller") for scope in app.scopes] == [owner(OWN), None]


async def test_a_mark_is_needed_where_one_is_set_and_who_lacks_it_is_named() -> None:
    marked = allowed_for(1455, "http://localhost:1455", (), "X-Mark")
    told = Told()
    start, *_ = await asked(App(), allowed=marked, told=told)
    assert (start["status"], told) == (403, [("refused", "uid 1000", "header_required", "GET /token")])
    for headers, path in (((HOST, (b"x-mark", b"")), "/token"), ((HOST,), "/readyz")):
        (start, _) = await asked(App(), headers, path=path, allowed=marked)
        assert start["status"] == 200


# what is written down


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [(one.levelno, re.sub(r"[\d.]+ms$", "ms", one.getMessage())) for one in caplog.records]


@pytest.mark.parametrize(
    ("method", "path", "host", "line"),
    [
        ("GET", "/secret", HOST, (logging.INFO, "GET - 404 ms")),
        ("GET", "/login/secret", HOST, (logging.INFO, "GET /login/{login_id} 200 ms")),
        ("POST", "/login/secret/callback", HOST, (logging.INFO, "POST /login/{login_id}/callback 200 ms")),
        ("PUT", "/keys/secret", HOST, (logging.INFO, "PUT /keys/{name} 200 ms")),
        ("GET", "/keys/secret/secret", HOST, (logging.INFO, "GET - 404 ms")),
        ("GET", "/healthz", HOST, (logging.DEBUG, "GET /healthz 200 ms")),
        ("GET", "/readyz", HOST, (logging.DEBUG, "GET /readyz 200 ms")),
        ("POST", "/readyz", HOST, (logging.INFO, "POST /readyz 200 ms")),
        ("GET", "/callback", HOST, (logging.INFO, "GET /callback 200 ms")),
        ("GET", "/readyz", (b"host", b"evil"), (logging.DEBUG, "GET /readyz 421 ms")),
        ("GET", "/token", (b"host", b"evil"), (logging.DEBUG, "GET /token 421 ms")),
        *(
            (method, "/token", HOST, (logging.INFO, f"{method} /token 200 ms"))
            for method in ("HEAD", "OPTIONS", "PATCH", "POST", "PUT", "DELETE")
        ),
        ("SECRET", "/token", HOST, (logging.INFO, "- /token 200 ms")),
    ],
)
async def test_a_request_is_one_line(
    method: str, path: str, host: tuple[bytes, bytes], line: tuple[int, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="service.access")
    await asked(App(), (host,), method=method, path=path)
    assert lines(caplog) == [line]


async def test_a_request_that_fails_is_written_down_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="service.access")

    class Broken(App):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await asked(Broken())
    assert lines(caplog) == [(logging.INFO, "GET /token 0 ms")]


@pytest.mark.parametrize(
    ("path", "status", "level"),
    [
        ("/callback", 399, logging.INFO),
        ("/callback", 400, logging.DEBUG),
        ("/callback", 499, logging.DEBUG),
        ("/callback", 500, logging.INFO),
        ("/readyz", 503, logging.INFO),
        ("/token", 409, logging.INFO),
    ],
)
async def test_what_anybody_can_cause_fills_no_log(
    path: str, status: int, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="service.access")
    await asked(App(status=status), path=path)
    assert [one.levelno for one in caplog.records] == [level]


async def test_the_time_is_in_milliseconds(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level("INFO", logger="service.access")
    clock = iter([5.0, 7.0])
    with monkeypatch.context() as patch:
        patch.setattr(time, "perf_counter", lambda: next(clock))
        await asked(App())
    assert caplog.messages == ["GET /token 200 2000.0ms"]


async def test_a_request_has_a_name_of_its_own_in_every_line() -> None:
    seen: list[str | None] = []

    class Logging(App):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            seen.append(request_id.get())
            await super().__call__(scope, receive, send)

    for _ in range(2):
        await asyncio.create_task(asked(Logging()))
    first, second = seen
    assert first is not None
    assert second is not None
    assert first != second
    assert re.fullmatch("[0-9a-f]{8}", first)


# what is counted


KEYED = (HOST, (b"authorization", b"Bearer good"))


@pytest.mark.parametrize(
    ("headers", "path", "peer", "count"),
    [
        ((HOST,), "/token", Peer(OWN), ("GET /token", 200, "owner")),
        (KEYED, "/token", Peer(1001), ("GET /token", 200, "key")),
        ((HOST,), "/healthz", Peer(1001), ("GET /healthz", 200, "anybody")),
        ((HOST,), "/token", Peer(1001), ("GET /token", 403, "refused")),
        ((HOST,), "/secret", Peer(OWN), ("GET -", 404, "owner")),
    ],
)
async def test_every_request_is_counted_once(
    headers: Headers, path: str, peer: Peer, count: tuple[str, int, str]
) -> None:
    counted: list[tuple[str, int, str]] = []
    await asked(App(), headers, path=path, peer=peer, counted=counted)
    assert counted == [count]


async def test_what_memory_answers_is_counted_too_and_nobody_unknown_gets_it() -> None:
    async def warm(*_asked: object) -> bool:
        return True

    counted: list[tuple[str, int, str]] = []
    for headers, path in (((HOST,), "/token"), (KEYED, "/token"), ((HOST,), "/healthz")):
        await asked(App(status=204), headers, path=path, warm=warm, counted=counted)
    expected = [("GET /token", 200, "owner"), ("GET /token", 200, "key"), ("GET /healthz", 204, "anybody")]
    assert counted == expected
