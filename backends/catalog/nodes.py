"""Statements over nodes: finding, listing, adding, changing and removing rows of the tree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from backends.catalog.engine import connection_of, writer_of
from backends.catalog.schema import nodes, properties
from backends.errors import IntegrityError
from gateway.model import Transaction

NO_VERSION = b""


@dataclass(frozen=True, slots=True)
class NodeRow:
    """One live row of ``nodes``."""

    id: bytes
    share_id: bytes
    parent_id: bytes
    name_sealed: bytes
    is_folder: bool
    version_id: bytes
    size_bytes: int
    created_us: int
    modified_us: int
    created_by: str


_COLUMNS = tuple(nodes.c[name] for name in NodeRow.__slots__)
_LIVE = nodes.c.deleted_us.is_(None)

_BY_NAME = sa.select(*_COLUMNS).where(
    nodes.c.parent_id == sa.bindparam("parent_id"),
    nodes.c.name_sealed == sa.bindparam("name_sealed"),
    _LIVE,
)
_BY_ID = sa.select(*_COLUMNS).where(nodes.c.id == sa.bindparam("id"), _LIVE)
_CHILDREN = sa.select(*_COLUMNS).where(nodes.c.parent_id == sa.bindparam("parent_id"), _LIVE)
_HAS_CHILD = (
    sa.select(sa.literal(1)).where(nodes.c.parent_id == sa.bindparam("parent_id"), _LIVE).limit(1)
)
_PROPERTIES = sa.select(properties.c.properties_sealed).where(
    properties.c.node_id == sa.bindparam("node_id")
)
_CHILD_PROPERTIES = (
    sa.select(properties.c.node_id, properties.c.properties_sealed)
    .join(nodes, nodes.c.id == properties.c.node_id)
    .where(nodes.c.parent_id == sa.bindparam("parent_id"), _LIVE)
)


def by_name(tx: Transaction, parent_id: bytes, name_sealed: bytes) -> NodeRow | None:
    """Return the live node of that sealed name in the folder."""
    row = (
        connection_of(tx)
        .execute(_BY_NAME, {"parent_id": parent_id, "name_sealed": name_sealed})
        .first()
    )
    return None if row is None else NodeRow(*row)


def by_id(tx: Transaction, node_id: bytes) -> NodeRow | None:
    """Return the live node of that id."""
    row = connection_of(tx).execute(_BY_ID, {"id": node_id}).first()
    return None if row is None else NodeRow(*row)


def children(tx: Transaction, parent_id: bytes) -> Iterator[NodeRow]:
    """Yield the live nodes of the folder, in no order, by one query."""
    for row in connection_of(tx).execute(_CHILDREN, {"parent_id": parent_id}):
        yield NodeRow(*row)


def has_child(tx: Transaction, parent_id: bytes) -> bool:
    """Return whether the folder holds any live node."""
    return connection_of(tx).execute(_HAS_CHILD, {"parent_id": parent_id}).first() is not None


def insert(tx: Transaction, row: NodeRow) -> None:
    """Add a live node; the name must be free in its folder."""
    writer_of(tx).execute(nodes.insert(), {name: getattr(row, name) for name in NodeRow.__slots__})


def update(tx: Transaction, node_id: bytes, **values: bytes | int | str | None) -> None:
    """Set columns of one node; IntegrityError when the catalog has lost it."""
    changed = writer_of(tx).execute(nodes.update().where(nodes.c.id == node_id).values(**values))
    if changed.rowcount != 1:
        raise IntegrityError(f"Node {node_id.hex()} is not in the catalog any more.")


def remove(tx: Transaction, node_id: bytes) -> None:
    """Remove the row of one node and its properties for good."""
    connection = writer_of(tx)
    connection.execute(nodes.delete().where(nodes.c.id == node_id))
    connection.execute(properties.delete().where(properties.c.node_id == node_id))


def properties_of(tx: Transaction, node_id: bytes) -> bytes | None:
    """Return the sealed properties of one node."""
    return connection_of(tx).execute(_PROPERTIES, {"node_id": node_id}).scalar()


def properties_of_children(tx: Transaction, parent_id: bytes) -> dict[bytes, bytes]:
    """Return the sealed properties of the folder's children that have any, by node id."""
    rows = connection_of(tx).execute(_CHILD_PROPERTIES, {"parent_id": parent_id})
    return {row.node_id: row.properties_sealed for row in rows}


def put_properties(tx: Transaction, node_id: bytes, sealed: bytes | None) -> None:
    """Replace the sealed properties of one node; None removes them."""
    connection = writer_of(tx)
    connection.execute(properties.delete().where(properties.c.node_id == node_id))
    if sealed is not None:
        connection.execute(properties.insert(), {"node_id": node_id, "properties_sealed": sealed})
