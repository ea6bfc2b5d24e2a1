"""Copies of nodes within their share: at once, or of a large folder in turns.

A copy shares the segments of its source, so that content costs nothing, but every node and version
gets rows of its own. Others wait while a transaction writes, so that a large folder is copied in
many: until the last one attaches it the copy is in no tree and in no trash, and what a crash leaves
of it ``gc`` removes. Imports the catalog, the history and the ledger; asks nobody for rights.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from backends.catalog import nodes
from backends.catalog.nodes import NO_VERSION, NodeRow
from backends.errors import ChangedMeanwhileError
from backends.history import History
from backends.keyring import RandomBytes
from backends.ledger import SUBTREE_LIMIT, Ledger, changes
from backends.properties import packed, unpacked
from backends.room import Room
from backends.segment import ID_SIZE_BYTES
from backends.share import Share
from gateway.model import Clock, Transaction

CHANGED = "The folder was changed while it was being copied; copy it again."


class Copied(NamedTuple):
    """One node that was copied: ``name`` is that of both, ``id`` the copy's."""

    source_id: bytes
    id: bytes
    name: str
    is_folder: bool


@dataclass(frozen=True, slots=True)
class StagedCopy:
    """A copy of a folder that nobody finds yet.

    ``folders`` has what was copied of folders, by the ids of the sources: the copy's id, and the
    names that lead there from the top. ``listed`` are the nodes that were there when the copy was
    begun, ``done`` those that are dealt with.
    """

    source_id: bytes
    author: str
    top_id: bytes
    folders: dict[bytes, tuple[bytes, tuple[str, ...]]]
    listed: set[bytes] = field(default_factory=set)
    done: set[bytes] = field(default_factory=set)

    def take(self, folder_id: bytes, copied: Iterable[Copied]) -> None:
        """Note what a turn, now committed, copied in a folder."""
        _, parts = self.folders[folder_id]
        for each in copied:
            self.done.add(each.source_id)
            if each.is_folder:
                self.folders[each.source_id] = (each.id, (*parts, each.name))


