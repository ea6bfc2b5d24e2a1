"""The past of a share: older versions of its files, and what lies in its trash.

Imports the catalog, the history and the ledger; asks nobody for rights.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from backends.catalog import nodes, vacated, versions
from backends.catalog.nodes import NodeRow
from backends.catalog.versions import VersionRow
from backends.content import Content
from backends.errors import (
    AlreadyExistsError,
    CrossShareError,
    IntegrityError,
    KeyUnavailableError,
    NotFoundError,
    ParentMissingError,
)
from backends.history import History, Verified
from backends.ledger import SUBTREE_LIMIT, changes
from backends.share import Share
from gateway.model import Clock, Kind, Transaction, TrashedNode, VersionInfo

BATCH_LIMIT = 500
"""The most trashed nodes read at once."""

_FOREVER_US = 1 << 62


@dataclass(frozen=True, slots=True)
class Trashed:
    """A node in the trash within one transaction. ``path`` None: its folder is gone too."""

    share: Share
    row: NodeRow
    info: TrashedNode


class Past:
    """Thread-safe: all its state is in the transaction and the blob store."""

    def __init__(self, history: History, clock: Clock) -> None:
        self._history = history
        self._clock = clock

    # Versions

    def versions(self, tx: Transaction, file: NodeRow) -> list[VersionInfo]:
        """Return the versions of a file, newest first; damaged ones are marked as such."""
        return [self._described(tx, file, row) for row in versions.of_node(tx, file.id)]

    def open(
        self, tx: Transaction, file: NodeRow, version_id: bytes
    ) -> tuple[VersionInfo, Content]:
        """Return one version of a file and its content; NotFoundError when it has no such one."""
        version = self.version(tx, file, version_id)
        info = self._described(tx, file, version.row)
        return info, self._history.content(tx, version)

    def version(self, tx: Transaction, file: NodeRow, version_id: bytes) -> Verified:
        """Return one version of a file; NotFoundError when it has no such one."""
        row = versions.by_id(tx, version_id)
        if row is None or row.node_id != file.id:
            raise NotFoundError("The file has no such version; it may have been cleared away.")
        return self._history.verified(tx, row)

    def forget(self, tx: Transaction, share: Share, file: NodeRow) -> None:
        """Remove the current version of a file, for which the caller must then add another."""
        doomed = [each for each in versions.dated(tx, file.id) if each.id == file.version_id]
        with changes(tx, share.id, share.seal) as ledger:
            ledger.remove_versions(doomed)

    # Trash

    def trash(self, tx: Transaction, share: Share) -> Iterator[Trashed]:
        """Yield what lies in the trash of the share, what was deleted first first.

        What a deleted folder held belongs to it and does not appear by itself.
        """
        since_us = nodes.TRASH_FROM_US
        # Those of the moment that the next batch begins with; there may be any number of them.
        seen: set[bytes] = set()
        while True:
            count = len(seen) + BATCH_LIMIT
            batch = nodes.trashed(
                tx, share.id, since_us=since_us, before_us=_FOREVER_US, count=count
            )
            for row in batch:
                if row.id not in seen:
                    # What was edited stays where it is, for scrub to report.
                    with contextlib.suppress(IntegrityError):
                        yield self._trashed(tx, share, share.seal.checked(row))
            if len(batch) < count:
                return
            assert batch[-1].deleted_us is not None
            since_us = batch[-1].deleted_us
            seen = {row.id for row in batch if row.deleted_us == since_us}

    def in_trash(self, tx: Transaction, share: Share, node_id: bytes) -> Trashed:
        """Return a node of the trash; NotFoundError when it does not lie there."""
        row = nodes.any_by_id(tx, node_id)
        if row is None or row.share_id != share.id or (row.deleted_us or 0) < nodes.TRASH_FROM_US:
            raise NotFoundError("Nothing of that id lies in the trash of this share.")
        return self._trashed(tx, share, share.seal.checked(row))

    def bring_back(self, tx: Transaction, trashed: Trashed, folder: NodeRow, name: str) -> NodeRow:
        """Take a node out of the trash, with all below it, to a free name in a live folder."""
        share = trashed.share
        if folder.share_id != share.id:
            raise CrossShareError(
                "What lies in a share's trash can only be restored to that share."
            )
        sealed = share.names.seal(folder.id, name)
        if not folder.is_folder or folder.deleted_us is not None:
            raise ParentMissingError("The folder that it should go to does not exist.")
        if nodes.by_name(tx, folder.id, sealed) is not None:
            raise AlreadyExistsError("A file or folder of that name exists; choose another name.")
        # Its history is wanted here again: what fills the old name now begins one of its own.
        note = vacated.by_name(tx, trashed.row.parent_id, trashed.row.name_sealed)
        if note is not None and note.node_id == trashed.row.id:
            vacated.remove(tx, note.folder_id, note.name_sealed)
        with changes(tx, share.id, share.seal) as ledger:
            ledger.put_node(folder.id, modified_us=self._clock())
            return ledger.put_node(
                trashed.row.id,
                parent_id=folder.id,
                name_sealed=sealed,
                deleted_us=None,
                deleted_by=None,
            )

    def purge(self, tx: Transaction, trashed: Trashed) -> int:
        """Remove a node of the trash and all that was below it for good; return how many went.

        Of something large at first a part; nobody finds the rest, which ``purge`` called again
        removes until nothing goes any more, and ``gc`` in any case.
        """
        share, row = trashed.share, nodes.any_by_id(tx, trashed.row.id)
        if row is None or row.deleted_us is None:
            return 0
        with changes(tx, share.id, share.seal) as ledger:
            return ledger.remove_some(row.id, SUBTREE_LIMIT)

    @staticmethod
    def is_gone(tx: Transaction, trashed: Trashed) -> bool:
        """Return whether nothing is left of what was purged."""
        return nodes.any_by_id(tx, trashed.row.id) is None

    def _described(self, tx: Transaction, file: NodeRow, row: VersionRow) -> VersionInfo:
        sha256, damaged = None, False
        try:
            sha256 = self._history.verified(tx, row).sha256
        except (IntegrityError, KeyUnavailableError):
            damaged = True
        return VersionInfo(
            version_id=row.id.hex(),
            size_bytes=row.size_bytes,
            created_us=row.created_us,
            modified_us=row.modified_us,
            author=row.author,
            sha256="" if sha256 is None else sha256.hex(),
            current=row.id == file.version_id,
            damaged=damaged,
        )

    def _trashed(self, tx: Transaction, share: Share, row: NodeRow) -> Trashed:
        assert row.deleted_us is not None
        parts = [share.names.unseal(row.parent_id, row.name_sealed)]
        parent = nodes.any_by_id(tx, row.parent_id)
        reachable = True
        while parent is not None and parent.id != share.row.root_id:
            share.seal.checked(parent)
            reachable = reachable and parent.deleted_us is None
            parts.append(share.names.unseal(parent.parent_id, parent.name_sealed))
            parent = nodes.any_by_id(tx, parent.parent_id)
        if parent is None:
            raise IntegrityError(f"Node {row.id.hex()} lies below nothing: scrub the catalog.")
        return Trashed(
            share,
            row,
            TrashedNode(
                node_id=row.id.hex(),
                kind=Kind.FOLDER if row.is_folder else Kind.FILE,
                parts=(share.name, *reversed(parts)),
                folder_lives=reachable,
                size_bytes=row.size_bytes,
                deleted_us=row.deleted_us,
                deleted_by=row.deleted_by or "",
            ),
        )
