"""``sealgate doctor``: a check-up of the configuration and of the gateway, if it runs."""

from __future__ import annotations

import argparse

from gateway.commands.output import DONE, PROBLEM, config_path, print_json, say
from gateway.doctor.finding import Finding, Verdict
from gateway.model import system_clock


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its options."""
    doctor = commands.add_parser("doctor", help="look over the installation; changes nothing")
    doctor.add_argument("-c", "--config", default="")
    doctor.add_argument("--json", action="store_true")
    doctor.set_defaults(run=run_doctor)


def run_doctor(arguments: argparse.Namespace) -> int:
    """Print every finding as it is made; 0 when none is a problem."""
    # It loads the SSH library, which no other command needs.
    from gateway.doctor.checkup import check_up  # noqa: PLC0415

    findings: list[Finding] = []
    for finding in check_up(config_path(arguments), system_clock):
        findings.append(finding)
        if not arguments.json:
            _show(finding)
    counts = {verdict: sum(each.verdict is verdict for each in findings) for verdict in Verdict}
    if arguments.json:
        print_json({"findings": [_described(each) for each in findings]})
    else:
        say(f"{counts[Verdict.PROBLEM]} problems, {counts[Verdict.WARNING]} warnings.")
    return PROBLEM if counts[Verdict.PROBLEM] else DONE


def _show(finding: Finding) -> None:
    told = f"{finding.message} {finding.remedy}".strip()
    say(f"{finding.verdict.value:8} {finding.subject}: {told}")
    for detail in finding.details:
        say(f"{'':8}   {detail.name}: {detail.text}")


def _described(finding: Finding) -> dict[str, object]:
    return {
        "verdict": finding.verdict.value,
        "subject": finding.subject,
        "message": finding.message,
        "remedy": finding.remedy,
        "details": [{"name": each.name, "text": each.text} for each in finding.details],
    }
