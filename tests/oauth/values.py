"""Answers as the issuer gives them: recorded ones from `answers/`, and ones to make up."""

import base64
import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from service.domain.secret import Secret
from service.oauth.provider import codex
from service.oauth.wire import Answer

NOW = 1_800_000_000.0
"""2027-01-15T08:00:00Z, when the recorded tokens were issued."""

REFRESH_TOKEN = "rt_0002.kJ8-vX_w3mQ~4tYb2Rz"
"""The refresh token of every recorded file."""

CODEX = codex("https://issuer.test")
AUTH = "https://api.openai.com/auth"
PROFILE = "https://api.openai.com/profile"

examples = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
"""For laws: a slow machine is no failure."""

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64)
    | st.floats()
    | st.text()
    | st.sampled_from(["Bearer", "invalid_grant", "3600", "2027-01-15T08:00:00Z", "a.b.c", REFRESH_TOKEN])
)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=6
)


def recorded(name: str) -> bytes:
    """A recorded body."""
    return (Path(__file__).parent / "answers" / f"{name}.json").read_bytes()


def document(name: str) -> dict[str, Any]:
    """A recorded body, parsed."""
    parsed: dict[str, Any] = json.loads(recorded(name))
    return parsed


def answer(status: int, body: object = b"", **headers: str) -> Answer:
    """An answer; a body that is not bytes is sent as JSON. `retry_after` is the header Retry-After."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, raw, {name.replace("_", "-"): value for name, value in headers.items()})


def jwt(claims: object) -> Secret:
    """A token that claims something; nobody here looks at the signature."""
    return Secret(".".join((encoded({"alg": "none"}), encoded(claims), "c2ln")))


def encoded(part: object) -> str:
    """One part of a JWT."""
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
