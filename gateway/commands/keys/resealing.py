"""``sealgate keys reseal``: what lies under older epochs of a share, under its current one."""

from __future__ import annotations

import argparse
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from tqdm import tqdm

from backends.catalog import keys
from backends.epochs import RETIRE_GRACE_US, EpochUse, older_uses, retire, uses_of
from backends.gc import ORPHAN_GRACE_US
from backends.reseal import Damage, Resealing
from gateway.app import Gateway
from gateway.audit.record import iso_time
from gateway.commands.keys.place import (
    SQLITE,
    all_shares,
    chosen_shares,
    files_holding,
)
from gateway.commands.output import (
    DONE,
    PROBLEM,
    UsageError,
    administered,
    config_of,
    opened,
    print_json,
    say,
)
from gateway.config.scalars import parse_size
from gateway.model import SECOND_US

RESEAL = "keys_reseal"
DESTROY_EPOCH = "keys_destroy_epoch"

_COLLECTION_US = 3600 * SECOND_US
"""How long the janitor may take to notice and to collect unused segments, besides the grace."""


@dataclass(slots=True)
class Result:
    """What a run did to one share, and what is left under its older epochs."""

    name: str
    epoch: int
    segment_count: int = 0
    version_count: int = 0
    damages: list[Damage] = field(default_factory=list)
    destroyed: list[keys.EpochRow] = field(default_factory=list)
    left: list[EpochUse] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found damaged."""
        return not self.damages


def parse_rate(text: str) -> int:
    """Return the bytes a second that ``50MiB`` names; an error of argparse for anything else."""
    try:
        rate = parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if not rate:
        raise argparse.ArgumentTypeError("a rate of nothing never ends")
    return rate


def run_reseal(arguments: argparse.Namespace) -> int:
    """Reseal shares and destroy the keys of epochs that nothing lies under any more."""
    if bool(arguments.shares) == arguments.all:
        raise UsageError("Name shares, or say --all.")
    config = config_of(arguments)
    with opened(arguments) as gateway:
        with gateway.catalog.snapshot() as tx:
            rows = chosen_shares(tx, arguments.shares)
            total = sum(use.used_bytes for row in rows for use in older_uses(row, uses_of(tx, row)))
        with tqdm(total=total, unit="B", unit_scale=True, disable=None, leave=False) as bar:
            pace = _pace(arguments.rate)

            def done(size_bytes: int) -> None:
                bar.update(size_bytes)
                pace(size_bytes)

            results = [_resealed(gateway, row, done) for row in rows]
        now_us = gateway.clock()
        dialect = gateway.catalog.dialect
    wrapped = [row.key_wrapped or b"" for each in results for row in each.destroyed]
    found = files_holding(config, wrapped) if wrapped and dialect == SQLITE else []
    if arguments.json:
        described = [_described(each) for each in results]
        print_json({"shares": described, "destroyed_keys_found_in": [str(file) for file in found]})
    else:
        for each in results:
            _say_result(each, now_us)
        for file in found:
            say(f"A destroyed key is still in {file}: stop the gateway and run VACUUM on it, or")
            say("delete that copy.")
        if wrapped and dialect != SQLITE:
            say(
                "The database's own files may hold destroyed keys until VACUUM FULL; so do backups."
            )
    return DONE if not found and all(each.is_clean for each in results) else PROBLEM


def _resealed(gateway: Gateway, row: keys.ShareRow, done: Callable[[int], None]) -> Result:
    with gateway.catalog.snapshot() as tx:
        needed = not all(use.is_resealed for use in older_uses(row, uses_of(tx, row)))
    result = Result(row.name, row.epoch)
    if needed:
        run = Resealing(
            gateway.catalog,
            gateway.store,
            all_shares(gateway, [row.name]),
            row.name,
            clock=gateway.clock,
            random_bytes=secrets.token_bytes,
            done=done,
        )
        with gateway.journal.begin() as tx:
            administered(gateway, tx, RESEAL, note=f"{row.name}: begun under epoch {row.epoch}")
        run.run()
        result.segment_count, result.version_count = run.segment_count, run.version_count
        result.damages = run.damages
    with gateway.journal.begin() as tx:
        if needed:
            note = f"{row.name}: {result.segment_count} segments, {result.version_count} versions"
            administered(gateway, tx, RESEAL, note=f"{note}, {len(result.damages)} damaged")
        current = keys.share_by_id(tx, row.id)
        if current is not None:
            result.epoch = current.epoch
            result.destroyed = retire(tx, current, gateway.clock())
            for each in result.destroyed:
                administered(gateway, tx, DESTROY_EPOCH, note=f"{row.name}: epoch {each.epoch}")
            result.left = older_uses(current, uses_of(tx, current))
    return result


def _pace(rate_bytes: int | None) -> Callable[[int], None]:
    """Return what waits so long after each piece that no more than the rate is done."""
    started = time.monotonic()
    so_far = 0

    def wait(size_bytes: int) -> None:
        nonlocal so_far
        so_far += size_bytes
        if rate_bytes is not None:
            time.sleep(max(0.0, started + so_far / rate_bytes - time.monotonic()))

    return wait


def _say_result(result: Result, now_us: int) -> None:
    if result.segment_count or result.version_count:
        say(
            f"share {result.name}: {result.segment_count} segments and {result.version_count} "
            f"versions are sealed under epoch {result.epoch} now."
        )
    else:
        say(f"share {result.name}: nothing to reseal.")
    for row in result.destroyed:
        say(f"  epoch {row.epoch}: nothing lay under it; its key is destroyed.")
    for damage in result.damages:
        what = f"segment {damage.segment_id.hex()}" if damage.segment_id else "its version"
        say(f"  damaged, left as it was: node {damage.node_id.hex()}, {what}: {damage.reason}")
    for use in result.left:
        if not use.is_resealed:
            say(
                f"  epoch {use.row.epoch}: {use.segment_count} segments and {use.version_count} "
                "versions are left."
            )
        elif use.unused_count:
            say(f"  epoch {use.row.epoch}: {use.unused_count} unused segments wait for collection.")
        else:
            say(f"  epoch {use.row.epoch}: its key stays for uploads that began under it.")
    if result.left and result.is_clean:
        after = iso_time(now_us + max(ORPHAN_GRACE_US, RETIRE_GRACE_US) + _COLLECTION_US)
        say(f"  Run this again after {after}: uploads that began before the new epoch may end")
        say("  under an old one, and the keys of old epochs are destroyed when nothing needs them.")
    elif result.left:
        say("  Restore the damaged files, or delete them with their versions; then run this again.")


def _described(result: Result) -> dict[str, Any]:
    return {
        "name": result.name,
        "epoch": result.epoch,
        "segments": result.segment_count,
        "versions": result.version_count,
        "damaged": [
            {
                name: value.hex() if isinstance(value, bytes) else value
                for name, value in asdict(damage).items()
            }
            for damage in result.damages
        ],
        "destroyed_epochs": [row.epoch for row in result.destroyed],
        "left": [described_use(use) for use in result.left],
    }


def described_use(use: EpochUse) -> dict[str, Any]:
    """Return what lies under an epoch, for JSON."""
    return {
        "epoch": use.row.epoch,
        "created": iso_time(use.row.created_us),
        "destroyed": None if use.row.destroyed_us is None else iso_time(use.row.destroyed_us),
        "versions": use.version_count,
        "segments": use.segment_count,
        "unused_segments": use.unused_count,
        "sealed_bytes": use.sealed_bytes,
    }
