"""Domain values as answers. What holds a token is rendered here alone, for the warm and the long way alike."""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, Literal
from urllib.parse import parse_qsl, urlencode

from pydantic import ValidationError

from service import __version__
from service.broker.broker import Grant, Standing
from service.domain.audit import Event
from service.domain.caller import RIGHTS, ClientKey
from service.domain.credential import Credential
from service.domain.decide import Policy, Wish, is_valid, next_attempt_at, refresh_state
from service.domain.errors import Code
from service.domain.login import Login, state_at
from service.domain.secret import Secret
from service.web.proxies import FORWARD_AUTH
from service.web.schemas import (
    AuditEntry,
    KeyAnswer,
    LoginAnswer,
    PendingLogin,
    RefreshAnswer,
    RefreshedAnswer,
    StatusAnswer,
    TokenAnswer,
    TokenQuery,
    instant,
    seconds_until,
)

Shape = Literal["json", "text"]

Rendered = tuple[dict[str, str], bytes]
"""Headers and body."""

_MEDIA_TYPES: Final[dict[Shape, dict[str, str]]] = {
    "json": {"content-type": "application/json"},
    "text": {"content-type": "text/plain; charset=utf-8"},
}


def token(grant: Grant, now: float, shape: Shape) -> Rendered:
    """GET /token."""
    if shape == "text":
        return _MEDIA_TYPES[shape], f"{grant.access_token.reveal()}\n".encode()
    answer = TokenAnswer(
        access_token=grant.access_token.reveal(),
        token_type="Bearer",  # noqa: S106 - the name of a kind of token
        expires_at=instant(grant.expires_at),
        expires_in=None if grant.expires_at is None else seconds_until(grant.expires_at, now),
        account=grant.account,
        kind=grant.kind,
        generation=grant.generation,
        warning=grant.warning,
    )
    return _MEDIA_TYPES[shape], answer.model_dump_json(exclude_none=True).encode()


def _to_send(grant: Grant) -> dict[str, str]:
    """What to send to the provider (RFC 6750 section 2.1), without a value where there is none.

    All of it can stand in a header line: `oauth` lets nothing else in.
    """
    return {"Authorization": f"Bearer {grant.access_token.reveal()}", "ChatGPT-Account-ID": grant.account_id or ""}


def headers(grant: Grant, _now: float, shape: Shape) -> Rendered:
    """GET /headers."""
    lines = {name: value for name, value in _to_send(grant).items() if value}
    if shape == "text":
        return _MEDIA_TYPES[shape], "".join(f"{name}: {value}\n" for name, value in lines.items()).encode()
    return _MEDIA_TYPES[shape], json.dumps(lines).encode()


def forward_auth(grant: Grant, _now: float, _shape: Shape) -> Rendered:
    """GET /forward-auth: every header every time, or what a proxy's client sent under that name would go on."""
    return _to_send(grant), b""


def refreshed(grant: Grant, now: float, stand_in: Secret) -> bytes:
    """POST /oauth/token. What it is for (`scope`) is not known here."""
    answer = RefreshedAnswer(
        access_token=grant.access_token.reveal(),
        token_type="Bearer",  # noqa: S106 - the name of a kind of token
        expires_in=None if grant.expires_at is None else seconds_until(grant.expires_at, now),
        refresh_token=stand_in.reveal(),
        id_token=grant.id_token.reveal() if grant.id_token else None,
    )
    return answer.model_dump_json(exclude_none=True).encode()


def handed_over(credential: Credential) -> Secret:
    """The whole login, as PUT /credential takes it: to be sealed."""
    tokens = {name: getattr(credential, name) for name in ("access_token", "refresh_token", "id_token")}
    document = {
        "kind": "subscription",
        **{name: token.reveal() for name, token in tokens.items() if token is not None},
        "expires_at": instant(credential.expires_at),
        "account_id": credential.identity.account_id,
        "obtained_at": instant(credential.obtained_at),
    }
    return Secret(json.dumps(document))


RENDERERS: Final = {"/token": token, "/headers": headers, FORWARD_AUTH: forward_auth}
"""What may be answered from memory, by path."""


def shape_of(asked: Shape | None, accept: str) -> Shape:
    """`?format=` first, then Accept."""
    return asked or ("text" if accept.strip().lower().startswith("text/plain") else "json")


_PLAIN: Final = 256
"""Bytes of a query that is answered from memory, and remembered: an account name and two numbers."""