class Copies:
    """Thread-safe: all its state is in the transaction and in the ``StagedCopy``."""

    def __init__(
        self, history: History, room: Room, *, clock: Clock, random_bytes: RandomBytes
    ) -> None:
        self._history = history
        self._room = room
        self._clock = clock
        self._random_bytes = random_bytes

    def new_row(
        self, share: Share, folder_id: bytes, name: str, *, author: str, modified_us: int
    ) -> NodeRow:
        """Return the row of a new node in a folder, not yet stored: a file without content."""
        return NodeRow(
            id=self._random_bytes(ID_SIZE_BYTES),
            share_id=share.id,
            parent_id=folder_id,
            name_sealed=share.names.seal(folder_id, name),
            is_folder=False,
            version_id=NO_VERSION,
            size_bytes=0,
            created_us=self._clock(),
            modified_us=modified_us,
            created_by=author,
        )

    def copied(
        self,
        tx: Transaction,
        ledger: Ledger,
        share: Share,
        source: NodeRow,
        *,
        folder_id: bytes,
        name: str,
        author: str,
        deleted_us: int | None = None,
    ) -> NodeRow:
        """Copy one node, without what lies in it, to a free name in a folder; return its row."""
        modified_us = self._clock() if source.is_folder else source.modified_us
        row = self.new_row(share, folder_id, name, author=author, modified_us=modified_us)
        row = row._replace(is_folder=source.is_folder, deleted_us=deleted_us)
        sealed = None
        if not source.is_folder:
            version = self._history.current(tx, source)
            sealed = self._history.shared(tx, version, share.key)
            row = row._replace(version_id=sealed.version_id, size_bytes=sealed.size_bytes)
        (row,) = ledger.add_nodes([row])
        if sealed is not None:
            self._history.record(tx, ledger, row.id, sealed, modified_us=modified_us, author=author)
        properties = self.resealed_properties(tx, share, source.id, row.id)
        if properties is not None:
            ledger.put_properties(row.id, properties)
        return row

    @staticmethod
    def resealed_properties(
        tx: Transaction, share: Share, source_id: bytes, node_id: bytes
    ) -> bytes | None:
        """Return the properties of one node sealed for another, None if there are none."""
        stored = nodes.properties_of(tx, source_id)
        return packed(share, node_id, unpacked(share, source_id, stored))

    # In turns

    def begin(
        self, tx: Transaction, share: Share, source: NodeRow, name: str, *, author: str
    ) -> StagedCopy:
        """Begin a copy of a folder, with the folder alone.

        Until it is attached it lies under the root of the share, which nobody can delete: with any
        other folder it could go in part.
        """
        with changes(tx, share.id, share.seal) as ledger:
            top = self.copied(
                tx,
                ledger,
                share,
                source,
                folder_id=share.row.root_id,
                name=name,
                author=author,
                deleted_us=nodes.STAGED_US,
            )
        return StagedCopy(source.id, author, top.id, {source.id: (top.id, ())})

    @staticmethod
    def present(
        tx: Transaction, share: Share, folder_id: bytes, node_ids: Iterable[bytes]
    ) -> list[tuple[str, NodeRow]]:
        """Return names and rows of these nodes, as far as they are still in the folder."""
        found = [nodes.by_id(tx, node_id) for node_id in node_ids]
        return [
            (share.names.unseal(folder_id, row.name_sealed), share.seal.checked(row))
            for row in found
            if row is not None and row.parent_id == folder_id
        ]

    def add(
        self,
        tx: Transaction,
        share: Share,
        staged: StagedCopy,
        folder_id: bytes,
        sources: Sequence[tuple[str, NodeRow]],
    ) -> list[Copied]:
        """Copy nodes of the folder ``folder_id``, which was copied before.

        Returns what ``StagedCopy.take`` must be told once ``tx`` is committed. Raises
        QuotaExceededError, ChangedMeanwhileError, IntegrityError.
        """
        self.require_staged(tx, share, staged)
        parent_id, _ = staged.folders[folder_id]
        self._room.require_quota(tx, share, sum(row.size_bytes for _, row in sources))
        made = []
        with changes(tx, share.id, share.seal) as ledger:
            for name, row in sources:
                if nodes.by_name(tx, parent_id, share.names.seal(parent_id, name)) is not None:
                    # What had the name before was copied. It is gone if this is new, as when a
                    # program saves by writing anew; else one of the two would be missing.
                    if row.id in staged.listed:
                        raise ChangedMeanwhileError(CHANGED)
                    staged.done.add(row.id)
                    continue
                copy = self.copied(
                    tx, ledger, share, row, folder_id=parent_id, name=name, author=staged.author
                )
                made.append(Copied(row.id, copy.id, name, row.is_folder))
        return made

    def discard_some(self, tx: Transaction, share: Share, staged: StagedCopy) -> int:
        """Remove a part of a copy that is not to be attached; return how many nodes went."""
        top = nodes.any_by_id(tx, staged.top_id)
        if top is None or top.deleted_us not in {nodes.STAGED_US, nodes.ASIDE_US}:
            return 0
        with changes(tx, share.id, share.seal) as ledger:
            return ledger.remove_some(top.id, SUBTREE_LIMIT)

    @staticmethod
    def require_staged(tx: Transaction, share: Share, staged: StagedCopy) -> None:
        """Raise ChangedMeanwhileError when housekeeping has removed the copy, or begun to."""
        top = nodes.any_by_id(tx, staged.top_id)
        if top is None or share.seal.checked(top).deleted_us != nodes.STAGED_US:
            raise ChangedMeanwhileError(CHANGED)

    def attach(
        self, tx: Transaction, share: Share, staged: StagedCopy, folder_id: bytes, name: str
    ) -> NodeRow:
        """Put a copy that is complete at a free name of a folder of its share."""
        self.require_staged(tx, share, staged)
        with changes(tx, share.id, share.seal) as ledger:
            ledger.put_node(folder_id, modified_us=self._clock())
            return ledger.put_node(
                staged.top_id,
                parent_id=folder_id,
                name_sealed=share.names.seal(folder_id, name),
                deleted_us=None,
            )
