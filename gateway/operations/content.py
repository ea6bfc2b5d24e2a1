"""Bodies of the operations on content: opening for reading and writing, and committing."""

from __future__ import annotations

from dataclasses import dataclass

from backends.draft import Draft, SealedContent
from backends.errors import (
    AlreadyExistsError,
    ConflictError,
    IsAFolderError,
    LengthMismatchError,
    NotFoundError,
    ParentMissingError,
)
from backends.vault import Node, Vault
from gateway.handles import Source, Target, Terms, WriteHandle
from gateway.model import Action, Kind, NodeInfo, Transaction
from gateway.operations.operation import Operation, present_id
from gateway.paths import VirtualPath

ABSENT = ""
"""The ``base`` of a write that must find no file of that name."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What a write begins with."""

    info: NodeInfo
    draft: Draft
    target: Target
    kept: bool
    """Whether the draft began with what the file held; not with what its uploader had sent."""
    resumes: bool
    """Whether it began with what its uploader had sent before."""
    credit_bytes: int
    """How much of what the quota counts goes away when it is committed."""
    reserves: bool
    """Whether so much was announced that its room must be reserved."""


def keep_unfinished(
    tx: Transaction,
    vault: Vault,
    handle: WriteHandle,
    sealed: SealedContent,
    principal_id: str,
) -> None:
    """Keep what arrived of an upload that was cut off, for its uploader to go on with.

    Raises QuotaExceededError, ConflictError when the name holds something else by now, and
    NotFoundError for a share or folder that is no more.
    """
    target = handle.target
    share = vault.share(tx, target.share)
    folder = vault.locate(tx, target.share, target.folder_id)
    if folder is None:
        raise ParentMissingError("The folder was deleted while the file was being written.")
    present = present_id(vault.find(tx, folder.path.child(target.name)))
    base_id = bytes.fromhex(handle.info.version_id)
    if present != base_id:
        raise ConflictError("Somebody else has stored a file of that name meanwhile.")
    earlier = vault.unfinished.find(tx, share, folder.id, target.name, principal_id=principal_id)
    upload = handle.draft.version_id
    vault.room.release(tx, upload)
    replaced_bytes = 0 if earlier is None else earlier.row.size_bytes
    vault.room.require_quota(tx, share, sealed.size_bytes - replaced_bytes, upload=upload)
    vault.unfinished.keep(
        tx,
        share,
        folder.id,
        target.name,
        sealed,
        principal_id=principal_id,
        base_id=base_id,
        modified_us=handle.present_info.modified_us,
    )


def open_read(op: Operation, path: VirtualPath) -> tuple[NodeInfo, Source, bool]:
    """Return a file's content, its manifest verified; the principal's own unfinished one first.

    True beside it: it is nothing but what the principal itself has sent.
    """
    writing = op.own_write(path)
    upload = None if writing is not None else op.unfinished(path, op.lineage(path))
    own = upload is not None or (writing is not None and not writing.kept)
    if own:
        op.allow_stat(path, own=True)
    else:
        op.allow(Action.READ, path)
    if writing is not None:
        return writing.present_info, writing, own
    if upload is not None:
        return upload.info(path), op.vault.unfinished.open(op.tx, upload), own
    node = op.require(path)
    if node.is_folder:
        raise IsAFolderError("This is a folder, not a file.")
    return node.info(), op.vault.open_content(op.tx, node), own


