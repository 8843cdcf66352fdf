"""Looking for a secret where it must not be: in an answer, and in the log as our formatters write it."""

import io

import httpx

CANARY = "CANARY-7f3a9c51e0"


def unseen(answer: httpx.Response, said: io.StringIO, canary: str = CANARY) -> None:
    """The canary is in none of it."""
    for text in (answer.text, str(answer.headers.raw), said.getvalue()):
        assert canary.lower() not in text.lower()
