"""``sealgate gc`` and ``sealgate scrub``: clearing away, and looking whether everything verifies.

The work is in ``gateway.care``, the same as the janitor's. docs/CARE.md tells administrators what
findings mean.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from fractions import Fraction
from typing import Any

from pydantic_core import PydanticCustomError

from backends.catalog import keys, segments
from backends.catalog.segments import Due
from backends.scrub.finding import Finding
from backends.scrub.reading import Pace
from gateway.app import Gateway
from gateway.care.clearing import Clearing
from gateway.care.report import Report
from gateway.care.scrubbing import Scrubbing, configured_shares
from gateway.care.turn import TURN_US, Turn
from gateway.commands.output import (
    DONE,
    PROBLEM,
    UsageError,
    opened,
    operator,
    print_json,
    say,
)
from gateway.commands.progress import Bar, showing
from gateway.config.scalars import parse_size
from gateway.model import SECOND_US, Transaction

DAILY_FRACTION = Fraction(1, 30)

RESUME_US = 7 * 24 * 3600 * SECOND_US
"""How long after its start a run over everything that was cut off is gone on with."""

_BEGUN = "scrub_all_us"
_FOREVER_US = 1 << 62


def add_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add both commands and their options."""
    gc = commands.add_parser("gc", help="clear away what is no longer kept")
    scrub = commands.add_parser("scrub", help="verify what is stored")
    much = scrub.add_mutually_exclusive_group()
    much.add_argument("--all", action="store_true", help="read everything")
    much.add_argument(
        "--fraction",
        type=_fraction,
        default=DAILY_FRACTION,
        metavar="1/30",
        help="read this part of everything, what was read longest ago first",
    )
    scrub.add_argument("--share", default="", help="this share alone")
    scrub.add_argument("--rate", type=_rate, metavar="50MiB", help="read no more in a second")
    scrub.add_argument("--repair", action="store_true", help="quarantine and mend; deletes nothing")
    for parser, run in ((gc, run_gc), (scrub, run_scrub)):
        parser.add_argument("-c", "--config", default="")
        parser.add_argument("--json", action="store_true")
        parser.set_defaults(run=run)


def run_gc(arguments: argparse.Namespace) -> int:
    """Clear away what the shares no longer keep, and what nothing needs any more."""
    with opened(arguments) as gateway, _turn(gateway) as turn:
        clearing = Clearing(gateway, principal_name=operator(), going=turn.take)
        cleared = clearing.run(strays=True)
    if arguments.json:
        print_json({**cleared.counts(), "failed": list(cleared.failed)})
    else:
        say(f"Old versions cleared away: {cleared.versions}")
        say(f"Files and folders purged from the trash: {cleared.trashed}")
        say(f"Expired unfinished uploads: {cleared.uploads}")
        say(f"Unused segments deleted: {cleared.segments}")
        for name in cleared.failed:
            say(f"Share '{name}' could not be cleared away: run 'sealgate scrub'.")
    return PROBLEM if cleared.failed else DONE


def run_scrub(arguments: argparse.Namespace) -> int:
    """Verify the catalog whole and the asked part of what is stored; tell what is wrong."""
    with opened(arguments) as gateway, _turn(gateway) as turn, showing(quiet=arguments.json) as bar:
        shares = configured_shares(gateway)
        if arguments.share and arguments.share not in shares:
            raise UsageError(f"There is no share '{arguments.share}'.")
        run = Scrubbing(
            gateway,
            Pace(arguments.rate, gateway.clock, time.sleep),
            shares=(arguments.share,) if arguments.share else shares,
            repair=arguments.repair,
            principal_name=operator(),
            progress=bar,
            going=turn.take,
        )
        whole = False
        try:
            run.check_rows()
            run.recheck_quarantine()
            _read(gateway, run, arguments, bar)
            run.count_strays()
            whole = True
        finally:
            report = run.conclude(whole=whole)
    if arguments.json:
        print_json(_line(report))
    else:
        _say(report)
    return PROBLEM if report.findings else DONE