@lru_cache(maxsize=1024)
def plain_query(query: bytes) -> tuple[TokenQuery, Wish] | None:
    """The query of what RENDERERS answer; None when only the long way can say what is wrong with it."""
    if len(query) > _PLAIN:
        return None
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=8)
        if len(dict(pairs)) < len(pairs):
            return None
        asked = TokenQuery.model_validate_strings(dict(pairs))
    except (ValueError, ValidationError):
        return None
    return asked, wish_of(asked)


def wish_of(query: TokenQuery) -> Wish:
    """What the caller asks for."""
    return Wish(min_ttl=query.min_ttl, newer_than=query.newer_than)


def status(standing: Standing, now: float, policies: Mapping[str, Policy]) -> StatusAnswer:
    """How an account stands. No secret in it."""
    credential = standing.credential
    policy = policies.get(credential.provider, Policy()) if credential else Policy()
    stored = credential if credential is not None and credential.state != "logged_out" else None
    by_key = stored is None and standing.has_api_key
    alive = stored is not None and (stored.state == "active" or is_valid(stored, now))
    expires_at = stored.expires_at if stored else None
    return StatusAnswer(
        authenticated=by_key or alive,
        kind="subscription" if stored else "api_key" if by_key else None,
        account=standing.account,
        provider=stored.provider if stored else None,
        account_id=stored.identity.account_id if stored else None,
        email=stored.identity.email if stored else None,
        plan=stored.identity.plan if stored else None,
        expires_at=instant(expires_at),
        expires_in=None if expires_at is None else seconds_until(expires_at, now),
        obtained_at=instant(stored.obtained_at) if stored else None,
        refresh=RefreshAnswer(
            state=refresh_state(credential, now, policy) if credential else "idle",
            generation=credential.generation if credential else 0,
            last_success_at=instant(credential.last_success_at) if credential else None,
            next_attempt_at=instant(next_attempt_at(credential, now, policy)) if credential else None,
            last_error=credential.last_error if credential else None,
        ),
        login=_pending(standing.login, now),
        version=__version__,
    )


def login(login: Login, now: float, authorize_url: str | None) -> LoginAnswer:
    """How a login stands."""
    state = state_at(login, now)
    answer = LoginAnswer(
        id=login.id,
        account=login.account,
        provider=login.provider,
        flow=login.flow,
        state=state,
        expires_at=instant(login.expires_at) or "",
        expires_in=seconds_until(login.expires_at, now) if state == "pending" else 0,
        fallback=login.fallback,
    )
    if state == "pending":
        return answer.model_copy(update=_for_the_person(login, authorize_url))
    error: Code | None = "login_expired" if state == "expired" else login.error
    return answer.model_copy(update=_there({"error": error, "detail": login.detail}))


def client_key(key: ClientKey, now: float, *, is_first: bool) -> KeyAnswer:
    """A client key, without the key."""
    return KeyAnswer(
        name=key.name,
        scope=[right for right in RIGHTS if right in key.rights],
        accounts=None if key.accounts is None else sorted(key.accounts),
        created_at=instant(key.created_at),
        expires_at=instant(key.expires_at),
        expires_in=None if key.expires_at is None else seconds_until(key.expires_at, now),
        last_used_at=instant(key.last_used_at),
        is_first=is_first,
    )


def audit_entry(event: Event) -> AuditEntry:
    """An entry of the audit trail."""
    return AuditEntry(
        number=event.number,
        at=instant(event.at) or "",
        deed=event.deed,
        who=event.who,
        account=event.account,
        outcome=event.outcome,
        detail=event.detail,
        times=event.times,
    )


def _for_the_person(login: Login, authorize_url: str | None) -> dict[str, object]:
    """What a pending login needs from a person."""
    if login.user_code is None:
        return _there({"authorize_url": authorize_url})
    code = login.user_code.reveal()
    return {
        "user_code": code,
        "verification_uri": login.verification_uri,
        "verification_uri_complete": f"{login.verification_uri}?{urlencode({'user_code': code})}",
        "interval": int(login.interval or 0),
    }


def _there(members: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in members.items() if value is not None}


def _pending(login: Login | None, now: float) -> PendingLogin | None:
    if login is None:
        return None
    return PendingLogin(
        id=login.id,
        flow=login.flow,
        state=state_at(login, now),
        expires_at=instant(login.expires_at) or "",
        expires_in=seconds_until(login.expires_at, now),
    )
