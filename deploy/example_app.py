"""An application beside the service: waits until somebody has logged in, then asks for a token.

It holds no login and no refresh token, and needs nothing but the standard library.
"""

import json
import os
import time
from http.client import HTTPConnection  # not urllib.request: it would go through the proxy of a HTTP_PROXY
from typing import Any

PORT = int(os.environ.get("PIXIR_AUTH_PORT") or 1455)


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
    connection = HTTPConnection("localhost", PORT, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, json.load(answer)
    finally:
        connection.close()


def main() -> None:
    """Ask for the status until it says `authenticated`, then for the token."""
    told = False
    while not ask("/status")[1]["authenticated"]:
        if not told:
            print("nobody is logged in yet: docker compose exec pixir-auth pixir-auth login --device")
            told = True
        time.sleep(2)
    status, answer = ask("/token")
    if status != 200:
        raise SystemExit(f"no token: {answer['detail']}")
    # answer["access_token"] is what goes into `Authorization: Bearer …`; GET /headers gives that line ready made.
    print(f"got a token, valid for {answer['expires_in']} s")


if __name__ == "__main__":
    main()
