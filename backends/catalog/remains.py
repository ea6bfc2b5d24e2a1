"""Statements over what is left of a share whose keys were destroyed, and of that act itself.

The rows are of no use without the keys, so that nothing vouches for them and no counter is kept:
for shares that are still there, ``backends.ledger`` removes rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from backends.catalog import keys
from backends.catalog.schema import (
    locks,
    nodes,
    properties,
    quarantine,
    reservations,
    unfinished,
    vacated,
)
from backends.catalog.statement import Command, Query, parameter
from gateway.model import Transaction

_ACT = "destroyed/"

# The share hidden from the planner, which would search its nodes from the start for each page.
_IN_SHARE = sa.func.coalesce(nodes.c.share_id, nodes.c.share_id) == parameter("share_id")
_NODES = Query(
    sa.select(nodes.c.id)
    .where(nodes.c.id > parameter("after_id"), _IN_SHARE)
    .order_by(nodes.c.id)
    .limit(parameter("count"))
)
_THIS = parameter("node_id")
_OF_NODE = (
    Command(locks.delete().where(locks.c.node_id == _THIS)),
    Command(properties.delete().where(properties.c.node_id == _THIS)),
    Command(vacated.delete().where(vacated.c.folder_id == _THIS)),
    Command(nodes.delete().where(nodes.c.id == _THIS)),
)
_OF_SHARE = tuple(
    Command(table.delete().where(table.c.share_id == parameter("share_id")))
    for table in (unfinished, reservations, quarantine)
)


def nodes_of_share(tx: Transaction, share_id: bytes, after_id: bytes, count: int) -> list[bytes]:
    """Return up to ``count`` ids of the share's nodes, live or not, after ``after_id``."""
    rows = _NODES.rows(tx, share_id=share_id, after_id=after_id, count=count)
    return [row[0] for row in rows]


def remove_nodes(tx: Transaction, node_ids: Sequence[bytes]) -> None:
    """Remove nodes with all that hangs on them but their versions."""
    these = [{"node_id": node_id} for node_id in node_ids]
    for command in _OF_NODE:
        command.many(tx, these)


def remove_rest(tx: Transaction, share_id: bytes) -> None:
    """Remove the share's unfinished uploads, reservations and quarantine."""
    for command in _OF_SHARE:
        command.run(tx, share_id=share_id)


def note_act(tx: Transaction, share_id: bytes, note: bytes) -> None:
    """Note that the keys of a share were destroyed and it is not yet cleared away."""
    keys.put_setting(tx, _ACT + share_id.hex(), note)


def acts(tx: Transaction) -> dict[bytes, bytes]:
    """Return the notes of every such share, by its id."""
    found = keys.settings_beginning(tx, _ACT)
    return {bytes.fromhex(key.removeprefix(_ACT)): note for key, note in found.items()}


def forget_act(tx: Transaction, share_id: bytes) -> None:
    """Forget a share that was cleared away."""
    keys.remove_setting(tx, _ACT + share_id.hex())
