"""`python -m tests.soak`: a soak by hand, and its report."""

import argparse
import asyncio
import secrets
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.soak.flat import stages
from tests.soak.history import excuse
from tests.soak.issuers import ISSUERS
from tests.soak.soak import FAULTS, Outcome, Plan, complaint, soak


def main() -> int:
    """Run one; 1 if anything happened that must not."""
    given = _arguments()
    plan = Plan(given.minutes * 60, given.issuer, given.seed, given.faults, given.database)
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    outcome = asyncio.run(soak(plan, folder))
    print(report(plan, outcome))
    if outcome.violations:
        print(complaint(plan, outcome, folder), file=sys.stderr)
    return 1 if outcome.violations else 0


def report(plan: Plan, outcome: Outcome) -> str:
    """Figures for people."""
    history = outcome.history
    answered = [one for one in history.answered if one.status == 200]
    served = sorted(one.at - one.asked for one in answered)
    calm = sorted(one.at - one.asked for one in answered if not one.disturbed)
    granted = Counter(one.label.partition(".")[0] for one in history.sent if one.granted)
    spent_twice = sum(1 for one in history.sent if one.status not in (None, 200))
    lines = [
        f"issuer {plan.issuer}, seed {plan.seed}, {plan.seconds:.0f} s, then well after {outcome.calm:.1f} s; "
        f"faults asked for: {', '.join(sorted(plan.faults)) or 'none'}",
        f"refreshes: {len(history.sent)} sent, {sum(granted.values())} granted: {dict(sorted(granted.items()))}",
        f"spent tokens that the issuer saw: {spent_twice}, in {len(history.lost)} lost logins:",
        *(f"  {count} x {why}" for why, count in Counter(excuse(history, one) for one in history.lost).items()),
        f"faults: {dict(Counter(one.name for one in history.faults))}",
        f"on the wire: {dict(Counter(one.fault for one in history.sent if one.fault))}",
        f"/token: {dict(Counter(one.status for one in history.answered))}, warnings "
        f"{dict(Counter(one.warning for one in answered if one.warning))}",
        f"/token p50 {_at(served, 0.5)}, p99 {_at(served, 0.99)}; while nothing befell the replica: "
        f"p50 {_at(calm, 0.5)}, p99 {_at(calm, 0.99)}",
        "first replica, begin / middle / end:",
        *(f"  {name} {first:.0f} / {mid:.0f} / {last:.0f}" for name, (first, mid, last) in _stages(outcome)),
        f"violations: {len(outcome.violations)}",
    ]
    return "\n".join(lines)


def _stages(outcome: Outcome) -> list[tuple[str, tuple[float, float, float]]]:
    units = {"rss": "RSS KiB", "fds": "open files", "threads": "most threads", "wal": "highest WAL KiB"}
    return [(units[name], values) for name, values in stages(outcome.samples).items()]


def _at(ordered: list[float], share: float) -> str:
    return f"{ordered[int(share * (len(ordered) - 1))] * 1000:.1f} ms" if ordered else "-"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--issuer", choices=sorted(ISSUERS), default="sandbox")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32), help="random unless given")
    parser.add_argument(
        "--database", default="sqlite", help="sqlite, or an address for PIXIR_AUTH_DATABASE_URL (then without `lock`)"
    )
    parser.add_argument("--faults", default=",".join(FAULTS), help="some of %(default)s; empty: none")
    given = parser.parse_args()
    given.faults = frozenset(filter(None, given.faults.split(",")))
    if unknown := given.faults - set(FAULTS):
        parser.error(f"no such faults: {', '.join(sorted(unknown))}")
    given.database = None if given.database == "sqlite" else given.database
    if given.database is not None:
        given.faults -= {"lock"}
    return given


if __name__ == "__main__":
    sys.exit(main())
