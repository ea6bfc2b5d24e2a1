"""Clearing away what nothing refers to any more: expired versions and trash, unused segments.

Each call does a bounded piece of work in the caller's transaction or in none. Decides by age and
reference alone; what is old enough is the share's configuration. Imports the catalog and blobs.
"""

from __future__ import annotations

from backends.blobs import BlobStore
from backends.catalog import keys, nodes, retention, versions
from backends.share import Share, ShareSettings
from gateway.model import SECOND_US, Transaction, UnitOfWork

ORPHAN_GRACE_US = 24 * 3600 * SECOND_US
"""How long an unused segment stays: someone may still be downloading the version it was in."""

STRAY_GRACE_US = 7 * 24 * 3600 * SECOND_US
"""How long a segment that the catalog never heard of stays: longer than any upload lasts."""

BATCH_LIMIT = 500
"""The most rows or blobs dealt with at once."""

TRASH_BATCH_LIMIT = 20
"""The most trashed nodes, each with all that was below it, purged in one transaction."""


def superseded(
    dated: list[retention.Dated], current_id: bytes, settings: ShareSettings, now_us: int
) -> list[retention.Dated]:
    """Return the versions of one file (newest first) that its share does not keep.

    A version goes when ``versions_keep`` newer old ones exist, or when it was replaced more than
    ``versions_for_s`` ago, whichever comes first. The current version always stays.
    """
    oldest_us = now_us - settings.versions_for_s * SECOND_US
    return [
        version
        for index, version in enumerate(dated)
        if version.id != current_id
        and index > 0
        and (index > settings.versions_keep or dated[index - 1].created_us < oldest_us)
    ]


def prune(
    tx: Transaction,
    share: Share,
    dated: list[retention.Dated],
    current_id: bytes,
    now_us: int,
) -> int:
    """Remove those of a file's versions that the share does not keep; return how many.

    ``dated`` are all its versions, newest first; ``current_id`` stays whatever its date says.
    """
    doomed = superseded(dated, current_id, share.settings, now_us)
    if doomed:
        retention.remove_versions(tx, [version.id for version in doomed])
        freed = sum(version.size_bytes for version in doomed)
        keys.count_up(tx, share.id, more_bytes=-freed, more_nodes=0)
    return len(doomed)


def prune_next(
    tx: Transaction, share: Share, after_id: bytes, now_us: int
) -> tuple[int, bytes | None]:
    """Prune the next batch of files after node ``after_id``.

    Returns how many versions went and where to go on, None when every file was looked at.
    """
    before_us = now_us - share.settings.versions_for_s * SECOND_US
    files = retention.files_with_old_versions(tx, share.id, before_us, after_id, BATCH_LIMIT)
    count = sum(
        prune(tx, share, retention.history(tx, node_id), current_id, now_us)
        for node_id, current_id in files
    )
    return count, files[-1][0] if len(files) == BATCH_LIMIT else None


def purge_next(tx: Transaction, share: Share, now_us: int) -> int:
    """Purge a batch of what has lain in the trash for too long; return how many nodes went."""
    before_us = now_us - share.settings.trash_s * SECOND_US
    old = retention.trashed(tx, share.id, before_us, TRASH_BATCH_LIMIT)
    return sum(_purge(tx, share, node_id) for node_id in old)


def collect(catalog: UnitOfWork, store: BlobStore, now_us: int) -> int:
    """Delete segments that have long been unused; return how many.

    The catalog forgets a segment before its blob goes, so that a crash between the two leaves a
    stray blob and never a reference to nothing.
    """
    with catalog.begin() as tx:
        retention.mark_orphans(tx, now_us)
        doomed = retention.orphans(tx, now_us - ORPHAN_GRACE_US, BATCH_LIMIT)
        retention.remove_segments(tx, doomed)
    for segment_id in doomed:
        store.delete(segment_id)
    return len(doomed) + _collect_strays(catalog, store, now_us - STRAY_GRACE_US)


def _collect_strays(catalog: UnitOfWork, store: BlobStore, before_us: int) -> int:
    """Delete blobs that no row names: what crashed or cut-off uploads left."""
    count = 0
    batch: list[bytes] = []
    for blob_id, written_us in store.listing():
        if written_us < before_us:
            batch.append(blob_id)
        if len(batch) == BATCH_LIMIT:
            count += _delete_unknown(catalog, store, batch)
            batch.clear()
    return count + (_delete_unknown(catalog, store, batch) if batch else 0)


def _delete_unknown(catalog: UnitOfWork, store: BlobStore, blob_ids: list[bytes]) -> int:
    with catalog.snapshot() as tx:
        strays = set(blob_ids) - retention.known_segments(tx, blob_ids)
    for blob_id in strays:
        store.delete(blob_id)
    return len(strays)


def _purge(tx: Transaction, share: Share, node_id: bytes) -> int:
    """Remove a trashed node with all that was below it; 0 if it went with another already."""
    folder = retention.is_folder(tx, node_id)
    if folder is None:
        return 0
    waiting = [(node_id, folder)]
    freed = count = 0
    while waiting:
        each_id, holds_others = waiting.pop()
        if holds_others:
            waiting.extend(retention.all_children(tx, each_id))
        else:
            freed += versions.remove_of_node(tx, each_id)
        nodes.remove(tx, each_id)
        count += 1
    keys.count_up(tx, share.id, more_bytes=-freed, more_nodes=-count)
    return count
