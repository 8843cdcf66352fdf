"""What to do about a credential that somebody wants to use now: the one place where that is decided.

Pure: the same credential, wish, instant and policy always give the same answer.
"""

from dataclasses import dataclass
from typing import Literal
from zlib import crc32

from service.domain.backoff import LONGEST
from service.domain.credential import Credential
from service.domain.errors import LoginReason

CLOCK_SLACK = 60.0
"""Seconds by which a clock is corrected without anybody noticing. A token from further ahead was given by a clock that
has been set back since: when it really expires is not known, so it is refreshed soon."""

_NO_HOT_LOOP = 1.0
"""Seconds at least between two refreshes ahead, however short an issuer's tokens live."""

Warning_ = Literal[
    "issuer_refused",
    "issuer_unavailable",
    "login_required",
    "refresh_floor",
    "refresh_uncertain",
    "store_unavailable",
]
"""Why a served token is less than what was asked for."""

UNSAVED = "store_unavailable"
"""`last_error` of a token pair that the database has not taken yet."""

LOOK_AGAIN = 3600.0
"""Seconds until the background looks again at a row that it can do nothing about: its key may be put back."""

RefreshState = Literal["idle", "due", "in_flight", "backing_off", "uncertain", "dead"]

REFUSED = "issuer_refused"
"""How `last_error` begins when the issuer refuses how we ask: waiting does not mend that."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the settings and the provider say about refreshing.

    margin: seconds before expiry at which the background refresher acts; None: 5 minutes or a tenth of the life.
    floor: seconds between two refreshes that callers ask for.
    retry_within: seconds in which the issuer answers a spent refresh token once more; None: never.
    keep_alive: seconds after which a refresh token is used though the access token is good for longer: unused, it would
    die of age; None: it does not.
    spread: part of the margin by which logins are refreshed later, each by its own amount, lest they move in step.
    """

    margin: float | None = None
    floor: float = 5.0
    retry_within: float | None = None
    keep_alive: float | None = None
    spread: float = 0.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller asks for. `newer_than` is the generation whose token was just rejected."""

    min_ttl: float = 30.0
    newer_than: int | None = None
    ahead: bool = False  # the background refresher: acts at the margin, and is not held back by the floor


@dataclass(frozen=True, slots=True)
class Use:
    """Serve the present access token."""

    warning: Warning_ | None = None


@dataclass(frozen=True, slots=True)
class Refresh:
    """Claim the row and send the refresh token."""


@dataclass(frozen=True, slots=True)
class Wait:
    """A refresh is under way; its outcome will change the row."""


@dataclass(frozen=True, slots=True)
class LoginNeeded:
    """Only a person can help."""

    reason: LoginReason


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Nothing valid is left and the issuer may not be asked before `until`."""

    until: float
    trouble: Warning_ | None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What is stored does not open with our keys: touch nothing."""


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing is due: the answer to the background refresher when it comes too early."""


Decision = Use | Refresh | Wait | LoginNeeded | Unavailable | Unreadable | Rest


def decide(credential: Credential | None, wish: Wish, now: float, policy: Policy) -> Decision:
    """The decision for one caller at one instant. Docs: docs/refresh.md."""
    if credential is None:
        return LoginNeeded("never_logged_in")
    if credential.state in ("logged_out", "unreadable"):
        return LoginNeeded("logged_out") if credential.state == "logged_out" else Unreadable()
    if wish.ahead and not _is_due(credential, now, policy):
        return Rest()
    if not wish.ahead and _is_enough(credential, wish, now):
        return Use(trouble(credential, now, policy))
    if credential.state in ("dead", "restored"):
        return _else_serve(credential, now, policy, LoginNeeded(credential.reason or "outcome_unknown"))
    if credential.attempt is not None:
        return Wait()
    if (until := _paused_until(credential, now)) is not None:
        return _else_serve(credential, now, policy, Unavailable(until, trouble(credential, now, policy)))
    if credential.uncertain_since is not None and not _may_retry(credential, now, policy):
        return Use("refresh_uncertain")
    if not wish.ahead and is_valid(credential, now) and _within_floor(credential, now, policy):
        return Use("refresh_floor")
    return Refresh()


def is_valid(credential: Credential, now: float) -> bool:
    """Whether the access token may still be served at all."""
    return credential.access_token is not None and now < credential.expires_at


def margin(credential: Credential, policy: Policy) -> float:
    """Seconds before expiry at which a refresh is due: never more than half of the token's life.

    Of one made elsewhere the life is what was left of it when it came here.
    """
    life = credential.lifetime
    if life is None:
        life = max(credential.expires_at - credential.obtained_at, 1.0)
    wanted = policy.margin if policy.margin is not None else max(300.0, life / 10)
    return min(wanted, life / 2)


def last_chance(credential: Credential) -> float:
    """Seconds before expiry at which an uncertain refresh token is tried once more.

    As late as it can be: if the token was spent after all, the try ends what is left of the access token.
    """
    return min(60.0, (credential.lifetime or 300.0) / 20)


