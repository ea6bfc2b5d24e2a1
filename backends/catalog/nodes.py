"""Statements over nodes: finding, listing, adding, changing and removing rows of the tree.

Rows carry a MAC that is made and checked above (``backends.ledger``), which alone calls what
changes rows here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import sqlalchemy as sa

from backends.catalog.schema import nodes, properties, shares
from backends.catalog.statement import Command, Query, insert, parameter
from backends.errors import IntegrityError
from gateway.model import Transaction

NO_VERSION = b""

ASIDE_US = 0
"""``deleted_us`` of a node that is neither in the tree nor in the trash, and to be removed."""

STAGED_US = 1
"""``deleted_us`` of the top of a copy that is not complete yet."""

TRASH_FROM_US = 2
"""The first ``deleted_us`` of what lies in the trash."""


class NodeRow(NamedTuple):
    """One row of ``nodes``. ``deleted_us`` None: it lives."""

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
    deleted_us: int | None = None
    deleted_by: str | None = None
    mac: bytes = b""


class EntryRow(NamedTuple):
    """What a listing needs of a live node; nothing of it but the name is authenticated."""

    id: bytes
    name_sealed: bytes
    is_folder: bool
    version_id: bytes
    size_bytes: int
    created_us: int
    modified_us: int
    created_by: str
    properties_sealed: bytes | None


_COLUMNS = tuple(nodes.c[name] for name in NodeRow._fields)
_LIVE = nodes.c.deleted_us.is_(None)
_IN_FOLDER = nodes.c.parent_id == parameter("parent_id")
_AT_NAME = nodes.c.name_sealed == parameter("name_sealed")
_THIS = nodes.c.id == parameter("node_id")

_BY_NAME = Query(sa.select(*_COLUMNS).where(_IN_FOLDER, _AT_NAME, _LIVE))
_BY_ID = Query(sa.select(*_COLUMNS).where(_THIS, _LIVE))
_ANY_BY_ID = Query(sa.select(*_COLUMNS).where(_THIS))
_CHILDREN = Query(sa.select(*_COLUMNS).where(_IN_FOLDER, _LIVE))
_ANY_CHILDREN = Query(sa.select(*_COLUMNS).where(_IN_FOLDER).limit(parameter("count")))
_KINDS_IN = Query(
    sa.select(nodes.c.id, nodes.c.is_folder).where(_IN_FOLDER, _LIVE).limit(parameter("count"))
)
_ENTRY_COLUMNS = tuple(nodes.c[name] for name in EntryRow._fields[:-1])
_NEXT_NAMES = (_IN_FOLDER, _LIVE, nodes.c.name_sealed > parameter("after"))
_ENTRIES = Query(
    sa.select(*_ENTRY_COLUMNS, sa.null())
    .where(*_NEXT_NAMES)
    .order_by(nodes.c.name_sealed)
    .limit(parameter("count"))
)
_HAS_CHILD = Query(sa.select(sa.literal_column("1")).where(_IN_FOLDER, _LIVE).limit(1))
_OF_SHARE = Query(
    sa.select(*_COLUMNS)
    .where(nodes.c.share_id == parameter("share_id"), nodes.c.id > parameter("after_id"))
    .order_by(nodes.c.id)
    .limit(parameter("count"))
)
_TRASHED = Query(
    sa.select(*_COLUMNS)
    .where(
        nodes.c.share_id == parameter("share_id"),
        nodes.c.deleted_us >= parameter("since_us"),
        nodes.c.deleted_us < parameter("before_us"),
    )
    .order_by(nodes.c.deleted_us, nodes.c.id)
    .limit(parameter("count"))
)
_OF_NODE = sa.bindparam("node_id", type_=sa.LargeBinary)
_HEIGHT = Query(
    sa.text(
        """
        WITH RECURSIVE below(id, level) AS (
            SELECT id, 0 FROM nodes WHERE id = :node_id
            UNION ALL
            SELECT nodes.id, below.level + 1
            FROM below JOIN nodes ON nodes.parent_id = below.id
            WHERE nodes.deleted_us IS NULL AND below.level < :enough
        )
        SELECT max(level) FROM below
        """
    ).bindparams(_OF_NODE)
)
_LIVE_BELOW = """
    WITH RECURSIVE below(id, parent_id, is_folder, size_bytes) AS (
        SELECT id, parent_id, is_folder, size_bytes FROM nodes WHERE id = :node_id
        UNION
        SELECT nodes.id, nodes.parent_id, nodes.is_folder, nodes.size_bytes
        FROM below JOIN nodes ON nodes.parent_id = below.id
        WHERE nodes.deleted_us IS NULL
    )
    """
_BELOW, _SIZE_BELOW = (
    Query(sa.text(f"{_LIVE_BELOW} SELECT {what} FROM below").bindparams(_OF_NODE))  # noqa: S608  constants
    for what in ("id, parent_id, is_folder", "coalesce(sum(size_bytes), 0)")
)
_INSERT = insert(nodes, *NodeRow._fields)
_UPDATES: dict[frozenset[str], Command] = {}
_REMOVE = Command(nodes.delete().where(_THIS))

_THESE = properties.c.node_id == parameter("node_id")
_PROPERTIES = Query(sa.select(properties.c.properties_sealed).where(_THESE))
_ENTRIES_WITH_PROPERTIES = Query(
    sa.select(*_ENTRY_COLUMNS, properties.c.properties_sealed)
    .outerjoin(properties, nodes.c.id == properties.c.node_id)
    .where(*_NEXT_NAMES)
    .order_by(nodes.c.name_sealed)
    .limit(parameter("count"))
)
_REMOVE_PROPERTIES = Command(properties.delete().where(_THESE))
_INSERT_PROPERTIES = insert(properties)

_FOLDERS = Query(
    sa.select(nodes.c.id, nodes.c.parent_id).where(
        nodes.c.share_id == parameter("share_id"), nodes.c.is_folder.is_(sa.true())
    )
)
_PROPERTIES_OF_SHARE = Query(
    sa.select(properties.c.node_id, properties.c.properties_sealed)
    .join(nodes, nodes.c.id == properties.c.node_id)
    .where(nodes.c.share_id == parameter("share_id"), properties.c.node_id > parameter("after_id"))
    .order_by(properties.c.node_id)
    .limit(parameter("count"))
)
_OWNERLESS_PROPERTIES = Query(
    sa.select(sa.func.count())
    .select_from(properties)
    .where(~sa.exists().where(nodes.c.id == properties.c.node_id))
)
_UNKNOWN_SHARES = Query(
    sa.select(nodes.c.share_id)
    .where(~sa.exists().where(shares.c.id == nodes.c.share_id))
    .distinct()
)


def by_name(tx: Transaction, parent_id: bytes, name_sealed: bytes) -> NodeRow | None:
    """Return the live node of that sealed name in the folder."""
    row = _BY_NAME.first(tx, parent_id=parent_id, name_sealed=name_sealed)
    return None if row is None else NodeRow(*row)


def by_id(tx: Transaction, node_id: bytes) -> NodeRow | None:
    """Return the live node of that id."""
    row = _BY_ID.first(tx, node_id=node_id)
    return None if row is None else NodeRow(*row)


def any_by_id(tx: Transaction, node_id: bytes) -> NodeRow | None:
    """Return the node of that id, live or not."""
    row = _ANY_BY_ID.first(tx, node_id=node_id)
    return None if row is None else NodeRow(*row)


def children(tx: Transaction, parent_id: bytes) -> list[NodeRow]:
    """Return the live nodes of the folder, in no order."""
    return [NodeRow(*row) for row in _CHILDREN.each(tx, parent_id=parent_id)]


def any_children(tx: Transaction, parent_id: bytes, count: int) -> list[NodeRow]:
    """Return up to ``count`` nodes of the folder, live or not, in no order."""
    return [NodeRow(*row) for row in _ANY_CHILDREN.rows(tx, parent_id=parent_id, count=count)]


def below(tx: Transaction, node_id: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Yield (id, folder, is folder) of every live node below one, folders before what they hold."""
    for found_id, folder_id, is_folder in _BELOW.each(tx, node_id=node_id):
        if found_id != node_id:
            yield found_id, folder_id, bool(is_folder)


