"""Nothing that a service keeps secret is ever said on stderr."""

import json
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.cli import main
from tests.kit.lacking import IN_CI

from .fake import FakeService, Reply, problem

TAILS = st.text(string.ascii_letters + string.digits + "-._~+/=", min_size=12, max_size=80)
ACCESS_TOKENS, REFRESH_TOKENS = TAILS.map("access-{}".format), TAILS.map("refresh-{}".format)
COMMANDS = st.sampled_from(
    [
        ["token"],
        ["token", "--json"],
        ["headers"],
        ["headers", "--json"],
        ["status"],
        ["status", "--json"],
        ["accounts"],
        ["logout"],
        ["import", "FILE"],
        ["export", "--format", "codex"],
        ["export", "--format", "pixir"],
        ["export", "--format", "env"],
        ["export", "--format", "codex", "--with-refresh-token"],
        ["export", "--format", "env", "--with-refresh-token"],
    ]
)


def broken(token: str) -> list[Reply | None]:
    """The token in every place of an answer where a service might drop it."""
    body = {"access_token": f"{token}\n{token}", "Authorization": f"Bearer {token}\x00", "token": token}
    return [
        None,
        Reply(body=body),
        Reply(body=[token]),
        Reply(body=body, media_type="text/plain"),
        Reply(500, body),
        Reply(302, headers={"Location": f"/?token={token}"}),
        Reply(502, {**body, "refresh_token": token}, media_type="application/problem+json"),
        Reply(raw=f"HTTP/1.1 {token}\r\n\r\n".encode()),
        Reply(raw=f"{token}\r\n\r\n".encode()),
        Reply(raw=f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{{{token}".encode()),
        Reply(raw=f"HTTP/1.1 200 OK\r\nContent-Type: {token}\r\nContent-Length: {token}\r\n\r\n{token}".encode()),
        problem(503, "issuer_unavailable", "It is down."),
    ]


@settings(max_examples=100 if IN_CI else 30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(access=ACCESS_TOKENS, refresh=REFRESH_TOKENS, command=COMMANDS, data=st.data())
def test_no_token_on_stderr(
    fake: FakeService,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    access: str,
    refresh: str,
    command: list[str],
    data: Any,
) -> None:
    reply = data.draw(st.sampled_from(broken(access)))
    paths = [("GET", "/token"), ("GET", "/headers"), ("GET", "/status"), ("GET", "/accounts")]
    paths += [("POST", "/logout"), ("PUT", "/credential"), ("POST", "/export"), ("POST", "/export/confirm")]
    fake.access_token, fake.refresh_token = access, refresh
    fake.replies = {} if reply is None else dict.fromkeys(paths, reply)
    document = json.dumps({"tokens": {"access_token": access, "refresh_token": refresh}})
    file = tmp_path / "auth.json"
    file.write_text(document[: data.draw(st.sampled_from([-1, None]))])  # whole, or cut off
    capsys.readouterr()
    code = main([str(file) if part == "FILE" else part for part in command])
    said = capsys.readouterr()
    assert access not in said.err
    assert refresh not in said.err
    assert refresh not in said.out or "--with-refresh-token" in command
    if code != 0 and command[0] in ("token", "headers", "export"):
        assert access not in said.out
