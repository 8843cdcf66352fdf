"""What can go wrong, as a closed tree. Each error carries a literal `code`; the HTTP status lives in `web.problems`.

`detail` is for people and never holds input, a secret or another library's message.
"""

from typing import ClassVar, Literal, get_args

LoginReason = Literal[
    "never_logged_in",
    "logged_out",
    "refresh_token_expired",
    "refresh_token_reused",
    "refresh_token_revoked",
    "outcome_unknown",
    "account_mismatch",
]
"""Why somebody has to log in (again)."""

Code = Literal[
    "account_mismatch",
    "callback_port_unavailable",
    "credential_unreadable",
    "cross_site",
    "device_login_unavailable",
    "header_required",
    "headers_too_large",
    "host_not_allowed",
    "internal_error",
    "invalid_answer",
    "invalid_credential",
    "invalid_request",
    "issuer_refused",
    "issuer_unavailable",
    "key_exists",
    "key_required",
    "login_cancelled",
    "login_denied",
    "login_expired",
    "login_mismatch",
    "login_replaced",
    "login_required",
    "malformed_request",
    "method_not_allowed",
    "no_new_key",
    "not_found",
    "payload_too_large",
    "scope",
    "store_unavailable",
    "unknown_account",
    "unknown_key",
    "unknown_login",
    "unknown_provider",
    "unsupported_grant_type",
    "unsupported_media_type",
    "wrong_user",
]
"""Every code an error answer, or the `error` of a login, can carry."""

CODES: frozenset[str] = frozenset(get_args(Code))