def open_write(
    op: Operation, path: VirtualPath, terms: Terms, *, create: bool, keep: bool
) -> Opening:
    """Return a draft for the file at ``path``, new or present."""
    lineage = op.lineage(path)
    node = op.at_end(lineage, path)
    op.action = (Action.CREATE if node is None else Action.WRITE).value
    op.allow(Action(op.action), path)
    upload = op.unfinished(path, lineage)
    if node is None and not create and not (keep and upload is not None):
        raise NotFoundError("There is no such file.")
    if node is not None:
        op.concerns(node)
        if not terms.replace:
            raise AlreadyExistsError("A file or folder of that name exists already.")
        if node.is_folder:
            raise IsAFolderError("This is a folder, not a file.")
    _require_base(node, terms)
    folder = op.folder_for(path, lineage)
    op.require_unlocked(lineage, membership=False)
    credit_bytes = 0 if upload is None else upload.row.size_bytes
    if node is not None and not folder.share.settings.versions_keep:
        credit_bytes += node.row.size_bytes
    size_bytes = terms.expected_size or 0
    op.vault.room.require_quota(op.tx, folder.share, size_bytes - credit_bytes)
    op.vault.room.require_disk(size_bytes)
    resumes = keep and upload is not None
    base = None
    if upload is not None and resumes:
        base = op.vault.unfinished.open(op.tx, upload)
    elif keep and node is not None:
        base = op.vault.open_content(op.tx, node)
    return Opening(
        info=_new_info(path, op.now_us) if node is None else node.info(),
        draft=op.vault.draft(folder.share, base),
        target=Target(folder.share.name, folder.id, path.name, None if node is None else node.id),
        kept=base is not None and not resumes,
        resumes=resumes,
        credit_bytes=credit_bytes,
        reserves=op.vault.room.worth_reserving(folder.share, size_bytes),
    )


def commit(op: Operation, handle: WriteHandle, sealed: SealedContent | None) -> NodeInfo:
    """Make ``sealed`` the current content where the handle's target lies now.

    ``sealed`` None: nothing was changed, and the file stays as it is. Policy, locks and the
    client's conditions are judged again, because all may have changed during a long upload.
    """
    folder, node = _committed_place(op, handle)
    path = folder.path.child(handle.target.name) if node is None else node.path
    op.path = path
    op.action = Action.CREATE.value if node is None else Action.WRITE.value
    op.bytes = handle.received_bytes
    op.allow(Action.CREATE if node is None else Action.WRITE, path)
    if node is not None:
        op.concerns(node)
        if not handle.terms.replace:
            raise AlreadyExistsError("Somebody else has made a file of that name meanwhile.")
        if node.is_folder:
            raise IsAFolderError("Somebody else has made a folder of that name meanwhile.")
    if not handle.complete:
        raise LengthMismatchError(
            f"{handle.size_bytes} bytes arrived instead of the announced "
            f"{handle.terms.expected_size}; nothing was stored."
        )
    _require_base(node, handle.terms)
    op.require_unlocked(op.lineage(path), membership=False)
    if handle.reservation is not None:
        op.vault.room.release(op.tx, handle.draft.version_id)
    modified_us = op.now_us if handle.modified_us is None else handle.modified_us
    author = op.principal_id
    if handle.resumes and sealed is None:
        # Opened and closed without a byte: the upload is still cut off where it was.
        return handle.present_info
    unfinished = op.unfinished(path, [*op.lineage(folder.path), *([] if node is None else [node])])
    if unfinished is not None:
        op.vault.unfinished.remove(op.tx, unfinished)
    if node is None and sealed is None:
        raise NotFoundError("The file was deleted while it was open, and nothing was written.")
    if node is None:
        assert sealed is not None
        node = op.vault.add_file(
            op.tx, folder, path.name, sealed, modified_us=modified_us, author=author
        )
    elif sealed is not None:
        node = op.vault.add_version(op.tx, node, sealed, modified_us=modified_us, author=author)
    elif handle.modified_us is not None:
        node = op.vault.set_modified(op.tx, node, handle.modified_us)
    op.concerns(node)
    return node.info()


def _committed_place(op: Operation, handle: WriteHandle) -> tuple[Node, Node | None]:
    """Return the folder and, if there is one, the file that a commit goes to."""
    target = handle.target
    folder = op.vault.locate(op.tx, target.share, target.folder_id)
    if target.node_id is not None:
        node = op.vault.locate(op.tx, target.share, target.node_id)
        if node is not None:
            parent = op.vault.locate(op.tx, target.share, node.row.parent_id)
            assert parent is not None
            return parent, node
    if folder is None:
        raise ParentMissingError("The folder was deleted while the file was being written.")
    return folder, op.find(folder.path.child(target.name))


def _require_base(node: Node | None, terms: Terms) -> None:
    present = ABSENT if node is None else node.row.version_id.hex()
    if terms.base is not None and terms.base != present:
        raise ConflictError("The file has changed since you opened it; look at it again first.")


def _new_info(path: VirtualPath, now_us: int) -> NodeInfo:
    return NodeInfo(path, Kind.FILE, created_us=now_us, modified_us=now_us)
