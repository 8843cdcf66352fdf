"""What a reverse proxy is answered that asks whether, and with what, a request may go on.

Promises 200, 401 or 403 and nothing else: nginx makes a 500 of any other status, and Envoy and Traefik would pass a
redirect on to the client. The problem stays as it is, but for its `status`.
"""

import json
from typing import Final

from starlette.types import Message, Send

from service.web.problems import retold

FORWARD_AUTH: Final = "/forward-auth"
"""Where proxies ask: `auth_request` of nginx, `forward_auth` of Caddy, ForwardAuth of Traefik."""


def proxy_status(status: int) -> int:
    """401 where there is nothing to send at this moment, or nobody knows who asks; 403 where it may never be asked."""
    return 401 if status in (401, 404, 409) or status >= 500 else 403


def for_a_proxy(send: Send) -> Send:
    """A `send` for one answer."""
    return retold(send, for_proxies)


def for_proxies(start: Message, body: bytes) -> tuple[Message, bytes]:
    """A problem answer as it is told to a proxy."""
    status = proxy_status(start["status"])
    told = json.dumps({**json.loads(body), "status": status}).encode()
    headers = [(name, value) for name, value in start["headers"] if name != b"content-length"]
    headers.append((b"content-length", str(len(told)).encode()))
    if status == 401 and not any(name == b"www-authenticate" for name, _ in headers):
        headers.append((b"www-authenticate", b"Bearer"))  # RFC 9110 section 15.5.2: a 401 says what would help
    return {**start, "status": status, "headers": headers}, told
