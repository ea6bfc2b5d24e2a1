"""Bodies of the operations on content: opening for reading and writing, and committing."""

from __future__ import annotations

from dataclasses import dataclass

from backends.draft import FILE_LIMIT_BYTES, Draft, SealedContent
from backends.errors import (
    AlreadyExistsError,
    ConflictError,
    IsAFolderError,
    LengthMismatchError,
    LimitError,
    NotFoundError,
    ParentMissingError,
)
from backends.vault import Node, Vault
from gateway.handles import WriteHandle
from gateway.model import Action, Kind, NodeInfo, Transaction
from gateway.open_file import OpenFile, Source, Target, Terms
from gateway.operations.operation import Operation, present_id
from gateway.paths import VirtualPath


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
    file: OpenFile,
    sealed: SealedContent,
    principal_id: str,
) -> None:
    """Keep what arrived of an upload that was cut off, for its uploader to go on with.

    Raises QuotaExceededError, ConflictError when the name holds something else by now, and
    NotFoundError for a share or folder that is no more.
    """
    target = file.target
    share = vault.share(tx, target.share)
    folder = vault.locate(tx, target.share, target.folder_id)
    if folder is None:
        raise ParentMissingError("The folder was deleted while the file was being written.")
    present = present_id(vault.find(tx, folder.path.child(target.name)))
    base_id = bytes.fromhex(file.info.version_id)
    if present != base_id:
        raise ConflictError("Somebody else has stored a file of that name meanwhile.")
    earlier = vault.unfinished.find(tx, share, folder.id, target.name, principal_id=principal_id)
    upload = file.draft.version_id
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
        modified_us=file.present_info.modified_us,
    )


def open_read(op: Operation, path: VirtualPath) -> tuple[NodeInfo, Source, bool]:
    """Return a file's content, its manifest verified; the principal's own unfinished one first.

    True beside it: it is nothing but what the principal itself has sent. What the session is
    writing is read as it grows, and when it was closed, as it was committed.
    """
    handle = op.own_write(path)
    writing = None if handle is None else handle.file
    upload = None if writing is not None else op.unfinished(path, op.lineage(path))
    own = upload is not None or (writing is not None and not writing.kept)
    if own:
        op.allow_stat(path, own=True)
    else:
        op.allow(Action.READ, path)
    if writing is not None:
        return writing.present_info, writing.source(), own
    if upload is not None:
        return upload.info(path), op.vault.unfinished.open(op.tx, upload), own
    node = op.require(path)
    if node.is_folder:
        raise IsAFolderError("This is a folder, not a file.")
    return node.info(), op.vault.open_content(op.tx, node), own


def open_write(
    op: Operation,
    path: VirtualPath,
    terms: Terms,
    file: OpenFile | None,
    *,
    create: bool,
    keep: bool,
) -> Opening | OpenFile:
    """Return a draft for the file at ``path``, new or present, or the open file to be joined.

    That is ``file``, what the session was writing there before the operation began. Whether it
    still is must be asked afterwards: what has ended since, the operation need not see.
    """
    lineage = op.lineage(path)
    node = op.at_end(lineage, path)
    op.action = (Action.CREATE if node is None else Action.WRITE).value
    op.allow(Action(op.action), path)
    if file is not None and not _goes_to(op, file, path):
        file = None
    upload = op.unfinished(path, lineage) if file is None else None
    if node is not None:
        op.concerns(node)
    if node is None and file is None:
        if not create and not (keep and upload is not None):
            raise NotFoundError("There is no such file.")
    elif not terms.replace:
        raise AlreadyExistsError("A file or folder of that name exists already.")
    if node is not None and node.is_folder:
        raise IsAFolderError("This is a folder, not a file.")
    folder = op.folder_for(path, lineage)
    op.require_condition()
    op.require_unlocked(lineage, membership=False)
    if file is not None:
        return file
    credit_bytes = 0 if upload is None else upload.row.size_bytes
    if node is not None and not folder.share.settings.versions_keep:
        credit_bytes += node.row.size_bytes
    size_bytes = terms.expected_size or 0
    if size_bytes > FILE_LIMIT_BYTES:
        raise LimitError("A file cannot be larger than 64 TiB.")
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


def commit(op: Operation, handle: WriteHandle, sealed: SealedContent | None) -> Node | None:
    """Make ``sealed`` the current content where the handle's file goes to now; return that node.

    ``sealed`` None: nothing was changed, and the file stays as it is, which may be nowhere: None.
    Policy, locks and the client's conditions are judged again, because all may have changed during
    a long upload. A version that only a sync had made goes, unless others have built upon it.
    """
    file = handle.file
    folder, node = _committed_place(op, file)
    path = folder.path.child(file.target.name) if node is None else node.path
    op.path = path
    op.action = Action.CREATE.value if node is None else Action.WRITE.value
    op.bytes = handle.received_bytes
    op.allow(Action.CREATE if node is None or _is_own(file, node) else Action.WRITE, path)
    if node is not None:
        op.concerns(node)
        if not file.terms.replace:
            raise AlreadyExistsError("Somebody else has made a file of that name meanwhile.")
        if node.is_folder:
            raise IsAFolderError("Somebody else has made a folder of that name meanwhile.")
    if not file.complete:
        raise LengthMismatchError(
            f"{file.size_bytes} bytes arrived instead of the announced "
            f"{file.terms.expected_size}; nothing was stored."
        )
    op.require_condition()
    op.require_unlocked(op.lineage(path), membership=False)
    if file.reservation is not None:
        op.vault.room.release(op.tx, file.draft.version_id)
    if sealed is None and (file.resumes or (node is None and file.committed)):
        # An upload that is still cut off where it was, or a file that others deleted since.
        return None
    unfinished = op.unfinished(path, [*op.lineage(folder.path), *([] if node is None else [node])])
    if unfinished is not None:
        op.vault.unfinished.remove(op.tx, unfinished)
    wanted_us = file.modified_us
    modified_us = op.now_us if wanted_us is None else wanted_us
    author = op.principal_id
    if node is None:
        if sealed is None:
            raise NotFoundError("The file was deleted while it was open, and nothing was written.")
        node = op.vault.add_file(
            op.tx, folder, path.name, sealed, modified_us=modified_us, author=author
        )
    elif sealed is not None:
        if node.row.version_id.hex() == file.synced_id:
            op.vault.past.forget(op.tx, node.share, node.row)
        node = op.vault.add_version(op.tx, node, sealed, modified_us=modified_us, author=author)
    elif wanted_us is not None:
        node = op.vault.set_modified(op.tx, node, wanted_us)
    op.concerns(node)
    return node


def _is_own(file: OpenFile, node: Node) -> bool:
    """Return whether ``node`` was made through this open file, and holds nobody else's content."""
    return file.made and file.committed and file.info.version_id == node.row.version_id.hex()


def _goes_to(op: Operation, file: OpenFile, path: VirtualPath) -> bool:
    """Return whether a commit would go to ``path`` still; others may have renamed the file."""
    try:
        folder, node = _committed_place(op, file)
    except ParentMissingError:
        return False
    return path == (folder.path.child(file.target.name) if node is None else node.path)


def _committed_place(op: Operation, file: OpenFile) -> tuple[Node, Node | None]:
    """Return the folder and, if there is one, the file that a commit goes to."""
    target = file.target
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


def _new_info(path: VirtualPath, now_us: int) -> NodeInfo:
    return NodeInfo(path, Kind.FILE, created_us=now_us, modified_us=now_us)
