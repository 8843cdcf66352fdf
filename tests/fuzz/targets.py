"""What reads bytes that others have made, as functions of bytes that hold each reader to its laws.

The laws: no exception but the declared one, no text of a secret where a value is shown, nothing that could not be sent
on, and an end within a second. A new reader is one more entry in TARGETS.
"""

import json
import re
import struct
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from service import peer
from service.domain.credential import Credential
from service.domain.errors import InvalidCredential, InvalidRequest, UnsupportedGrantType
from service.domain.secret import Secret
from service.oauth import claims
from service.oauth.answers import MAX_LIFETIME, Granted, classify
from service.oauth.callback import Callback, read_callback, read_pasted
from service.oauth.device import Approved, UserCode, read_poll, read_user_code
from service.oauth.imports import ApiKey, read_credential
from service.oauth.wire import Answer, form, json_body
from service.store.rescue import _read
from service.store.vault import Place, Vault
from service.web.guard import NAVIGABLE, allowed_for, asker_of, refusal
from service.web.oauth import refresh_token

NOW: Final = 1_800_000_000.0
_LATEST: Final = 253_402_300_799  # the last second of the year 9999
LONGEST: Final = 1.0
"""Seconds of processor time for one input (S104)."""

_ANSWERS: Final = Path(__file__).parents[1] / "oauth" / "answers"


@dataclass(frozen=True, slots=True)
class Target:
    """A reader under its laws: raises AssertionError, or whatever the reader should not have raised."""

    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]

    def __call__(self, data: bytes) -> None:
        """One input, within its time."""
        began = time.thread_time()
        self.run(data)
        assert time.thread_time() - began < LONGEST, "takes too long"


def recorded() -> list[bytes]:
    """Bodies as issuers and other programs have written them."""
    return [file.read_bytes() for file in sorted(_ANSWERS.glob("*.json"))]


def hidden(value: object, *secrets: Secret | None) -> None:
    """Whoever shows the value shows none of these. What is shorter may stand there for another reason."""
    shown = repr(value)
    assert not [one for one in secrets if one and len(one.reveal()) >= 24 and one.reveal() in shown]


# -- the browser's return --------------------------------------------------------------------------------------------


def callback(data: bytes) -> None:
    """The query as the server gives it, and the same text pasted."""
    for read, text in ((read_callback, data.decode("latin-1")), (read_pasted, data.decode("utf-8", "replace"))):
        found = read(text)
        if found is not None:
            _is_a_callback(found)


def _is_a_callback(found: Callback) -> None:
    assert found.state
    assert (found.code is None) != (found.error is None)
    assert found.state == Secret(found.state.reveal())  # which encodes it
    hidden(found, found.state, found.code)
    if found.code:
        form("code", "https://issuer.test", code=found.code)


def _callbacks() -> list[bytes]:
    state = b"state=s-0123456789abcdefghijklmnop"
    return [
        b"code=c-0123456789abcdefghijklmnopq&" + state,
        b"error=access_denied&error_description=no&iss=https%3A%2F%2Fissuer.test&" + state,
        b"http://localhost:1455/auth/callback?code=c%C3%A9&" + state + b"#fragment",
        b"?code=%ed%a0%80&code=b&state=",
        b"http://[::1",
    ]


# -- what an issuer answers ------------------------------------------------------------------------------------------

_STATUSES: Final = (200, 400, 401, 403, 404, 408, 429, 500, 502, 503, 204, 302)
_WAITS: Final = (None, "5", "-1", "Fri, 15 Jan 2027 08:00:30 GMT", "soon", "9" * 400)


def answers(data: bytes) -> None:
    """First byte: the status; second: Retry-After, or the third line of the input as it is; then the body."""
    status = _STATUSES[(data[:1] or b"\0")[0] % len(_STATUSES)]
    choice = (data[1:2] or b"\0")[0] % (len(_WAITS) + 1)
    body = data[2:]
    wait = _WAITS[choice] if choice < len(_WAITS) else body[:40].decode("latin-1")
    answer = Answer(status, body, {} if wait is None else {"retry-after": wait})
    verdict = classify(answer, now=NOW)
    if isinstance(verdict, Granted):
        tokens = verdict.tokens
        assert tokens.lifetime is None or 1 <= tokens.lifetime <= MAX_LIFETIME
        _sendable(verdict, tokens.access_token, tokens.refresh_token, tokens.id_token)
    assert getattr(verdict, "retry_after", 0.0) >= 0
    _device(answer)


def _device(answer: Answer) -> None:
    poll = read_poll(answer, now=NOW)
    if isinstance(poll, Approved):
        _sendable(poll, poll.code, poll.verifier)
    user_code = read_user_code(answer)
    if isinstance(user_code, UserCode):
        assert 1 <= user_code.interval <= 60
        _sendable(user_code, user_code.device_auth_id, user_code.user_code)


