"""Bodies of the operations on locks: take, refresh, give back, tell."""

from __future__ import annotations

from collections.abc import Callable

from backends.catalog import locks
from backends.catalog.locks import LockRow
from backends.errors import LimitError, NotFoundError
from backends.vault import Node
from gateway import locking
from gateway.errors import LockTokenError
from gateway.model import SECOND_US, Action, LockInfo
from gateway.operations.operation import Operation
from gateway.paths import VirtualPath

_OWNER_LIMIT_CHARS = 8 * 1024


def take(
    op: Operation,
    path: VirtualPath,
    *,
    exclusive: bool,
    depth_infinity: bool,
    owner: str,
    timeout_s: int,
    new_token: Callable[[], str],
) -> tuple[LockInfo, bool]:
    """Lock a node; a missing one is made first, as an empty file (RFC 4918 section 7.3)."""
    op.allow(Action.LOCK, path)
    if len(owner) > _OWNER_LIMIT_CHARS:
        raise LimitError("The lock's owner element is longer than 8 KiB; shorten it.")
    lineage = op.lineage(path)
    created = len(lineage) < len(path.parts)
    if created:
        lineage.append(_empty_file(op, path, lineage))
    node = lineage[-1]
    op.concerns(node)
    rows = locking.covering(op.tx, lineage, op.now_us, membership=False)
    if depth_infinity:
        rows += locks.at_or_below(op.tx, node.id, op.now_us)
    locking.require_compatible(rows, exclusive=exclusive)
    if locks.count_of(op.tx, op.principal_id, op.now_us) >= locking.LOCK_LIMIT:
        raise LimitError(f"You hold {locking.LOCK_LIMIT} locks already; close some files first.")
    timeout_s = min(max(timeout_s, 1), locking.TIMEOUT_LIMIT_S)
    token = new_token()
    row = LockRow(
        token=token,
        node_id=node.id,
        exclusive=exclusive,
        depth_infinity=depth_infinity,
        principal_id=op.principal_id,
        principal_name=op.session.principal.display_name or op.session.principal.name,
        owner_sealed=node.share.records.seal(owner.encode("utf-8"), token.encode("ascii")),
        timeout_s=timeout_s,
        expires_us=op.now_us + timeout_s * SECOND_US,
    )
    locks.insert_lock(op.tx, row)
    return locking.described(row, node.path, owner, op.principal_id), created


def refresh(op: Operation, path: VirtualPath, token: str, *, timeout_s: int) -> LockInfo:
    """Give one of the principal's own locks a new end."""
    op.allow(Action.LOCK, path)
    row, node = _own_lock(op, path, token)
    timeout_s = min(max(timeout_s, 1), locking.TIMEOUT_LIMIT_S)
    expires_us = op.now_us + timeout_s * SECOND_US
    locks.refresh(op.tx, token, timeout_s=timeout_s, expires_us=expires_us)
    refreshed = row._replace(timeout_s=timeout_s, expires_us=expires_us)
    return locking.described(refreshed, node.path, _owner(node, row), op.principal_id)


def give_back(op: Operation, path: VirtualPath, token: str) -> None:
    """Remove one of the principal's own locks."""
    op.allow(Action.LOCK, path)
    _own_lock(op, path, token)
    locks.remove(op.tx, [token])


def tell(op: Operation, path: VirtualPath, *, below: bool) -> list[LockInfo]:
    """Return the locks that cover the node, and with ``below`` those on its children."""
    node = None if path.is_root else op.find(path)
    own = node is not None and node.row.created_by == op.principal_id
    op.allow_stat(path, own=own)
    if node is None or not locks.any_live(op.tx, op.now_us):
        return []
    op.concerns(node)
    lineage = {each.id: each for each in op.lineage(path)}
    rows = locking.covering(op.tx, list(lineage.values()), op.now_us, membership=False)
    if below and node.is_folder:
        on_children = locks.on_children(op.tx, node.id, op.now_us)
        if on_children:
            children = {each.id: each for each in op.vault.children(op.tx, node)}
            shown = {node_id: each for node_id, each in children.items() if op.shows(each)}
            lineage |= shown
            rows += [row for row in on_children if row.node_id in shown]
    return [
        locking.described(
            row, lineage[row.node_id].path, _owner(lineage[row.node_id], row), op.principal_id
        )
        for row in rows
    ]


def _own_lock(op: Operation, path: VirtualPath, token: str) -> tuple[LockRow, Node]:
    """Return the principal's live lock of that token that covers ``path``."""
    op.require(path)
    lineage = op.lineage(path)
    for row in locking.covering(op.tx, lineage, op.now_us, membership=False):
        if row.token == token and row.principal_id == op.principal_id:
            return row, next(node for node in lineage if node.id == row.node_id)
    raise LockTokenError("This token names no lock of yours on this file; it may have run out.")


def _empty_file(op: Operation, path: VirtualPath, lineage: list[Node]) -> Node:
    op.allow(Action.CREATE, path)
    folder = op.folder_for(path, lineage)
    op.require_unlocked(lineage, membership=False)
    if op.own_write(path) is not None:
        raise NotFoundError("The file is still being written; lock it when it is complete.")
    return op.vault.add_file(
        op.tx,
        folder,
        path.name,
        op.vault.draft(folder.share, None).seal(),
        modified_us=op.now_us,
        author=op.principal_id,
    )


def _owner(node: Node, row: LockRow) -> str:
    return node.share.records.unseal(row.owner_sealed, row.token.encode("ascii")).decode("utf-8")
