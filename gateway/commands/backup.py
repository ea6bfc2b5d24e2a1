"""``sealgate backup DIR``, ``backup resume DIR``, ``backup verify DIR``: a sealed copy elsewhere.

docs/BACKUP.md tells administrators when and how. The work is in ``backends.backup``.
"""

from __future__ import annotations

import argparse
import contextlib
import secrets
from importlib.metadata import version
from pathlib import Path

from pydantic_core import PydanticCustomError

from backends.backup import checking, making, restoring
from backends.backup.folder import BackupFolder
from backends.backup.making import Made, Maker, Pace
from backends.backup.restoring import Opened
from backends.blobs.local import LocalBlobStore
from backends.catalog import keys
from backends.errors import IntegrityError
from gateway.app import Gateway, read_master_keys
from gateway.audit.record import iso_time
from gateway.commands.copying import SHOWN_LIMIT, listed, record, say_damaged
from gateway.commands.output import (
    DONE,
    PROBLEM,
    UsageError,
    administrative,
    config_of,
    opened,
    print_json,
    say,
)
from gateway.commands.progress import Bar, showing
from gateway.config import GatewayConfig
from gateway.config.scalars import parse_size
from gateway.errors import SealgateError
from gateway.model import Outcome, system_clock

BACKUP = "backup"
RESUME, VERIFY = "resume", "verify"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its options."""
    backup = commands.add_parser(
        "backup",
        help="copy everything, sealed, into a folder",
        usage="sealgate backup [resume|verify] DIR [-c CONFIG] [options]",
    )
    backup.add_argument(
        "words",
        nargs="+",
        metavar="DIR",
        help="a new folder, or one of earlier backups, of which only what is new is copied; after "
        "'resume', one whose backup was cut off; after 'verify', one to be checked",
    )
    backup.add_argument("--limit", default="", help="bytes read a second at most, as in 20MiB")
    backup.add_argument(
        "--prune", action="store_true", help="remove segments that only earlier backups named"
    )
    backup.add_argument("-c", "--config", default="")
    backup.add_argument("--json", action="store_true")
    backup.set_defaults(run=run_backup)


def run_backup(arguments: argparse.Namespace) -> int:
    """Make, resume or verify a backup, as the words say."""
    words: list[str] = arguments.words
    act = words[0] if len(words) == 2 else ""
    if len(words) > 2 or act not in {"", RESUME, VERIFY}:
        raise UsageError("Write 'backup DIR', 'backup resume DIR' or 'backup verify DIR'.")
    folder = BackupFolder(Path(words[-1]).absolute())
    if act == VERIFY:
        return _verify(arguments, folder)
    if act == RESUME and not (folder.is_begun or folder.is_finished):
        raise UsageError(f"No backup was begun in {folder.path}. Run 'sealgate backup' instead.")
    return _make(arguments, folder)


# Making


def _make(arguments: argparse.Namespace, folder: BackupFolder) -> int:
    pace = Pace(_limit(arguments.limit))
    with opened(arguments) as gateway:
        _require_apart(folder.path, gateway.config)
        source = making.Source(
            catalog=gateway.catalog,
            store=gateway.store,
            masters=gateway.masters,
            node=gateway.config.server.node,
            release=version("sealgate"),
            clock=gateway.clock,
            random_bytes=secrets.token_bytes,
        )
        with making.claimed(source, folder) as maker:
            made = _recorded(gateway, folder, maker, pace, prune=arguments.prune)
    damaged = made.manifest.damaged
    if arguments.json:
        print_json(_described(made, folder))
    else:
        _say_made(made, folder)
    return PROBLEM if damaged else DONE


def _recorded(
    gateway: Gateway, folder: BackupFolder, maker: Maker, pace: Pace, *, prune: bool
) -> Made:
    """Make the backup, with a record of its beginning and one of its end."""
    place = f"{maker.id} into {folder.path}"
    gateway.journal.append_durably(administrative(BACKUP, note=f"begins: {place}"))
    try:
        with showing() as bar:
            made = maker.make(bar, pace, prune=prune)
    except BaseException as error:
        with contextlib.suppress(SealgateError):
            gateway.journal.append_durably(
                record(BACKUP, Outcome.FAILED, place, error=type(error).__name__)
            )
        raise
    damaged = made.manifest.damaged
    gateway.journal.append_durably(
        record(
            BACKUP,
            Outcome.FAILED if damaged else Outcome.OK,
            f"ends: {place}: {made.copied_count} segments copied, {made.pruned_count} pruned, "
            f"{len(damaged)} damaged",
            error=IntegrityError.__name__ if damaged else "",
            bytes_=made.copied_bytes,
        )
    )
    return made


def _limit(text: str) -> int | None:
    try:
        limit = parse_size(text) if text else None
    except PydanticCustomError as error:
        raise UsageError(f"--limit: {error}") from error
    if limit == 0:
        raise UsageError("--limit: nothing would ever be copied.")
    return limit


def _require_apart(folder: Path, config: GatewayConfig) -> None:
    """Raise UsageError where the backup would lie with what it is a copy of, or with the key."""
    data_dir = config.storage.data_dir.resolve()
    if folder.resolve().is_relative_to(data_dir):
        raise UsageError(f"{folder} is in the data folder. Name one on another disk.")
    if read_master_keys(config).path.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"{folder} holds the master key, which may not lie with a backup.")


def _described(made: Made, folder: BackupFolder) -> dict[str, object]:
    manifest = made.manifest
    return {
        "folder": str(folder.path),
        "id": manifest.id,
        "made": iso_time(manifest.made_us),
        "master_key_id": manifest.master_key_id,
        "rows": manifest.rows,
        "segments": manifest.segment_count,
        "bytes": manifest.segment_size_bytes,
        "copied_segments": made.copied_count,
        "copied_bytes": made.copied_bytes,
        "pruned_segments": made.pruned_count,
        "damaged": listed(manifest.damaged),
    }


def _say_made(made: Made, folder: BackupFolder) -> None:
    manifest = made.manifest
    say(f"Backup {manifest.id} is in {folder.path}: the state of {iso_time(manifest.made_us)}.")
    say(
        f"{manifest.rows['nodes']} files and folders, {manifest.rows['versions']} versions, "
        f"{manifest.segment_count} segments ({manifest.segment_size_bytes} bytes); copied now: "
        f"{made.copied_count} segments ({made.copied_bytes} bytes)."
    )
    if made.pruned_count:
        say(f"{made.pruned_count} segments of earlier backups were removed.")
    say_damaged(manifest.damaged, "are damaged here and not in the backup. Run 'sealgate scrub'")
    say(
        f"The backup is sealed under master key {manifest.master_key_id}, which is NOT in it: keep "
        "the key file, or its key shares, in another place. Without it the backup is worthless."
    )


# Verifying


def _verify(arguments: argparse.Namespace, folder: BackupFolder) -> int:
    masters = read_master_keys(config_of(arguments))
    try:
        with (
            showing() as bar,
            restoring.opened(folder, masters, secrets.token_bytes) as backup,
        ):
            problems = _row_problems(backup, bar)
            damaged = list(
                checking.damaged_in_backup(backup.tx, folder, backup.manifest, backup.shares, bar)
            )
            manifest = backup.manifest
    except IntegrityError as error:
        if arguments.json:
            print_json({"folder": str(folder.path), "problems": [str(error)]})
        else:
            say(str(error))
        return PROBLEM
    if arguments.json:
        print_json(
            {
                "folder": str(folder.path),
                "id": manifest.id,
                "made": iso_time(manifest.made_us),
                "master_key_id": manifest.master_key_id,
                "segments": manifest.segment_count,
                "bytes": manifest.segment_size_bytes,
                "problems": problems,
                "damaged": listed(damaged),
                "damaged_before": listed(manifest.damaged),
            }
        )
    else:
        for problem in problems[:SHOWN_LIMIT]:
            say(problem)
        if len(problems) > SHOWN_LIMIT:
            say(f"{len(problems) - SHOWN_LIMIT} more rows do not verify; --json lists all.")
        say_damaged(
            damaged,
            "are not right in this backup. Delete them in its folder 'blobs' and back up again",
        )
        say_damaged(manifest.damaged, "were damaged already when the backup was made")
        verdict = "It is NOT whole." if problems or damaged or manifest.damaged else "It is whole."
        say(
            f"Backup {manifest.id} of {iso_time(manifest.made_us)}: "
            f"{manifest.segment_count} segments. {verdict}"
        )
    return PROBLEM if problems or damaged or manifest.damaged else DONE


def _row_problems(backup: Opened, bar: Bar) -> list[str]:
    store = LocalBlobStore(backup.folder.path / "blobs")
    rows = checking.RowCheck(
        backup.tx, backup.shares, store, clock=system_clock, random_bytes=secrets.token_bytes
    )
    return [
        problem
        for share in keys.all_shares(backup.tx)
        for problem in rows.problems(share.name, bar)
    ]
