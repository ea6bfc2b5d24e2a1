"""The body of the operation that stores a small file whole, in one transaction.

What ``content.open_write`` and ``content.commit`` do in two transactions, because a large body
takes its time, is done at once for one that lies in memory already: half the work of a small PUT.
"""

from __future__ import annotations

from backends.draft import INLINE_LIMIT_BYTES
from backends.errors import IsAFolderError
from gateway.model import Action, NodeInfo
from gateway.operations.operation import Operation
from gateway.paths import VirtualPath

WHOLE_LIMIT_BYTES = INLINE_LIMIT_BYTES
"""The largest content that may come so: it is kept in the catalog, and no segment is written."""


def store(
    op: Operation, path: VirtualPath, content: bytes, *, modified_us: int | None
) -> tuple[NodeInfo, bool]:
    """Make ``content`` the current version of the file at ``path``; True: the file is new."""
    assert len(content) <= WHOLE_LIMIT_BYTES
    lineage = op.lineage(path)
    node = op.at_end(lineage, path)
    action = Action.CREATE if node is None else Action.WRITE
    op.action, op.bytes = action.value, len(content)
    op.allow(action, path)
    if node is not None:
        op.concerns(node)
        if node.is_folder:
            raise IsAFolderError("This is a folder, not a file.")
    folder = op.folder_for(path, lineage)
    op.require_condition()
    op.require_unlocked(lineage, membership=False)
    op.vault.room.require_disk(len(content))
    draft = op.vault.draft(folder.share, None)
    draft.write_at(0, content)
    sealed, author = draft.seal(), op.principal_id
    when_us = op.now_us if modified_us is None else modified_us
    if node is None:
        stored = op.vault.add_file(
            op.tx, folder, path.name, sealed, modified_us=when_us, author=author
        )
    else:
        stored = op.vault.add_version(op.tx, node, sealed, modified_us=when_us, author=author)
    op.concerns(stored)
    return stored.info(), node is None
