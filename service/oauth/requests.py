"""What to send: authorization URL, code exchange, refresh, revocation, device login."""

from urllib.parse import urlencode

from service.domain.secret import Secret
from service.oauth import pkce
from service.oauth.provider import Provider
from service.oauth.wire import Request, form, json_body


def authorization_url(provider: Provider, *, redirect_uri: str, state: Secret, verifier: Secret) -> str:
    """Where the person's browser goes (RFC 6749 section 4.1.1, RFC 7636 section 4.3)."""
    query = [
        ("response_type", "code"),
        ("client_id", provider.client_id),
        ("redirect_uri", redirect_uri),
        ("scope", provider.scope),
        ("code_challenge", pkce.challenge(verifier.reveal())),
        ("code_challenge_method", "S256"),
        *provider.authorize_extras,
        ("state", state.reveal()),
    ]
    return f"{provider.authorize_url}?{urlencode(query)}"


def exchange(provider: Provider, *, code: Secret, redirect_uri: str, verifier: Secret) -> Request:
    """RFC 6749 section 4.1.3 with RFC 7636 section 4.5."""
    return form(
        "exchange",
        provider.token_url,
        grant_type="authorization_code",
        client_id=provider.client_id,
        code=code,
        redirect_uri=redirect_uri,
        code_verifier=verifier,
    )


def refresh(provider: Provider, refresh_token: Secret) -> Request:
    """RFC 6749 section 6, as JSON: that is how this issuer's own client asks. No scope: never more than granted."""
    return json_body(
        "refresh",
        provider.token_url,
        client_id=provider.client_id,
        grant_type="refresh_token",
        refresh_token=refresh_token,
    )


def revoke(provider: Provider, refresh_token: Secret) -> Request:
    """RFC 7009 section 2.1, as JSON."""
    return json_body(
        "revoke",
        provider.revoke_url,
        token=refresh_token,
        token_type_hint="refresh_token",  # noqa: S106 - the name of a kind of token
        client_id=provider.client_id,
    )


def user_code(provider: Provider) -> Request:
    """Begin a device login (after RFC 8628 section 3.1)."""
    return json_body("user_code", provider.user_code_url, client_id=provider.client_id)


def device_poll(provider: Provider, *, device_auth_id: Secret, user_code: Secret) -> Request:
    """Ask whether the person has typed the code (after RFC 8628 section 3.4)."""
    return json_body("device_poll", provider.device_token_url, device_auth_id=device_auth_id, user_code=user_code)