class AuthError(Exception):
    """The root. `next_actions` are sentences a person can follow; `retry_after` is whole seconds."""

    code: ClassVar[Code] = "internal_error"
    next_actions: tuple[str, ...] = ()
    retry_after: int | None = None

    def __init__(self, detail: str, *, next_actions: tuple[str, ...] = (), retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.next_actions = next_actions or type(self).next_actions
        self.retry_after = retry_after or type(self).retry_after


class LoginRequired(AuthError):
    """Nothing valid is left and only a new login helps."""

    code = "login_required"

    def __init__(self, account: str, reason: LoginReason) -> None:
        super().__init__(_REASONS[reason])
        self.account = account
        self.reason = reason


_REASONS: dict[LoginReason, str] = {
    "never_logged_in": "Nobody has logged in to this account yet.",
    "logged_out": "This account was logged out.",
    "refresh_token_expired": "The login has expired at the issuer.",
    "refresh_token_reused": "The issuer saw this login's refresh token used elsewhere and ended the login.",
    "refresh_token_revoked": "The issuer has ended this login.",
    "outcome_unknown": "A refresh got no readable answer and the one permitted retry failed too.",
    "account_mismatch": "The issuer answered a refresh with tokens of another account.",
}


class InvalidRequest(AuthError):
    """A parameter or body that cannot be used."""

    code = "invalid_request"


class UnsupportedGrantType(AuthError):
    """An OAuth client asks for tokens in another way than with a refresh token."""

    code = "unsupported_grant_type"

    def __init__(self) -> None:
        super().__init__("Nothing is granted here but for a refresh token, which a client key stands in for.")


class InvalidCredential(AuthError):
    """A credential offered for import that cannot be used."""

    code = "invalid_credential"


class UnknownAccount(AuthError):
    """An account nobody has logged in to, other than `default`."""

    code = "unknown_account"
    next_actions = ("See GET /accounts for the accounts there are.",)

    def __init__(self) -> None:
        super().__init__("There is no such account.")


class UnknownProvider(AuthError):
    """A provider this build does not know."""

    code = "unknown_provider"


class UnknownLogin(AuthError):
    """No login with this id, or one that has been forgotten."""

    code = "unknown_login"

    def __init__(self) -> None:
        super().__init__("There is no such login.")


class LoginMismatch(AuthError):
    """A callback that belongs to no pending login: unknown, used, old or foreign state. One answer for all."""

    code = "login_mismatch"
    next_actions = ("Start the login again and finish it in the same browser.",)

    def __init__(self) -> None:
        super().__init__("This answer belongs to no login that is waiting here.")


class LoginDenied(AuthError):
    """The person or the issuer refused the login."""

    code = "login_denied"
    next_actions = ("Start the login again if this was not intended.",)


class AccountMismatch(AuthError):
    """The login came back as another account than the one stored."""

    code = "account_mismatch"
    next_actions = ("Log in with the same account, or start the login with replace set.",)

    def __init__(self) -> None:
        super().__init__("This login belongs to another account than the one stored here; nothing was changed.")


class LoginExpired(AuthError):
    """The person took longer than the issuer allows."""

    code = "login_expired"
    next_actions = ("Start the login again.",)


class LoginOver(AuthError):
    """The login ended before it was finished: cancelled, expired or replaced by a newer one."""

    code = "login_cancelled"


class CallbackPortUnavailable(AuthError):
    """Neither port that the issuer would redirect to can be had."""

    code = "callback_port_unavailable"
    next_actions = ("Use the device flow.", "End the program that holds the callback port, then log in again.")


class DeviceLoginUnavailable(AuthError):
    """The issuer offers no device codes."""

    code = "device_login_unavailable"
    next_actions = ("Use the browser flow.",)


class IssuerUnavailable(AuthError):
    """The issuer cannot be reached or asks us to come back later."""

    code = "issuer_unavailable"
    next_actions = ("Try again in a while.",)
    retry_after = 5


class IssuerRefused(AuthError):
    """The issuer refuses our configuration; the login itself is untouched."""

    code = "issuer_refused"
    next_actions = ("Check PIXIR_AUTH_CODEX_ISSUER and the network between here and the issuer.",)


class InvalidAnswer(AuthError):
    """The issuer's answer cannot be understood."""

    code = "invalid_answer"
    next_actions = ("Start the login again.",)


class StoreUnavailable(AuthError):
    """The database cannot be read or written just now."""

    code = "store_unavailable"
    next_actions = ("Check free space and permissions of the data folder.",)
    retry_after = 5


class KeyNotReplaced(AuthError):
    """The encryption key stays the one it is: there is no other to go over to, or it cannot be had."""

    code = "no_new_key"
    next_actions = (
        "Put a new key on the first line of the source that the service has its key from.",
        "Leave the old key on the line below it; where there are several replicas, do so for each.",
        "Then run: pixir-auth rekey",
    )


class CredentialUnreadable(AuthError):
    """The row is there but does not open with the key: wrong key, or changed by somebody else."""

    code = "credential_unreadable"
    next_actions = ("Put back the encryption key that this account was stored with.", "Or log in again.")

    def __init__(self) -> None:
        super().__init__("What is stored for this account cannot be opened with the present key; it is kept as it is.")


class KeyRequired(AuthError):
    """Nobody can say who asks: no client key, or one that is not good."""

    code = "key_required"
    next_actions = (
        "Ask the owner for a client key: pixir-auth keys add NAME.",
        "Send it as the header Authorization: Bearer KEY; to /oauth/token as refresh_token.",
    )

    def __init__(self, *, wrong: bool = False) -> None:
        super().__init__("This client key is not good here." if wrong else "This call needs a client key.")
        self.is_wrong = wrong


class WrongUser(AuthError):
    """The kernel says that another user of this machine asks."""

    code = "wrong_user"
    next_actions = ("Ask the owner for a client key: pixir-auth keys add NAME.",)

    def __init__(self) -> None:
        super().__init__("This service belongs to another user of this machine.")


class OutOfScope(AuthError):
    """A client key that was not made for this call or this account."""

    code = "scope"
    next_actions = ("Ask the owner for a key with the scope and the account: pixir-auth keys add NAME.",)

    def __init__(self) -> None:
        super().__init__("This client key is not for this call, or not for this account.")


class KeyExists(AuthError):
    """A client key of this name is there already."""

    code = "key_exists"
    next_actions = ("Choose another name, or revoke that key first: pixir-auth keys revoke NAME.",)

    def __init__(self) -> None:
        super().__init__("There is a client key of this name already, or this very key.")


class UnknownKey(AuthError):
    """No client key of this name that could be revoked here."""

    code = "unknown_key"
    next_actions = ("See GET /keys; the key of PIXIR_AUTH_CLIENT_KEY_FILE is good until the service ends: restart it.",)

    def __init__(self) -> None:
        super().__init__("There is no such client key.")
