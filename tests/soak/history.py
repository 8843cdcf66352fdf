"""What happened in a soak, and whether it may happen. Pure: records in, violations out, each as a sentence.

A *label* names one login of one account; the n-th refresh token of a label is exchanged for its token n + 1, so what
generation every access token must carry is known without asking the service: `base` of the label plus n.
Tokens are only ever kept as hashes; instants are of one monotonic clock, in seconds.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

ACCESS_LIFETIME = 5
"""Seconds that an access token lives: a refresh for each account every two or three seconds."""

TIME_LIMIT = 5.0
"""Seconds that a service under soak gives one call to the issuer."""

CLOCKS_APART = 0.1
"""Seconds by which our clock and a service's may run apart while a token lives."""

UNSTORED = 30.0
"""Seconds that an answer may stay unstored while disk and process faults last: a kill until then takes it along."""

STOPS = {"stop"}
ENDS = {"kill", "term", "down"}


def hashed(token: str) -> str:
    """What the history keeps of a token."""
    return hashlib.sha256(token.encode()).hexdigest()[:16]


@dataclass(slots=True)
class Installed:
    """A login was given to the service. base: the generation it must begin with."""

    at: float
    account: str
    label: str
    base: int
    token: str


@dataclass(slots=True)
class Sent:
    """A refresh token on its way through the proxy. ordinal: which of its label's, from 0.

    fault: what the proxy did to it; destroyed: so that the answer, if there was one, cannot have been read.
    granted: the access token that the issuer gave for it.
    """

    slot: int
    label: str
    ordinal: int
    at: float
    fault: str = ""
    destroyed: bool = False
    status: int | None = None
    granted: str | None = None
    until: float = float("inf")


@dataclass(slots=True)
class Answered:
    """What one caller got from GET /token. status 0: no answer, and `code` says why. disturbed: faults meanwhile."""

    asked: float
    at: float
    caller: int
    slot: int
    account: str
    status: int
    code: str = ""
    generation: int = 0
    token: str = ""
    warning: str = ""
    disturbed: str = ""


@dataclass(slots=True)
class Fault:
    """Something was done to one replica, or (slot None) to all."""

    name: str
    slot: int | None
    at: float
    until: float = float("inf")


@dataclass(slots=True)
class Lost:
    """The service says that this login is over. generation: the last one it has stored."""

    at: float
    account: str
    label: str
    generation: int
    error: str


@dataclass(slots=True)
class Ended:
    """How a login stood when all was over: in the service, and at the issuer."""

    account: str
    label: str
    generation: int
    granted: int
    alive: bool


@dataclass
class History:
    """The records of one soak, each kind in the order in which it began."""

    installed: list[Installed] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    answered: list[Answered] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    final: list[Ended] = field(default_factory=list)
    issued: dict[str, int] = field(default_factory=dict)
    """Refreshes granted, by label, as the issuer counts them."""
    errors: list[str] = field(default_factory=list)
    """What went wrong in the soak itself, or in a service in a way that its callers do not see."""

    def disturbances(self, slot: int, since: float) -> str:
        """Names of the faults that this replica has suffered since an instant a little while ago."""
        recent = (one for one in self.faults[-100:] if one.slot in (slot, None) and one.until >= since)
        return ",".join(sorted({one.name for one in recent}))

    def lasting(self, names: set[str], slot: int, since: float, until: float) -> list[Fault]:
        """Faults of a replica that touch a span of time."""
        of_slot = (one for one in self.faults if one.name in names and one.slot in (slot, None))
        return [one for one in of_slot if one.at <= until and one.until >= since]

    def sends(self) -> dict[tuple[str, int], list[Sent]]:
        """Every request, by refresh token."""
        found: dict[tuple[str, int], list[Sent]] = defaultdict(list)
        for one in self.sent:
            found[one.label, one.ordinal].append(one)
        return found

    def granted(self, label: str) -> int:
        """Refreshes granted to a login, as the proxy saw them."""
        return sum(1 for one in self.sent if one.label == label and one.granted)

    def write(self, path: Path) -> None:
        """One record a line, for whoever looks into a failure."""
        kinds = (self.installed, self.sent, self.answered, self.faults, self.lost, self.final)
        with path.open("w") as out:
            for record in (one for kind in kinds for one in kind):
                out.write(json.dumps({"kind": type(record).__name__, **asdict(record)}) + "\n")


def check(history: History) -> list[str]:
    """Everything that must not have happened."""
    rules = (_tokens, _generations, _refusals, _sends, _losses, _totals)
    return [*history.errors, *(found for rule in rules for found in rule(history))]


def excuse(history: History, lost: Lost) -> str | None:
    """Why no client could have kept this login; None if one could."""
    base = next(one.base for one in history.installed if one.label == lost.label)
    sends = history.sends()[lost.label, lost.generation - base]
    spent = [one for one in sends if one.granted]
    causes = [_unknown(history, one) for one in (spent or sends)]
    if None in causes or len(causes) < (1 if spent else 2):
        return None
    return " and ".join(cause or "" for cause in causes) + ("" if spent else ", unspent")


