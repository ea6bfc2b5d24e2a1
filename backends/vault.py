"""The vault: a versioned tree of sealed nodes over the catalog and a blob store.

Every method takes the transaction it works in; callers decide what belongs together. The vault
knows no principals' rights, no locks and no audit: only that what it stores is sealed, verified
and kept. Imports the catalog, the keyring, segments and blobs.

Longer than other files: counters, folder times and versions change together in every method, and
whether they do is best read in one place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from backends import gc
from backends.blobs import BlobStore
from backends.catalog import keys, nodes, versions
from backends.catalog.nodes import NO_VERSION, NodeRow
from backends.content import Content
from backends.draft import FINISHING_LIMIT, Draft, SealedContent
from backends.errors import (
    IntegrityError,
    NotAFolderError,
    QuotaExceededError,
)
from backends.history import History
from backends.keyring import RandomBytes
from backends.properties import packed, unpacked
from backends.segment import ID_SIZE_BYTES
from backends.share import Share, Shares, ShareSettings
from gateway.model import Clock, Kind, NodeInfo, PropertyName, Transaction, UnitOfWork, Usage
from gateway.paths import VirtualPath

RESERVE_BYTES = 64 * 1024 * 1024
"""Free space that uploads must leave: a full disk stops the audit trail, and so everyone."""


@dataclass(frozen=True, slots=True)
class Node:
    """A live node within one transaction, with the share whose keys open it."""

    share: Share
    row: NodeRow
    path: VirtualPath

    @property
    def id(self) -> bytes:
        """The node's id, which survives renames."""
        return self.row.id

    @property
    def is_folder(self) -> bool:
        """Whether the node is a folder."""
        return self.row.is_folder

    def info(self, properties: Mapping[PropertyName, str] | None = None) -> NodeInfo:
        """Return what the door tells about the node."""
        return NodeInfo(
            path=self.path,
            kind=Kind.FOLDER if self.row.is_folder else Kind.FILE,
            node_id=self.row.id.hex(),
            version_id=self.row.version_id.hex(),
            size_bytes=self.row.size_bytes,
            created_us=self.row.created_us,
            modified_us=self.row.modified_us,
            properties=dict(properties or {}),
        )


