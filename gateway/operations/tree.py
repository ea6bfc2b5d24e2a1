"""Bodies of the operations on names: stat, make, delete, move, copy, times, properties."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from backends.catalog import locks
from backends.errors import (
    AlreadyExistsError,
    ConflictError,
    CrossShareError,
    IntoItselfError,
    IsAFolderError,
    LimitError,
    NotAFolderError,
    NotEmptyError,
    NotFoundError,
)
from backends.vault import Node
from gateway.errors import DeniedError
from gateway.handles import WriteHandle
from gateway.model import Action, Kind, NodeInfo, PropertyName, Usage
from gateway.open_file import Target
from gateway.operations.operation import Operation
from gateway.paths import DEPTH_LIMIT, ROOT, VirtualPath

_CUT_OFF = "The upload of this file was cut off; continue it, or delete it."


def stat(op: Operation, path: VirtualPath, *, properties: bool, digest: bool) -> NodeInfo:
    """Return what is known of the node."""
    writing = op.own_write(path)
    lineage = op.lineage(path)
    node = op.at_end(lineage, path)
    if node is not None:
        op.concerns(node)
    upload = op.unfinished(path, lineage) if writing is None else None
    own = (
        writing is not None
        or upload is not None
        or (node is not None and node.row.created_by == op.principal_id)
    )
    try:
        op.allow_stat(path, own=own)
    except DeniedError as error:
        # A drop box tells nobody what others have put there, yet uploading programs look first.
        if not path.is_root and op.permits(Action.CREATE, path):
            raise NotFoundError("There is no such file or folder.") from error
        raise
    if path.is_root:
        return NodeInfo(ROOT, Kind.FOLDER)
    if writing is not None:
        return writing.present_info
    if upload is not None:
        return upload.info(path)
    if node is None:
        raise NotFoundError("There is no such file or folder.")
    info = node.info(op.vault.properties(op.tx, node) if properties else None)
    if digest and not node.is_folder and op.permits(Action.READ, path):
        # It tells about the content, which a right to list alone must not.
        return replace(info, sha256=op.vault.sha256(op.tx, node))
    return info


def make_folder(op: Operation, path: VirtualPath) -> NodeInfo:
    """Make an empty folder."""
    op.allow(Action.CREATE, path)
    lineage = op.lineage(path)
    if op.at_end(lineage, path) is not None or op.own_write(path) is not None:
        raise AlreadyExistsError("A file or folder of that name exists already.")
    folder = op.folder_for(path, lineage)
    op.require_condition()
    op.require_unlocked(lineage, membership=False)
    node = op.vault.add_folder(op.tx, folder, path.name, author=op.principal_id)
    op.concerns(node)
    return node.info()


def delete(op: Operation, path: VirtualPath, *, kind: Kind | None, only_empty: bool) -> None:
    """Take a node, with all below it, out of the tree."""
    op.allow(Action.DELETE, path)
    writing = op.own_writes(path)
    lineage = op.lineage(path)
    node = op.at_end(lineage, path)
    handle = op.own_write(path) if node is None else None
    upload = op.unfinished(path, lineage) if handle is None else None
    if upload is not None:
        # It is what its uploader sees under the name; what others see there stays.
        op.vault.unfinished.remove(op.tx, upload)
        return
    if node is None:
        if handle is None:
            raise NotFoundError("There is no such file or folder.")
        _forget(op, [(path, handle)])
        return
    op.concerns(node)
    _require_kind(node, kind)
    if only_empty and (writing or not op.vault.is_empty(op.tx, node)):
        raise NotEmptyError("The folder is not empty; delete what it holds first.")
    op.allow_below(Action.DELETE, node)
    op.require_condition()
    remove(op, lineage)
    _forget(op, writing)


def move(
    op: Operation,
    source: VirtualPath,
    target: VirtualPath,
    *,
    replace: bool,
    replace_folder: bool,
) -> bool:
    """Give a node a new name; True when nothing of that name existed."""
    op.allow(Action.MOVE, source)
    lineage, there = op.lineage(source), op.lineage(target)
    node = op.at_end(lineage, source)
    existing = op.at_end(there, target)
    allow_target(op, target, existing, folder=node is not None and node.is_folder)
    if source != target and existing is None and not replace and op.own_write(target) is not None:
        raise AlreadyExistsError("A file or folder of the new name exists already.")
    if node is None:
        return _move_unfinished(op, source, target, there, replace=replace)
    op.concerns(node)
    if source == target:
        return False
    if op.unfinished(source, lineage) is not None:
        raise ConflictError(_CUT_OFF)
    folder = op.folder_for(target, there)
    require_same_tree(node, folder)
    require_reachable(op, node, target)
    require_replaceable(op, node, existing, replace=replace, replace_folder=replace_folder)
    op.allow_below(Action.MOVE, node)
    op.allow_below(Action.CREATE, node, rebased=target)
    op.allow_carried(node, target)
    op.require_condition()
    op.require_unlocked(lineage, membership=True)
    locks.remove(op.tx, op.require_unlocked_below(node))
    if existing is None:
        op.require_unlocked(there, membership=False)
        op.vault.move(op.tx, node, folder, target.name, author=op.principal_id)
    elif merges(node, existing):
        op.require_unlocked(there, membership=False)
        op.concerns(op.vault.take_over(op.tx, existing, node, author=op.principal_id))
        merged = Target(folder.share.name, folder.id, target.name, existing.id)
        op.afterwards.append(lambda: op.writes.retarget(op.session.id, source, merged))
    else:
        remove(op, there)
        op.vault.move(op.tx, node, folder, target.name, author=op.principal_id)
    op.afterwards.append(lambda: op.writes.move(op.session.id, source, target))
    return existing is None


def set_times(op: Operation, path: VirtualPath, *, modified_us: int) -> None:
    """Set the modification time."""
    handle = op.own_write(path)
    lineage = op.lineage(path)
    node = op.at_end(lineage, path)
    own = handle is not None or (node is not None and node.row.created_by == op.principal_id)
    op.allow_change(path, own=own)
    if handle is not None:
        op.afterwards.append(lambda: handle.set_modified(modified_us))
    elif node is None:
        raise NotFoundError("There is no such file or folder.")
    else:
        op.concerns(node)
        op.require_unlocked(lineage, membership=False)
        op.vault.set_modified(op.tx, node, modified_us)


def set_properties(
    op: Operation,
    path: VirtualPath,
    *,
    put: Mapping[PropertyName, str],
    remove: frozenset[PropertyName],
    modified_us: int | None,
) -> None:
    """Change dead properties, all or none of them."""
    op.allow(Action.WRITE, path)
    lineage = op.lineage(path)
    node = op.require(path)
    op.require_condition()
    op.require_unlocked(lineage, membership=False)
    present = op.vault.properties(op.tx, node)
    kept = {name: value for name, value in present.items() if name not in remove}
    op.vault.put_properties(op.tx, node, kept | dict(put))
    if modified_us is not None:
        op.vault.set_modified(op.tx, node, modified_us)


def usage(op: Operation, path: VirtualPath) -> Usage:
    """Return the space of the share that ``path`` lies in; for ``/``, that of the store."""
    op.allow_stat(VirtualPath(path.parts[:1]), own=False)
    if path.is_root:
        return Usage(0, op.vault.room.available_bytes(), None, 0)
    return op.vault.usage(op.tx, path.share)


def _require_kind(node: Node, kind: Kind | None) -> None:
    if kind is Kind.FILE and node.is_folder:
        raise IsAFolderError("This is a folder, not a file.")
    if kind is Kind.FOLDER and not node.is_folder:
        raise NotAFolderError("This is a file, not a folder.")


def merges(node: Node, existing: Node) -> bool:
    """Return whether replacing ``existing`` by ``node`` gives it a version and removes nothing."""
    return not node.is_folder and not existing.is_folder


def allow_target(
    op: Operation, target: VirtualPath, existing: Node | None, *, folder: bool
) -> None:
    """Ask policy for what moving or copying a file (or a folder) to ``target`` does there."""
    if existing is None:
        op.allow(Action.CREATE, target)
    elif folder or existing.is_folder:
        op.allow(Action.DELETE, target)
        op.allow(Action.CREATE, target)
        op.allow_below(Action.DELETE, existing)
    else:
        op.allow(Action.WRITE, target)


def require_replaceable(
    op: Operation, node: Node, existing: Node | None, *, replace: bool, replace_folder: bool
) -> None:
    """Refuse to replace what the caller did not mean to lose.

    Without ``replace_folder`` only a file gives way to a file, and an empty folder to a folder,
    as in rename(2): an SFTP client does not expect a folder to vanish with all it holds.
    """
    if existing is None:
        return
    if node.path.is_within(existing.path):
        raise IntoItselfError("A folder cannot be replaced by something that lies in it.")
    if not replace:
        raise AlreadyExistsError("A file or folder of the new name exists already.")
    if replace_folder or merges(node, existing):
        return
    if existing.is_folder and not node.is_folder:
        raise IsAFolderError("The new name is a folder's.")
    if not existing.is_folder:
        raise NotAFolderError("The new name is a file's.")
    if op.own_writes(existing.path) or not op.vault.is_empty(op.tx, existing):
        raise NotEmptyError("The folder of the new name is not empty.")


def require_same_tree(node: Node, folder: Node) -> None:
    """Refuse what leads to another share, or into itself."""
    if node.share.id != folder.share.id:
        raise CrossShareError(
            "Nothing can be moved or copied from one share to another in one step, because each "
            "has keys of its own. Download it and upload it there."
        )
    if node.is_folder and folder.path.is_within(node.path):
        raise IntoItselfError("A folder cannot be moved or copied into itself.")


def require_reachable(op: Operation, node: Node, target: VirtualPath) -> None:
    """Refuse to put anything so deep that no path leads to it."""
    if not node.is_folder or len(target.parts) <= len(node.path.parts):
        return
    if len(target.parts) + op.vault.height(op.tx, node) > DEPTH_LIMIT:
        raise LimitError(f"Something in the folder would lie more than {DEPTH_LIMIT} levels deep.")


def remove(op: Operation, lineage: list[Node]) -> None:
    """Remove the last node of ``lineage`` and the locks on and below it."""
    op.require_unlocked(lineage, membership=True)
    locks.remove(op.tx, op.require_unlocked_below(lineage[-1]))
    op.vault.delete(op.tx, lineage[-1], author=op.principal_id)


def _forget(op: Operation, writing: list[tuple[VirtualPath, WriteHandle]]) -> None:
    def drop() -> None:
        for _, handle in writing:
            op.writes.remove(op.session.id, handle)
            handle.forget()

    if writing:
        op.afterwards.append(drop)


def _move_unfinished(
    op: Operation,
    source: VirtualPath,
    target: VirtualPath,
    there: list[Node],
    *,
    replace: bool,
) -> bool:
    """Rename a file that this session is still writing and that nobody else sees yet."""
    handle = op.own_write(source)
    if handle is None and op.unfinished(source, op.lineage(source)) is not None:
        raise ConflictError(_CUT_OFF)
    if handle is None:
        raise NotFoundError("There is no such file or folder.")
    existing = op.at_end(there, target)
    if existing is not None and not replace:
        raise AlreadyExistsError("A file or folder of the new name exists already.")
    if existing is not None and existing.is_folder:
        raise IsAFolderError("The new name is a folder's.")
    folder = op.folder_for(target, there)
    if folder.share.name != handle.target.share:
        raise CrossShareError("A file that is being written cannot change its share.")
    op.require_unlocked(there, membership=False)
    node_id = None if existing is None else existing.id
    new_target = Target(folder.share.name, folder.id, target.name, node_id)

    def retarget() -> None:
        op.writes.retarget(op.session.id, source, new_target)
        op.writes.move(op.session.id, source, target)

    op.afterwards.append(retarget)
    return existing is None
