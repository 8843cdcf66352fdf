"""The ledger of logins: codes become families, families rotate, and end.

                      redeem                refresh (rotates)
    code (unspent) ----------> family n --------------------> family n+1
         |                        |  spent token again: reused, and the family ends if so ordered
         | wrong PKCE, URI: gone  |  revoke, end_session: ended
         v                        v
        gone                    ended (for ever; every refresh is refused)

Invariants: 1. a family has at most one refresh token that is honoured with something new, the one whose
serial is the family's; 2. an ended family never lives again; 3. a code yields at most one family, and its
second use ends that family (RFC 6749 4.1.2). Must not know HTTP, the clock or devices.
"""

from __future__ import annotations

from dataclasses import replace
from hmac import compare_digest

from .bounded import Bounded
from .claims import GENERATION, Subject, access_claims, id_claims
from .errors import OAuthError
from .mint import Mint, challenge_of, new_id, new_secret
from .values import Code, Ended, Family, Login, Redemption, Terms, Tokens


class Grants:
    """All codes and families of one issuer. Every method is one transaction."""

    def __init__(self, mint: Mint) -> None:
        self._mint = mint
        self._codes: Bounded[Code] = Bounded()
        self.families: Bounded[Family] = Bounded()
        self.refresh_count = 0
        self.reuse_count = 0
        self.retry_count = 0

    def authorize(self, login: Login, redirect_uri: str, challenge: str, terms: Terms) -> str:
        """A fresh code for a login the person approved."""
        code = f"{new_secret('ac_')}.{new_secret()}"
        self._codes[code] = Code(login, redirect_uri, challenge, terms.at + terms.knobs.code_lifetime)
        return code

    def issue(self, login: Login, terms: Terms) -> Family:
        """A new family."""
        family_id = new_id("sess_")
        tokens = self._tokens(login, family_id, (1, 1), terms)
        family = Family(family_id, login, tokens, terms.at, refresh_until=_refresh_until(terms))
        self.families[family_id] = family
        return family

    def redeem(self, given: Redemption, terms: Terms) -> Tokens:
        """Tokens for a code. Raises OAuthError `invalid_grant`."""
        code = self._codes.get(given.code)
        if code is None:
            raise OAuthError("invalid_grant", "The authorization code is unknown.")
        if code.family_id is not None:
            self.end(code.family_id, Ended.CODE_REPLAYED)
            raise OAuthError("invalid_grant", "The authorization code was already used.")
        if problem := _mismatch(code, given, terms.at):
            # Whoever guesses gets one try.
            del self._codes[given.code]
            raise OAuthError("invalid_grant", problem)
        family = self.issue(code.login, terms)
        self._codes[given.code] = replace(code, family_id=family.id)
        return family.tokens

    def refresh(self, token: str, client_id: str, scope: str | None, terms: Terms) -> Tokens:
        """The next tokens of a family. Raises OAuthError."""
        family, serial = self._located(token, client_id)
        if serial < family.serial:
            return self._answer_spent(family, serial, terms)
        _require_alive(family, terms.at)
        granted = _narrowed(family.login.scope, scope)
        return self._advance(family, granted, terms)

    def revoke(self, token: str) -> None:
        """End the family that any of its tokens names (RFC 7009 2.1); unknown tokens change nothing."""
        if family := self.find(token):
            self.end(family.id, Ended.REVOKED)

    def end(self, family_id: str, reason: Ended) -> None:
        """The first reason stays."""
        family = self.families.get(family_id)
        if family and family.alive:
            self.families[family_id] = replace(family, ended=reason)

    def find(self, token: str) -> Family | None:
        """The family of a refresh token, an access token or an id_token, however old."""
        if located := self._mint.serial(token):
            return self.families.get(located[0])
        claims = self._mint.claims(token) or {}
        return self.families.get(claims.get("session_id") or claims.get("sid") or "")

    def bearer(self, token: str, terms: Terms) -> Family | None:
        """The living family that an acceptable access token speaks for, else None."""
        claims = self._mint.claims(token) or {}
        family = self.families.get(claims.get("session_id", ""))
        if family is None or not family.alive or claims["exp"] <= terms.at:
            return None
        oldest = family.generation if terms.knobs.latest_access_only else family.access_from
        return family if claims[GENERATION] >= max(oldest, family.access_from) else None

    def identified(self, id_token: str, terms: Terms) -> Family | None:
        """The living family of an unexpired id_token, else None."""
        claims = self._mint.claims(id_token) or {}
        family = self.families.get(claims.get("sid", ""))
        return family if family and family.alive and claims["exp"] > terms.at else None

    def _located(self, token: str, client_id: str) -> tuple[Family, int]:
        named = self._mint.serial(token)
        family = self.families.get(named[0]) if named else None
        if named is None or family is None:
            raise OAuthError("invalid_grant", "The refresh token is unknown.")
        if family.login.client_id != client_id:
            raise OAuthError("invalid_grant", "The refresh token was issued to another client.")
        return family, named[1]

    def _answer_spent(self, family: Family, serial: int, terms: Terms) -> Tokens:
        recent = terms.at - family.rotated_at < terms.knobs.retry_window
        if family.alive and recent and serial == family.serial - 1:
            self.retry_count += 1
            return family.tokens
        self.reuse_count += 1
        if terms.knobs.revoke_family:
            self.end(family.id, Ended.REUSED)
        raise OAuthError("refresh_token_reused")

    def _advance(self, family: Family, scope: str, terms: Terms) -> Tokens:
        generation = family.generation + 1
        serial = family.serial + (1 if terms.knobs.rotate else 0)
        tokens = self._tokens(replace(family.login, scope=scope), family.id, (generation, serial), terms)
        self.families[family.id] = replace(
            family,
            tokens=tokens,
            rotated_at=terms.at,
            generation=generation,
            serial=serial,
            refresh_until=_refresh_until(terms) if terms.knobs.rotate else family.refresh_until,
        )
        self.refresh_count += 1
        return tokens

    def _tokens(self, login: Login, family_id: str, numbers: tuple[int, int], terms: Terms) -> Tokens:
        generation, serial = numbers
        knobs = terms.knobs
        of = Subject(terms.issuer, login.user, login.client_id, family_id, generation)
        right = (knobs.access_lifetime, login.scope)
        return Tokens(
            access_token=self._mint.jwt(access_claims(of, new_id(""), terms.at, right)),
            refresh_token=self._mint.refresh_token(family_id, serial),
            id_token=self._mint.jwt(id_claims(of, new_id(""), terms.at, knobs.id_lifetime)),
            expires_in=int(knobs.access_lifetime),
            scope=login.scope,
        )


def _refresh_until(terms: Terms) -> float | None:
    lifetime = terms.knobs.refresh_lifetime
    return None if lifetime is None else terms.at + lifetime


def _mismatch(code: Code, given: Redemption, at: float) -> str:
    if at >= code.until:
        return "The authorization code has expired."
    if given.client_id != code.login.client_id:
        return "The authorization code was issued to another client."
    if given.redirect_uri != code.redirect_uri:
        return "The redirect_uri is not the one of the authorization request."
    if not compare_digest(challenge_of(given.verifier), code.challenge):
        return "The code_verifier does not match the code_challenge."
    return ""


def _require_alive(family: Family, at: float) -> None:
    if family.ended is Ended.SESSION_TERMINATED:
        raise OAuthError("app_session_terminated")
    if not family.alive:
        raise OAuthError("refresh_token_invalidated")
    if family.refresh_until is not None and at >= family.refresh_until:
        raise OAuthError("refresh_token_expired")


def _narrowed(granted: str, asked: str | None) -> str:
    """RFC 6749 6: a refresh may ask for less, never for more."""
    if asked is None:
        return granted
    if not set(asked.split()) <= set(granted.split()):
        raise OAuthError("invalid_scope", "More scope than was granted.")
    return " ".join(asked.split())