def due_at(credential: Credential, now: float, policy: Policy) -> float | None:
    """When the background refresher must look at this credential; None: never, until something changes."""
    if credential.state == "unreadable":
        return now + LOOK_AGAIN
    if credential.state != "active" or credential.refresh_token is None:
        return None
    if credential.attempt is not None:
        return min(now, credential.attempt.started_at)  # its owner may have died: somebody has to look
    return max(_ahead_at(credential, now, policy), _paused_until(credential, now) or 0.0)


def next_attempt_at(credential: Credential, now: float, policy: Policy) -> float | None:
    """When the issuer will be asked again after a try that did not work; None if there was none."""
    if credential.state != "active" or credential.attempt is not None:
        return None
    if credential.uncertain_since is not None:
        return due_at(credential, now, policy)
    return _paused_until(credential, now)


def refresh_state(credential: Credential, now: float, policy: Policy) -> RefreshState:
    """One word for /status."""
    if credential.state in ("logged_out", "restored"):
        return "idle" if credential.state == "logged_out" else "uncertain"
    if credential.state != "active":
        return "dead"
    if credential.attempt is not None:
        return "in_flight"
    if credential.uncertain_since is not None:
        return "uncertain"
    if _paused_until(credential, now) is not None:
        return "backing_off"
    return "due" if now >= credential.expires_at - margin(credential, policy) else "idle"


def trouble(credential: Credential, now: float, policy: Policy) -> Warning_ | None:
    """What is wrong with the login behind a token that may be valid for long yet; None if nothing is.

    A failed try is forgotten when its pause is over, unless a refresh is due: nobody will try before it is.
    """
    if credential.state == "dead":
        return "login_required"
    if credential.uncertain_since is not None or credential.state == "restored":
        return "refresh_uncertain"
    if credential.last_error == UNSAVED:
        return "store_unavailable"
    is_due = now >= credential.expires_at - margin(credential, policy)
    if not credential.failures or (_paused_until(credential, now) is None and not is_due):
        return None
    return "issuer_refused" if (credential.last_error or "").startswith(REFUSED) else "issuer_unavailable"


def _is_due(credential: Credential, now: float, policy: Policy) -> bool:
    at = due_at(credential, now, policy)
    return at is not None and now >= at


def _is_enough(credential: Credential, wish: Wish, now: float) -> bool:
    if not is_valid(credential, now) or wish.newer_than == credential.generation:
        return False
    return credential.expires_at - now >= _capped(wish.min_ttl, credential)


def _ahead_at(credential: Credential, now: float, policy: Policy) -> float:
    """When a refresh is due, pauses apart."""
    if credential.uncertain_since is not None:
        return now if _may_retry(credential, now, policy) else _last_call(credential, policy)
    if _is_set_back(credential, now):
        return now
    last = credential.last_success_at
    earliest = last + _NO_HOT_LOOP if last is not None and last <= now else 0.0
    early = margin(credential, policy) * (1 - policy.spread * crc32(credential.login_id.encode()) / 2**32)
    aged = float("inf") if policy.keep_alive is None else credential.obtained_at + policy.keep_alive
    return max(min(credential.expires_at - early, aged), earliest)


def _paused_until(credential: Credential, now: float) -> float | None:
    until = credential.next_attempt_at
    return until if until is not None and 0 < until - now <= LONGEST else None


def _capped(min_ttl: float, credential: Credential) -> float:
    """What can be asked of this issuer. A wish for all that it gives, or more, would refresh at every call."""
    if credential.lifetime is None or min_ttl < credential.lifetime:
        return min_ttl
    return credential.lifetime * 0.9


def _else_serve(credential: Credential, now: float, policy: Policy, otherwise: Decision) -> Decision:
    """A valid token is served whatever the trouble is."""
    return Use(trouble(credential, now, policy)) if is_valid(credential, now) else otherwise


def _may_retry(credential: Credential, now: float, policy: Policy) -> bool:
    """The decisive retry: at once where the issuer allows it, else when there is nothing left to lose.

    By a clock that has been set back nobody can tell how much is left.
    """
    if _is_in_window(credential, now, policy) or _is_set_back(credential, now):
        return True
    return now >= _last_call(credential, policy)


def _last_call(credential: Credential, policy: Policy) -> float:
    """When an uncertain refresh token is tried once more at the latest: an unused one dies by itself."""
    aged = float("inf") if policy.keep_alive is None else credential.obtained_at + policy.keep_alive
    return min(credential.expires_at - last_chance(credential), aged)


def _is_set_back(credential: Credential, now: float) -> bool:
    """Whether a clock says that this token is yet to be given."""
    return now < credential.obtained_at - CLOCK_SLACK


def _is_in_window(credential: Credential, now: float, policy: Policy) -> bool:
    since = credential.uncertain_since
    return since is not None and policy.retry_within is not None and now - since <= policy.retry_within


def _within_floor(credential: Credential, now: float, policy: Policy) -> bool:
    last = credential.last_success_at
    return last is not None and 0 <= now - last < policy.floor  # a clock set back must not lock callers out
