"""``sealgate keys init|status|remove-unused``: which keys there are."""

from __future__ import annotations

import argparse
from typing import Any

from backends.catalog import keys
from backends.keyfile import MasterKeys
from backends.keyring import MasterKey
from backends.share import master_key
from gateway.app import read_master_keys
from gateway.audit.record import iso_time
from gateway.commands.keys.place import key_file, opened_with, write_new_key
from gateway.commands.output import DONE, administered, config_of, opened, print_json, say
from gateway.model import Transaction


def run_init(arguments: argparse.Namespace) -> int:
    """Make the master key file that the configuration names; never over an existing one."""
    path = key_file(arguments, config_of(arguments))
    key = MasterKey.generate()
    write_new_key(key, path)
    if arguments.json:
        print_json({"file": str(path), "key_id": key.key_id})
    else:
        say(f"Made master key {key.key_id} in {path}.")
        say("Keep a copy in a safe place away from this machine: without it all data is lost.")
    return DONE


def run_status(arguments: argparse.Namespace) -> int:
    """Show the master key's id, what else is in its file, and each share's epochs."""
    masters = read_master_keys(config_of(arguments))
    with opened(arguments) as gateway, gateway.catalog.snapshot() as tx:
        current_id = master_key(tx, masters).key_id
        shares = [_described(tx, row) for row in keys.all_shares(tx)]
    unused = [key_id for key_id in masters.key_ids if key_id != current_id]
    if arguments.json:
        print_json({"master_key_id": current_id, "unused_key_ids": unused, "shares": shares})
        return DONE
    say(f"master key {current_id}")
    for key_id in unused:
        say(f"not in use, but in the key file: {key_id}; see 'sealgate keys remove-unused'")
    for share in shares:
        say(f"share {share['name']}: epoch {share['epoch']}")
        for each in share["epochs"]:
            end = f", destroyed {each['destroyed']}" if each["destroyed"] else ""
            say(f"  epoch {each['epoch']}: made {each['created']}{end}")
    return DONE


def run_remove_unused(arguments: argparse.Namespace) -> int:
    """Take every key but the one in use out of the master key file."""
    config = config_of(arguments)
    masters = MasterKeys(key_file(arguments, config))
    with opened_with(config, masters) as gateway, masters.changing():
        with gateway.catalog.snapshot() as tx:
            current_id = master_key(tx, masters).key_id
        unused = [key_id for key_id in masters.key_ids if key_id != current_id]
        if unused:
            with gateway.journal.begin() as tx:
                administered(gateway, tx, "keys_remove_unused", note=" ".join(unused))
                masters.remove(unused)
    if arguments.json:
        print_json({"file": str(masters.path), "removed_key_ids": unused})
        return DONE
    for key_id in unused:
        say(f"Removed master key {key_id}. What is sealed under it needs another copy of it now.")
    say(f"{masters.path} holds master key {current_id} alone.")
    return DONE


def _described(tx: Transaction, row: keys.ShareRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "epoch": row.epoch,
        "epochs": [
            {
                "epoch": each.epoch,
                "created": iso_time(each.created_us),
                "destroyed": None if each.destroyed_us is None else iso_time(each.destroyed_us),
            }
            for each in keys.epochs_of(tx, row.id)
        ],
    }
