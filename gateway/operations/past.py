"""Bodies of the operations on a file's past: telling its versions, bringing one back."""

from __future__ import annotations

from backends.errors import IsAFolderError
from backends.vault import Node
from gateway.model import Action, NodeInfo, VersionInfo
from gateway.operations.operation import Operation
from gateway.paths import VirtualPath


def versions(op: Operation, path: VirtualPath) -> list[VersionInfo]:
    """Return the versions of a file, newest first."""
    node = _file(op, path)
    return op.vault.past.versions(op.tx, node.row)


def restore(op: Operation, path: VirtualPath, version_id: bytes) -> NodeInfo:
    """Make an older version's content the current one again, as a new version."""
    node = _file(op, path)
    op.require_unlocked(op.lineage(path), membership=False)
    restored = op.vault.restore(op.tx, node, version_id, author=op.principal_id)
    op.concerns(restored)
    op.bytes = restored.row.size_bytes
    return restored.info()


def _file(op: Operation, path: VirtualPath) -> Node:
    op.allow(Action.RESTORE, path)
    node = op.require(path)
    if node.is_folder:
        raise IsAFolderError("Only files have versions; this is a folder.")
    return node
