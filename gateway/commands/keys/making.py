"""``sealgate keys init|remove-unused``: which keys are in the master key file."""

from __future__ import annotations

import argparse

from backends.keyfile import MasterKeys
from backends.keyring import MasterKey
from backends.share import master_key
from gateway.commands.keys.place import key_file, opened_with, write_new_key
from gateway.commands.output import DONE, administered, config_of, print_json, say


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