def kinds_in(tx: Transaction, parent_id: bytes, count: int) -> list[tuple[bytes, bool]]:
    """Return (id, is folder) of up to ``count`` live nodes of the folder, in no order."""
    rows = _KINDS_IN.rows(tx, parent_id=parent_id, count=count)
    return [(node_id, bool(is_folder)) for node_id, is_folder in rows]


def size_below(tx: Transaction, node_id: bytes) -> int:
    """Return the bytes of the live files at and below the node, without their old versions."""
    return int(_SIZE_BELOW.value(tx, node_id=node_id))


def entries(
    tx: Transaction, parent_id: bytes, after: bytes, count: int, *, with_properties: bool = False
) -> list[EntryRow]:
    """Return up to ``count`` live nodes of the folder, by sealed name from behind ``after`` on."""
    query = _ENTRIES_WITH_PROPERTIES if with_properties else _ENTRIES
    rows = query.rows(tx, parent_id=parent_id, after=after, count=count)
    return list(map(EntryRow._make, rows))


def has_child(tx: Transaction, parent_id: bytes) -> bool:
    """Return whether the folder holds any live node."""
    return _HAS_CHILD.first(tx, parent_id=parent_id) is not None


def of_share(tx: Transaction, share_id: bytes, after_id: bytes, count: int) -> list[NodeRow]:
    """Return up to ``count`` nodes of the share, live or not, by id from after ``after_id`` on."""
    rows = _OF_SHARE.rows(tx, share_id=share_id, after_id=after_id, count=count)
    return [NodeRow(*row) for row in rows]


