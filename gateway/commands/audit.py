"""``sealgate audit export|verify|search``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from backends.catalog import checkpoints
from gateway.audit import trail
from gateway.audit.checkpoint import public_key_hex, read_anchor, verified
from gateway.audit.trail import Finding, Line
from gateway.commands.output import DONE, PROBLEM, UsageError, opened, print_json, say

SEARCH_FIELDS = ("principal", "path", "action", "outcome", "session", "share", "client_address")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its options."""
    audit = commands.add_parser("audit", help="read and verify the audit trail")
    kinds = audit.add_subparsers(dest="kind", required=True, metavar="export|verify|search|key")
    export = kinds.add_parser("export", help="print every record")
    export.add_argument("--format", choices=["jsonl"], default="jsonl")
    verify = kinds.add_parser("verify", help="verify the chains of hashes")
    verify.add_argument("file", nargs="?", help="an export; without one, the live trail")
    verify.add_argument("--anchor", default="", help="the anchor file; else the configured one")
    verify.add_argument("--public-key", default="", help="what 'audit key' printed; with a file")
    key = kinds.add_parser("key", help="print the public key that verifies checkpoints")
    search = kinds.add_parser("search", help="find records")
    for name in SEARCH_FIELDS:
        search.add_argument(f"--{name.replace('_', '-')}", dest=name, default="")
    for parser in (export, search):
        parser.add_argument("--since", default="", help="ISO time in UTC, inclusive")
        parser.add_argument("--until", default="", help="ISO time in UTC, exclusive")
    for parser in (export, verify, search, key):
        parser.add_argument("-c", "--config", default="")
        parser.add_argument("--json", action="store_true")
    export.set_defaults(run=run_export)
    verify.set_defaults(run=run_verify)
    search.set_defaults(run=run_search)
    key.set_defaults(run=run_key)


def run_export(arguments: argparse.Namespace) -> int:
    """Print every record of the asked span as JSON lines."""
    with opened(arguments) as gateway, gateway.catalog.snapshot() as tx:
        for line in trail.lines(tx, gateway.audit_cipher, **_span(arguments)):
            print_json(line)
    return DONE


def run_search(arguments: argparse.Namespace) -> int:
    """Print the records that fit, newest last."""
    wanted = {name: getattr(arguments, name) for name in SEARCH_FIELDS}
    wanted = {name: value for name, value in wanted.items() if value}
    count = 0
    with opened(arguments) as gateway, gateway.catalog.snapshot() as tx:
        found = trail.lines(tx, gateway.audit_cipher, **_span(arguments))
        for line in trail.search(found, wanted):
            count += 1
            if arguments.json:
                print_json(line)
            else:
                say(_for_people(line))
    return DONE if count else PROBLEM


def run_key(arguments: argparse.Namespace) -> int:
    """Print the public key of this catalog's checkpoints; keep it with the anchor."""
    with opened(arguments) as gateway:
        public_key = public_key_hex(gateway.signing_key())
    if arguments.json:
        print_json({"public_key": public_key})
    else:
        say(public_key)
    return DONE


def run_verify(arguments: argparse.Namespace) -> int:
    """Verify the live trail, or an export without needing the catalog or any key."""
    count, findings = _verify_file(arguments) if arguments.file else _verify_live(arguments)
    if arguments.json:
        listed = [
            {"journal": each.journal, "seq": each.seq, "message": each.message} for each in findings
        ]
        print_json({"records": count, "findings": listed})
    else:
        for finding in findings:
            say(str(finding))
        verdict = f"{len(findings)} problems." if findings else "every chain is whole."
        say(f"{count} records: {verdict}")
    return PROBLEM if findings else DONE


def _verify_file(arguments: argparse.Namespace) -> tuple[int, list[Finding]]:
    anchored = read_anchor(Path(arguments.anchor)) if arguments.anchor else None
    if anchored is not None and not arguments.public_key:
        raise UsageError("An anchor needs --public-key: what 'sealgate audit key' printed.")
    broken: list[int] = []
    try:
        with Path(arguments.file).open(encoding="utf-8", errors="replace") as file:
            lines = trail.parse_lines(file, broken.append)
            count, findings = _verified(lines, anchored, arguments.public_key)
    except OSError as error:
        raise UsageError(f"{arguments.file} cannot be read ({error.strerror}).") from error
    findings += [Finding("", number, "this line is no audit record.") for number in broken]
    return count, findings


def _verify_live(arguments: argparse.Namespace) -> tuple[int, list[Finding]]:
    with opened(arguments) as gateway:
        public_key = arguments.public_key or public_key_hex(gateway.signing_key())
        anchor = Path(arguments.anchor) if arguments.anchor else gateway.config.audit.anchor
        anchored = read_anchor(anchor) if anchor is not None else None
        with gateway.catalog.snapshot() as tx:
            lines = trail.lines(tx, gateway.audit_cipher)
            count, findings = _verified(lines, list(checkpoints.lines(tx)) or None, public_key)
            if anchored is not None:
                lines = trail.lines(tx, gateway.audit_cipher)
                findings += _verified(lines, anchored, public_key)[1]
    return count, list(dict.fromkeys(findings))


def _verified(
    lines: Iterable[Line], anchored: list[str] | None, public_key: str
) -> tuple[int, list[Finding]]:
    problems: list[str] = []
    good = list(verified(anchored, public_key, problems)) if anchored is not None else []
    if anchored is not None and not anchored:
        problems.append("the anchor holds no checkpoint.")
    count, findings = trail.verify_lines(lines, good)
    return count, findings + [Finding("", 0, problem) for problem in problems]


def _span(arguments: argparse.Namespace) -> dict[str, int]:
    span = {}
    for name in ("since", "until"):
        text = getattr(arguments, name)
        if not text:
            continue
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            raise UsageError(
                f"'{text}' is not a time. Write it like 2026-11-21 or 2026-11-21T14:30:00."
            ) from error
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        span[f"{name}_us"] = int(moment.timestamp() * 1_000_000)
    return span


def _for_people(line: Line) -> str:
    who = line["principal_name"] or line["login_name"] or "-"
    where = line["path"] + (f" -> {line['target']}" if line["target"] else "")
    why = " ".join(part for part in (line["rule"], line["error"]) if part)
    return "  ".join(
        (line["time"], line["outcome"].ljust(7), line["action"].ljust(9), who, where, why)
    ).rstrip()
