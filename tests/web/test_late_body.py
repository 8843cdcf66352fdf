"""A body that does not come."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from service.web import guard
from tests.kit import house


@pytest.mark.parametrize(("path", "status"), [("/login", 422), ("/oauth/token", 400)])
async def test_a_body_that_does_not_come_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, status: int
) -> None:
    monkeypatch.setattr(guard, "BODY_WITHIN", 0.05)

    async def late() -> Any:
        yield b"{"
        await asyncio.Event().wait()

    async with house(tmp_path) as h:
        sent: list[dict[str, Any]] = []
        body = late()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": await anext(body), "more_body": True}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"host", b"localhost:1455"), (b"content-length", b"9"), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
        await h.app(scope, receive, send)
        assert sent[0]["status"] == status
        assert (b"connection", b"close") in sent[0]["headers"], "the rest of the body is no request"
        assert b"did not come in time" in sent[1]["body"]
