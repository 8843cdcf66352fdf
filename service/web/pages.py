"""The few pages a person sees: what happened and what next. No script, nothing from elsewhere, everything escaped.

The page of the accounts is in `web.front`.
"""

import base64
import hashlib
from html import escape
from typing import Final

from starlette.responses import Response

from service.domain.errors import AuthError

_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:34em;margin:12vh auto;padding:0 1em;color:#1a1a1a;"
    "background:#fafafa}h1{font-size:1.4em}code{font-size:1.6em;letter-spacing:.08em}"
    "a.button,button{display:inline-block;padding:.6em 1.2em;border:0;border-radius:.4em;background:#0b57d0;color:#fff;"
    "font:inherit;text-decoration:none;cursor:pointer}section{border-top:1px solid #8886;padding-bottom:1em}"
    "h2{font-size:1.1em}summary{cursor:pointer;margin-top:.8em}pre{overflow-x:auto}"
    "@media(prefers-color-scheme:dark){body{background:#161616;color:#eee}a{color:#8ab4f8}a.button{color:#fff}}"
)
_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


def page(
    title: str, *paragraphs: str, head: str = "", status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """A page. The paragraphs are HTML: whatever comes from outside must have gone through `text`."""
    body = "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
    return whole(title, body, head=head, status=status, headers=headers)


def whole(
    title: str, body: str, *, head: str = "", status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """A page that has more than paragraphs; `body` and `head` are HTML."""
    html = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)} - pixir-auth</title>'
        f'<meta name="viewport" content="width=device-width">{head}<style>{_STYLE}</style></head>'
        f"<body><h1>{escape(title)}</h1>{body}</body></html>"
    )
    sent = {"Content-Security-Policy": _POLICY, **(headers or {})}
    return Response(html, status, headers=sent, media_type="text/html; charset=utf-8")


def text(value: str) -> str:
    """Anything as text inside HTML."""
    return escape(value)


def done(account: str, email: str | None, front: str, *, then: str | None = None) -> Response:
    """The login worked. `front`: where the page of the accounts is. `then`: the path to be at instead of this one."""
    who = f" as <b>{text(email)}</b>" if email else ""
    said = (
        f"Account <b>{text(account)}</b> is logged in{who}.",
        "You can close this page. Programs on this machine now get valid tokens from the service.",
        _accounts(front),
    )
    head = f'<meta http-equiv="refresh" content="0;url={text(then)}">' if then else ""
    return page("Logged in", *said, head=head)


def ended(front: str) -> Response:
    """A login ended well, at a process that is not this one or is no more."""
    return page("You can close this page", "The login has ended; the page of the accounts says how.", _accounts(front))


def _accounts(front: str) -> str:
    return f'<a href="{text(front)}">All accounts</a>'


def failed(error: AuthError, status: int) -> Response:
    """The login did not work."""
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after else None
    said = (text(error.detail), *(text(action) for action in error.next_actions))
    return page("Login failed", *said, f"<small>{error.code}</small>", status=status, headers=headers)


def signed_out_here(account: str) -> Response:
    """A logout that the issuer did not confirm."""
    return page(
        "Signed out here",
        f"The tokens of account <b>{text(account)}</b> are erased here.",
        "The issuer did not confirm that it has ended the login: to be sure, end it on the issuer's own pages.",
        '<a href="/">All accounts</a>',
    )


def confirm(account: str, href: str) -> Response:
    """A link on another site led here: nothing starts until the person says so."""
    return page(
        "Log in?",
        f"Another site asks to start a login for account <b>{text(account)}</b> on this machine.",
        "Go on only if you meant to do that.",
        f'<a class="button" href="{text(href)}">Log in</a>',
    )


def device(account: str, user_code: str, verification_uri: str, minutes: int, fallback: str | None) -> Response:
    """The code to type at the issuer."""
    why = "The browser login cannot be used here: the port it returns to is taken. " if fallback else ""
    return page(
        "Log in with a code",
        f"{why}To log in account <b>{text(account)}</b>, open "
        f'<a href="{text(verification_uri)}" rel="noreferrer">{text(verification_uri)}</a> and type this code:',
        f"<code>{text(user_code)}</code>",
        f"It is good for {minutes} minutes. Type it only if you started this login yourself.",
    )
