"""A stand-in for a running service: the endpoints that the command line talks to, over real HTTP on loopback.

Promises answers of the shapes that `service.web.schemas` declares, `Reply` apart: that is any answer at all.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseServer, ThreadingUnixStreamServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from service.domain.secret import Secret
from service.sealing import Recipient

ACCESS = "acc-5dd3f7f1.secret"
REFRESH = "ref-9a27c1b0.secret"
GOOD_URL = "http://localhost:1455/auth/callback?code=good&state=x"


@dataclass(frozen=True)
class Received:
    """One request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """An answer in the place of the usual one. `raw`: bytes on the wire in the place of everything."""

    status: int = 200
    body: Any = None
    media_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    delay: float = 0.0


def problem(status: int, code: str, detail: str = "It went wrong.", *actions: str, **extras: Any) -> Reply:
    """A problem answer."""
    body = {"type": f"urn:pixir-auth:problem:{code}", "title": "Refused", "status": status, "detail": detail}
    return Reply(
        status, {**body, "code": code, "next_actions": list(actions), **extras}, media_type="application/problem+json"
    )


def login_required(account: str = "default") -> Reply:
    """What a service answers that nobody has logged in to."""
    return problem(
        409,
        "login_required",
        "Nobody has logged in to this account yet.",
        "Or run: pixir-auth login",
        account=account,
        reason="never_logged_in",
        login_url="http://localhost:1455/login",
    )