def _unknown(history: History, sent: Sent) -> str | None:
    """Why the outcome of this request could not be known, or not be stored."""
    if sent.destroyed:
        return f"answer destroyed by {sent.fault}"
    if history.lasting({"kill"}, sent.slot, sent.at - 1, sent.until + UNSTORED):
        return "killed after sending"
    is_late = sent.until - sent.at > TIME_LIMIT
    if is_late and not history.lasting(STOPS, sent.slot, sent.at - 1, sent.until):
        return "answer came too late"
    return None


def _tokens(history: History) -> Iterator[str]:
    """Each access token is of its one generation, granted to the account that it is served for, and alive."""
    logins = {one.label: one for one in history.installed}
    granted = {one.granted: (logins[one.label], one.ordinal + 1, one.at) for one in history.sent if one.granted}
    granted |= {one.token: (one, 0, one.at) for one in history.installed}
    for one in history.answered:
        if one.status != 200:
            continue
        login, ordinal, at = granted.get(one.token, (None, 0, 0.0))
        if login is None or login.account != one.account:
            yield f"a token that was not granted to {one.account}: {one}"
        elif one.generation != login.base + ordinal:
            yield f"token {ordinal} of {login} served as another generation: {one}"
        elif one.asked > at + ACCESS_LIFETIME + CLOCKS_APART:
            yield f"a token that was asked for at {at} had expired: {one}"


def _generations(history: History) -> Iterator[str]:
    """For one caller they never go back. A pair that is not stored yet is served with a warning, and counts for none
    of the other replicas."""
    floors: dict[tuple[int, str], int] = defaultdict(int)
    for one in history.answered:
        if one.status != 200:
            continue
        who = one.caller, one.account
        if one.generation < floors[who]:
            yield f"generation went back from {floors[who]}: {one}"
        if one.warning != "store_unavailable":
            floors[who] = max(floors[who], one.generation)


def _refusals(history: History) -> Iterator[str]:
    """No answer only from a process that was stopped or ended; "log in" only for a login that was lost."""
    lost = {one.label for one in history.lost}
    for one in history.answered:
        if one.status == 409:
            before = [each for each in history.installed if each.account == one.account and each.at <= one.at]
            allowed = any(each.label in lost for each in before[-2:])
        elif one.status == 0:
            allowed = bool((ENDS | STOPS) & set(one.disturbed.split(",")))
        else:
            allowed = one.status in (200, 503)
        if not allowed:
            yield f"an answer that nothing explains: {one}"


def _sends(history: History) -> Iterator[str]:
    """One request with each refresh token; one more, afterwards, where the outcome of the first cannot be known."""
    newest: dict[str, int] = defaultdict(int)
    for one in history.sent:
        if one.ordinal < newest[one.label]:
            yield f"a refresh token was sent after its successor: {one}"
        newest[one.label] = max(newest[one.label], one.ordinal)
    for sends in history.sends().values():
        if len(sends) > 2 or sum(1 for one in sends if one.granted) > 1:
            yield f"a refresh token was spent more than once: {sends}"
        for first, second in pairwise(sends):
            if second.at < first.until:
                yield f"two requests with one refresh token at a time: {first}, {second}"
            if _unknown(history, first) is None:
                yield f"a refresh token was sent again without need: {first}, {second}"
        if sends[0].status not in (None, 200):
            yield f"the issuer refused a refresh token that was sent once: {sends[0]}"


def _losses(history: History) -> Iterator[str]:
    for one in history.lost:
        if excuse(history, one) is None:
            yield f"a login was lost without excuse: {one}"


def _totals(history: History) -> Iterator[str]:
    """Generation of the row = refreshes granted since the login was installed; the issuer counts the same."""
    for label, issued in history.issued.items():
        if issued != history.granted(label):
            yield f"{label}: the issuer granted {issued} refreshes, {history.granted(label)} went through the proxy"
    bases = {one.label: one.base for one in history.installed}
    for end in history.final:
        if not end.alive or end.generation != bases[end.label] + end.granted:
            yield f"does not stand where the issuer left it, with base {bases[end.label]}: {end}"
    for lost in history.lost:
        ahead = bases[lost.label] + history.granted(lost.label) - lost.generation
        if ahead not in (0, 1):
            yield f"stored {ahead} generations less than were granted: {lost}"


def concerning(history: History, label: str) -> list[Installed | Sent | Lost | Fault]:
    """The last that befell a login, in order: for whoever reads a violation."""
    own: list[Installed | Sent | Lost] = [*history.installed, *history.sent, *history.lost]
    of_login = [one for one in own if one.label == label][-12:]
    since, until = of_login[0].at, of_login[-1].at
    faults = [one for one in history.faults if one.at <= until and one.until >= since]
    return sorted([*of_login, *faults], key=lambda one: one.at)
