"""Statements over locks. What a lock forbids is decided in the monitor, not here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from backends.catalog.engine import connection_of, writer_of
from backends.catalog.schema import locks, nodes
from gateway.model import Transaction


@dataclass(frozen=True, slots=True)
class LockRow:
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


_COLUMNS = tuple(locks.c[name] for name in LockRow.__slots__)
_ON_NODES = sa.select(*_COLUMNS).where(
    locks.c.node_id.in_(sa.bindparam("node_ids", expanding=True)),
    locks.c.expires_us > sa.bindparam("now_us"),
)
_ON_CHILDREN = (
    sa.select(*_COLUMNS)
    .join(nodes, nodes.c.id == locks.c.node_id)
    .where(
        nodes.c.parent_id == sa.bindparam("parent_id"),
        locks.c.expires_us > sa.bindparam("now_us"),
    )
)
_ANY = sa.select(sa.literal(1)).where(locks.c.expires_us > sa.bindparam("now_us")).limit(1)
_BELOW = sa.text(
    """
    WITH RECURSIVE chain(token, id) AS (
        SELECT token, node_id FROM locks WHERE expires_us > :now_us
        UNION
        SELECT chain.token, nodes.parent_id FROM chain JOIN nodes ON nodes.id = chain.id
    )
    SELECT token FROM chain WHERE id = :node_id
    """
).bindparams(sa.bindparam("node_id", type_=sa.LargeBinary))


def any_live(tx: Transaction, now_us: int) -> bool:
    """Return whether any lock lives at all: the quick way past every lock check."""
    return connection_of(tx).execute(_ANY, {"now_us": now_us}).first() is not None


def on_nodes(tx: Transaction, node_ids: Sequence[bytes], now_us: int) -> list[LockRow]:
    """Return the live locks that lie directly on any of the nodes."""
    rows = connection_of(tx).execute(_ON_NODES, {"node_ids": list(node_ids), "now_us": now_us})
    return [LockRow(*row) for row in rows]


def on_children(tx: Transaction, parent_id: bytes, now_us: int) -> list[LockRow]:
    """Return the live locks that lie directly on children of the folder."""
    rows = connection_of(tx).execute(_ON_CHILDREN, {"parent_id": parent_id, "now_us": now_us})
    return [LockRow(*row) for row in rows]


def at_or_below(tx: Transaction, node_id: bytes, now_us: int) -> list[LockRow]:
    """Return the live locks on the node and on everything below it."""
    connection = connection_of(tx)
    tokens = connection.execute(_BELOW, {"node_id": node_id, "now_us": now_us}).scalars().all()
    rows = connection.execute(sa.select(*_COLUMNS).where(locks.c.token.in_(tokens)))
    return [LockRow(*row) for row in rows]


def count_of(tx: Transaction, principal_id: str, now_us: int) -> int:
    """Return how many live locks the principal holds."""
    statement = sa.select(sa.func.count()).where(
        locks.c.principal_id == principal_id, locks.c.expires_us > now_us
    )
    return int(connection_of(tx).execute(statement).scalar_one())


def insert(tx: Transaction, row: LockRow) -> None:
    """Add a lock."""
    writer_of(tx).execute(locks.insert(), {name: getattr(row, name) for name in LockRow.__slots__})


def refresh(tx: Transaction, token: str, *, timeout_s: int, expires_us: int) -> None:
    """Give a lock a new end."""
    writer_of(tx).execute(
        locks.update()
        .where(locks.c.token == token)
        .values(timeout_s=timeout_s, expires_us=expires_us)
    )


def remove(tx: Transaction, tokens: Sequence[str]) -> None:
    """Remove locks by token."""
    if tokens:
        writer_of(tx).execute(locks.delete().where(locks.c.token.in_(tokens)))


def remove_expired(tx: Transaction, now_us: int) -> int:
    """Remove every lock that has run out; return how many."""
    result = writer_of(tx).execute(locks.delete().where(locks.c.expires_us <= now_us))
    return int(result.rowcount)
