"""Statements over versions, their extents and the segments that these lie in."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from backends.catalog.engine import connection_of, writer_of
from backends.catalog.schema import extents, segments, versions
from backends.extents import Extent
from gateway.model import Transaction


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One row of ``versions``; ``sha256_sealed`` is None until the hash is known.

    It is sealed: a plain hash would let whoever has the disk confirm a content, or guess it.
    """

    id: bytes
    node_id: bytes
    share_id: bytes
    epoch: int
    size_bytes: int
    sha256_sealed: bytes | None
    modified_us: int
    created_us: int
    author: str
    inline_sealed: bytes | None
    mac: bytes


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """One row of ``segments``."""

    id: bytes
    share_id: bytes
    epoch: int
    size_sealed_bytes: int


_COLUMNS = tuple(versions.c[name] for name in VersionRow.__slots__)
_BY_ID = sa.select(*_COLUMNS).where(versions.c.id == sa.bindparam("id"))
_OF_NODE = (
    sa.select(*_COLUMNS)
    .where(versions.c.node_id == sa.bindparam("node_id"))
    .order_by(versions.c.created_us.desc(), versions.c.id.desc())
)
_EXTENTS = (
    sa.select(
        extents.c.block_start, extents.c.block_count, extents.c.segment_id, extents.c.chunk_start
    )
    .where(extents.c.version_id == sa.bindparam("version_id"))
    .order_by(extents.c.block_start)
)
_SEGMENTS = (
    sa.select(*(segments.c[name] for name in SegmentRow.__slots__))
    .join(extents, extents.c.segment_id == segments.c.id)
    .where(extents.c.version_id == sa.bindparam("version_id"))
    .distinct()
)


def by_id(tx: Transaction, version_id: bytes) -> VersionRow | None:
    """Return the version of that id."""
    row = connection_of(tx).execute(_BY_ID, {"id": version_id}).first()
    return None if row is None else VersionRow(*row)


def of_node(tx: Transaction, node_id: bytes) -> list[VersionRow]:
    """Return every version of the node, newest first."""
    return [VersionRow(*row) for row in connection_of(tx).execute(_OF_NODE, {"node_id": node_id})]


def extents_of(tx: Transaction, version_id: bytes) -> tuple[Extent, ...]:
    """Return the extents of the version in the order of their blocks."""
    rows = connection_of(tx).execute(_EXTENTS, {"version_id": version_id})
    return tuple(Extent(*row) for row in rows)


def segments_of(tx: Transaction, version_id: bytes) -> tuple[SegmentRow, ...]:
    """Return the segments that the version's extents lie in."""
    rows = connection_of(tx).execute(_SEGMENTS, {"version_id": version_id})
    return tuple(SegmentRow(*row) for row in rows)


def insert(tx: Transaction, row: VersionRow, version_extents: tuple[Extent, ...]) -> None:
    """Add a version with its extents."""
    connection = writer_of(tx)
    connection.execute(
        versions.insert(), {name: getattr(row, name) for name in VersionRow.__slots__}
    )
    if version_extents:
        connection.execute(
            extents.insert(),
            [
                {
                    "version_id": row.id,
                    "block_start": extent.block_start,
                    "block_count": extent.block_count,
                    "segment_id": extent.segment_id,
                    "chunk_start": extent.chunk_start,
                }
                for extent in version_extents
            ],
        )


def insert_segments(tx: Transaction, rows: tuple[SegmentRow, ...], created_us: int) -> None:
    """Add the segments that a new version brought."""
    if rows:
        writer_of(tx).execute(
            segments.insert(),
            [
                {name: getattr(row, name) for name in SegmentRow.__slots__}
                | {"created_us": created_us}
                for row in rows
            ],
        )


def count_of_node(tx: Transaction, node_id: bytes) -> int:
    """Return how many versions the node has."""
    statement = sa.select(sa.func.count()).where(versions.c.node_id == node_id)
    return int(connection_of(tx).execute(statement).scalar_one())


def remove_of_node(tx: Transaction, node_id: bytes) -> int:
    """Remove every version of the node; return how many plaintext bytes they held."""
    connection = writer_of(tx)
    of_node_ids = sa.select(versions.c.id).where(versions.c.node_id == node_id)
    freed = connection.execute(
        sa.select(sa.func.coalesce(sa.func.sum(versions.c.size_bytes), 0)).where(
            versions.c.node_id == node_id
        )
    ).scalar_one()
    connection.execute(extents.delete().where(extents.c.version_id.in_(of_node_ids)))
    connection.execute(versions.delete().where(versions.c.node_id == node_id))
    return int(freed)
