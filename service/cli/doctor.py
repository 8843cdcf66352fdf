"""`doctor`: what is wrong with this installation, and how to mend it."""

import logging
from dataclasses import asdict

from service.cli.console import DONE, FAILED, out_json, say
from service.doctor.doctor import examine_installation
from service.doctor.finding import Finding
from service.hardening import harden


def run(*, as_json: bool) -> int:
    """Examine the installation. 1 when something is in trouble, 0 with warnings at most."""
    logging.disable()  # what is wrong is said once, below
    harden()  # it reads keys and logins as the service does
    findings = examine_installation()
    if as_json:
        out_json([asdict(each) for each in findings])
    else:
        say(*(line for each in findings for line in _lines(each)))
    return FAILED if any(each.state == "trouble" for each in findings) else DONE


def _lines(finding: Finding) -> list[str]:
    """Then what to do, a line each."""
    return [
        f"{finding.state:<7}  {finding.check}: {finding.detail}",
        *(f"         - {action}" for action in finding.next_actions),
    ]
