"""Statements over locks. What a lock forbids is decided in the monitor, not here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa

from backends.catalog.nodes import has_child
from backends.catalog.schema import locks, nodes
from backends.catalog.statement import Command, Query, insert, parameter
from gateway.model import Transaction


class LockRow(NamedTuple):
    """One row of ``locks``."""

    token: str
    node_id: bytes
    exclusive: bool
    depth_infinity: bool
    principal_id: str
    principal_name: str
    owner_sealed: bytes
    timeout_s: int
    expires_us: int


_COLUMNS = tuple(locks.c[name] for name in LockRow._fields)
_LIVE = locks.c.expires_us > parameter("now_us")
_THIS = locks.c.token == parameter("this_token")

_ON_NODE = Query(sa.select(*_COLUMNS).where(locks.c.node_id == parameter("node_id"), _LIVE))
_ON_CHILDREN = Query(
    sa.select(*_COLUMNS)
    .join(nodes, nodes.c.id == locks.c.node_id)
    .where(nodes.c.parent_id == parameter("parent_id"), _LIVE)
)
_ANY = Query(sa.select(sa.literal_column("1")).where(_LIVE).limit(1))
# Everything above any lock, each folder once: most changes are to what no lock lies in.
_IS_ABOVE_ANY = Query(
    sa.text(
        """
        WITH RECURSIVE above(id) AS (
            SELECT node_id FROM locks WHERE expires_us > :now_us
            UNION
            SELECT nodes.parent_id FROM above JOIN nodes ON nodes.id = above.id
        )
        SELECT 1 FROM above WHERE id = :node_id
        """
    ).bindparams(sa.bindparam("node_id", type_=sa.LargeBinary))
)
_LOCKED_BELOW = Query(
    sa.text(
        """
        WITH RECURSIVE above(locked_id, id) AS (
            SELECT node_id, node_id FROM locks WHERE expires_us > :now_us
            UNION
            SELECT above.locked_id, nodes.parent_id FROM above JOIN nodes ON nodes.id = above.id
        )
        SELECT locked_id FROM above WHERE id = :node_id
        """
    ).bindparams(sa.bindparam("node_id", type_=sa.LargeBinary))
)
_COUNT_OF = Query(
    sa.select(sa.func.count()).where(locks.c.principal_id == parameter("principal_id"), _LIVE)
)
_HOLDERS = Query(
    sa.select(locks.c.principal_id, sa.func.min(locks.c.principal_name))
    .where(_LIVE)
    .group_by(locks.c.principal_id)
)
_INSERT = insert(locks)
_REFRESH = Command(locks.update().where(_THIS), "timeout_s", "expires_us")
_REMOVE = Command(locks.delete().where(_THIS))
_REMOVE_OF = Command(locks.delete().where(locks.c.principal_id == parameter("principal_id")))
_REMOVE_EXPIRED = Command(locks.delete().where(locks.c.expires_us <= parameter("now_us")))


def any_live(tx: Transaction, now_us: int) -> bool:
    """Return whether any lock lives at all: the quick way past every lock check."""
    return _ANY.first(tx, now_us=now_us) is not None


def on_nodes(tx: Transaction, node_ids: Sequence[bytes], now_us: int) -> list[LockRow]:
    """Return the live locks that lie directly on any of the nodes."""
    return [
        LockRow(*row)
        for node_id in node_ids
        for row in _ON_NODE.rows(tx, node_id=node_id, now_us=now_us)
    ]


def on_children(tx: Transaction, parent_id: bytes, now_us: int) -> list[LockRow]:
    """Return the live locks that lie directly on children of the folder."""
    return [LockRow(*row) for row in _ON_CHILDREN.rows(tx, parent_id=parent_id, now_us=now_us)]


def at_or_below(tx: Transaction, node_id: bytes, now_us: int) -> list[LockRow]:
    """Return the live locks on the node and on everything below it, node by node."""
    if not has_child(tx, node_id):
        return on_nodes(tx, [node_id], now_us)
    if _IS_ABOVE_ANY.first(tx, node_id=node_id, now_us=now_us) is None:
        return []
    locked = [row[0] for row in _LOCKED_BELOW.rows(tx, node_id=node_id, now_us=now_us)]
    return on_nodes(tx, locked, now_us)


def count_of(tx: Transaction, principal_id: str, now_us: int) -> int:
    """Return how many live locks the principal holds."""
    return int(_COUNT_OF.value(tx, principal_id=principal_id, now_us=now_us))


def holders(tx: Transaction, now_us: int) -> dict[str, str]:
    """Return who holds live locks: the display name by principal id."""
    return dict(_HOLDERS.rows(tx, now_us=now_us))


def insert_lock(tx: Transaction, row: LockRow) -> None:
    """Add a lock."""
    _INSERT.run(tx, **row._asdict())


def refresh(tx: Transaction, token: str, *, timeout_s: int, expires_us: int) -> None:
    """Give a lock a new end."""
    _REFRESH.run(tx, this_token=token, timeout_s=timeout_s, expires_us=expires_us)


def remove(tx: Transaction, tokens: Sequence[str]) -> None:
    """Remove locks by token."""
    _REMOVE.many(tx, [{"this_token": token} for token in tokens])


def remove_of(tx: Transaction, principal_id: str) -> int:
    """Remove every lock of the principal; return how many."""
    return _REMOVE_OF.run(tx, principal_id=principal_id)


def remove_expired(tx: Transaction, now_us: int) -> int:
    """Remove every lock that has run out; return how many."""
    return _REMOVE_EXPIRED.run(tx, now_us=now_us)
