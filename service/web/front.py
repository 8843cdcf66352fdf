"""GET /: the page of the accounts, to sign in and out by hand. It has no script and does nothing without a click.

Signing in is a link to GET /login. Signing out is a form without a field: a POST of our own origin, with no body. The
second click that it takes is at another place than the first, so that a page which puts this one under the pointer
between two clicks ends no login.
"""

from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from service.broker.broker import DEFAULT_ACCOUNT
from service.domain.caller import Caller
from service.domain.credential import Credential
from service.domain.errors import AuthError, CredentialUnreadable, LoginRequired
from service.web import answers
from service.web.browsers import at_localhost
from service.web.pages import text, whole
from service.web.schemas import AccountsQuery, StatusAnswer
from service.web.services import EACH_ONCE, caller_of, seen_standings, services_of

_HEAD: Final = '<meta name="referrer" content="same-origin">'
"""Under `no-referrer`, which every answer has, browsers send a form with `Origin: null`, and the guard refuses it."""

router = APIRouter(dependencies=[EACH_ONCE])


@router.get(
    "/",
    response_class=Response,
    responses={
        200: {"content": {"text/html": {"schema": {"type": "string"}}}},
        303: {"description": "A browser goes on to localhost"},
    },
    tags=["account"],
)
async def front(request: Request, query: Annotated[AccountsQuery, Query()]) -> Response:
    """The page for people: how their accounts stand, to sign in and to sign out."""
    if elsewhere := at_localhost(request, _path(query.model_dump(exclude_defaults=True))):
        return elsewhere
    services, caller = services_of(request), caller_of(request)
    now = services.seams.now()
    found, following = await seen_standings(request, query)
    rows = [_row(answers.status(one, now, services.policies), one.credential, caller) for one in found]
    body = "".join(rows) if rows or query.after else _nobody(caller)
    return whole("Accounts", body + _further(query, following) + _hint(services.public_url), head=_HEAD)


def _row(one: StatusAnswer, credential: Credential | None, caller: Caller) -> str:
    """An account: its name, whose it is, how it stands, what can be done."""
    who = ", ".join(text(part) for part in (one.email or one.account_id, one.plan) if part)
    said = [who, _standing(one, credential), _waiting(one)]
    return (
        f"<section><h2>{text(one.account)}</h2>"
        + "".join(f"<p>{line}</p>" for line in said if line)
        + (_sign_in(one, credential) if caller.may("login") else "")
        + (_sign_out(one.account) if caller.may("admin") and one.kind == "subscription" else "")
        + "</section>"
    )


def _standing(one: StatusAnswer, credential: Credential | None) -> str:
    """How an account stands, in words."""
    if one.kind == "api_key":
        return "An API key serves until somebody signs in. It does not expire, and is not refreshed."
    why = _why(one.account, credential)
    if one.kind is None and why is not None:
        return text(why.detail)
    if isinstance(why, CredentialUnreadable):
        return f"<b>Needs you.</b> {text(why.detail)}"
    left = f"The token is valid for {_span(one.expires_in)}." if one.expires_in else "The token has expired."
    if why is not None:
        return f"<b>Needs you.</b> {text(why.detail)} {left}"
    return f"{left} {_refresh(one, credential)}"


def _why(account: str, credential: Credential | None) -> AuthError | None:
    """What only a person can mend."""
    if credential is None:
        return LoginRequired(account, "never_logged_in")
    if credential.state == "unreadable":
        return CredentialUnreadable()
    if credential.state in ("dead", "logged_out"):
        return LoginRequired(account, credential.reason or "outcome_unknown")
    return None


def _refresh(one: StatusAnswer, credential: Credential | None) -> str:
    """What becomes of a login that is alive."""
    if credential is not None and credential.state == "restored":
        return "<b>Needs you.</b> It came from a backup and is not refreshed: sign in, or confirm that it is unspent."
    match one.refresh.state:
        case "in_flight":
            return "It is being refreshed now."
        case "backing_off":
            return f"The last refresh did not work ({text(one.refresh.last_error or '')}); it is tried again by itself."
        case "uncertain":
            return "A refresh got no answer; it is tried once more when the token is about to end."
    return "It refreshes itself."


def _waiting(one: StatusAnswer) -> str:
    return f"A login waits to be finished, for {_span(one.login.expires_in)} yet." if one.login else ""


def _sign_in(one: StatusAnswer, credential: Credential | None) -> str:
    """A button where it helps; else a link."""
    is_well = one.kind == "subscription" and credential is not None and credential.state == "active"
    return _link(one.account, "Sign in again") if is_well else _button(one.account, "Sign in")


def _link(account: str, said: str, more: str = "") -> str:
    return f'<a {more}href="/login?{text(urlencode({"account": account}))}">{said}</a>'


def _button(account: str, said: str) -> str:
    return _link(account, said, 'class="button" ')


def _sign_out(account: str) -> str:
    return (
        "<details><summary>Sign out</summary>"
        "<p>This ends the login here and at the issuer. Programs get no more tokens from it. "
        "To sign in as somebody else, sign out first.</p>"
        f'<form method="post" action="/logout?{text(urlencode({"account": account}))}">'
        f"<button>Sign out of {text(account)}</button></form></details>"
    )


def _nobody(caller: Caller) -> str:
    """Nothing is here yet: the one thing to do."""
    account = DEFAULT_ACCOUNT if caller.sees(DEFAULT_ACCOUNT) else min(caller.accounts or {DEFAULT_ACCOUNT})
    return "<p>Nobody is logged in.</p>" + (_button(account, "Log in") if caller.may("login") else "")


def _further(query: AccountsQuery, following: str | None) -> str:
    """The way to the other pages."""
    asked = query.model_dump(exclude_defaults=True, exclude={"after"})
    ways = [("From the beginning", asked)] if query.after else []
    ways += [("More accounts", {**asked, "after": following})] if following else []
    return "".join(f'<p><a href="{text(_path(to))}">{said}</a></p>' for said, to in ways)


def _path(query: dict[str, Any]) -> str:
    return f"/?{urlencode(query)}" if query else "/"


def _hint(public_url: str) -> str:
    url = text(public_url)
    return (
        "<section><h2>For programs</h2>"
        f"<pre>curl -fsS {url}/token\ncurl -fsS '{url}/headers?format=text'</pre>"
        "<p>With <b>?account=NAME</b> for another account; <b>/login?account=NAME</b> signs in to a new one.</p>"
        "</section>"
    )


def _span(seconds: int) -> str:
    """A time as people say it, never more than there is."""
    for length, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= length:
            count = seconds // length
            return f"{count} {name}{'s' if count > 1 else ''}"
    return "less than a minute"
