"""``sealgate keys status``: which keys are in use, and what lies under each."""

from __future__ import annotations

import argparse
from typing import Any

from backends.catalog import keys
from backends.destruction import all_destroyed
from backends.epochs import EpochUse, older_uses, uses_of
from backends.share import master_key
from gateway.app import read_master_keys
from gateway.commands.keys.resealing import described_use
from gateway.commands.output import DONE, config_of, opened, print_json, say


def run_status(arguments: argparse.Namespace) -> int:
    """Show the master key's id, what else is in its file, and what each epoch holds."""
    masters = read_master_keys(config_of(arguments))
    with opened(arguments) as gateway, gateway.catalog.snapshot() as tx:
        current_id = master_key(tx, masters).key_id
        shares = [(row, uses_of(tx, row)) for row in keys.all_shares(tx)]
        destroyed = sorted(each.name for each in all_destroyed(tx))
    unused = [key_id for key_id in masters.key_ids if key_id != current_id]
    begun = masters.newest.key_id != current_id
    if arguments.json:
        print_json(
            {
                "master_key_id": current_id,
                "unused_key_ids": unused,
                "rotation_begun": begun,
                "shares": [_described(row, uses) for row, uses in shares],
                "destroyed_shares": destroyed,
            }
        )
        return DONE
    say(f"master key {current_id}")
    for key_id in unused:
        say(f"not in use, but in the key file: {key_id}; see 'sealgate keys remove-unused'")
    if begun:
        say("A rotation of the master key was begun: 'sealgate keys rotate-master' finishes it.")
    for row, uses in shares:
        _say_share(row, uses)
    for name in destroyed:
        say(f"share {name}: its keys are destroyed, but not all of it is cleared away;")
        say(f"  'sealgate keys destroy-share {name}' goes on.")
    return DONE


def _say_share(row: keys.ShareRow, uses: list[EpochUse]) -> None:
    say(f"share {row.name}: epoch {row.epoch}")
    for use in uses:
        described = described_use(use)
        if use.row.destroyed_us is not None:
            end = f"destroyed {described['destroyed']}"
        else:
            end = f"{use.version_count} versions, {use.segment_count} segments in use"
            if use.unused_count:
                end = f"{end}, {use.unused_count} unused"
            end = f"{end}, {use.sealed_bytes} bytes sealed"
        say(f"  epoch {use.row.epoch}: made {described['created']}, {end}")
    older = older_uses(row, uses)
    if not all(use.is_resealed for use in older):
        say(f"  'sealgate keys reseal {row.name}' would read {_bytes_to_reseal(older)} bytes.")
    elif older:
        say(f"  'sealgate keys reseal {row.name}' destroys older keys when nothing needs them.")


def _bytes_to_reseal(older: list[EpochUse]) -> int:
    return sum(use.used_bytes for use in older)


def _described(row: keys.ShareRow, uses: list[EpochUse]) -> dict[str, Any]:
    return {
        "name": row.name,
        "epoch": row.epoch,
        "epochs": [described_use(use) for use in uses],
        "bytes_to_reseal": _bytes_to_reseal(older_uses(row, uses)),
    }
