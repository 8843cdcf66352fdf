"""The attacker's web server, and a server that guards nothing: there it shows whether an attack works at all."""

import base64
import hashlib
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

ATTACKS = Path(__file__).with_name("attacks.js").read_text(encoding="utf-8")

TREASURE = "treasure-5b1d0c"
"""What the open server tells everybody."""


def page(run: dict[str, Any]) -> str:
    """The page that attacks as it is told."""
    script = f'<script>const RUN = {json.dumps(run)}</script><script src="{run["home"]}/attacks.js"></script>'
    return f"<!doctype html><meta charset=utf-8><title>Kittens</title><body>{script}"


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it has there
        """Not on the terminal."""

    def answer(self, status: int, body: str = "", kind: str = "text/html", **headers: str | list[str]) -> None:
        """Whoever asks may read it. A list is a header for each."""
        sent = {"Content-Type": kind, "Content-Length": str(len(body.encode())), "Cache-Control": "no-store"}
        if origin := self.headers.get("Origin"):
            sent |= {
                "Access-Control-Allow-Origin": origin,
                "Access-Control-Allow-Credentials": "true",
                "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE",
                "Access-Control-Allow-Headers": "authorization, content-type, x-forwarded-for",
            }
        self.send_response(status)
        for name, value in {**sent, **headers}.items():
            for one in [value] if isinstance(value, str) else value:
                self.send_header(name, one)
        self.end_headers()
        self.wfile.write(body.encode())

    def body(self) -> bytes:
        """What was sent."""
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # with the 5 there are by default, a busy machine lets connections wait for many seconds

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Browsers leave when they like."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Evil(_Server):
    """Serves pages that attack, and takes their reports."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _EvilHandler)
        self.reports: dict[str, dict[str, str]] = {}
        self.port = self.server_port

    def at(self, host: str, what: str, said: str = "") -> str:
        """The address of one of its pages, and what it is told."""
        return f"http://{host}:{self.port}/{what}?{quote(said, safe='')}"


def _attacking(said: str) -> str:
    return page(json.loads(said))


def _sandboxed(said: str) -> str:
    return f'<iframe sandbox="allow-scripts allow-forms allow-popups" srcdoc="{escape(_attacking(said))}"></iframe>'


def _data(said: str) -> str:
    return f'<iframe src="data:text/html,{quote(_attacking(said))}"></iframe>'


def _link(said: str) -> str:
    return f'<a href="{escape(said)}">Kittens</a>'


def _ahead(said: str) -> str:
    rules = {how: [{"urls": [said], "eagerness": "immediate"}] for how in ("prefetch", "prerender")}
    ahead = f'<script type="speculationrules">{json.dumps(rules)}</script>'
    return f'{ahead}<link rel="prefetch" href="{escape(said)}">{_link(said)}'


def _refresh(said: str) -> str:
    return f'<meta http-equiv="refresh" content="0;url={escape(said)}">'


def _back(said: str) -> str:
    return "<script>onload = () => setTimeout(() => history.back())</script>"


PAGES: dict[str, Callable[[str], str]] = {
    "page": _attacking,
    "sandboxed": _sandboxed,
    "data": _data,
    "link": _link,
    "ahead": _ahead,
    "refresh": _refresh,
    "back": _back,
}
"""What the attacker's server shows, made of what follows the question mark."""


class _EvilHandler(_Handler):
    server: Evil

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        said = unquote(query)
        match path.strip("/").split("/"):
            case ["attacks.js"]:
                self.answer(200, ATTACKS, "text/javascript")
            case ["to", code]:
                self.answer(int(code), Location=said)
            case ["reports"]:
                policy = f"img-src 'none'; report-uri {said}"
                self.answer(200, '<img src="/nothing">', **{"Content-Security-Policy": policy})
            case ["cookie"]:
                self.answer(200, "Yum", **{"Set-Cookie": said})
            case ["heap"]:
                heap = [f"{said}_{number}={'x' * 4000}; Path=/" for number in range(40)]
                self.answer(200, "Yum", **{"Set-Cookie": heap})
            case [name] if name in PAGES:
                self.answer(200, PAGES[name](said))
            case _:
                self.answer(404)

    def do_POST(self) -> None:
        sent = self.body()
        if self.path == "/report":
            report = json.loads(sent)
            self.server.reports[report["run"]] = report["got"]
            self.answer(200)
        else:  # /to/307
            self.do_GET()


class Open(_Server):
    """Answers everything with its treasure; `seen`: the first part of each path that was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _OpenHandler)
        self.seen: set[str] = set()
        self.url = f"http://localhost:{self.server_port}"


class _OpenHandler(_Handler):
    server: Open

    def do_GET(self) -> None:
        self.body()
        if self.command != "OPTIONS":
            self.server.seen.add(self.path.split("/")[1])
        if key := self.headers.get("Sec-WebSocket-Key"):
            self._web_socket(key)
        elif self.headers.get("Accept") == "text/event-stream":
            self.answer(200, f"data: {TREASURE}\n\n", "text/event-stream")
        elif self.headers.get("Sec-Fetch-Dest") in ("document", "iframe", "object", "embed"):
            self.answer(200, TREASURE)
        else:
            self.answer(200, f"self.leaked = '{TREASURE}'", "text/javascript")

    do_POST = do_PUT = do_DELETE = do_OPTIONS = do_HEAD = do_GET  # noqa: N815 - the names it has there

    def _web_socket(self, key: str) -> None:
        proof = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()  # RFC 6455 section 1.3
        self.protocol_version = "HTTP/1.1"
        self.send_response(101)
        for name, value in (("Upgrade", "websocket"), ("Connection", "Upgrade")):
            self.send_header(name, value)
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(proof).decode())
        self.end_headers()
        self.wfile.write(bytes([0x81, len(TREASURE)]) + TREASURE.encode())  # one frame of text


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[None]:
    """Answers until the end."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