class Vault:
    """Thread-safe: all its state is in the transaction, the blob store and immutable keys."""

    def __init__(
        self, shares: Shares, store: BlobStore, *, clock: Clock, random_bytes: RandomBytes
    ) -> None:
        self._shares = shares
        self._store = store
        self._clock = clock
        self._random_bytes = random_bytes
        self._history = History(shares, store, clock=clock, random_bytes=random_bytes)
        self._executor = ThreadPoolExecutor(FINISHING_LIMIT, thread_name_prefix="segment")

    def configure(self, settings: Mapping[str, ShareSettings]) -> None:
        """Take over the shares of a reloaded configuration."""
        self._shares.configure(settings)

    def close(self) -> None:
        """Wait for segments on their way to the disk."""
        self._executor.shutdown(wait=True)

    def prune_next(self, tx: Transaction, name: str, after_id: bytes) -> tuple[int, bytes | None]:
        """Remove versions that share ``name`` no longer keeps, a batch of files.

        Returns how many went and the ``after_id`` to go on with, None at the end.
        """
        return gc.prune_next(tx, self._shares.get(tx, name), after_id, self._clock())

    def purge_next(self, tx: Transaction, name: str) -> int:
        """Purge a batch of what has lain too long in the trash of share ``name``."""
        return gc.purge_next(tx, self._shares.get(tx, name), self._clock())

    def collect(self, catalog: UnitOfWork) -> int:
        """Delete segments that have long been unused; return how many."""
        return gc.collect(catalog, self._store, self._clock())

    # Finding and listing

    def find(self, tx: Transaction, path: VirtualPath) -> Node | None:
        """Return the node at ``path`` (inside a share), or None."""
        lineage = self.lineage(tx, path)
        return lineage[-1] if len(lineage) == len(path.parts) else None

    def lineage(self, tx: Transaction, path: VirtualPath) -> list[Node]:
        """Return the nodes from the share's root towards ``path``, as far as they exist.

        Raises NotFoundError for an unknown share, NotAFolderError when a file stands in the way.
        """
        share = self._shares.get(tx, path.share)
        row = nodes.by_id(tx, share.row.root_id)
        if row is None:
            raise IntegrityError(f"Share {share.id.hex()} has lost its root: scrub the catalog.")
        lineage = [Node(share, row, VirtualPath(path.parts[:1]))]
        for depth, name in enumerate(path.inner, start=2):
            if not row.is_folder:
                raise NotAFolderError("A part of the path is a file, not a folder.")
            row = nodes.by_name(tx, row.id, share.names.seal(row.id, name))
            if row is None:
                break
            lineage.append(Node(share, row, VirtualPath(path.parts[:depth])))
        return lineage

    def locate(self, tx: Transaction, name: str, node_id: bytes) -> Node | None:
        """Return the live node of that id in share ``name``, with the path it has now.

        None when it, or a folder above it, was deleted.
        """
        share = self._shares.get(tx, name)
        row = found = nodes.by_id(tx, node_id)
        parts: list[str] = []
        while row is not None and row.id != share.row.root_id:
            parts.append(share.names.unseal(row.parent_id, row.name_sealed))
            row = nodes.by_id(tx, row.parent_id)
        if found is None or row is None:
            return None
        return Node(share, found, VirtualPath((share.name, *reversed(parts))))

    def children(self, tx: Transaction, folder: Node) -> Iterator[Node]:
        """Yield what the folder holds, in no order."""
        for row in nodes.children(tx, folder.id):
            name = folder.share.names.unseal(folder.id, row.name_sealed)
            yield Node(folder.share, row, VirtualPath((*folder.path.parts, name)))

    def descendants(self, tx: Transaction, folder: Node) -> Iterator[Node]:
        """Yield everything below the folder, each parent before its children."""
        waiting = [folder]
        while waiting:
            for child in self.children(tx, waiting.pop()):
                yield child
                if child.is_folder:
                    waiting.append(child)

    def is_empty(self, tx: Transaction, folder: Node) -> bool:
        """Return whether the folder holds nothing."""
        return not nodes.has_child(tx, folder.id)

    def usage(self, tx: Transaction, name: str) -> Usage:
        """Return the space of a share; the quota counts every kept version."""
        share = self._shares.get(tx, name)
        available = self._store.available_bytes()
        quota = share.settings.quota_bytes
        used = share.row.used_bytes
        if quota is not None:
            available = max(0, min(available, quota - used))
        return Usage(used, available, quota, share.row.node_count)

    def available_bytes(self) -> int:
        """Return how many more bytes the blob store can keep."""
        return self._store.available_bytes()

    # Content

    def open_content(self, tx: Transaction, file: Node) -> Content:
        """Return the current content of a file, its manifest verified."""
        return self._history.open(tx, file.row)

    def check_room(self, share: Share, more_bytes: int) -> None:
        """Raise QuotaExceededError unless share and disk can take ``more_bytes`` of new content."""
        self.check_quota(share, more_bytes)
        if more_bytes and more_bytes > self._store.available_bytes():
            raise QuotaExceededError("The storage under the share does not hold this file.")

    def check_quota(self, share: Share, more_bytes: int) -> None:
        """Raise QuotaExceededError unless the share may hold ``more_bytes`` more."""
        quota = share.settings.quota_bytes
        if quota is not None and share.row.used_bytes + more_bytes > quota:
            raise QuotaExceededError("The share is full: its quota does not hold this file.")

    def check_growth(self, tx: Transaction, name: str, draft: Draft) -> None:
        """Raise QuotaExceededError when a draft has outgrown its share or the disk."""
        self.check_quota(self._shares.get(tx, name), draft.size_bytes)
        if self._store.available_bytes() < RESERVE_BYTES:
            raise QuotaExceededError("The storage under the share is nearly full.")

    def draft(self, share: Share, base: Content | None) -> Draft:
        """Return a new draft for a file of ``share``, beginning with ``base`` or empty."""
        return Draft(
            self._store,
            share.key,
            base,
            executor=self._executor,
            random_bytes=self._random_bytes,
        )

    def add_version(
        self, tx: Transaction, file: Node, sealed: SealedContent, *, modified_us: int, author: str
    ) -> Node:
        """Make ``sealed`` the current content of an existing file; its history stays."""
        self.check_quota(file.share, sealed.size_bytes)
        return self._put_version(tx, file, sealed, modified_us=modified_us, author=author)

    def _put_version(
        self, tx: Transaction, file: Node, sealed: SealedContent, *, modified_us: int, author: str
    ) -> Node:
        dated = self._history.record(tx, file.id, sealed, modified_us=modified_us, author=author)
        row = replace(
            file.row,
            version_id=sealed.version_id,
            size_bytes=sealed.size_bytes,
            modified_us=modified_us,
        )
        nodes.update(
            tx,
            file.id,
            version_id=row.version_id,
            size_bytes=row.size_bytes,
            modified_us=row.modified_us,
        )
        keys.count_up(tx, file.share.id, more_bytes=sealed.size_bytes, more_nodes=0)
        gc.prune(tx, file.share, dated, row.version_id, self._clock())
        return Node(file.share, row, file.path)

    def add_file(
        self,
        tx: Transaction,
        folder: Node,
        name: str,
        sealed: SealedContent,
        *,
        modified_us: int,
        author: str,
    ) -> Node:
        """Add a new file with its first version; the name must be free."""
        self.check_quota(folder.share, sealed.size_bytes)
        return self._put_file(tx, folder, name, sealed, modified_us=modified_us, author=author)

    def _put_file(
        self,
        tx: Transaction,
        folder: Node,
        name: str,
        sealed: SealedContent,
        *,
        modified_us: int,
        author: str,
    ) -> Node:
        node = self._insert(
            tx,
            folder,
            name,
            is_folder=False,
            version_id=sealed.version_id,
            size_bytes=sealed.size_bytes,
            modified_us=modified_us,
            author=author,
        )
        self._history.record(tx, node.id, sealed, modified_us=modified_us, author=author)
        keys.count_up(tx, folder.share.id, more_bytes=sealed.size_bytes, more_nodes=1)
        return node

    # The tree

    def add_folder(self, tx: Transaction, folder: Node, name: str, *, author: str) -> Node:
        """Add a new, empty folder; the name must be free."""
        node = self._insert(
            tx,
            folder,
            name,
            is_folder=True,
            version_id=NO_VERSION,
            size_bytes=0,
            modified_us=self._clock(),
            author=author,
        )
        keys.count_up(tx, folder.share.id, more_bytes=0, more_nodes=1)
        return node

    def delete(self, tx: Transaction, node: Node, *, author: str) -> None:
        """Take the node, and with it all below it, out of the tree.

        Where the share keeps a trash the nodes stay restorable; otherwise they and their versions
        are gone when the transaction commits (their segments when ``gc`` runs).
        """
        if node.share.settings.trash_s:
            nodes.update(tx, node.id, deleted_us=self._clock(), deleted_by=author)
            self._touch_folder(tx, node.row.parent_id)
            return
        doomed = [node, *(self.descendants(tx, node) if node.is_folder else ())]
        freed = 0
        for each in doomed:
            if not each.is_folder:
                freed += versions.remove_of_node(tx, each.id)
            nodes.remove(tx, each.id)
        keys.count_up(tx, node.share.id, more_bytes=-freed, more_nodes=-len(doomed))
        self._touch_folder(tx, node.row.parent_id)

    def take_over(self, tx: Transaction, file: Node, source: Node, *, author: str) -> Node:
        """Give ``file`` a new version with the content of ``source``, which goes away.

        That needs no room. ``source`` leaves nothing in the trash unless it had a history.
        """
        sealed = self._history.shared(tx, source.row, source.share.key)
        modified_us = source.row.modified_us
        updated = self._put_version(tx, file, sealed, modified_us=modified_us, author=author)
        nodes.put_properties(tx, file.id, self._resealed_properties(tx, source, file.id))
        self._remove_merged(tx, source, author=author)
        return updated

    def _remove_merged(self, tx: Transaction, node: Node, *, author: str) -> None:
        if versions.count_of_node(tx, node.id) > 1:
            self.delete(tx, node, author=author)
            return
        freed = versions.remove_of_node(tx, node.id)
        nodes.remove(tx, node.id)
        keys.count_up(tx, node.share.id, more_bytes=-freed, more_nodes=-1)
        self._touch_folder(tx, node.row.parent_id)

    def move(self, tx: Transaction, node: Node, folder: Node, name: str) -> Node:
        """Give the node a new parent in its share and a name, which must be free there.

        The node's id and history stay.
        """
        sealed = folder.share.names.seal(folder.id, name)
        nodes.update(tx, node.id, parent_id=folder.id, name_sealed=sealed)
        self._touch_folder(tx, node.row.parent_id)
        self._touch_folder(tx, folder.id)
        row = replace(node.row, parent_id=folder.id, name_sealed=sealed)
        return Node(node.share, row, folder.path.child(name))

    def replace_content(self, tx: Transaction, file: Node, source: Node, *, author: str) -> Node:
        """Give ``file`` a new version with the content of ``source``, sharing its segments."""
        sealed = self._history.shared(tx, source.row, source.share.key)
        updated = self.add_version(
            tx, file, sealed, modified_us=source.row.modified_us, author=author
        )
        nodes.put_properties(tx, file.id, self._resealed_properties(tx, source, file.id))
        return updated

    def copy(
        self, tx: Transaction, node: Node, folder: Node, name: str, *, author: str, deep: bool
    ) -> Node:
        """Copy the node (and if ``deep`` all below it) to a free name in its share.

        The copy shares the segments, so it costs nothing for each byte; the quota counts it all
        the same, whole, before anything is copied.
        """
        assert not node.is_folder or not folder.path.is_within(node.path)
        below = self.descendants(tx, node) if deep and node.is_folder else ()
        total_bytes = node.row.size_bytes + sum(each.row.size_bytes for each in below)
        self.check_quota(node.share, total_bytes)
        return self._copied(tx, node, folder, name, author=author, deep=deep)

    def _copied(
        self, tx: Transaction, node: Node, folder: Node, name: str, *, author: str, deep: bool
    ) -> Node:
        if not node.is_folder:
            copied = self._put_file(
                tx,
                folder,
                name,
                self._history.shared(tx, node.row, node.share.key),
                modified_us=node.row.modified_us,
                author=author,
            )
        else:
            copied = self.add_folder(tx, folder, name, author=author)
            for child in list(self.children(tx, node)) if deep else ():
                self._copied(tx, child, copied, child.path.name, author=author, deep=True)
        sealed_properties = self._resealed_properties(tx, node, copied.id)
        if sealed_properties is not None:
            nodes.put_properties(tx, copied.id, sealed_properties)
        return copied

    def set_modified(self, tx: Transaction, node: Node, modified_us: int) -> Node:
        """Set the node's modification time."""
        nodes.update(tx, node.id, modified_us=modified_us)
        return Node(node.share, replace(node.row, modified_us=modified_us), node.path)

    # Properties

    def properties(self, tx: Transaction, node: Node) -> dict[PropertyName, str]:
        """Return the node's dead properties."""
        return unpacked(node.share, node.id, nodes.properties_of(tx, node.id))

    def properties_of_children(
        self, tx: Transaction, folder: Node
    ) -> dict[bytes, dict[PropertyName, str]]:
        """Return the dead properties of those children that have any, by node id."""
        return {
            node_id: unpacked(folder.share, node_id, sealed)
            for node_id, sealed in nodes.properties_of_children(tx, folder.id).items()
        }

    def put_properties(
        self, tx: Transaction, node: Node, properties: Mapping[PropertyName, str]
    ) -> None:
        """Replace the node's dead properties; LimitError beyond 64 KiB of them."""
        nodes.put_properties(tx, node.id, packed(node.share, node.id, properties))

    # Inside

    def _insert(
        self,
        tx: Transaction,
        folder: Node,
        name: str,
        *,
        is_folder: bool,
        version_id: bytes,
        size_bytes: int,
        modified_us: int,
        author: str,
    ) -> Node:
        node_id = self._random_bytes(ID_SIZE_BYTES)
        row = NodeRow(
            id=node_id,
            share_id=folder.share.id,
            parent_id=folder.id,
            name_sealed=folder.share.names.seal(folder.id, name),
            is_folder=is_folder,
            version_id=version_id,
            size_bytes=size_bytes,
            created_us=self._clock(),
            modified_us=modified_us,
            created_by=author,
        )
        nodes.insert(tx, row)
        self._touch_folder(tx, folder.id)
        return Node(folder.share, row, folder.path.child(name))

    def _touch_folder(self, tx: Transaction, folder_id: bytes) -> None:
        nodes.update(tx, folder_id, modified_us=self._clock())

    def _resealed_properties(self, tx: Transaction, source: Node, node_id: bytes) -> bytes | None:
        return packed(source.share, node_id, self.properties(tx, source))
