"""What schemathesis is told beside the document: loaded by its own process, with what it needs in the environment.

Requests are steered so that they meet: a few accounts instead of as many as there are names, a login that the issuer
really made in every third PUT /credential, a good client key in every third POST /oauth/token, and no wait for the end
of a login that nobody finishes.
"""

import itertools
import json
import os
import re
from typing import Final

import httpx
import schemathesis

from tests.web.expect import lawful_now

ACCOUNTS: Final = ("default", "work", "ada")
LOGIN: Final = json.loads(os.environ["PIXIR_FUZZ_LOGIN"])
"""Body of a PUT /credential."""

REFRESH: Final = {"grant_type": "refresh_token", "refresh_token": os.environ["PIXIR_FUZZ_KEY"]}
"""Body of a POST /oauth/token."""

LONGEST_WAIT: Final = 0.01
_turn = itertools.count()


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, object]) -> None:
    """Steer one request."""
    query = case.query if isinstance(case.query, dict) else {}
    if re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,62}", str(query.get("account", ""))):
        query["account"] = ACCOUNTS[next(_turn) % len(ACCOUNTS)]
    if _is_longer(query.get("wait")):
        query["wait"] = LONGEST_WAIT
    bodies = {("PUT", "/credential"): LOGIN, ("POST", "/oauth/token"): REFRESH}
    if (case.method, case.path) in bodies and next(_turn) % 3 == 0 and isinstance(case.body, dict):
        case.body = bodies[case.method, case.path]


def _is_longer(wait: object) -> bool:
    """Whether the service would do it: what it refuses is sent as it is."""
    try:
        return LONGEST_WAIT < float(str(wait)) <= 60
    except ValueError:
        return False


@schemathesis.check
def lawful(ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case) -> None:
    """The rules for every answer, as everywhere in the tests."""
    headers = [(name, value) for name, values in response.headers.items() for value in values]
    lawful_now(httpx.Response(response.status_code, headers=headers, content=response.content))
