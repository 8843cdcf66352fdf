"""What is counted, as Prometheus reads it. Promises a bounded number of series and no secret in any.

Labels are words of closed lists, and names of accounts up to a bound. Counts are plain numbers of one application, kept
by one thread: nothing is shared, and a request on the warm path pays one addition.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Literal, get_args

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from service import __version__
from service.domain.audit import DONE, Deed
from service.domain.credential import Credential
from service.domain.errors import CODES, LoginReason
from service.web.callers import OPEN, RULES

MEDIA_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4

ACCOUNTS: Final = 100
"""Accounts, by name, that have series of their own; more than that are in the minimum only."""

LOOKED_AT: Final = 10_000
"""Accounts that are looked at for the minimum: a scrape must end."""

Asking = Literal["owner", "key", "anybody", "refused"]
"""Who asks: our user or root, a client key, whoever (on a route that is open to all), or somebody who is not let in."""

OUTCOMES: Final = (
    CODES
    | {DONE, *get_args(LoginReason)}
    | {"timeout", "connect_timeout", "connect_error", "read_error", "read_timeout", "remote_protocol_error"}
    | {"http_429", "http_500", "http_502", "http_503", "http_504", "rate_limit_exceeded", "slow_down"}
    | {"temporarily_unavailable", "unreadable_answer", "empty_answer", "no_access_token", "unsendable_token"}
)
"""How something may have ended; any other word, which an issuer may have chosen, is `other`."""

ALWAYS_THERE: Final[tuple[tuple[Deed, str], ...]] = (
    *(("refresh", outcome) for outcome in (DONE, *get_args(LoginReason), "issuer_refused", "timeout", "other")),
    *(("login", outcome) for outcome in (DONE, "login_denied", "login_expired", "account_mismatch")),
    *(("refused", code) for code in ("cross_site", "host_not_allowed", "key_required", "scope", "wrong_user")),
)
"""Counted from 0, so that the first of them is an increase."""

_CALLS: Final = frozenset({f"{method} {path}" for method, path in RULES} | {f"GET {path}" for path in OPEN})

_BUCKETS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds: an issuer answers within one, and is given up after thirty."""


@dataclass(frozen=True, slots=True)
class Now:
    """What is so at this moment. `is_ready`: as /readyz says. `credentials`: none where they cannot be read."""

    is_ready: bool
    credentials: Sequence[Credential]
    at: float


class Metrics:
    """The counts of one application."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str, str]] = Counter()
        self._events: Counter[tuple[str, str]] = Counter(dict.fromkeys(ALWAYS_THERE, 0))
        self._durations = [0] * (len(_BUCKETS) + 1)
        self._seconds = 0.0

    def asked(self, call: str, status: int, asking: Asking) -> None:
        """A request has been answered. `call`: a method and a path of a route, or of none. `status` 0: it broke off."""
        route = call if call in _CALLS else "other"
        self._requests[route, f"{status // 100}xx" if status else "none", asking] += 1

    def happened(self, deed: Deed, outcome: str, seconds: float | None = None) -> None:
        """Something that the audit trail is told too, and how long it took, if that is known."""
        word = outcome.partition(":")[0]  # what follows is the issuer's
        self._events[deed, word if word in OUTCOMES else "other"] += 1
        if seconds is not None:
            self._durations[bisect_left(_BUCKETS, seconds)] += 1
            self._seconds += max(0.0, seconds)

    def text(self, now: Now) -> bytes:
        """The answer of GET /metrics."""
        return generate_latest(_Told([*self._counted(), *_present(now)]))

    def _counted(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "pixir_auth_requests", "Requests answered.", labels=("route", "status", "caller")
        )
        for labels, times in sorted(self._requests.items()):
            requests.add_metric(labels, times)
        events = CounterMetricFamily(
            "pixir_auth_events", "What the audit trail keeps, by how it ended.", labels=("deed", "outcome")
        )
        for pair, times in sorted(self._events.items()):
            events.add_metric(pair, times)
        durations = HistogramMetricFamily("pixir_auth_refresh_duration_seconds", "From the claim to the end.")
        bounds = (*map(str, _BUCKETS), "+Inf")
        durations.add_metric((), list(zip(bounds, accumulate(self._durations), strict=True)), self._seconds)
        yield from (requests, events, durations)


class _Told(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _present(now: Now) -> Iterator[Metric]:
    """What is so at this moment."""
    build = GaugeMetricFamily("pixir_auth_build_info", "Always 1.", labels=("version",))
    build.add_metric((__version__,), 1)
    yield build
    yield GaugeMetricFamily("pixir_auth_ready", "1 while the store can be read and written.", value=now.is_ready)
    stored = [each for each in now.credentials if each.state != "logged_out"]
    yield GaugeMetricFamily("pixir_auth_accounts", "Accounts that hold a login, alive or not.", value=len(stored))
    alive = [each.expires_at - now.at for each in stored if each.state == "active"]
    if alive:
        told = "The least of all accounts whose login is alive."
        yield GaugeMetricFamily("pixir_auth_token_expires_in_seconds_min", told, value=min(alive))
    yield from _by_account(stored[:ACCOUNTS], now.at)


def _by_account(credentials: Sequence[Credential], now: float) -> Iterator[Metric]:
    def gauge(name: str, told: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"pixir_auth_{name}", told, labels=("account", *labels))

    expiry = gauge("token_expires_in_seconds", "Until the access token ends; negative once it has.")
    failures = gauge("refresh_failures", "Refreshes that did not work since the last one that did.")
    success = gauge("refresh_last_success_timestamp_seconds", "When a refresh last worked, since the epoch.")
    needed = gauge("login_required", "1 where only a person's login helps.", "reason")
    for each in credentials:
        expiry.add_metric((each.account,), each.expires_at - now)
        failures.add_metric((each.account,), each.failures)
        if each.last_success_at is not None:
            success.add_metric((each.account,), each.last_success_at)
        if each.state != "active":
            needed.add_metric((each.account, each.reason or each.state), 1)
    yield from (expiry, failures, success, needed)
