"""The pages a person sees. Promises that everything that came from outside is escaped."""

from __future__ import annotations

from html import escape

from starlette.responses import HTMLResponse

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>body{{font:1.1rem/1.5 system-ui;max-width:30rem;margin:4rem auto;padding:0 1rem}}
button,input{{font:inherit;padding:.4rem 1rem;margin:.5rem .5rem 0 0}}</style>
<h1>{title}</h1>{body}<p><small>Sandbox issuer: no account here is real.</small></p></html>
"""

_DECISION = '<button name="decision" value="approve">Approve</button><button name="decision" value="deny">Deny</button>'


def page(title: str, body: str, status: int = 200) -> HTMLResponse:
    """`body` is HTML already; `title` is text."""
    return HTMLResponse(_PAGE.format(title=escape(title), body=body), status, headers={"Cache-Control": "no-store"})


def notice(title: str, text: str, status: int = 200) -> HTMLResponse:
    """A page that only says something."""
    return page(title, f"<p>{escape(text)}</p>", status)


def consent(email: str, client_id: str, scope: str, action: str) -> HTMLResponse:
    """Approve or deny a browser login; the form goes back to `action`, the request's own URL."""
    text = f"<p><b>{escape(client_id)}</b> asks to act for <b>{escape(email)}</b>: {escape(scope)}</p>"
    return page("Sign in", f'{text}<form method="post" action="{escape(action)}">{_DECISION}</form>')


def device_form(user_code: str = "", problem: str = "") -> HTMLResponse:
    """Where a person types the code that the device shows."""
    text = f"<p>{escape(problem)}</p>" if problem else "<p>Enter the code your device shows.</p>"
    field = f'<input name="user_code" value="{escape(user_code)}" autocomplete="off" autofocus required>'
    form = f'<form method="post" action="/codex/device">{field}<br>{_DECISION}</form>'
    return page("Sign in a device", text + form, 400 if problem else 200)
