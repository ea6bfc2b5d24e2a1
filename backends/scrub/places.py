"""Where a node lies, as far as a damaged catalog tells. Imports the catalog and the share."""

from __future__ import annotations

from backends.catalog import nodes
from backends.catalog.nodes import NodeRow
from backends.errors import IntegrityError
from backends.share import Share
from gateway.model import Transaction

STEP_LIMIT = 1000
"""The most folders walked up; a path is at most 128 deep, and folders of a cycle never end."""

UNKNOWN = "?"
"""Stands in a path for a name that does not verify, and for the way to a folder that is gone."""

WRONG_TYPE = (TypeError, AttributeError, ValueError)
"""What a value of a type that Sealgate never writes leads to."""


def path_of(tx: Transaction, share: Share, node_id: bytes) -> str:
    """Return the path of a node, live or in the trash; UNKNOWN in the place of what is gone."""
    parts: list[str] = []
    row = nodes.any_by_id(tx, node_id)
    while row is not None and row.id != share.row.root_id and len(parts) < STEP_LIMIT:
        parts.append(_name_of(share, row))
        row = nodes.any_by_id(tx, row.parent_id)
    if row is None or len(parts) == STEP_LIMIT:
        parts = [*parts[:1], UNKNOWN]
    return "/".join(("", share.name, *reversed(parts)))


def hangs_together(tx: Transaction, share: Share, row: NodeRow) -> bool:
    """Return whether the way up from the node ends at the root of its share."""
    for _ in range(STEP_LIMIT):
        if row.id == share.row.root_id:
            return True
        parent = nodes.any_by_id(tx, row.parent_id)
        if parent is None or not parent.is_folder or parent.share_id != share.id:
            return False
        row = parent
    return False


def _name_of(share: Share, row: NodeRow) -> str:
    try:
        return share.names.unseal(row.parent_id, row.name_sealed)
    except (IntegrityError, *WRONG_TYPE):
        return UNKNOWN