def trashed(
    tx: Transaction, share_id: bytes, *, since_us: int, before_us: int, count: int
) -> list[NodeRow]:
    """Return up to ``count`` nodes of the share that were deleted in a span, oldest first."""
    rows = _TRASHED.rows(tx, share_id=share_id, since_us=since_us, before_us=before_us, count=count)
    return [NodeRow(*row) for row in rows]


def height(tx: Transaction, node_id: bytes, enough: int) -> int:
    """Return how many levels of live nodes lie below the node, counting up to ``enough``."""
    return int(_HEIGHT.value(tx, node_id=node_id, enough=enough))


def add(tx: Transaction, rows: list[NodeRow]) -> None:
    """Add nodes; the names must be free in their folders."""
    _INSERT.many(tx, [row._asdict() for row in rows])


def put(tx: Transaction, row: NodeRow, columns: frozenset[str]) -> None:
    """Store ``columns`` of the row of that id; IntegrityError when the catalog has lost it.

    Only what changes: the indexes over the other columns are then left alone.
    """
    update = _UPDATES.get(columns)
    if update is None:
        update = _UPDATES[columns] = Command(nodes.update().where(_THIS), *sorted(columns))
    values = {name: getattr(row, name) for name in columns}
    if update.run(tx, node_id=row.id, **values) != 1:
        raise IntegrityError(f"Node {row.id.hex()} is not in the catalog any more.")


def remove(tx: Transaction, node_ids: list[bytes]) -> None:
    """Remove nodes and their properties for good."""
    these = [{"node_id": node_id} for node_id in node_ids]
    _REMOVE.many(tx, these)
    _REMOVE_PROPERTIES.many(tx, these)


def properties_of(tx: Transaction, node_id: bytes) -> bytes | None:
    """Return the sealed properties of one node."""
    sealed: bytes | None = _PROPERTIES.value(tx, node_id=node_id)
    return sealed


def put_properties(tx: Transaction, node_id: bytes, sealed: bytes | None) -> None:
    """Replace the sealed properties of one node; None removes them."""
    _REMOVE_PROPERTIES.run(tx, node_id=node_id)
    if sealed is not None:
        _INSERT_PROPERTIES.run(tx, node_id=node_id, properties_sealed=sealed)


def folders_of_share(tx: Transaction, share_id: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield every folder of the share, live or not, with the node that it says it lies in."""
    yield from _FOLDERS.each(tx, share_id=share_id)


def properties_of_share(
    tx: Transaction, share_id: bytes, after_id: bytes, count: int
) -> list[tuple[bytes, bytes]]:
    """Return up to ``count`` (node id, sealed properties) of the share, after ``after_id``."""
    rows = _PROPERTIES_OF_SHARE.rows(tx, share_id=share_id, after_id=after_id, count=count)
    return [(node_id, sealed) for node_id, sealed in rows]


def count_ownerless_properties(tx: Transaction) -> int:
    """Return how many nodes have properties and are not there."""
    return int(_OWNERLESS_PROPERTIES.value(tx))


def unknown_shares(tx: Transaction) -> list[bytes]:
    """Return the ids of shares that have nodes and are not there themselves."""
    return [row[0] for row in _UNKNOWN_SHARES.rows(tx)]
