"""`login`: starts a login at the service, shows a person what to do, and waits for the end of it."""

import os
import sys
import threading
import time
from contextlib import suppress
from typing import Any, Final

from service.cli.accounts import duration, who
from service.cli.client import Body, Service, login_path
from service.cli.console import DONE, FAILED, UNREACHABLE, Failure, is_terminal, progress, say
from service.cli.paste import Paste

_WAIT: Final = 30
"""Seconds of one long poll; also how often the remaining time is shown."""

_GRACE: Final = 30.0
"""Seconds after a login's end in which the service must have said so."""

_CANCEL_WITHIN: Final = 5.0
"""Seconds that a person who pressed Ctrl-C is kept waiting at most."""

_RETURNS_WITHIN: Final = 10
"""Seconds for which the service may be gone in between: a login outlives its restart."""

_FALLBACKS: Final = {"callback_port_unavailable": "the ports that the issuer sends browsers back to are taken"}


def log_in(service: Service, wish: Body, *, may_open: bool) -> int:
    """One login, from its start to its end. `wish`: the body of POST /login. `may_open`: a browser, if there is one."""
    login = service.call("POST", "/login", body=wish)
    try:
        _instruct(login, may_open=may_open)
        ended = _wait(service, login)
    except KeyboardInterrupt:
        with suppress(Failure, KeyboardInterrupt):
            service.call("DELETE", login_path(login.get("id")), within=_CANCEL_WITHIN)
        say("", "Cancelled.")
        return FAILED
    return _conclude(service, ended)


def why_no_browser(environ: dict[str, str], platform: str) -> str | None:
    """Why opening a browser would help nobody here; None if it would help."""
    if any(environ.get(name) for name in ("SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY")):
        return "this is an SSH session"
    displays = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    if platform != "darwin" and not any(environ.get(name) for name in displays):
        return "there is no display"
    return None


def _instruct(login: Body, *, may_open: bool) -> None:
    if login.get("fallback"):
        say(f"A browser login is not possible: {_FALLBACKS.get(login['fallback'], login['fallback'])}.", "")
    if login.get("flow") == "device":
        say(*_device_lines(login))
        return
    url = str(login.get("authorize_url"))
    reason = why_no_browser(dict(os.environ), sys.platform) if may_open else "--no-browser"
    say("Open this address in a browser to log in:", "", f"  {url}", "")
    if reason is None:
        _open(url)
    elif reason != "--no-browser":
        say(f"No browser was opened: {reason}. On another machine? Try: pixir-auth login --device")


def _device_lines(login: Body) -> list[str]:
    complete = login.get("verification_uri_complete")
    return [
        f"1. Open       {login.get('verification_uri')}",
        "2. Enter this code:",
        "",
        f"                  {login.get('user_code')}",
        "",
        *([f"   or open    {complete}", ""] if complete else ()),
        "Enter it only if you started this login yourself: a code that somebody sent you gives them your account.",
        "",
    ]


def _open(url: str) -> None:
    """Hand the address to the person's browser, which may not come back for a long time."""
    import webbrowser  # noqa: PLC0415 - most logins over SSH and in containers never need it

    if not url.startswith(("https://", "http://")):
        raise Failure("The service gave an address that is not a web page.")

    def open_it() -> None:
        with suppress(OSError, webbrowser.Error):
            webbrowser.open(url)

    threading.Thread(target=open_it, daemon=True).start()


def _wait(service: Service, login: Body) -> Body:
    """The login once it is no longer pending. Raises Failure when the service never says so."""
    path = login_path(login.get("id"))
    give_up = time.monotonic() + _seconds(login.get("expires_in")) + _GRACE
    with Paste(lambda url: _deliver(service, path, url), listen=login.get("flow") == "browser") as paste:
        if paste.listens:
            say("If the browser ends up at an address that it cannot open, paste that address here and press Enter.")
        while login.get("state") == "pending":
            if time.monotonic() > give_up:
                raise Failure("The service does not say how the login ended.")
            progress(f"Waiting for the login, {duration(_seconds(login.get('expires_in')))} left.")
            asked_at = time.monotonic()
            login = _ask(service, path)
            if login.get("state") == "pending" and time.monotonic() - asked_at < 1:
                time.sleep(1)  # a service that does not hold the call must not be hammered
    return login


def _ask(service: Service, path: str) -> Body:
    """How the login stands, once it has ended or the long poll has. Raises Failure."""
    for _ in range(_RETURNS_WITHIN):
        try:
            return service.get(path, {"wait": _WAIT}, within=_WAIT + 15.0)
        except Failure as failure:
            if failure.exit_code != UNREACHABLE:
                raise
            time.sleep(1)
    return service.get(path)


def _deliver(service: Service, path: str, url: str) -> None:
    """Pass on a pasted address; what is wrong with it is said, and the login goes on."""
    try:
        service.call("POST", f"{path}/callback", body={"url": url})
    except Failure as failure:
        say("", *failure.lines)


def _conclude(service: Service, login: Body) -> int:
    if is_terminal(sys.stderr):
        say("")
    if login.get("state") == "complete":
        say(f"Logged in to account {login.get('account')}{_as_whom(service, login)}.")
        return DONE
    said = login.get("detail") or login.get("error") or f"it is {login.get('state')}"
    hint = ["To log in with it all the same: pixir-auth login --replace"] if _is_mismatch(login) else []
    raise Failure(f"The login did not succeed: {said}", *hint)


def _as_whom(service: Service, login: Body) -> str:
    with suppress(Failure):  # logged in all the same
        return f" as {who(service.get('/status', {'account': login.get('account')}))}"
    return ""


def _is_mismatch(login: Body) -> bool:
    return login.get("error") == "account_mismatch"


def _seconds(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
