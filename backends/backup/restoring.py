"""Restoring a backup into an empty catalog and an empty blob store.

Segments come first and the catalog in one transaction at the end, so that a restore that was cut
off leaves a catalog that says so and nothing else. Imports the catalog, blobs and keys.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from backends.backup import manifest as manifests
from backends.backup.checking import (
    Meter,
    Named,
    check_segment,
    every_share,
    in_parallel,
    named_segments,
    read_checked,
)
from backends.backup.folder import BackupError, BackupFolder, catalog_name
from backends.backup.manifest import Damaged, Manifest
from backends.blobs import BlobStore
from backends.catalog import dump, marks, segments
from backends.catalog.engine import Catalog
from backends.catalog.migrations import REVISION
from backends.catalog.segments import Damage
from backends.errors import IntegrityError, StorageFullError, StorageUnavailableError
from backends.keyring import MasterKeySource, RandomBytes
from backends.share import Shares, system_key
from gateway.model import Clock, Transaction


@dataclass(frozen=True, slots=True)
class Opened:
    """A backup whose manifest and catalog verified, opened to be read."""

    folder: BackupFolder
    manifest: Manifest
    system_key: bytes
    tx: Transaction
    shares: Shares


@contextlib.contextmanager
def opened(
    folder: BackupFolder, masters: MasterKeySource, random_bytes: RandomBytes
) -> Iterator[Opened]:
    """Give the backup in ``folder``, nothing of which is believed before it verified.

    Raises BackupError when there is none, KeyUnavailableError when the master key is another,
    IntegrityError when the manifest or the catalog was edited.
    """
    manifest, key = manifests.opened(folder.manifest(), masters)
    found = folder.catalog_digest(manifest.id)
    if found != (manifest.catalog_size_bytes, manifest.catalog_sha256):
        raise IntegrityError(
            f"{catalog_name(manifest.id)} is not the catalog that the manifest of the backup names:"
            " it was edited or cut. Use another backup."
        )
    with dump.open_dump(folder.catalog(manifest.id)) as tx:
        if dump.revision(tx) != REVISION:
            raise StorageUnavailableError(
                f"The backup was made by Sealgate {manifest.release}, whose catalog is another. "
                "Restore it with that version, then start this one on it."
            )
        if system_key(tx, masters) != key:
            raise IntegrityError("The backup's manifest and its catalog do not belong together.")
        shares = every_share(tx, masters, random_bytes)
        yield Opened(folder, manifest, key, tx, shares)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a backup is restored to."""

    catalog: Catalog
    store: BlobStore
    clock: Clock


def claim(target: Target, manifest: Manifest) -> bool:
    """Mark the target as being restored into; return whether an earlier run had begun already.

    Raises BackupError, having changed nothing, when there is any data.
    """
    target.catalog.migrate()
    with target.catalog.begin() as tx:
        if not dump.is_empty(tx):
            raise BackupError(
                "There is data in the catalog already, and a restore overwrites nothing. Name an "
                "empty data folder, or an empty database, in the configuration."
            )
        again = marks.restoring(tx)
        if not again and next(target.store.listing(), None) is not None:
            raise BackupError(
                "There are segments in the blob store already, and a restore overwrites nothing. "
                "Name an empty folder, bucket or prefix in the configuration."
            )
        marks.begin_restore(tx, manifest.id)
    return again


def copy_segments(backup: Opened, target: Target, meter: Meter, *, again: bool) -> list[Damaged]:
    """Copy every segment, verified and durable; return those that are not right in the backup.

    ``again`` says that some may be in the target already.
    """
    size_bytes = backup.manifest.segment_size_bytes
    if not again and size_bytes > target.store.available_bytes():
        raise StorageFullError(
            f"The segments of the backup need {size_bytes} bytes; the blob store has "
            f"{target.store.available_bytes()}."
        )
    known = {each.segment: each for each in backup.manifest.damaged}
    damaged = []

    def copied(named: Named) -> str:
        try:
            if again and _is_there(target.store, named):
                return ""
            data = read_checked(backup.folder, named)
        except IntegrityError as error:
            return known[named.label].reason if named.label in known else str(error)
        writer = target.store.create(named.row.id)
        try:
            writer.write(data)
        except BaseException:
            writer.discard()
            raise
        writer.finish()
        return ""

    meter.begin("restoring segments", size_bytes)
    for named, reason in in_parallel(named_segments(backup.tx, backup.shares), copied):
        meter.advance(named.row.size_sealed_bytes if named.key else 0)
        if reason:
            damaged.append(named.damaged(reason))
    return damaged


def fill(
    backup: Opened,
    tx: Transaction,
    damaged: list[Damaged],
    now_us: int,
    moved: Callable[[int], None],
) -> None:
    """Fill the claimed catalog; when ``tx`` commits the restore is at its end.

    ``damaged`` go into quarantine: the segments that are not there.
    """
    dump.copy_rows(backup.tx, tx, moved)
    for each in damaged:
        with contextlib.suppress(ValueError):
            ids = bytes.fromhex(each.segment), bytes.fromhex(each.share)
            segments.put_in_quarantine(tx, Damage(*ids, now_us, each.reason))
    marks.end_restore(tx)


def _is_there(store: BlobStore, named: Named) -> bool:
    """Return whether an earlier run restored the segment; removes what it left half done."""
    row = named.row
    try:
        check_segment(named, store.read(row.id, 0, row.size_sealed_bytes + 1))
    except IntegrityError:
        if named.key is not None:
            store.delete(row.id)
        return False
    return True