def _read(gateway: Gateway, run: Scrubbing, arguments: argparse.Namespace, bar: Bar) -> None:
    """Read segments, then contents without a hash, as much as was asked for."""
    now_us = gateway.clock()
    share_id = None
    with gateway.catalog.begin() as tx:
        if arguments.share:
            share = keys.share_by_name(tx, arguments.share)
            if share is None:
                return
            share_id = share.id
        mark = _BEGUN if share_id is None else f"{_BEGUN}:{share_id.hex()}"
        begun_us = _begun(tx, mark, now_us) if arguments.all else now_us
        total_bytes = segments.due_bytes(tx, Due(_FOREVER_US, now_us, share_id))
        due_bytes = segments.due_bytes(tx, Due(begun_us, now_us, share_id))
    budget_bytes = math.ceil(total_bytes * (1 if arguments.all else arguments.fraction))
    bar.begin("segments", min(due_bytes, budget_bytes), "B")
    # A run over everything is bounded by what is due, and by nothing when a size was edited.
    limit_bytes = _FOREVER_US if arguments.all else budget_bytes
    run.check_segments(Due(begun_us, now_us, share_id), limit_bytes)
    bar.begin("hashes", None, "B")
    run.hash_contents(limit_bytes)
    if arguments.all:
        with gateway.catalog.begin() as tx:
            keys.remove_setting(tx, mark)


def _begun(tx: Transaction, mark: str, now_us: int) -> int:
    """Return when the run over everything began: now, or earlier if one was cut off."""
    stored = keys.setting(tx, mark)
    if stored is not None and stored.isdigit() and 0 <= now_us - int(stored) < RESUME_US:
        return int(stored)
    keys.put_setting(tx, mark, str(now_us).encode("ascii"))
    return now_us


@contextlib.contextmanager
def _turn(gateway: Gateway) -> Iterator[Turn]:
    """Give this command's turn to care; running gateways wait meanwhile."""
    turn = Turn(gateway.catalog, gateway.clock, gateway.journal.id, commanded=True)
    if not turn.take():
        minutes = TURN_US // SECOND_US // 60
        raise UsageError(
            "Another 'sealgate gc' or 'sealgate scrub' is at work. Wait for it; if it was killed, "
            f"for {minutes} minutes."
        )
    try:
        yield turn
    finally:
        turn.give_up()


def _line(report: Report) -> dict[str, Any]:
    return {
        "rows": report.rows,
        "segments": report.segments,
        "bytes": report.size_bytes,
        "hashed": report.hashed,
        "strays": report.strays,
        "findings": [asdict(finding) for finding in report.findings],
        "more_findings": report.more,
        "repairs": report.repairs,
        "unconfigured_shares": report.unconfigured,
    }


def _say(report: Report) -> None:
    for finding in report.findings:
        say(_heading(finding))
        say(f"  {finding.text}")
        say(f"  {finding.remedy}")
    if report.more:
        say(f"... and {report.more} more findings.")
    for repair in report.repairs:
        say(f"Repaired: {repair}")
    for name in report.unconfigured:
        say(f"Share '{name}' is in the catalog, but not in the configuration: it was not judged.")
    say(
        f"{report.rows} rows, {report.segments} segments with {report.size_bytes} bytes, "
        f"{report.hashed} hashes computed, {report.strays} blobs that no row names."
    )
    found = len(report.findings) + report.more
    say(f"{found} findings." if found else "Everything verifies.")


def _heading(finding: Finding) -> str:
    places = {
        "share": finding.share,
        "node": finding.node_id,
        "version": finding.version_id,
        "segment": finding.segment_id,
    }
    where = "  ".join(f"{name} {place}" for name, place in places.items() if place)
    return f"[{finding.kind.value}] {finding.path or '-'}  {where}"


def _fraction(text: str) -> Fraction:
    try:
        fraction = Fraction(text)
    except (ValueError, ZeroDivisionError):
        fraction = Fraction(0)
    if not 0 < fraction <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no part of everything; write it like 1/30.")
    return fraction


def _rate(text: str) -> int:
    try:
        rate_bytes = parse_size(text)
    except PydanticCustomError:
        rate_bytes = 0
    if rate_bytes <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no rate; write it like 50MiB.")
    return rate_bytes
