"""``sealgate restore``: a backup put into empty storage.

docs/BACKUP.md tells administrators how. The work is in ``backends.backup``.
"""

from __future__ import annotations

import argparse
import secrets
from pathlib import Path

from backends.backup import restoring
from backends.backup.folder import BackupFolder
from backends.backup.manifest import Damaged
from backends.backup.restoring import Opened
from backends.keyring import RecordCipher
from gateway.app import open_storage, read_master_keys
from gateway.audit.journal import Journal
from gateway.audit.record import iso_time
from gateway.commands.copying import listed, record, say_damaged
from gateway.commands.output import DONE, PROBLEM, config_of, print_json, say
from gateway.commands.progress import Bar, showing
from gateway.config import GatewayConfig
from gateway.model import Outcome, system_clock

RESTORE = "restore_backup"
"""Not ``restore``, by which a user gives a file its older content back."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its options."""
    restore = commands.add_parser("restore", help="put a backup into empty storage")
    restore.add_argument("folder", type=Path, metavar="DIR", help="the backup")
    restore.add_argument(
        "--accept-damage", action="store_true", help="do without segments that are not right"
    )
    restore.add_argument("-c", "--config", default="")
    restore.add_argument("--json", action="store_true")
    restore.set_defaults(run=run_restore)


def run_restore(arguments: argparse.Namespace) -> int:
    """Put a backup into the empty storage that the configuration names."""
    config = config_of(arguments)
    masters = read_master_keys(config)
    folder = BackupFolder(arguments.folder.absolute())
    with showing() as bar, restoring.opened(folder, masters, secrets.token_bytes) as backup:
        catalog, store = open_storage(config)
        try:
            target = restoring.Target(catalog, store, system_clock)
            again = restoring.claim(target, backup.manifest)
            damaged = restoring.copy_segments(backup, target, bar, again=again)
            finished = arguments.accept_damage or not damaged
            if finished:
                _fill(config, backup, target, damaged, bar)
        finally:
            catalog.close()
    if arguments.json:
        print_json(
            {
                "finished": finished,
                "id": backup.manifest.id,
                "made": iso_time(backup.manifest.made_us),
                "rows": backup.manifest.rows,
                "segments": backup.manifest.segment_count,
                "bytes": backup.manifest.segment_size_bytes,
                "damaged": listed(damaged),
            }
        )
    else:
        _say_restored(config, backup, damaged, finished=finished)
    return PROBLEM if damaged else DONE


def _fill(
    config: GatewayConfig,
    backup: Opened,
    target: restoring.Target,
    damaged: list[Damaged],
    bar: Bar,
) -> None:
    """Fill the catalog, with the record of the restore, in one transaction."""
    cipher = RecordCipher(backup.system_key, "audit")
    journal = Journal(target.catalog, cipher, node=config.server.node, clock=target.clock)
    manifest = backup.manifest
    bar.begin("restoring the catalog", 0)
    try:
        with journal.begin() as tx:
            restoring.fill(backup, tx, damaged, target.clock(), bar.advance)
            journal.append(
                tx,
                record(
                    RESTORE,
                    Outcome.OK,
                    f"{manifest.id} of {iso_time(manifest.made_us)} from {backup.folder.path}: "
                    f"{manifest.segment_count} segments, {len(damaged)} missing",
                    bytes_=manifest.segment_size_bytes,
                ),
            )
    finally:
        journal.close()


def _say_restored(
    config: GatewayConfig, backup: Opened, damaged: list[Damaged], *, finished: bool
) -> None:
    made = iso_time(backup.manifest.made_us)
    say_damaged(damaged, "are not right in the backup")
    if not finished:
        say("The restore is not finished, and no gateway starts on it.")
        say(
            f"Put good copies of them into {backup.folder.path / 'blobs'} from another backup and "
            "run this again; or add --accept-damage, which leaves the files they belong to broken."
        )
        return
    say(f"Restored to the state of {made}. What came after it is not there. Now:")
    say("1. Compare the users: who was removed or got a new code generator since then has the old")
    say("   one again. Codes are good for 90 seconds: start no sooner than that after the last one")
    say("   was used.")
    if config.audit.anchor is not None:
        say(f"2. Run 'sealgate audit verify': against the old anchor ({config.audit.anchor}) it")
        say("   names the records that are lost. Keep that anchor, and name a new one in the")
        say("   configuration.")
    else:
        say("2. Run 'sealgate audit verify --anchor FILE' with the old anchor, if there is one.")
    say("3. Start the gateway, and make a new backup into a new folder.")