def _sendable(value: object, *secrets: Secret | None) -> None:
    hidden(value, *secrets)
    for secret in filter(None, secrets):
        form("any", "https://issuer.test", value=secret)
        json_body("any", "https://issuer.test", value=secret)
        assert secret == Secret(secret.reveal())


def _answers() -> list[bytes]:
    statuses = {"400": 1, "401": 2, "403": 3}
    named = [(statuses.get(file.stem[-3:], 0), file.read_bytes()) for file in sorted(_ANSWERS.glob("*.json"))]
    made = [
        b'{"device_auth_id":"d","user_code":"AB-12","interval":1e400}',
        b'{"device_auth_id":"d","user_code":"AB-12","interval":' + b"9" * 400 + b"}",
        b'{"device_auth_id":"\\ud800","user_code":"AB-12"}',
        b'{"authorization_code":"\\ud800","code_verifier":"v"}',
        b'{"access_token":"a","expires_in":' + b"9" * 400 + b"}",
        b'{"refresh_token":"r","access_tok',
    ]
    return [bytes([status, 0]) + body for status, body in named] + [b"\0\1" + body for body in made]


# -- logins made elsewhere -------------------------------------------------------------------------------------------

_REFUSALS: Final = re.compile(
    r"[A-Za-z_]{1,20} is missing or empty\.|[A-Za-z_]{1,20} must be text without spaces or control characters\.|"
    r"The account belongs in the query, not in the body\.|expires_at must be an RFC 3339 instant .*|"
    r"This is neither a credential nor an auth\.json of Codex or Pixir\."
)


def imports(data: bytes) -> None:
    """A document of any shape is a credential, or refused in words that do not depend on what is in it."""
    document = _object(data)
    try:
        found = read_credential(document)
    except InvalidCredential as exc:
        if not _REFUSALS.fullmatch(exc.detail):
            raise AssertionError("a text that is not in the list") from exc
        return
    if isinstance(found, ApiKey):
        _sendable(found, found.key)
        return
    assert found.expires_at is None or 0 <= found.expires_at <= _LATEST
    _sendable(found, found.access_token, found.refresh_token, found.id_token)


