"""Bodies of the operations on locks: take, refresh, give back, tell."""

from __future__ import annotations

from collections.abc import Callable

from auth.limits import lock_timeout_s
from auth.policy import visible_shares
from backends.catalog import locks
from backends.catalog.locks import LockRow
from backends.errors import LimitError, NotFoundError
from backends.vault import Node
from gateway import locking
from gateway.errors import LockHolderError, LockLimitError, LockTokenError
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
    if depth_infinity:
        op.allow_below(Action.LOCK, node)
    if not created:
        op.require_condition()
    _require_compatible(op, lineage, exclusive=exclusive, depth_infinity=depth_infinity)
    if locks.count_of(op.tx, op.principal_id, op.now_us) >= locking.LOCK_LIMIT:
        raise LockLimitError(
            f"You hold {locking.LOCK_LIMIT} locks already; close some files, or wait until they "
            "run out."
        )
    timeout_s = _granted_s(op, timeout_s)
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
    op.require_condition()
    timeout_s = _granted_s(op, timeout_s)
    expires_us = op.now_us + timeout_s * SECOND_US
    locks.refresh(op.tx, token, timeout_s=timeout_s, expires_us=expires_us)
    refreshed = row._replace(timeout_s=timeout_s, expires_us=expires_us)
    return locking.described(refreshed, node.path, _owner(node, row), op.principal_id)


def give_back(op: Operation, path: VirtualPath, token: str) -> None:
    """Remove one of the principal's own locks."""
    op.allow(Action.LOCK, path)
    _own_lock(op, path, token)
    op.require_condition()
    locks.remove(op.tx, [token])


def tell(op: Operation, path: VirtualPath, *, below: bool) -> list[LockInfo]:
    """Return the locks that cover the node, and with ``below`` those on its children."""
    lineage = op.lineage(path)
    node = op.at_end(lineage, path)
    own = node is not None and node.row.created_by == op.principal_id
    op.allow_stat(path, own=own)
    if node is not None:
        op.concerns(node)
    if not locks.any_live(op.tx, op.now_us):
        return []
    places = {each.id: each for each in lineage}
    found: list[tuple[LockRow, Node]] = []
    if node is not None:
        rows = locking.covering(op.tx, lineage, op.now_us)
        found = [(row, places[row.node_id]) for row in rows]
    if below:
        found += _on_children(op, path, node)
    return [
        locking.described(row, place.path, _owner(place, row), op.principal_id)
        for row, place in found
    ]


def _on_children(
    op: Operation, path: VirtualPath, folder: Node | None
) -> list[tuple[LockRow, Node]]:
    """Return the locks on what a listing of ``path`` shows; those of shares for the root."""
    if path.is_root:
        names = visible_shares(op.policy, op.session.principal, op.situation)
        shares = {each.id: each for name in names if (each := op.find(VirtualPath((name,))))}
        rows = locks.on_nodes(op.tx, list(shares), op.now_us)
        return [(row, shares[row.node_id]) for row in rows]
    if folder is None or not folder.is_folder:
        return []
    found = []
    for row in locks.on_children(op.tx, folder.id, op.now_us):
        child = op.vault.locate(op.tx, folder.share.name, row.node_id)
        if child is not None and op.shows(child):
            found.append((row, child))
    return found


def _own_lock(op: Operation, path: VirtualPath, token: str) -> tuple[LockRow, Node]:
    """Return the principal's live lock of that token that covers ``path``."""
    op.require(path)
    lineage = op.lineage(path)
    for row in locking.covering(op.tx, lineage, op.now_us):
        if row.token == token and row.principal_id != op.principal_id:
            raise LockHolderError
        if row.token == token:
            return row, next(node for node in lineage if node.id == row.node_id)
    raise LockTokenError("This token names no lock of yours on this file; it may have run out.")


def _granted_s(op: Operation, asked_s: int) -> int:
    """Return how long a lock lives, of what the client asked for."""
    return min(max(asked_s, 1), lock_timeout_s(op.policy, op.session.principal))


def _require_compatible(
    op: Operation, lineage: list[Node], *, exclusive: bool, depth_infinity: bool
) -> None:
    """Refuse a new lock on the last node of ``lineage`` that conflicts with one that is there.

    What lies below may be hidden from the asker: where a lock lies there is told only if a
    listing would show it.
    """
    node = lineage[-1]
    above = locking.covering(op.tx, lineage, op.now_us)
    row = locking.conflicting(above, exclusive=exclusive)
    if row is not None:
        root = next(each for each in lineage if each.id == row.node_id)
        raise locking.refusal(row, root, conflict=True)
    if not depth_infinity or not node.is_folder:
        return
    below = locks.at_or_below(op.tx, node.id, op.now_us)
    row = locking.conflicting(below, exclusive=exclusive)
    if row is not None:
        place = op.vault.locate(op.tx, node.share.name, row.node_id)
        shown = place if place is not None and op.shows(place) else None
        raise locking.refusal(row, shown, conflict=True)


def _empty_file(op: Operation, path: VirtualPath, lineage: list[Node]) -> Node:
    op.allow(Action.CREATE, path)
    folder = op.folder_for(path, lineage)
    op.require_condition()
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
