"""``sealgate keys rotate-master|rotate-share``: new keys, while the gateway runs."""

from __future__ import annotations

import argparse

from backends.catalog import keys
from backends.errors import KeyUnavailableError
from backends.keyfile import MasterKeys
from backends.rotation import prepare_master, rewrap, rotate_share
from backends.share import master_key
from gateway.app import Gateway
from gateway.commands.keys.place import chosen_shares, key_file, opened_with
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
from gateway.config import GatewayConfig
from gateway.model import Transaction

ROTATE_MASTER = "keys_rotate_master"
ROTATE_SHARE = "keys_rotate_share"


def run_rotate_master(arguments: argparse.Namespace) -> int:
    """Make a new master key, wrap every key under it, and let go of the old one.

    Each step leaves something that opens, and running it again goes on where it was cut off.
    Where processes read a copy of the file it ends after the first step, so that they can be
    given the new key before it is needed.
    """
    config = config_of(arguments)
    masters = MasterKeys(key_file(arguments, config))
    with opened_with(config, masters) as gateway, masters.changing():
        with gateway.catalog.snapshot() as tx:
            old_id = master_key(tx, masters).key_id
        known = masters.key_ids
        new_id = prepare_master(masters, old_id).key_id
        if new_id not in known and _is_copied(masters, config):
            with gateway.journal.begin() as tx:
                administered(gateway, tx, ROTATE_MASTER, note=f"prepared {new_id}")
            return _say_prepared(arguments, masters, old_id, new_id)
        with gateway.journal.begin() as tx:
            count = rewrap(tx, masters, masters.named(new_id))
            administered(gateway, tx, ROTATE_MASTER, note=f"{old_id} -> {new_id}")
        left = "" if arguments.keep_old else _failed_removal(masters, old_id)
    if arguments.json:
        print_json(
            {
                "finished": True,
                "file": str(masters.path),
                "old_key_id": old_id,
                "new_key_id": new_id,
                "old_key_removed": old_id not in masters.key_ids,
                "shares": count.share_count,
                "epochs": count.epoch_count,
            }
        )
        return PROBLEM if left else DONE
    say(f"The data is sealed under master key {new_id} now; it was {old_id}.")
    say(f"Wrapped anew: the keys of {count.share_count} shares, {count.epoch_count} epochs.")
    if left:
        say(f"The old key is still in its file: {left}")
        say("Then run 'sealgate keys remove-unused'.")
    say("Now replace every copy of the key file, and split the new key if the old one was split.")
    say(f"Backups made before this need {old_id}: keep a copy of it as long as them, apart.")
    return PROBLEM if left else DONE


def run_rotate_share(arguments: argparse.Namespace) -> int:
    """Begin a new epoch of one share or of all."""
    if bool(arguments.share) == arguments.all:
        raise UsageError("Name one share, or say --all.")
    begun = {}
    with opened(arguments) as gateway, gateway.journal.begin() as tx:
        for row in chosen_shares(tx, [arguments.share] if arguments.share else []):
            begun[row.name] = _rotated(gateway, tx, row)
    if arguments.json:
        print_json({"epochs": begun})
        return DONE
    for name, epoch in begun.items():
        say(f"share {name}: epoch {epoch} begins; what was written before keeps its keys.")
    say("'sealgate keys reseal' brings that under the new ones.")
    return DONE


def _rotated(gateway: Gateway, tx: Transaction, row: keys.ShareRow) -> int:
    epoch = rotate_share(tx, gateway.masters, row, gateway.clock())
    administered(gateway, tx, ROTATE_SHARE, note=f"{row.name}: epoch {epoch}")
    return epoch


def _is_copied(masters: MasterKeys, config: GatewayConfig) -> bool:
    """Return whether running processes read another file than the one that is changed."""
    configured = config.keys.master_key.file
    return configured is None or configured.resolve() != masters.path.resolve()


def _say_prepared(
    arguments: argparse.Namespace, masters: MasterKeys, old_id: str, new_id: str
) -> int:
    if arguments.json:
        found = {"finished": False, "file": str(masters.path)}
        print_json(found | {"old_key_id": old_id, "new_key_id": new_id})
        return DONE
    say(f"Added master key {new_id} to {masters.path}; the data is still sealed under {old_id}.")
    say("The gateway reads a copy of this file. Restart it, so that it has both keys;")
    say("then run the same command again to finish.")
    return DONE


def _failed_removal(masters: MasterKeys, key_id: str) -> str:
    """Take a key out of the file; return why that failed, empty when it did not."""
    try:
        masters.remove([key_id])
    except KeyUnavailableError as error:
        return str(error)
    return ""
