"""`deploy/alerts.yaml`, as Prometheus itself reads it: what raises each alert, and what does not."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.promtool

ALERTS = Path(__file__).parents[2] / "deploy" / "alerts.yaml"

DEAD = 'pixir_auth_login_required{account="work",reason="refresh_token_reused"}'
ENDS_IN = 'pixir_auth_token_expires_in_seconds{account="work"}'
FAILURES = 'pixir_auth_refresh_failures{account="work"}'
REUSED = 'pixir_auth_events_total{deed="refresh",outcome="refresh_token_reused"}'
REFUSED = 'pixir_auth_events_total{deed="refused",outcome="wrong_user"}'

SERIES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "PixirAuthLoginNeedsAPerson": ({DEAD: "1x20"}, {DEAD: "0x20"}),
    "PixirAuthTokenEndsWhileRefreshesFail": (
        {ENDS_IN: "299x20", FAILURES: "1x20"},
        {ENDS_IN: "299x20", FAILURES: "0x20"},
    ),
    "PixirAuthSomeTokenHasEnded": (
        {"pixir_auth_token_expires_in_seconds_min": "-1x20"},
        {"pixir_auth_token_expires_in_seconds_min": "0x20"},
    ),
    "PixirAuthStoreUnavailable": ({"pixir_auth_ready": "0x20"}, {"pixir_auth_ready": "1x20"}),
    "PixirAuthReuseDetected": ({REUSED: "0x5 1x15"}, {REUSED: "0x20"}),
    "PixirAuthManyRefusals": ({REFUSED: "0+61x20"}, {REFUSED: "0+59x20"}),
}
"""Alert -> what raises it, and what is next to it and does not, at one sample a minute."""


def alerts_at_ten_minutes(folder: Path, series: dict[str, str], expected: dict[str, list[Any]]) -> str:
    """What promtool has against these expectations; nothing if it finds exactly those alerts."""
    trial = {
        "rule_files": [str(ALERTS)],
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "alert_rule_test": [
                    {"eval_time": "10m", "alertname": name, "exp_alerts": alerts} for name, alerts in expected.items()
                ],
            }
        ],
    }
    file = folder / "trial.yaml"
    file.write_text(json.dumps(trial))  # JSON is YAML
    done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_prometheus_takes_the_file() -> None:
    subprocess.run(["promtool", "check", "rules", ALERTS], check=True, capture_output=True)


def test_every_alert_has_its_series_here() -> None:
    told = [line.split("alert:")[1].split()[0] for line in ALERTS.read_text().splitlines() if "alert:" in line]
    assert told == list(SERIES)


@pytest.mark.parametrize("alert", SERIES)
def test_each_alert_is_raised_by_its_trouble_and_by_nothing_beside_it(alert: str, tmp_path: Path) -> None:
    trouble, none = SERIES[alert]
    quiet: dict[str, list[Any]] = {name: [] for name in SERIES}
    assert alerts_at_ten_minutes(tmp_path, none, quiet) == ""
    found = alerts_at_ten_minutes(tmp_path, trouble, quiet)
    assert f"alertname: {alert}" in found
    assert [name for name in SERIES if f"alertname: {name}," in found] == [alert], "it alone"
    assert "<no value>" not in found, "every label that the text names is there"
