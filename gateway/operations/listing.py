"""The body of the operation that lists a folder, page by page, so that memory stays flat.

A folder of at most ENTRIES_LIMIT entries is listed from one snapshot. A larger one is read page by
page, each from a snapshot of its own, as readdir(3) does: what is renamed meanwhile may be missed
or come twice, what nobody touches comes once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from auth.policy import rules_below, visible_shares
from backends.catalog.nodes import NO_VERSION, EntryRow
from backends.errors import NotAFolderError, NotFoundError
from backends.unfinished import Unfinished, UnfinishedUpload
from backends.vault import Node
from gateway.handles import WriteHandle
from gateway.model import Action, Entry, Kind, NodeInfo
from gateway.operations.operation import Operation
from gateway.paths import ROOT, VirtualPath

ENTRIES_LIMIT = 1024
"""The most entries in one page."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A folder and what the principal may know of in it, in no order; to be read once."""

    folder: NodeInfo
    pages: Iterator[Sequence[Entry]]

    @property
    def children(self) -> list[NodeInfo]:
        """All entries at once, sorted by name: for folders that are known to be small."""
        found = [entry for page in self.pages for entry in page]
        return [entry.info(self.folder.path) for entry in sorted(found, key=lambda it: it.name)]


@dataclass(slots=True)
class Scan:
    """A listing under way.

    ``after`` is the sealed name that the next page begins behind, None at the end. ``writing`` and
    ``uploads`` are what the asker alone sees in the folder, by name, as far as it is still to come.
    """

    folder: NodeInfo
    properties: bool
    first: list[Entry] = field(default_factory=list)
    after: bytes | None = None
    writing: dict[str, WriteHandle] = field(default_factory=dict)
    uploads: dict[str, UnfinishedUpload] = field(default_factory=dict)


def begin(op: Operation, path: VirtualPath, *, properties: bool) -> Scan:
    """Return the listing of a folder with its first page."""
    op.allow(Action.LIST, path)
    if path.is_root:
        return _shares(op)
    node = op.require(path)
    if not node.is_folder:
        raise NotAFolderError("Only a folder can be listed.")
    scan = Scan(node.info(op.vault.properties(op.tx, node) if properties else None), properties)
    scan.uploads = {upload.name: upload for upload in op.unfinished_in(node)}
    scan.writing = {
        where.name: handle for where, handle in op.own_writes(path) if where.parent == path
    }
    scan.first = _page(op, scan, node, b"")
    return scan


def go_on(op: Operation, scan: Scan) -> list[Entry]:
    """Return the next page; NotFoundError when the folder was moved or deleted meanwhile."""
    assert scan.after is not None
    path = scan.folder.path
    op.allow(Action.LIST, path)
    node = op.require(path)
    if node.id.hex() != scan.folder.node_id:
        raise NotFoundError("The folder was replaced while it was being listed.")
    return _page(op, scan, node, scan.after)


def _shares(op: Operation) -> Scan:
    visible = visible_shares(op.policy, op.session.principal, op.situation)
    roots = [op.find(VirtualPath((name,))) for name in sorted(visible)]
    scan = Scan(NodeInfo(ROOT, Kind.FOLDER), properties=False)
    scan.first = [Entry.of(root.info()) for root in roots if root is not None]
    return scan


def _page(op: Operation, scan: Scan, folder: Node, after: bytes) -> list[Entry]:
    hides = rules_below(op.policy, op.session.principal, folder.path)
    rows = op.vault.entries(
        op.tx, folder, after, ENTRIES_LIMIT, properties=scan.properties, verified=hides
    )
    scan.after = rows[-1][1].name_sealed if len(rows) == ENTRIES_LIMIT else None
    if hides:
        rows = [(name, row) for name, row in rows if _shown(op, folder.path.child(name), row)]
    if scan.properties:
        entries = [
            _entry(name, row)._replace(properties=op.vault.properties_of(folder, row))
            for name, row in rows
        ]
    else:
        entries = [_entry(name, row) for name, row in rows]
    if scan.writing or scan.uploads:
        entries = [_own(scan, folder.path, entry) for entry in entries]
        if scan.after is None:
            entries += _own_only(scan, folder.path)
    return entries


def _entry(name: str, row: EntryRow) -> Entry:
    node_id, _, is_folder, version_id, size_bytes, created_us, modified_us, _, _ = row
    version = version_id.hex()
    return Entry(name, bool(is_folder), node_id.hex(), version, size_bytes, created_us, modified_us)


def _shown(op: Operation, path: VirtualPath, row: EntryRow) -> bool:
    return op.shows_path(path, own=row.created_by == op.principal_id)


def _own(scan: Scan, folder: VirtualPath, entry: Entry) -> Entry:
    """Return what the asker itself has under the name of ``entry``, else the entry."""
    handle, upload = scan.writing.pop(entry.name, None), scan.uploads.pop(entry.name, None)
    if handle is not None:
        return Entry.of(handle.present_info)
    present_id = None if entry.is_folder else bytes.fromhex(entry.version_id)
    if upload is not None and Unfinished.is_current(upload, present_id):
        return Entry.of(upload.info(folder.child(entry.name)))
    return entry


def _own_only(scan: Scan, folder: VirtualPath) -> list[Entry]:
    """Return what the asker has under names that nobody else sees anything under."""
    found = {
        name: Entry.of(upload.info(folder.child(name)))
        for name, upload in scan.uploads.items()
        if Unfinished.is_current(upload, NO_VERSION)
    }
    found |= {name: Entry.of(handle.present_info) for name, handle in scan.writing.items()}
    return list(found.values())
