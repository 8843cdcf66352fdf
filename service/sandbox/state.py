"""Everything one sandbox knows, apart from HTTP: knobs, clock, ledger, device logins, people.

Promises `terms()`: one instant and one set of knobs for the whole of a request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .devices import Device, Devices
from .grants import Grants
from .mint import Mint, challenge_of, new_secret
from .values import Family, Login, Redemption, Terms, Tokens

if TYPE_CHECKING:
    from collections.abc import Callable

    from .knobs import Knobs, User

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class State:
    """The issuer without its wire."""

    def __init__(self, issuer: str, knobs: Knobs, now: Callable[[], float], users: list[User]) -> None:
        self.issuer = issuer.rstrip("/")
        self.knobs = knobs
        self.now = now
        self.users = users
        self.grants = Grants(Mint())
        self.devices = Devices()

    def terms(self) -> Terms:
        """What holds at this instant."""
        return Terms(self.now(), self.issuer, self.knobs)

    def hinted(self, hint: str | None) -> User:
        """Who signs in at the browser: the known user a `login_hint` names, else the knob's."""
        known = [user for user in self.users if hint in (user.email, user.subject)]
        return known[0] if hint and known else self.knobs.user

    def approve(self, user_code: str, user: User | None) -> Device:
        """The person approves a device. Raises UnknownUserCodeError."""
        return self.devices.approve(user_code, user or self.knobs.user, self.now())

    def device_code(self, device_auth_id: str, user_code: str) -> tuple[str, str]:
        """An authorization code and the verifier made for it, for an approved device. Raises OAuthError."""
        terms = self.terms()
        device, user = self.devices.poll(device_auth_id, user_code, terms.at)
        verifier = new_secret()
        login = Login(user, device.client_id)
        code = self.grants.authorize(login, self.device_redirect_uri, challenge_of(verifier), terms)
        return code, verifier

    @property
    def device_redirect_uri(self) -> str:
        """Never opened by anybody; it only has to match."""
        return f"{self.issuer}/deviceauth/callback"

    def redeem(self, given: Redemption) -> Tokens:
        """Tokens for a code. Raises OAuthError."""
        if given.redirect_uri in self._device_aliases():
            given = Redemption(given.code, given.client_id, self.device_redirect_uri, given.verifier)
        return self.grants.redeem(given, self.terms())

    def _device_aliases(self) -> list[str]:
        """One loopback listener goes by three names, and a client may use another than `issuer` does."""
        url = urlsplit(self.issuer)
        host, colon, port = url.netloc.rpartition(":")
        if host not in _LOOPBACK:
            return []
        return [f"{url.scheme}://{name}{colon}{port}/deviceauth/callback" for name in _LOOPBACK]

    def chosen(self, which: str | Family | None) -> list[Family]:
        """The families meant: by value, id, account, or any of their tokens; None means all."""
        families = self.grants.families
        if which is None:
            return list(families.values())
        if isinstance(which, Family):
            return [families[which.id]]
        found = self.grants.find(which)
        named = [each for each in families.values() if which in (each.id, each.account_id)]
        chosen = [found] if found else named
        if not chosen:
            raise LookupError("no such login")
        return chosen
