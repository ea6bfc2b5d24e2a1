"""Bodies of the operation that copies: at once, or the parts of one that is made in turns.

A large folder is planned in a snapshot, made in turns where nobody finds it (``gateway.staging``),
and attached at the end. Each turn asks policy for what it copies, at the place where that lies in
this very transaction, so that nothing comes along that moved out of the asker's sight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from auth.policy import Policy, rules_below
from backends.catalog import nodes
from backends.copies import CHANGED, Copied, StagedCopy
from backends.errors import ChangedMeanwhileError, IntoItselfError, LimitError
from backends.vault import Node
from gateway.model import Action, Principal
from gateway.operations import tree
from gateway.operations.operation import Operation
from gateway.paths import DEPTH_LIMIT, VirtualPath


@dataclass(frozen=True, slots=True)
class Request:
    """What a client wants copied."""

    source: VirtualPath
    target: VirtualPath
    replace: bool
    recursive: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """How a large folder is copied: ``asks_each``, policy may differ from node to node in it."""

    request: Request
    source_id: bytes
    policy: Policy
    principal: Principal
    asks_each: bool


def copy(op: Operation, request: Request, plan: Plan | None, staged: StagedCopy | None) -> bool:
    """Copy a node, sharing its content; True when nothing of the target's name existed.

    ``staged``: the complete copy that was made by ``plan``, and only has to be put in its place.
    """
    node, folder, there = _require_copyable(op, request, walk=plan is None)
    existing, name = op.at_end(there, request.target), request.target.name
    if plan is None and _is_large(op, node, request):
        raise ChangedMeanwhileError(CHANGED)
    if plan is not None:
        _require_as_planned(op, plan, node)
    if existing is not None and tree.merges(node, existing):
        op.vault.replace_content(op.tx, existing, node, author=op.principal_id)
        return False
    if existing is not None:
        tree.remove(op, there)
    if staged is not None:
        op.vault.copies.attach(op.tx, node.share, staged, folder.id, name)
    else:
        author, deep = op.principal_id, request.recursive
        op.vault.copy(op.tx, node, folder, name, author=author, deep=deep)
    return existing is None


def plan(op: Operation, request: Request) -> Plan | None:
    """Return how to copy what takes more than one transaction; None for anything else.

    Everything is asked that ``copy`` asks, so that a copy that cannot be is not begun.
    """
    source, target = request.source, request.target
    op.allow(Action.READ, source)
    node = op.require(source)
    if not _is_large(op, node, request):
        return None
    _require_copyable(op, request, walk=True)
    op.vault.room.require_quota(op.tx, node.share, nodes.size_below(op.tx, node.id))
    principal = op.session.principal
    asks_each = any(rules_below(op.policy, principal, top) for top in (source, target))
    return Plan(request, node.id, op.policy, principal, asks_each)


def begin(op: Operation, plan: Plan) -> StagedCopy:
    """Begin the copy with the folder itself."""
    node = _allowed(op, plan)
    return op.vault.copies.begin(
        op.tx, node.share, node.row, plan.request.target.name, author=op.principal_id
    )


def missing(op: Operation, plan: Plan, staged: StagedCopy) -> dict[bytes, list[bytes]]:
    """Return what lies below the source and is still to be copied, by folder, the upper ones first.

    That is at first everything; later what was there from the beginning and was moved meanwhile,
    and the folders that it may lie in now.
    """
    op.allow(Action.READ, plan.request.source)
    found: dict[bytes, list[bytes]] = {}
    first, begun = not staged.listed, staged.listed
    for node_id, folder_id, is_folder in nodes.below(op.tx, plan.source_id):
        if first:
            begun.add(node_id)
        if node_id not in staged.done and (is_folder or node_id in begun):
            found.setdefault(folder_id, []).append(node_id)
    return found


def require_complete(op: Operation, plan: Plan, staged: StagedCopy) -> None:
    """Raise ChangedMeanwhileError if anything that was there from the beginning is not copied."""
    found = missing(op, plan, staged)
    if any(node_id in staged.listed for node_ids in found.values() for node_id in node_ids):
        raise ChangedMeanwhileError(CHANGED)


def turn(
    op: Operation, plan: Plan, staged: StagedCopy, folder_id: bytes, node_ids: Sequence[bytes]
) -> list[Copied]:
    """Copy some nodes of a folder of the source, as far as they are still there."""
    source, target = plan.request.source, plan.request.target
    _allowed(op, plan)
    _, parts = staged.folders[folder_id]
    here, there = VirtualPath(source.parts + parts), VirtualPath(target.parts + parts)
    folder = op.vault.locate(op.tx, source.share, folder_id)
    if folder is None:
        # It was deleted; what it held when it was copied stays.
        return []
    if folder.path != here:
        raise ChangedMeanwhileError(CHANGED)
    if len(there.parts) >= DEPTH_LIMIT:
        raise LimitError(f"Something in the folder would lie more than {DEPTH_LIMIT} levels deep.")
    found = op.vault.copies.present(op.tx, folder.share, folder_id, node_ids)
    if plan.asks_each:
        for name, _ in found:
            op.allow(Action.READ, here.child(name))
            op.allow(Action.LIST, here.child(name))
            op.allow(Action.CREATE, there.child(name))
    return op.vault.copies.add(op.tx, folder.share, staged, folder_id, found)


def _allowed(op: Operation, plan: Plan) -> Node:
    """Return the source, of which policy still allows a part of the copy."""
    source = plan.request.source
    op.allow(Action.READ, source)
    op.allow(Action.LIST, source)
    op.allow(Action.CREATE, plan.request.target)
    node = op.require(source)
    _require_as_planned(op, plan, node)
    return node


def _require_as_planned(op: Operation, plan: Plan, node: Node) -> None:
    """Raise ChangedMeanwhileError if others may be copied, or what policy said may not hold."""
    now = (node.id, op.policy, op.session.principal)
    if now != (plan.source_id, plan.policy, plan.principal):
        raise ChangedMeanwhileError(CHANGED)


def _is_large(op: Operation, node: Node, request: Request) -> bool:
    return request.recursive and node.is_folder and op.vault.is_large(op.tx, node)


def _require_copyable(
    op: Operation, request: Request, *, walk: bool
) -> tuple[Node, Node, list[Node]]:
    """Return the node, the folder it is to be copied to, and what is there of the target.

    ``walk``: policy is asked for what lies below, too.
    """
    source, target = request.source, request.target
    op.allow(Action.READ, source)
    there = op.lineage(target)
    existing = op.at_end(there, target)
    node = op.require(source)
    if node.is_folder:
        op.allow(Action.LIST, source)
    tree.allow_target(op, target, existing, folder=node.is_folder)
    if source == target:
        raise IntoItselfError("A file or folder cannot be copied onto itself.")
    folder = op.folder_for(target, there)
    tree.require_same_tree(node, folder)
    tree.require_replaceable(
        op, node, existing, replace=request.replace, replace_folder=request.replace
    )
    if request.recursive and walk:
        tree.require_reachable(op, node, target)
        op.allow_below(Action.READ, node)
        op.allow_below(Action.LIST, node)
        op.allow_below(Action.CREATE, node, rebased=target)
    op.require_condition()
    op.require_unlocked(there, membership=False)
    return node, folder, there
