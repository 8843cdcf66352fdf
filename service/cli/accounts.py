"""`status`, `accounts` and `logout`: whose logins there are."""

from collections.abc import Iterator
from typing import Any

from service.cli.client import Body, Service
from service.cli.console import DONE, LOGIN_REQUIRED, UNREACHABLE, Failure, is_for_people, out_json, out_rows, say

_MAX_PAGES = 1000
"""Pages of accounts that are asked for: a `next` that goes round in circles must end."""


def show_status(service: Service, *, account: str, as_json: bool) -> int:
    """How the login of one account stands. 3 when nobody is logged in."""
    status = service.get("/status", {"account": account})
    if as_json:
        out_json(status)
    else:
        if not is_for_people():
            out_rows([_row(status)])
        say(*status_lines(status))
    return DONE if status.get("authenticated") is True else LOGIN_REQUIRED


def show_accounts(service: Service, *, as_json: bool) -> int:
    """Every account, all pages of them."""
    accounts = list(_accounts(service))
    if as_json:
        out_json({"accounts": accounts, "next": None})
    elif not accounts:
        say("No account has logged in yet: pixir-auth login")
    elif is_for_people():
        say(*map(_summary, accounts))
    else:
        out_rows(map(_row, accounts))
    return DONE


def log_out(service: Service, *, account: str) -> int:
    """End the login, here and at the issuer."""
    status = service.call("POST", "/logout", query={"account": account})
    told = {
        True: "The issuer has revoked the login.",
        False: "The issuer could not be told: its copy of the login ends by itself.",
    }
    say(f"Logged out of account {account}.", *([told[status["revoked"]]] if status.get("revoked") in told else ()))
    if status.get("kind") == "api_key":
        say("The service's OPENAI_API_KEY now serves this account.")
    return DONE


def status_lines(status: Body) -> list[str]:
    """A status for people: a line for each member that says something."""
    rows = {
        "account": status.get("account"),
        "logged in": "yes" if status.get("authenticated") else "no",
        "kind": status.get("kind"),
        "provider": status.get("provider"),
        "e-mail": status.get("email"),
        "plan": status.get("plan"),
        "account id": status.get("account_id"),
        "token": _expiry(status),
        "refresh": _refresh(status.get("refresh")),
        "login": _login(status.get("login")),
        "service": status.get("version"),
    }
    return [f"{name:<10}  {value}" for name, value in rows.items() if value]


def who(status: Body) -> str:
    """Whose login it is, in a few words."""
    name = status.get("email") or status.get("account_id") or status.get("kind") or "nobody"
    return f"{name} ({status['plan']})" if status.get("plan") else str(name)


def duration(seconds: float) -> str:
    """`9d 4h`, `1h 5m`, `2m 5s` or `8s`: the two units that matter."""
    left = max(0, int(seconds))
    for size, unit, lesser_size, lesser in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if left >= size:
            return f"{left // size}{unit} {left % size // lesser_size}{lesser}"
    return f"{left}s"


def _accounts(service: Service) -> Iterator[Body]:
    after: object = None
    for _ in range(_MAX_PAGES):
        page = service.get("/accounts", {"after": after})
        yield from page.get("accounts") or ()
        after = page.get("next")
        if after is None:
            return
    raise Failure("The service's list of accounts has no end.", exit_code=UNREACHABLE)


def _row(status: Body) -> list[object]:
    """A status for scripts."""
    state = "authenticated" if status.get("authenticated") is True else "login_required"
    return [status.get("account"), state, *(status.get(name) for name in ("kind", "email", "expires_at"))]


def _summary(status: Body) -> str:
    expiry = _expiry(status) or ("" if status.get("authenticated") else "not logged in")
    return "  ".join(filter(None, [f"{status.get('account', '?'):<12}", who(status), expiry]))


def _expiry(status: Body) -> str | None:
    left = _number(status.get("expires_in"))
    if left is None:
        return None
    return f"expires in {duration(left)} ({status.get('expires_at')})" if left > 0 else "expired"


def _refresh(refresh: Any) -> str | None:
    if not isinstance(refresh, dict):
        return None
    parts = [f"{refresh.get('state')}, generation {refresh.get('generation')}"]
    parts += [
        f"{words} {refresh[name]}"
        for name, words in (("last_success_at", "last"), ("next_attempt_at", "next try"), ("last_error", "last error"))
        if refresh.get(name)
    ]
    return ", ".join(parts)


def _login(login: Any) -> str | None:
    return f"{login.get('state')} ({login.get('flow')})" if isinstance(login, dict) else None


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
