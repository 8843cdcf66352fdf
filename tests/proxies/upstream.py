"""What stands around a proxy in these tests: its clients' claims, the provider behind it, the keys of the service."""

import ssl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "pixir_" + "k" * 43

STATUS_KEY = "pixir_" + "s" * 43
"""Not for headers."""

CLAIMS = [
    ("Authorization", "Bearer sk-of-the-client"),
    ("authorization", "Basic eA=="),
    ("ChatGPT-Account-ID", "somebody-else"),
    ("ChatGPT_Account_ID", "somebody-else"),
    ("X_Forwarded_User", "root"),
    ("X-Forwarded-User", "root"),
    ("Cookie", "session=1"),
]
"""What a client says of itself."""

A_PAGE = [("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "cors")]
"""What a browser says of a page of somebody else."""


class Upstream(ThreadingHTTPServer):
    """What stands behind the proxy: keeps headers and path of every request, and what it is called in handshakes."""

    def __init__(self) -> None:
        self.names: list[str | None] = []
        self.paths: list[str] = []
        self.seen: list[list[tuple[str, str]]] = []
        upstream = self

        class Echo(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                upstream.paths.append(self.path)
                upstream.seen.append([(name.lower(), value) for name, value in self.headers.items()])
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        super().__init__(("127.0.0.1", 0), Echo)

    def speaks_tls(self, context: ssl.SSLContext) -> None:
        context.sni_callback = lambda _connection, name, _context: self.names.append(name)
        self.socket = context.wrap_socket(self.socket, server_side=True)

    def handle_error(self, request: object, client_address: object) -> None:
        """A handshake that was broken off is no news."""
