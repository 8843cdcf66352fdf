"""Requests made from the OpenAPI document, lawful and not, alone and one after another: every answer is as it says.

A real service, a real sandbox issuer, and schemathesis as a process of its own.
"""

import json
import subprocess
import sys
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

import pytest

from service.domain.caller import digest_of
from service.domain.secret import Secret
from tests.fuzz import plain_environment
from tests.kit.processes import ROOT, Process, machine

LEAST = 2000
"""Cases below which a run has shown nothing."""

LEFT_OUT = {
    "positive_data_acceptance": "whether a provider, a login or a token exists is not in the document",
    "use_after_free": "a cancelled login can still be asked how it ended",
    "ensure_resource_availability": "a second login of an account replaces the first",
}
"""Check of schemathesis -> why the service need not pass it."""


@pytest.mark.fuzz
def test_every_answer_is_as_the_document_says(
    tmp_path: Path, callback_ports: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with machine(tmp_path) as m:
        issuer = m.issuer()
        service = m.service(issuer)
        for account in ("default", "work"):
            m.install(service, issuer, account)
        done, report = fuzzed(service, issuer, tmp_path)
        log = service.log.read_text()
        assert service.client.get("/readyz").status_code == 200
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    assert {name: told["status"] for name, told in report["phases"].items() if name != "examples"} == {
        "coverage": "success", "fuzzing": "success", "stateful": "success"
    }  # fmt: skip
    assert "Traceback" not in log
    cases = report["test_cases"]["generated"]
    with capsys.disabled():
        print(f"\n{cases} requests made from the document, in {report['running_time']:.0f} s")
    assert cases >= LEAST


def fuzzed(service: Process, issuer: Process, folder: Path) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """The run, and its report."""
    tokens = issuer.client.post("/_sandbox/issue", json={}).raise_for_status().json()
    login = {"kind": "subscription", **{name: tokens[name] for name in ("access_token", "refresh_token", "id_token")}}
    key = f"pixir_{token_urlsafe(32)}"
    service.client.put("/keys/fuzz", json={"digest": digest_of(Secret(key))}).raise_for_status()
    written = folder / "report.json"
    settings = str(Path(__file__).with_suffix(".toml"))
    command = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "--config-file",
        settings,
        "run",
        str(ROOT / "openapi" / "openapi.json"),
    ]
    options = [
        *("--url", service.url, "--max-examples", "150", "--seed", "104", "--no-color", "--request-timeout", "10"),
        *("--exclude-checks", ",".join(LEFT_OUT), "--continue-on-failure", "--suppress-health-check", "all"),
        *("--report", "json", "--report-json-path", str(written)),
    ]
    environment = {
        "PYTHONPATH": str(ROOT),
        "SCHEMATHESIS_HOOKS": "tests.fuzz.hooks",
        "PIXIR_FUZZ_LOGIN": json.dumps(login),
        "PIXIR_FUZZ_KEY": key,
    }
    done = subprocess.run(
        [*command, *options],
        cwd=folder,  # it leaves a folder behind where it runs
        env={**plain_environment(), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert written.exists(), done.stdout + done.stderr
    return done, json.loads(written.read_text())
