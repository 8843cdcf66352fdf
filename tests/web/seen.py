"""Looking for a secret where it must not be: in an answer, and in the log as our formatters write it."""

import base64
import io
from urllib.parse import quote

import httpx

CANARY = "CANARY-7f3a9c51e0"


def unseen(answer: httpx.Response, said: io.StringIO, canary: str = CANARY) -> None:
    """The canary is in none of it."""
    for text in (answer.text, str(answer.headers.raw), said.getvalue()):
        assert canary.lower() not in text.lower()


def forms(secret: str) -> set[bytes]:
    """A secret in all the ways in which it might stand somewhere; of a token with parts the last one too."""
    raw = secret.encode()
    return {
        raw,
        secret.rsplit(".", maxsplit=1)[-1].encode(),
        quote(secret, safe="").encode(),
        base64.b64encode(raw).rstrip(b"="),
        base64.urlsafe_b64encode(raw).rstrip(b"="),
        raw.hex().encode(),
        secret.encode("utf-16-le"),
    }
