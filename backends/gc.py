"""Clearing away what nothing refers to any more: expired versions and trash, unused segments.

Each call does a bounded piece of work in the caller's transaction or in none. Decides by age and
reference alone; what is old enough is the share's configuration. Imports the catalog and blobs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager

from backends.blobs import BlobStore
from backends.catalog import marks, nodes, segments, uploads, vacated, versions
from backends.catalog.nodes import NodeRow
from backends.catalog.versions import Dated
from backends.errors import IntegrityError
from backends.ledger import SUBTREE_LIMIT, Ledger, changes
from backends.share import Share, ShareSettings
from backends.tunnel import TUNNEL_US
from gateway.model import SECOND_US, Transaction, UnitOfWork

ORPHAN_GRACE_US = 24 * 3600 * SECOND_US
"""How long an unused segment stays: someone may still be downloading the version it was in."""

STRAY_GRACE_US = 7 * 24 * 3600 * SECOND_US
"""How long a segment that the catalog never heard of stays: longer than any upload lasts."""

BATCH_LIMIT = 500
"""The most rows or blobs dealt with at once."""

MARK_LIMIT = 5000
"""The most segments whose use is looked up in one transaction."""

STAGED_GRACE_US = 24 * 3600 * SECOND_US
"""How long a copy that is not complete stays: longer than any takes."""


Begin = Callable[[], AbstractContextManager[Transaction]]
"""Opens a write transaction."""

Note = Callable[[Transaction, int], None]
"""Records, in the transaction that forgets them, how many segments that were."""


def superseded(
    dated: list[Dated], current_id: bytes, settings: ShareSettings, now_us: int
) -> list[Dated]:
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


def prune(ledger: Ledger, share: Share, dated: list[Dated], current_id: bytes, now_us: int) -> int:
    """Remove those of a file's versions that the share does not keep; return how many.

    ``dated`` are all its versions, newest first; ``current_id`` stays whatever its date says.
    """
    doomed = superseded(dated, current_id, share.settings, now_us)
    if doomed:
        ledger.remove_versions(doomed)
    return len(doomed)


def prunable(
    tx: Transaction, share: Share, after_id: bytes, now_us: int
) -> tuple[list[bytes], bytes | None]:
    """Return the next batch of files after node ``after_id`` that may have versions to prune.

    And where to go on, None when every file was looked at. Meant for a snapshot.
    """
    before_us = now_us - share.settings.versions_for_s * SECOND_US
    files = versions.files_with_old_versions(tx, share.id, before_us, after_id, BATCH_LIMIT)
    return files, files[-1] if len(files) == BATCH_LIMIT else None


def prune_files(tx: Transaction, share: Share, file_ids: list[bytes], now_us: int) -> int:
    """Remove what the share does not keep of these files' versions; return how many."""
    count = 0
    with changes(tx, share.id, share.seal) as ledger:
        for file_id in file_ids:
            current_id = _current_id(tx, share, file_id)
            if current_id is not None:
                count += prune(ledger, share, versions.dated(tx, file_id), current_id, now_us)
    return count


def _current_id(tx: Transaction, share: Share, file_id: bytes) -> bytes | None:
    """Return the current version of a file that is still there, None for one that was edited."""
    file = nodes.by_id(tx, file_id)
    if file is None:
        return None
    # What was edited stays for scrub to report.
    with contextlib.suppress(IntegrityError):
        return share.seal.checked(file).version_id
    return None


def purge_next(tx: Transaction, share: Share, now_us: int) -> int:
    """Purge a batch of what has lain in the trash for too long; return how many nodes went.

    And of what was set aside, and of copies that were never completed.
    """
    count = 0
    with changes(tx, share.id, share.seal) as ledger:
        for row in _purgeable(tx, share, now_us):
            if count == SUBTREE_LIMIT:
                break
            # What was edited stays for scrub to report.
            with contextlib.suppress(IntegrityError):
                count += ledger.remove_some(row.id, SUBTREE_LIMIT - count)
    return count


def _purgeable(tx: Transaction, share: Share, now_us: int) -> list[NodeRow]:
    def span(since_us: int, before_us: int) -> list[NodeRow]:
        return nodes.trashed(
            tx, share.id, since_us=since_us, before_us=before_us, count=BATCH_LIMIT
        )

    aside = span(nodes.ASIDE_US, nodes.STAGED_US)
    staged = span(nodes.STAGED_US, nodes.TRASH_FROM_US)
    trash = span(nodes.TRASH_FROM_US, now_us - share.settings.trash_s * SECOND_US)
    left = [row for row in staged if row.created_us < now_us - STAGED_GRACE_US]
    return [*aside, *left, *trash]


def forget(tx: Transaction, now_us: int) -> None:
    """Forget vacated names and reservations whose time is over."""
    vacated.forget(tx, now_us - TUNNEL_US)
    uploads.forget_reserved(tx, now_us)


def collect_unused(begin: Begin, store: BlobStore, now_us: int, note: Note) -> int:
    """Delete segments that no version has needed for a day; return how many.

    ``note`` is called with how many in each transaction that forgets some. The catalog forgets a
    segment before its blob goes, so that a crash between the two leaves a stray blob and never a
    reference to nothing.
    """
    after: bytes | None = b""
    while after is not None:
        with begin() as tx:
            after = segments.mark_orphans(tx, now_us, after, MARK_LIMIT)
    count = 0
    while True:
        with begin() as tx:
            # What a running backup still needs stays, however long it has been unused.
            if marks.held(tx, now_us):
                return count
            doomed = segments.orphans(tx, now_us - ORPHAN_GRACE_US, BATCH_LIMIT)
            segments.remove(tx, doomed)
            if doomed:
                note(tx, len(doomed))
        for segment_id in doomed:
            store.delete(segment_id)
        count += len(doomed)
        if len(doomed) < BATCH_LIMIT:
            return count


def collect_strays(catalog: UnitOfWork, store: BlobStore, now_us: int) -> int:
    """Delete old blobs that no row names, which crashed uploads left; return how many.

    Goes through the whole blob store.
    """
    before_us = now_us - STRAY_GRACE_US
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
        strays = set(blob_ids) - segments.needed(tx, blob_ids)
    for blob_id in strays:
        store.delete(blob_id)
    return len(strays)
