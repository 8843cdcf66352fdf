"""What holds for every answer, and the shapes that answers have: the contract as assertions."""

import asyncio
import re
from typing import Any

import httpx

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
"""RFC 3339, UTC."""

PROBLEM = {"type", "title", "status", "detail", "code", "next_actions"}
OAUTH = {"error", "error_description"}
"""What a problem has beside it where OAuth clients ask (RFC 6749 section 5.2)."""
EXTRAS = {"account", "retry_after", "login_url", "reason"}

LOGIN = {"id", "account", "provider", "flow", "state", "expires_at", "expires_in", "fallback"}
BROWSER_LOGIN = LOGIN | {"authorize_url"}
DEVICE_LOGIN = LOGIN | {"user_code", "verification_uri", "verification_uri_complete", "interval"}
TOKEN = {"access_token", "token_type", "expires_at", "expires_in", "account", "kind", "generation"}
STATUS = {
    "authenticated",
    "kind",
    "account",
    "provider",
    "account_id",
    "email",
    "plan",
    "expires_at",
    "expires_in",
    "obtained_at",
    "refresh",
    "login",
    "version",
}
REFRESH = {"state", "generation", "last_success_at", "next_attempt_at", "last_error"}


async def lawful(answer: httpx.Response) -> None:
    """The rules for every answer; a hook for httpx clients."""
    await answer.aread()
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert not {"etag", "last-modified", "server"} & set(answer.headers)
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    if answer.content and answer.headers["content-type"].endswith("json"):
        _members(answer.json())
    if answer.status_code >= 400 and answer.content:
        kinds = ("application/problem+json", "text/html; charset=utf-8")
        assert answer.headers["content-type"] in kinds or _is_oauth_error(answer)


def _is_oauth_error(answer: httpx.Response) -> bool:
    """RFC 6749 section 5.2, to the letter: the type, and what may stand in a description."""
    if answer.headers["content-type"] != "application/json" or "error" not in answer.json():
        return False
    assert answer.headers["pragma"] == "no-cache"
    assert "www-authenticate" not in answer.headers
    assert re.fullmatch(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+", answer.json()["error_description"])
    return True


def _members(value: Any, name: str = "") -> None:
    """`*_at` is an instant, `*_in` whole seconds, wherever they are."""
    if isinstance(value, dict):
        for key, member in value.items():
            _members(member, key)
    elif isinstance(value, list):
        for member in value:
            _members(member, name)
    elif name.endswith("_at"):
        assert value is None or INSTANT.fullmatch(value)
    elif name.endswith("_in"):
        assert value is None or (type(value) is int and value >= 0)


def problem(answer: httpx.Response, status: int, code: str, *extras: str) -> dict[str, Any]:
    """A problem answer (RFC 9457) with these extra members and no others; its body."""
    body: dict[str, Any] = answer.json()
    is_oauth = _is_oauth_error(answer)
    kind = "application/json" if is_oauth else "application/problem+json"
    assert (answer.status_code, answer.headers["content-type"]) == (status, kind), answer.text
    assert set(body) == PROBLEM | set(extras) | (OAUTH if is_oauth else set())
    assert set(extras) <= EXTRAS
    assert (body["status"], body["code"]) == (status, code)
    assert body["type"].endswith(code)
    assert body["title"]
    assert body["detail"]
    assert all(isinstance(action, str) and action for action in body["next_actions"])
    assert ("retry_after" in body) == ("retry-after" in answer.headers)
    if "retry_after" in body:
        assert answer.headers["retry-after"] == str(body["retry_after"])
        assert type(body["retry_after"]) is int
        assert body["retry_after"] >= 1
    return body


def told(path: str, status: int) -> int:
    """The status of a refusal as that route says it: a proxy understands two."""
    if path != "/forward-auth":
        return status
    return 401 if status in (401, 404, 409) or status >= 500 else 403


def is_let_in(answer: httpx.Response) -> bool:
    """Whether whoever asked may ask, whatever became of it."""
    return answer.status_code not in (401, 403) or answer.json()["code"] not in ("key_required", "wrong_user", "scope")


def page(answer: httpx.Response, status: int) -> str:
    """A page for people, without anything from elsewhere; its HTML."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8"), answer.text
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "script" not in policy
    html = answer.text
    assert "<script" not in html.lower()
    assert not re.search(r"\b(src|srcset|action)\s*=|\bon[a-z]+\s*=", html, re.IGNORECASE)
    return html


def one_line_of_text(answer: httpx.Response) -> str:
    """What a shell wants: the text without its one trailing newline."""
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    text = answer.text
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    assert not text.startswith("\n")
    return text.removesuffix("\n")


def lawful_now(answer: httpx.Response) -> None:
    """The same for an answer that has been read."""
    asyncio.run(lawful(answer))
