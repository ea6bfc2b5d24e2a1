"""``sealgate keys init|status``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from backends.keyring import MasterKey
from gateway.app import read_master_key
from gateway.commands.output import DONE, UsageError, config_of, opened, print_json, say


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its options."""
    keys = commands.add_parser("keys", help="make and show keys")
    kinds = keys.add_subparsers(dest="kind", required=True, metavar="init|status")
    init = kinds.add_parser("init", help="make the first master key")
    status = kinds.add_parser("status", help="show which keys are in use")
    for parser in (init, status):
        parser.add_argument("-c", "--config", default="")
        parser.add_argument("--json", action="store_true")
    init.set_defaults(run=run_init)
    status.set_defaults(run=run_status)


def run_init(arguments: argparse.Namespace) -> int:
    """Make the master key file that the configuration names; never over an existing one."""
    config = config_of(arguments)
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    path = config.keys.master_key.path(Path(folder) if folder else None)
    if config.keys.master_key.file is None or path is None:
        raise UsageError(
            "The configuration takes the master key from systemd. Make the file that "
            "LoadCredential= names by running this with a configuration that has keys.master_key.file."
        )
    try:
        key = MasterKey.generate()
        key.write(path)
    except FileExistsError as error:
        raise UsageError(
            f"{path} exists and is left alone: without it all data is lost for good."
        ) from error
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}).") from error
    if arguments.json:
        print_json({"file": str(path), "key_id": key.key_id})
    else:
        say(f"Made master key {key.key_id} in {path}.")
        say("Keep a copy in a safe place away from this machine: without it all data is lost.")
    return DONE


def run_status(arguments: argparse.Namespace) -> int:
    """Show the master key's id and each share's epoch."""
    key = read_master_key(config_of(arguments))
    with opened(arguments) as gateway, gateway.catalog.snapshot() as tx:
        shares = {name: gateway.shares.get(tx, name) for name in gateway.config.shares}
    if arguments.json:
        epochs = {name: share.row.epoch for name, share in shares.items()}
        print_json({"master_key_id": key.key_id, "share_epochs": epochs})
        return DONE
    say(f"master key {key.key_id}")
    for name, share in shares.items():
        say(f"share {name}: epoch {share.row.epoch}")
    return DONE
