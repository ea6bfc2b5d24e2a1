"""``sealgate keys``: the master key and the keys of shares. Parses only; the work is beside it.

docs/KEYS.md tells administrators when to use which.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gateway.commands.keys.destroying import run_destroy_share
from gateway.commands.keys.making import run_init, run_remove_unused
from gateway.commands.keys.resealing import parse_rate, run_reseal
from gateway.commands.keys.rotating import run_rotate_master, run_rotate_share
from gateway.commands.keys.showing import run_status
from gateway.commands.keys.splitting import run_combine, run_split

KEY_FILE_HELP = "the master key file itself, where the configuration names a copy of it"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its options."""
    keys = commands.add_parser("keys", help="make, show, rotate, split and destroy keys")
    kinds = keys.add_subparsers(dest="kind", required=True, metavar="KIND")
    init = kinds.add_parser("init", help="make the first master key")
    status = kinds.add_parser("status", help="show which keys are in use")
    rotate_master = kinds.add_parser("rotate-master", help="put all data under a new master key")
    rotate_master.add_argument(
        "--keep-old", action="store_true", help="leave the old key in the file, for old backups"
    )
    remove = kinds.add_parser(
        "remove-unused", help="take every key but the one in use out of the master key file"
    )
    rotate_share = kinds.add_parser("rotate-share", help="seal what is written next with a new key")
    rotate_share.add_argument("share", nargs="?", default="")
    rotate_share.add_argument("--all", action="store_true", help="every share")
    reseal = kinds.add_parser("reseal", help="seal what is under older keys of a share anew")
    reseal.add_argument("shares", nargs="*", metavar="share")
    reseal.add_argument("--all", action="store_true", help="every share")
    reseal.add_argument(
        "--rate", type=parse_rate, metavar="SIZE", help="at most so much a second, as in 50MiB"
    )
    destroy = kinds.add_parser(
        "destroy-share", help="make a share unreadable for good, prove it, and clear it away"
    )
    destroy.add_argument("share")
    destroy.add_argument(
        "--yes-destroy", default="", metavar="NAME", help="its name again, instead of typing it"
    )
    split = kinds.add_parser("split", help="split the master key into key shares of words")
    split.add_argument("--shares", type=int, required=True, help="how many to make, at most 16")
    split.add_argument("--threshold", type=int, required=True, help="how many make the key again")
    split.add_argument("--out", type=Path, help="write each to a new file in this folder")
    combine = kinds.add_parser("combine", help="make the key file again from key shares")
    combine.add_argument("files", nargs="*", type=Path, help="the key shares; else standard input")
    for parser in (init, rotate_master, remove, combine):
        parser.add_argument("--key-file", type=Path, help=KEY_FILE_HELP)
    for parser, run in (
        (init, run_init),
        (status, run_status),
        (rotate_master, run_rotate_master),
        (remove, run_remove_unused),
        (rotate_share, run_rotate_share),
        (reseal, run_reseal),
        (destroy, run_destroy_share),
        (split, run_split),
        (combine, run_combine),
    ):
        parser.add_argument("-c", "--config", default="")
        parser.add_argument("--json", action="store_true")
        parser.set_defaults(run=run)