def _object(data: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


# -- what a token claims ---------------------------------------------------------------------------------------------


def jwt(data: bytes) -> None:
    """As a whole token, and as the middle part of one."""
    from service.oauth.pkce import b64url  # noqa: PLC0415

    for token in (Secret(data.decode("latin-1")), Secret(f"e30.{b64url(data)}.c2ln")):
        identity = claims.identity(token, None)
        for text in (identity.account_id, identity.email, identity.plan):
            assert text is None or (0 < len(text) <= 320 and text.isascii() and text.isprintable())
        for name in ("exp", "iat"):
            at = claims.instant(token, name)
            assert at is None or 0 < at < 1e11


def _claims() -> list[bytes]:
    return [
        b'{"exp":1800000000,"email":"ada@example.com","https://api.openai.com/auth":{"chatgpt_account_id":"a-1"}}',
        b'{"exp":1e999,"https://api.openai.com/profile":{"email":"ada@example.com"}}',
        b'{"exp":' + b"9" * 400 + b"}",
        b"e30.e30.e30",
        b"e30.\xff.e30",
    ]


# -- who may ask -----------------------------------------------------------------------------------------------------

ALLOWED: Final = allowed_for(1455, "http://localhost:1455", ("auth.example.org",))
_METHODS: Final = ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD")
_PATHS: Final = ("/token", "/login", "/callback", "/", "/logout", "/nowhere")


def guard(data: bytes) -> None:
    """First byte: method and path; the rest: one header a line. Whoever passes is one of those who may."""
    first = (data[:1] or b"\0")[0]
    method, path = _METHODS[first % 6], _PATHS[first // 6 % 6]
    pairs = [line.partition(b":")[::2] for line in data[1:].split(b"\n")]
    headers = [(name.strip().lower(), value.strip()) for name, value in pairs]
    if refusal(asker_of({"headers": headers}), method, path, ALLOWED) is not None:
        return
    sent = {name: [value for one, value in headers if one == name] for name, _ in headers}
    (host,) = sent[b"host"]
    assert host.lower() in ALLOWED.hosts
    foreign = [one for one in sent.get(b"origin", []) if one.lower() not in ALLOWED.origins]
    elsewhere = sent.get(b"sec-fetch-site", [b"none"])[-1] in (b"cross-site", b"same-site")
    if foreign or elsewhere:
        assert method == "GET"
        assert path in NAVIGABLE
        assert sent[b"sec-fetch-mode"][-1] == b"navigate"
        assert sent[b"sec-fetch-dest"][-1] == b"document"


def _requests() -> list[bytes]:
    led = b"\nSec-Fetch-Site: cross-site\nSec-Fetch-Mode: navigate\nSec-Fetch-Dest: document"
    return [
        b"\0Host: localhost:1455",
        b"\0Host: localhost:1455\nOrigin: http://localhost:1455\nSec-Fetch-Site: same-origin",
        b"\6Host: localhost:1455" + led,
        b"\6Host: LOCALHOST:1455\nOrigin: null" + led + b"\nSec-Purpose: prefetch",
        b"\0Host: localhost:1455/?#\nHost: evil.example",
        b"\1Host: [::1]:1455\nOrigin: https://evil.example\nContent-Length: 5",
    ]


def token_request(data: bytes) -> None:
    """As JSON and as a form: one refresh token that can be sent, or a declared error."""
    for kind in (b"application/json", b"application/x-www-form-urlencoded"):
        try:
            token = refresh_token(kind, data)
        except (InvalidRequest, UnsupportedGrantType):
            continue
        assert re.fullmatch("[ -~]+", token.reveal())
        hidden(token, token)


def _token_requests() -> list[bytes]:
    return [
        b'{"client_id":"app","grant_type":"refresh_token","refresh_token":"pixir_k"}',
        b'{"grant_type":"refresh_token","refresh_token":"a","refresh_token":"\\ud800"}',
        b"grant_type=refresh_token&refresh_token=pixir_k&scope=a+b%20c",
        b"grant_type=refresh_token&refresh_token=%ff&refresh_token=",
        b"[" * 1000,
    ]


# -- a pair that was saved beside the database -----------------------------------------------------------------------

VAULT: Final = Vault(sha256(b"a key for fuzzing only").digest())
_PLACE: Final = Place("rescue", "credential", "ab12", 3)
_MEMORY: Final = "/dev/shm" if Path("/dev/shm").is_dir() else None  # a disk would be most of the time
_FOLDER: Final = tempfile.TemporaryDirectory(prefix="pixir-auth-fuzz-", dir=_MEMORY)


def rescue(data: bytes) -> None:
    """The bytes as a file, and as a document that was sealed by another version: a credential, or nothing."""
    path = Path(_FOLDER.name) / "ab12-3.rescue"
    path.touch(mode=0o600)
    path.write_bytes(data)
    assert _read(path, VAULT) is None
    path.write_bytes(VAULT.seal(Secret(json.dumps(_object(data))), _PLACE))
    found = _read(path, VAULT)
    if isinstance(found, Credential):
        hidden(found, *(one for one in (found.access_token, found.refresh_token) if isinstance(one, Secret)))
    else:
        assert found is None


def _rescued() -> list[bytes]:
    names = ("account", "provider", "login_id", "state", "access_token", "refresh_token", "id_token")
    document: dict[str, Any] = dict.fromkeys(names, "x")
    document |= {"generation": 3, "identity": [None, None, None], "obtained_at": 1.0, "expires_at": 2.0}
    return [
        json.dumps(document).encode(),
        json.dumps(document | {"identity": 5}).encode(),
        b"\1" + VAULT.first.id,
        b"{}",
    ]


def netlink(data: bytes) -> None:
    """What the kernel says of a connection. Another socket than the one asked for has no user."""
    ends = peer.Ends(b"\x7f\0\0\1", 1455, b"\x7f\0\0\1", 50000)
    peer.is_answer(data, 1)
    uid = peer.uid_in(data, ends)
    assert uid is None or 0 <= uid < 2**32
    assert peer.uid_in(data, ends._replace(own_port=1456)) is None or uid is None


def _rows() -> list[bytes]:
    """An answer about that socket, and the question itself."""
    ends = peer.Ends(b"\x7f\0\0\1", 1455, b"\x7f\0\0\1", 50000)
    asked = peer.question(ends, 1)
    row = struct.pack("=BBBB", 2, 1, 0, 0) + asked[24:72] + struct.pack("=IIIII", 0, 0, 0, 1000, 4711)
    return [asked, struct.pack("=IHHII", 16 + len(row), 20, 0, 1, 0) + row]


TARGETS: Final = {
    "callback": Target(callback, _callbacks),
    "answers": Target(answers, _answers),
    "imports": Target(imports, recorded),
    "claims": Target(jwt, _claims),
    "guard": Target(guard, _requests),
    "token_request": Target(token_request, _token_requests),
    "rescue": Target(rescue, _rescued),
    "netlink": Target(netlink, _rows),
}
