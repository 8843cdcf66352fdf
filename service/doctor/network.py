"""The way to the issuer: a plain connection as the service makes one, without a token and without a redirect."""

import http.client
import socket
import ssl
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from service import __version__
from service.doctor.finding import Told, ok, trouble, warning
from service.issuer import trusted

_WITHIN: Final = 3.0
"""Seconds for each address of the issuer, and for its answer."""

_SKEW: Final = 60.0
"""Seconds by which clocks may differ before tokens seem to live longer or shorter than they do."""


def issuer_told(address: str) -> Iterator[Told]:
    """Can it be reached and verified, and do its clock and ours agree."""
    issuer = urlsplit(address)
    try:
        date = _date(issuer)
    except (OSError, http.client.HTTPException, ValueError) as exc:
        yield trouble(f"The issuer {issuer.hostname} {_fault(exc)}.", *_mend(issuer, exc))
        return
    skew = _skew(date)
    if skew is not None and abs(skew) > _SKEW:
        yield warning(
            f"The clock here is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the issuer's.",
            "Set it by the network: timedatectl set-ntp true",
        )
    verified = " and verified" if issuer.scheme == "https" else ""
    yield ok(f"The issuer {issuer.hostname} can be reached{verified}.")


def proxy_told(address: str) -> Iterator[Told]:
    """A proxy of the environment, which others use and the service does not."""
    issuer = urlsplit(address)
    proxies, host = getproxies_environment(), issuer.hostname or ""
    named = next((name for name in (issuer.scheme, "all") if name in proxies), None)
    if named is None or proxy_bypass(host):
        yield ok("The environment names no proxy for the issuer.")
    else:
        yield warning(
            f"{named.upper()}_PROXY is set; the service does not use it and asks {host} directly.",
            f"Nothing to do where that can be reached (see issuer); else let this machine through to {host}.",
        )


def _date(issuer: SplitResult) -> str | None:
    """The `Date` of an answer to HEAD /, whatever the answer is."""
    host = issuer.hostname or ""
    if issuer.scheme == "https":
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, issuer.port, timeout=_WITHIN, context=trusted()
        )
    else:
        connection = http.client.HTTPConnection(host, issuer.port, timeout=_WITHIN)
    try:
        connection.request("HEAD", "/", headers={"User-Agent": f"pixir-auth/{__version__}"})
        return connection.getresponse().headers.get("Date")
    finally:
        connection.close()


def _skew(date: str | None) -> float | None:
    """Seconds that the clock here is ahead."""
    try:
        return None if date is None else time.time() - parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _fault(exc: Exception) -> str:
    """In our own words, and OpenSSL's for a certificate: an exception may quote the answer."""
    match exc:
        case socket.gaierror():
            return "is not known by that name"
        case ssl.SSLCertVerificationError():
            return f"shows a certificate that the service does not trust ({exc.verify_message})"
        case ssl.SSLError():
            return "does not speak TLS"
        case TimeoutError():
            return "does not answer in time"
        case ConnectionRefusedError():
            return "refuses the connection"
        case OSError():
            return f"cannot be reached ({type(exc).__name__})"
    return "does not speak HTTP"


def _mend(issuer: SplitResult, exc: Exception) -> list[str]:
    host = f"[{issuer.hostname}]" if ":" in (issuer.hostname or "") else issuer.hostname
    port = issuer.port or (443 if issuer.scheme == "https" else 80)
    actions = ["Check PIXIR_AUTH_CODEX_ISSUER, and whether this machine may connect to the network."]
    if isinstance(exc, ssl.SSLCertVerificationError):
        actions = [
            "Something in between may open TLS: have the issuer exempted, for certifi's authorities alone are trusted.",
            "Or the clock is wrong: date -u",
        ]
    return [*actions, f"See for yourself: curl -svo /dev/null --noproxy '*' {issuer.scheme}://{host}:{port}/"]
