"""An application that needs a token: waits until somebody has logged in, then asks for one.

It holds no login and no refresh token, and needs nothing but the standard library. Beside the service (one network
namespace) it needs no key; across a network PIXIR_AUTH_URL says where the service is, and PIXIR_AUTH_CLIENT_KEY_FILE
holds its client key.
"""

import json
import os
import time
from http.client import HTTPConnection  # not urllib.request: it would go through the proxy of a HTTP_PROXY
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

SERVICE = urlsplit(os.environ.get("PIXIR_AUTH_URL") or "http://localhost:1455")
KEY_FILE = os.environ.get("PIXIR_AUTH_CLIENT_KEY_FILE")

PATIENCE = 45
"""Seconds to go on asking when the service is not there: longer than it takes to restart, whatever it is doing. Whoever
gives up while it is down cannot be started again beside it: there is nothing to be beside."""


def ask(path: str) -> tuple[int, dict[str, Any]]:
    """Status and JSON of one answer; OSError when nobody has answered for as long as a restart takes."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return ask_once(path)
        except OSError:  # refused; or, when the namespace is on its way out, no address or no name to connect to
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def ask_once(path: str) -> tuple[int, dict[str, Any]]:
    """Status and JSON of one answer."""
    headers = {"Authorization": f"Bearer {Path(KEY_FILE).read_text().strip()}"} if KEY_FILE else {}
    connection = HTTPConnection(SERVICE.hostname or "localhost", SERVICE.port, timeout=60)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, json.load(answer)
    finally:
        connection.close()


def asked(path: str) -> dict[str, Any]:
    """The answer to one question. Raises SystemExit with what the service said when it refuses."""
    status, answer = ask(path)
    if status != 200:
        raise SystemExit(f"{path}: {answer['detail']}")
    return answer


def main() -> None:
    """Ask for the status until it says `authenticated`, then for the token."""
    told = False
    while not asked("/status")["authenticated"]:
        if not told:
            print("nobody is logged in yet: docker compose exec pixir-auth pixir-auth login")
            told = True
        time.sleep(2)
    answer = asked("/token")
    # answer["access_token"] is what goes into `Authorization: Bearer …`; GET /headers gives that line ready made.
    print(f"got a token, valid for {answer['expires_in']} s")


if __name__ == "__main__":
    main()
