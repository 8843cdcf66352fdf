"""A request byte for byte, without an HTTP library that tidies it up, logs it, or remembers cookies."""

from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote_to_bytes

import httpx
from starlette.types import ASGIApp

from tests.web.expect import lawful

HOST = ("Host", "localhost:1455")


async def send(
    app: ASGIApp,
    method: str,
    target: str | bytes,
    headers: Iterable[tuple[str | bytes, str | bytes]] = (),
    content: bytes | Iterable[bytes] | None = None,
    *,
    cut: bool = False,
) -> httpx.Response:
    """What an HTTP server makes of a request, and the answer to it. `cut`: the client leaves before the body's end.

    Raises what the application lets through, after it has answered.
    """
    raw_path, _, query = _bytes(target).partition(b"?")
    given = [(_bytes(name).lower(), _bytes(value)) for name, value in headers]
    if not any(name == b"host" for name, _ in given):
        given.insert(0, (b"host", b"localhost:1455"))
    pieces: list[bytes] = []
    if content is not None:
        pieces = [content] if isinstance(content, bytes) else list(content)
        if not any(name in (b"content-length", b"transfer-encoding") for name, _ in given):
            given.append((b"content-length", str(sum(map(len, pieces))).encode()))
    inbox: list[dict[str, Any]] = [{"type": "http.request", "body": one, "more_body": True} for one in pieces]
    inbox.append({"type": "http.disconnect"} if cut else {"type": "http.request", "body": b"", "more_body": False})
    sent: list[Any] = []

    async def receive() -> Any:
        return inbox.pop(0) if inbox else {"type": "http.disconnect"}

    async def answer(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote_to_bytes(raw_path).decode("utf-8", "replace"),
        "raw_path": raw_path,
        "query_string": query,
        "headers": given,
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 1455),
    }
    raised: Exception | None = None
    try:
        await app(scope, receive, answer)
    except Exception as exc:  # noqa: BLE001 - an error middleware answers and then raises again
        raised = exc
    if not sent:
        raise raised or RuntimeError("no answer")
    body = b"".join(message.get("body", b"") for message in sent[1:])
    response = httpx.Response(sent[0]["status"], headers=sent[0]["headers"], content=body)
    await lawful(response)
    if raised is not None and response.status_code != 500:
        raise raised
    return response


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()
