"""What a browser brings back (RFC 6749 section 4.1.2, RFC 9207): read strictly, believed only with its state."""

from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from service.domain.secret import Secret


@dataclass(frozen=True, slots=True)
class Callback:
    """The parameters we know. Exactly one of `code` and `error` is set."""

    state: Secret
    code: Secret | None = None
    error: str | None = None
    iss: str | None = None


_KNOWN = frozenset({"code", "state", "error", "error_description", "iss"})


def read_callback(query: str) -> Callback | None:
    """The callback in a query string; None when it cannot belong to any login of ours.

    Parameters must not be repeated (RFC 6749 section 3.1); unknown ones are ignored (section 4.1.2).
    """
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=False, max_num_fields=32, errors="strict")
    except ValueError:
        return None
    known = [(name, value) for name, value in pairs if name in _KNOWN]
    values = dict(known)
    if len(values) != len(known) or not values.get("state"):
        return None
    code, error = values.get("code"), values.get("error")
    if bool(code) == bool(error):
        return None
    return Callback(Secret(values["state"]), Secret(code) if code else None, error or None, values.get("iss"))


def read_pasted(url: str) -> Callback | None:
    """The same from the address bar: a whole URL, or only what follows its question mark."""
    try:
        query = urlsplit(url.strip()).query or url.strip().lstrip("?")
    except ValueError:
        return None
    return read_callback(query)
