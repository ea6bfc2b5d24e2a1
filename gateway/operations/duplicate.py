"""The body by which a file being written begins with what another file holds, in no time."""

from __future__ import annotations

from backends.draft import Draft
from gateway.model import Action, NodeInfo
from gateway.open_file import OpenFile
from gateway.operations.operation import Operation


def duplicate(op: Operation, source: NodeInfo, file: OpenFile) -> Draft | None:
    """Return a draft for ``file`` that shares the content of ``source``.

    None when the bytes must be copied instead: ``source`` is not, or no longer, what is stored
    under its path, or it lies in another share, whose keys are others. Raises DeniedError,
    QuotaExceededError, IntegrityError.
    """
    op.allow(Action.READ, source.path)
    op.allow(Action.CREATE if file.created else Action.WRITE, file.path)
    lineage = op.lineage(source.path)
    node = op.at_end(lineage, source.path)
    if (
        node is None
        or node.is_folder
        or node.share.name != file.target.share
        or (node.id.hex(), node.row.version_id.hex()) != (source.node_id, source.version_id)
        or op.own_write(source.path) is not None
        or op.unfinished(source.path, lineage) is not None
    ):
        return None
    op.concerns(node)
    op.bytes = node.row.size_bytes
    more_bytes = node.row.size_bytes - file.credit_bytes
    op.vault.room.require_quota(op.tx, node.share, more_bytes, upload=file.draft.version_id)
    return op.vault.draft(node.share, op.vault.open_content(op.tx, node))
