"""Providers as declared values: who the issuer is, what it wants to see and how it behaves."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Provider:
    """One issuer and our registration there.

    callback_ports: the only ports of `http://localhost` that the issuer redirects to, in order of preference.
    login_lifetime: seconds a started login waits for the person.
    retry_within: seconds in which a spent refresh token is answered once more; None: never, the issuer may punish it;
    infinity: always.
    keep_alive: seconds after which an unused refresh token is used, lest it die of age; None: it does not.
    """

    name: str
    issuer: str
    client_id: str
    scope: str
    authorize_extras: tuple[tuple[str, str], ...] = ()
    callback_ports: tuple[int, ...] = (1455, 1457)
    callback_path: str = "/auth/callback"
    login_lifetime: float = 900.0
    retry_within: float | None = None
    keep_alive: float | None = None

    @property
    def authorize_url(self) -> str:
        """Authorization endpoint."""
        return f"{self.issuer}/oauth/authorize"

    @property
    def token_url(self) -> str:
        """Token endpoint."""
        return f"{self.issuer}/oauth/token"

    @property
    def revoke_url(self) -> str:
        """Revocation endpoint (RFC 7009)."""
        return f"{self.issuer}/oauth/revoke"

    @property
    def user_code_url(self) -> str:
        """Where a device code is asked for."""
        return f"{self.issuer}/api/accounts/deviceauth/usercode"

    @property
    def device_token_url(self) -> str:
        """Where a device code is polled."""
        return f"{self.issuer}/api/accounts/deviceauth/token"

    @property
    def verification_uri(self) -> str:
        """Where a person types the device code."""
        return f"{self.issuer}/codex/device"

    @property
    def device_redirect_uri(self) -> str:
        """The redirect_uri of a code that came from a device login."""
        return f"{self.issuer}/deviceauth/callback"

    def redirect_uri(self, port: int) -> str:
        """The redirect_uri of a browser login. The issuer compares it as a string: `localhost`, not an address."""
        return f"http://localhost:{port}{self.callback_path}"


def codex(issuer: str) -> Provider:
    """A ChatGPT subscription, with the public client of the Codex command line."""
    return Provider(
        name="codex",
        issuer=issuer.rstrip("/"),
        client_id="app_EMoamEEZ73f0CkXaXp7hrann",
        scope="openid profile email offline_access api.connectors.read api.connectors.invoke",
        authorize_extras=(
            ("id_token_add_organizations", "true"),
            ("codex_cli_simplified_flow", "true"),
            ("originator", "codex_cli_rs"),
        ),
        keep_alive=30 * 86400.0,
    )