class FakeService:
    """What the service knows. `replies` go before everything else, by (method, path); a list is used up one by one."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.replies: dict[tuple[str, str], Reply | list[Reply]] = {}
        self.accounts: dict[str, dict[str, Any]] = {"default": subscription("default")}
        self.keys: dict[str, dict[str, Any]] = {}
        self.trail: list[dict[str, Any]] = []
        self.access_token = ACCESS
        self.refresh_token = REFRESH
        self.id_token: str | None = "real.id.token"
        self.generation = 3
        self.page = 2
        self.flow = "browser"
        self.expires_in = 900
        self.fallback: str | None = None
        self.authorize_url = "https://issuer.example/oauth/authorize?state=s1"
        self.login: dict[str, Any] | None = None
        self.changed = threading.Condition()
        self.url = ""

    # what people do

    def end_login(self, state: str, **members: Any) -> None:
        """The login ends, however."""
        with self.changed:
            assert self.login is not None
            self.login = {**self.login, "state": state, "expires_in": 0, **members}
            self.changed.notify_all()

    def sent(self, method: str, path: str) -> list[Received]:
        return [each for each in self.requests if (each.method, each.path) == (method, path)]

    # what it answers

    def answer(self, asked: Received) -> Reply:
        scripted = self.replies.get((asked.method, asked.path))
        if isinstance(scripted, list):
            scripted = scripted.pop(0) if scripted else None
        if scripted is not None:
            return scripted
        if asked.path.startswith("/login"):
            return self._login(asked)
        handler = {
            ("GET", "/token"): self._token,
            ("GET", "/headers"): self._headers,
            ("POST", "/oauth/token"): lambda _name: self._refresh(asked),
            ("GET", "/status"): lambda name: Reply(body=self._known(name)),
            ("POST", "/logout"): self._logout,
            ("POST", "/export"): lambda name: self._export(name, asked),
            ("POST", "/export/confirm"): lambda _name: Reply(204),
            ("PUT", "/credential"): lambda name: self._install(name, asked),
            ("GET", "/readyz"): lambda _name: Reply(body={"status": "ok"}),
            ("POST", "/rekey"): lambda _name: Reply(body={"resealed": 12}),
        }.get((asked.method, asked.path))
        if asked.path.startswith("/keys"):
            return self._keys(asked)
        if (asked.method, asked.path) == ("GET", "/audit"):
            return self._audit(asked)
        if (asked.method, asked.path) == ("GET", "/accounts"):
            return self._accounts(asked.query.get("after", ""))
        if handler is None:
            return problem(404, "not_found", "There is nothing here.")
        return handler(asked.query.get("account", "default"))

    def _known(self, name: str) -> dict[str, Any]:
        return self.accounts.get(name) or nobody(name)

    def _token(self, name: str) -> Reply:
        status = self._known(name)
        if not status["authenticated"]:
            return login_required(name)
        expiry = {"expires_at": status["expires_at"], "expires_in": 3600} if status["kind"] == "subscription" else {}
        token = {"access_token": self.access_token, "token_type": "Bearer", "account": name, "kind": status["kind"]}
        return Reply(body={**token, **expiry, "generation": self.generation})

    def _refresh(self, asked: Received) -> Reply:
        assert asked.query == {}, "Codex asks without one"
        key = asked.json["refresh_token"]
        return Reply(
            body={
                "access_token": self.access_token,
                "token_type": "Bearer",
                "expires_in": 3600,
                "refresh_token": key,
                "id_token": "real.id.token",
            }
        )

    def _headers(self, name: str) -> Reply:
        status = self._known(name)
        if not status["authenticated"]:
            return login_required(name)
        account = {"ChatGPT-Account-ID": status["account_id"]} if status["account_id"] else {}
        return Reply(body={"Authorization": f"Bearer {self.access_token}", **account})

    def _accounts(self, after: str) -> Reply:
        names = [name for name in sorted(self.accounts) if name > after]
        page = names[: self.page]
        more = page[-1] if len(names) > len(page) else None
        return Reply(body={"accounts": [self.accounts[name] for name in page], "next": more})

    def _keys(self, asked: Received) -> Reply:
        name = asked.path.removeprefix("/keys").removeprefix("/")
        if asked.method == "GET":
            return Reply(body={"keys": [self.keys[name] for name in sorted(self.keys)]})
        if asked.method == "DELETE":
            return Reply(204) if self.keys.pop(name, None) else problem(404, "unknown_key", "There is no such key.")
        if name in self.keys:
            return problem(409, "key_exists", "There is one already.")
        body = asked.json
        left = body["expires_in"]
        self.keys[name] = {
            "name": name,
            "scope": body.get("scope", ["token", "headers", "status"]),
            "accounts": body.get("accounts"),
            "created_at": "2026-11-26T10:00:00Z",
            "expires_at": "2026-12-26T10:00:00Z" if left else None,
            "expires_in": left,
            "last_used_at": None,
            "is_first": False,
        }
        return Reply(201, self.keys[name])

    def _audit(self, asked: Received) -> Reply:
        before, limit = int(asked.query.get("before", 10**9)), int(asked.query.get("limit", 100))
        left = [entry for entry in self.trail if entry["number"] < before]
        page = left[: min(limit, self.page)]
        return Reply(body={"entries": page, "next": page[-1]["number"] if len(left) > len(page) else None})

    def _logout(self, name: str) -> Reply:
        self.accounts[name] = nobody(name)
        return Reply(body={**self.accounts[name], "revoked": True})

    def _export(self, name: str, asked: Received) -> Reply:
        again = len(self.sent("POST", "/export")) > 1
        login = {
            "kind": "subscription",
            "access_token": self.access_token,
            "refresh_token": self.refresh_token,
            **({"id_token": self.id_token} if self.id_token else {}),
            "expires_at": "2030-01-01T00:00:00Z",
            "account_id": "acct-1",
            "obtained_at": "2029-12-31T23:00:00Z",
        }
        sealed = Recipient(asked.json["public_key"]).seal(Secret(json.dumps(login)), name)
        return Reply(body={"account": name, "generation": self.generation, "again": again, "sealed": sealed})

    def _install(self, name: str, asked: Received) -> Reply:
        is_key = asked.json.get("kind") == "api_key"
        self.accounts[name] = api_key(name) if is_key else subscription(name)
        return Reply(body={**self.accounts[name], "persisted": not is_key})

    def _login(self, asked: Received) -> Reply:
        if (asked.method, asked.path) == ("POST", "/login"):
            return self._start(asked.json)
        if self.login is None or not asked.path.startswith(f"/login/{self.login['id']}"):
            return problem(404, "unknown_login", "There is no such login.")
        if asked.method == "DELETE":
            self.end_login("cancelled", error="login_cancelled")
            return Reply(204)
        if asked.method == "POST":
            if asked.json["url"] != GOOD_URL:
                return problem(400, "login_mismatch", "This answer belongs to no login that is waiting here.")
            self.end_login("complete")
        return self._wait(float(asked.query.get("wait", 0)))

    def _start(self, wish: dict[str, Any]) -> Reply:
        flow = "device" if wish.get("flow") == "device" else self.flow
        shown: dict[str, Any] = {"authorize_url": self.authorize_url}
        if flow == "device":
            uri = "https://issuer.example/codex/device"
            shown = {"user_code": "ABCD-12345", "verification_uri": uri, "interval": 5}
            shown["verification_uri_complete"] = f"{uri}?user_code=ABCD-12345"
        self.login = {
            "id": "login-1",
            "account": wish.get("account", "default"),
            "provider": wish.get("provider", "codex"),
            "flow": flow,
            "state": "pending",
            "expires_at": "2030-01-01T00:00:00Z",
            "expires_in": self.expires_in,
            "fallback": self.fallback,
            "error": None,
            "detail": None,
            **shown,
        }
        return Reply(201, self.login)

    def _wait(self, seconds: float) -> Reply:
        deadline = time.monotonic() + seconds
        with self.changed:
            assert self.login is not None
            while self.login["state"] == "pending" and (left := deadline - time.monotonic()) > 0:
                self.changed.wait(left)
            return Reply(body=self.login)


def subscription(name: str, **members: Any) -> dict[str, Any]:
    """The status of an account that somebody is logged in to."""
    return {
        **nobody(name),
        "authenticated": True,
        "kind": "subscription",
        "provider": "codex",
        "account_id": "acct-1",
        "email": "ada@example.com",
        "plan": "plus",
        "expires_at": "2030-01-01T00:00:00Z",
        "expires_in": 3600,
        "obtained_at": "2029-12-31T23:00:00Z",
        "refresh": {
            "state": "idle",
            "generation": 3,
            "last_success_at": "2029-12-31T23:00:00Z",
            "next_attempt_at": None,
            "last_error": None,
        },
        **members,
    }


def api_key(name: str) -> dict[str, Any]:
    """The status of an account that an API key serves."""
    return {**nobody(name), "authenticated": True, "kind": "api_key"}


def nobody(name: str) -> dict[str, Any]:
    """The status of an account that nobody is logged in to."""
    empty = dict.fromkeys(
        ("kind", "provider", "account_id", "email", "plan", "expires_at", "expires_in", "obtained_at", "login")
    )
    nothing = dict.fromkeys(("last_success_at", "next_attempt_at", "last_error"))
    refresh = {"state": "idle", "generation": 0, **nothing}
    return {"authenticated": False, "account": name, **empty, "refresh": refresh, "version": "0.1.0"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeService

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Received(self.command, parts.path, dict(parse_qsl(parts.query)), headers, body)
        self.fake.requests.append(asked)
        reply = self.fake.answer(asked)
        time.sleep(reply.delay)
        self.close_connection = True
        if reply.raw is not None:
            self.wfile.write(reply.raw)
            return
        content = b"" if reply.body is None else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for name, value in {"Content-Type": reply.media_type, **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 - names of http.server

    def log_message(self, *args: object) -> None:
        """Nothing: what a test wants to know is in `requests`."""


class _Quiet(BaseServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has left: nothing that a test wants to see."""


class _Server(_Quiet, ThreadingHTTPServer):
    pass


class _UnixServer(_Quiet, ThreadingUnixStreamServer):
    pass


@contextmanager
def running(fake: FakeService, unix_socket: Path | None = None) -> Iterator[FakeService]:
    """The stand-in on a free port of 127.0.0.1, or at a unix socket alone."""
    handler = type("Handler", (_Handler,), {"fake": fake})
    with _UnixServer(str(unix_socket), handler) if unix_socket else _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        fake.url = "http://localhost" if unix_socket else f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield fake
        finally:
            server.shutdown()
            thread.join(5)
