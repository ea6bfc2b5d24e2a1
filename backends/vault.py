"""The vault: a versioned tree of sealed nodes over the catalog and a blob store.

Every method takes the transaction it works in; callers decide what belongs together. The vault
knows no principals' rights, no locks and no audit: only that what it stores is sealed, verified
and kept. Imports the catalog, the keyring, segments and blobs.

Longer than other files: counters, folder times and versions change together in every method, and
whether they do is best read in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import cast

from backends import gc
from backends.blobs import BlobStore
from backends.catalog import nodes, versions
from backends.catalog.nodes import EntryRow, NodeRow
from backends.content import Content
from backends.copies import Copies
from backends.draft import POOL_LIMIT, Draft, SealedContent
from backends.errors import IntegrityError, NotAFolderError
from backends.history import History
from backends.keyring import RandomBytes
from backends.ledger import SUBTREE_LIMIT, Ledger, changes
from backends.past import Past
from backends.properties import packed, unpacked
from backends.room import Room
from backends.scrub.scrub import Scrub
from backends.share import Share, Shares, ShareSettings
from backends.tunnel import Tunnel
from backends.unfinished import Unfinished
from gateway.model import Clock, Kind, NodeInfo, PropertyName, Transaction, UnitOfWork, Usage
from gateway.paths import DEPTH_LIMIT, VirtualPath


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
        row = self.row
        return NodeInfo(
            path=self.path,
            kind=Kind.FOLDER if row.is_folder else Kind.FILE,
            node_id=row.id.hex(),
            version_id=row.version_id.hex(),
            size_bytes=row.size_bytes,
            created_us=row.created_us,
            modified_us=row.modified_us,
            properties=dict(properties or {}),
        )


class Vault:
    """Thread-safe: all its state is in the transaction, the blob store and immutable keys."""

    def __init__(
        self,
        shares: Shares,
        store: BlobStore,
        *,
        clock: Clock,
        random_bytes: RandomBytes,
        begin_thread: Callable[[], None] = lambda: None,
    ) -> None:
        """``begin_thread`` runs first in each thread that hashes, seals and stores uploads."""
        self._shares = shares
        self._store = store
        self._clock = clock
        self._random_bytes = random_bytes
        self._history = History(shares, store, clock=clock, random_bytes=random_bytes)
        self._executor = ThreadPoolExecutor(
            POOL_LIMIT, thread_name_prefix="segment", initializer=begin_thread
        )
        self.past = Past(self._history, clock)
        self.room = Room(store, clock)
        self._tunnel = Tunnel(self._history, self.room, clock)
        self.copies = Copies(self._history, self.room, clock=clock, random_bytes=random_bytes)
        self.unfinished = Unfinished(self._history, clock=clock, random_bytes=random_bytes)
        self.scrub = Scrub(shares, store, self._history, clock)

    def configure(self, settings: Mapping[str, ShareSettings]) -> None:
        """Take over the shares of a reloaded configuration."""
        self._shares.configure(settings)

    def close(self) -> None:
        """Wait for segments on their way to the disk."""
        self._executor.shutdown(wait=True)

    def prunable(
        self, tx: Transaction, name: str, after_id: bytes
    ) -> tuple[list[bytes], bytes | None]:
        """Return a batch of files of share ``name`` that may have versions it no longer keeps.

        And the ``after_id`` to go on with, None at the end. Goes through the share's files: for a
        snapshot, not for a transaction that others wait for.
        """
        return gc.prunable(tx, self.share(tx, name), after_id, self._clock())

    def prune(self, tx: Transaction, name: str, file_ids: list[bytes]) -> int:
        """Remove what share ``name`` no longer keeps of these files' versions; return how many."""
        return gc.prune_files(tx, self.share(tx, name), file_ids, self._clock())

    def purge_next(self, tx: Transaction, name: str) -> int:
        """Purge a batch of what has lain too long in the trash of share ``name``."""
        return gc.purge_next(tx, self.share(tx, name), self._clock())

    def collect_unused(self, begin: gc.Begin, note: gc.Note) -> int:
        """Delete segments that have long been unused; return how many."""
        return gc.collect_unused(begin, self._store, self._clock(), note)

    def collect_strays(self, catalog: UnitOfWork) -> int:
        """Delete old blobs that no row names, from all of the blob store; return how many."""
        return gc.collect_strays(catalog, self._store, self._clock())

    def share(self, tx: Transaction, name: str) -> Share:
        """Return the share of that name; NotFoundError, IntegrityError."""
        return self._shares.get(tx, name)

    # Finding and listing

    def find(self, tx: Transaction, path: VirtualPath) -> Node | None:
        """Return the node at ``path`` (inside a share), or None."""
        lineage = self.lineage(tx, path)
        return lineage[-1] if len(lineage) == len(path.parts) else None

    def lineage(self, tx: Transaction, path: VirtualPath) -> list[Node]:
        """Return the nodes from the share's root towards ``path``, as far as they exist.

        Raises NotFoundError for an unknown share, NotAFolderError when a file stands in the way.
        """
        if path not in tx.seen:
            tx.seen[path] = self._lineage(tx, path)
        return list(tx.seen[path])

    def _lineage(self, tx: Transaction, path: VirtualPath) -> list[Node]:
        share = self._shares.get(tx, path.share)
        lineage: list[Node] = [] if path.is_share else list(tx.seen.get(path.parent, ()))
        if not path.is_share and len(lineage) == len(path.parts) - 1:
            row = lineage[-1].row
        else:
            found = nodes.by_id(tx, share.row.root_id)
            if found is None:
                raise IntegrityError(
                    f"Share {share.id.hex()} has lost its root: scrub the catalog."
                )
            row = share.seal.checked(found)
            lineage = [Node(share, row, VirtualPath(path.parts[:1]))]
        for depth, name in enumerate(path.parts[len(lineage) :], start=len(lineage) + 1):
            if not row.is_folder:
                raise NotAFolderError("A part of the path is a file, not a folder.")
            found = nodes.by_name(tx, row.id, share.names.seal(row.id, name))
            if found is None:
                break
            row = share.seal.checked(found)
            lineage.append(Node(share, row, VirtualPath(path.parts[:depth])))
        return lineage

    def locate(self, tx: Transaction, name: str, node_id: bytes) -> Node | None:
        """Return the live node of that id in share ``name``, with the path it has now.

        None when it, or a folder above it, was deleted.
        """
        key = ("node", name, node_id)
        if key not in tx.seen:
            lineage = self._lineage_up(tx, name, node_id)
            for node in lineage:
                tx.seen["node", name, node.id] = node
            if lineage:
                tx.seen[lineage[-1].path] = lineage
            tx.seen[key] = lineage[-1] if lineage else None
        return cast(Node | None, tx.seen[key])

    def _lineage_up(self, tx: Transaction, name: str, node_id: bytes) -> list[Node]:
        """Return the nodes from the root of share ``name`` to a live one; empty if it is not."""
        share = self._shares.get(tx, name)
        rows: list[NodeRow] = []
        parts: list[str] = []
        row = nodes.by_id(tx, node_id)
        while row is not None and row.id != share.row.root_id:
            rows.append(share.seal.checked(row))
            parts.append(share.names.unseal(row.parent_id, row.name_sealed))
            row = nodes.by_id(tx, row.parent_id)
        if row is None:
            return []
        rows.append(share.seal.checked(row))
        names = (share.name, *reversed(parts))
        return [
            Node(share, each, VirtualPath(names[:depth]))
            for depth, each in enumerate(reversed(rows), start=1)
        ]

    def entries(
        self,
        tx: Transaction,
        folder: Node,
        after: bytes,
        count: int,
        *,
        properties: bool = False,
        verified: bool = False,
    ) -> list[tuple[str, EntryRow]]:
        """Return name and row of up to ``count`` nodes in the folder, in the order of sealed names.

        ``after``: the sealed name to begin behind. For listings, of which one may have 100,000:
        names verify, and a name that was carried to another folder does not; sizes and times are
        checked when the node itself is looked at, here only if ``verified``.
        """
        share, folder_id = folder.share, folder.id
        rows = nodes.entries(tx, folder_id, after, count, with_properties=properties)
        if verified:
            for row in rows:
                self._require_as_sealed(tx, share, row)
        unseal = share.names.unseal
        return [(unseal(folder_id, row.name_sealed), row) for row in rows]

    @staticmethod
    def _require_as_sealed(tx: Transaction, share: Share, row: EntryRow) -> None:
        full = nodes.by_id(tx, row.id)
        if full is None:
            raise IntegrityError(f"Node {row.id.hex()} is not in the catalog any more.")
        share.seal.checked(full)

    def children(self, tx: Transaction, folder: Node) -> Iterator[Node]:
        """Yield what the folder holds, every row verified, in no order."""
        share, parts = folder.share, folder.path.parts
        for row in nodes.children(tx, folder.id):
            name = share.names.unseal(folder.id, row.name_sealed)
            yield Node(share, share.seal.checked(row), VirtualPath((*parts, name)))

    def descendants(self, tx: Transaction, folder: Node) -> Iterator[Node]:
        """Yield everything below the folder, each parent before its children."""
        waiting = [folder]
        while waiting:
            for child in self.children(tx, waiting.pop()):
                yield child
                if child.is_folder:
                    waiting.append(child)

    def height(self, tx: Transaction, folder: Node) -> int:
        """Return how many levels lie below the folder, counting up to the deepest path."""
        return nodes.height(tx, folder.id, DEPTH_LIMIT)

    def is_empty(self, tx: Transaction, folder: Node) -> bool:
        """Return whether the folder holds nothing."""
        return not nodes.has_child(tx, folder.id)

    def usage(self, tx: Transaction, name: str) -> Usage:
        """Return the space of a share; the quota counts every kept version."""
        return self.room.usage(tx, self._shares.get(tx, name))

    # Content

    def open_content(self, tx: Transaction, file: Node) -> Content:
        """Return the current content of a file, its manifest verified."""
        return self._history.content(tx, self._history.current(tx, file.row))

    def sha256(self, tx: Transaction, file: Node) -> str:
        """Return the hex SHA-256 of a file's current content; empty while it is not known."""
        digest = self._history.current(tx, file.row).sha256
        return "" if digest is None else digest.hex()

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
        with self._changes(tx, file.share) as ledger:
            updated = self._put_version(
                tx, ledger, file, sealed, modified_us=modified_us, author=author
            )
        # Afterwards: only now is it known which old versions made room.
        self.room.require_quota(tx, file.share, 0, upload=sealed.version_id)
        return updated

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
        share = folder.share
        self.room.require_quota(tx, share, sealed.size_bytes, upload=sealed.version_id)
        with self._changes(tx, share) as ledger:
            row = self.copies.new_row(
                share, folder.id, name, author=author, modified_us=modified_us
            )
            row = row._replace(version_id=sealed.version_id, size_bytes=sealed.size_bytes)
            (row,) = ledger.add_nodes([row])
            self._history.record(tx, ledger, row.id, sealed, modified_us=modified_us, author=author)
            ledger.put_node(folder.id, modified_us=self._clock())
            row = self._continued(tx, ledger, share, row, author=author)
        return Node(share, row, folder.path.child(name))

    def take_over(self, tx: Transaction, file: Node, source: Node, *, author: str) -> Node:
        """Give ``file`` a new version with the content of ``source``, which goes away.

        That needs no room. ``source`` leaves nothing in the trash unless it had a history.
        """
        share = file.share
        with self._changes(tx, share) as ledger:
            updated = self._copy_into(tx, ledger, file, source, author=author)
            if versions.count_of_node(tx, source.id) > 1:
                self._discard(tx, ledger, source, author=author)
            else:
                ledger.remove_some(source.id, 1)
            ledger.put_node(source.row.parent_id, modified_us=self._clock())
        return updated

    def restore(self, tx: Transaction, file: Node, version_id: bytes, *, author: str) -> Node:
        """Make an older version's content the current one again, as a new version."""
        version = self.past.version(tx, file.row, version_id)
        self.room.require_quota(tx, file.share, version.row.size_bytes)
        sealed = self._history.shared(tx, version, file.share.key)
        with self._changes(tx, file.share) as ledger:
            return self._put_version(
                tx, ledger, file, sealed, modified_us=self._clock(), author=author
            )

    def replace_content(self, tx: Transaction, file: Node, source: Node, *, author: str) -> Node:
        """Give ``file`` a new version with the content of ``source``, sharing its segments."""
        self.room.require_quota(tx, file.share, source.row.size_bytes)
        with self._changes(tx, file.share) as ledger:
            return self._copy_into(tx, ledger, file, source, author=author)

    # The tree

    def add_folder(self, tx: Transaction, folder: Node, name: str, *, author: str) -> Node:
        """Add a new, empty folder; the name must be free."""
        share, now_us = folder.share, self._clock()
        with self._changes(tx, share) as ledger:
            row = self.copies.new_row(share, folder.id, name, author=author, modified_us=now_us)
            (row,) = ledger.add_nodes([row._replace(is_folder=True)])
            ledger.put_node(folder.id, modified_us=now_us)
        return Node(share, row, folder.path.child(name))

    def delete(self, tx: Transaction, node: Node, *, author: str) -> None:
        """Take the node, and with it all below it, out of the tree.

        Where the share keeps a trash the nodes stay restorable; otherwise nobody finds them any
        more when the transaction commits, and what it did not remove at once, their segments too,
        is gone when ``gc`` has run.
        """
        with self._changes(tx, node.share) as ledger:
            self._discard(tx, ledger, node, author=author)
            ledger.put_node(node.row.parent_id, modified_us=self._clock())

    def move(self, tx: Transaction, node: Node, folder: Node, name: str, *, author: str) -> Node:
        """Give the node a new parent in its share and a name, which must be free there.

        The node's id and history stay.
        """
        share, now_us = node.share, self._clock()
        self._tunnel.vacate(tx, share, node.row, author=author)
        with self._changes(tx, share) as ledger:
            sealed = share.names.seal(folder.id, name)
            row = ledger.put_node(node.id, parent_id=folder.id, name_sealed=sealed)
            for parent_id in {node.row.parent_id, folder.id}:
                ledger.put_node(parent_id, modified_us=now_us)
            row = self._continued(tx, ledger, share, row, author=author)
        return Node(share, row, folder.path.child(name))

    def copy(
        self, tx: Transaction, node: Node, folder: Node, name: str, *, author: str, deep: bool
    ) -> Node:
        """Copy the node (and if ``deep`` all below it) to a free name in its share.

        The copy shares the segments, so it costs nothing for each byte; the quota counts it all
        the same, whole, before anything is copied. For what is larger than ``is_large`` says there
        are ``copies``.
        """
        assert not node.is_folder or not folder.path.is_within(node.path)
        share = node.share
        sources = [node, *(self.descendants(tx, node) if deep and node.is_folder else ())]
        self.room.require_quota(tx, share, sum(each.row.size_bytes for each in sources))
        with self._changes(tx, share) as ledger:
            rows: dict[bytes, NodeRow] = {}
            for source in sources:
                parent_id = rows[source.row.parent_id].id if rows else folder.id
                own_name = source.path.name if rows else name
                rows[source.id] = self.copies.copied(
                    tx, ledger, share, source.row, folder_id=parent_id, name=own_name, author=author
                )
            ledger.put_node(folder.id, modified_us=self._clock())
            row = self._continued(tx, ledger, share, rows[node.id], author=author)
        return Node(share, row, folder.path.child(name))

    @staticmethod
    def is_large(tx: Transaction, folder: Node) -> bool:
        """Return whether there is more below the folder than one transaction should copy."""
        room, waiting = SUBTREE_LIMIT - 1, [folder.id]
        while waiting and room >= 0:
            found = nodes.kinds_in(tx, waiting.pop(), room + 1)
            room -= len(found)
            waiting += [node_id for node_id, is_folder in found if is_folder]
        return room < 0

    def set_modified(self, tx: Transaction, node: Node, modified_us: int) -> Node:
        """Set the node's modification time."""
        with self._changes(tx, node.share) as ledger:
            row = ledger.put_node(node.id, modified_us=modified_us)
        return Node(node.share, row, node.path)

    # Properties

    def properties(self, tx: Transaction, node: Node) -> dict[PropertyName, str]:
        """Return the node's dead properties."""
        return unpacked(node.share, node.id, nodes.properties_of(tx, node.id))

    @staticmethod
    def properties_of(folder: Node, row: EntryRow) -> dict[PropertyName, str]:
        """Return the dead properties of an entry that was listed with them."""
        return unpacked(folder.share, row.id, row.properties_sealed)

    def put_properties(
        self, tx: Transaction, node: Node, properties: Mapping[PropertyName, str]
    ) -> None:
        """Replace the node's dead properties; LimitError beyond 64 KiB of them."""
        sealed = packed(node.share, node.id, properties)
        with self._changes(tx, node.share) as ledger:
            ledger.put_properties(node.id, sealed)

    # Inside

    @staticmethod
    def _changes(tx: Transaction, share: Share) -> AbstractContextManager[Ledger]:
        return changes(tx, share.id, share.seal)

    def _put_version(
        self,
        tx: Transaction,
        ledger: Ledger,
        file: Node,
        sealed: SealedContent,
        *,
        modified_us: int,
        author: str,
    ) -> Node:
        dated = self._history.record(
            tx, ledger, file.id, sealed, modified_us=modified_us, author=author
        )
        row = ledger.put_node(
            file.id,
            version_id=sealed.version_id,
            size_bytes=sealed.size_bytes,
            modified_us=modified_us,
        )
        gc.prune(ledger, file.share, dated, row.version_id, self._clock())
        return Node(file.share, row, file.path)

    def _copy_into(
        self, tx: Transaction, ledger: Ledger, file: Node, source: Node, *, author: str
    ) -> Node:
        version = self._history.current(tx, source.row)
        sealed = self._history.shared(tx, version, source.share.key)
        modified_us = source.row.modified_us
        updated = self._put_version(
            tx, ledger, file, sealed, modified_us=modified_us, author=author
        )
        properties = self.copies.resealed_properties(tx, source.share, source.id, file.id)
        ledger.put_properties(file.id, properties)
        return updated

    def _continued(
        self, tx: Transaction, ledger: Ledger, share: Share, row: NodeRow, *, author: str
    ) -> NodeRow:
        """Return ``row`` once it has the history of the name that it fills, pruned."""
        filled = self._tunnel.fill(tx, ledger, share, row, author=author)
        if filled is not row:
            dated = versions.dated(tx, row.id)
            gc.prune(ledger, share, dated, row.version_id, self._clock())
        return filled

    def _discard(self, tx: Transaction, ledger: Ledger, node: Node, *, author: str) -> None:
        if not node.share.settings.trash_s:
            ledger.remove_some(node.id, SUBTREE_LIMIT)
            return
        self._tunnel.vacate(tx, node.share, node.row, author=author)
        ledger.put_node(node.id, deleted_us=self._clock(), deleted_by=author)
