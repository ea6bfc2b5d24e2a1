"""Statements for what no longer needs to be kept: old versions, the trash, unused segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from backends.catalog.engine import connection_of, writer_of
from backends.catalog.schema import extents, nodes, segments, versions
from gateway.model import Transaction


@dataclass(frozen=True, slots=True)
class Dated:
    """A version with what retention needs to know of it."""

    id: bytes
    created_us: int
    size_bytes: int


_HISTORY = (
    sa.select(versions.c.id, versions.c.created_us, versions.c.size_bytes)
    .where(versions.c.node_id == sa.bindparam("node_id"))
    .order_by(versions.c.created_us.desc(), versions.c.id.desc())
)
_UNUSED = ~sa.exists().where(extents.c.segment_id == segments.c.id)


def history(tx: Transaction, node_id: bytes) -> list[Dated]:
    """Return the node's versions, newest first."""
    rows = connection_of(tx).execute(_HISTORY, {"node_id": node_id})
    return [Dated(*row) for row in rows]


def remove_versions(tx: Transaction, version_ids: Sequence[bytes]) -> None:
    """Remove versions and their extents."""
    connection = writer_of(tx)
    connection.execute(extents.delete().where(extents.c.version_id.in_(version_ids)))
    connection.execute(versions.delete().where(versions.c.id.in_(version_ids)))


def files_with_old_versions(
    tx: Transaction, share_id: bytes, before_us: int, after_id: bytes, limit: int
) -> list[tuple[bytes, bytes]]:
    """Return (node id, current version id) of live files with versions made before ``before_us``.

    In the order of node ids, from the one after ``after_id`` on.
    """
    rows = connection_of(tx).execute(
        sa.select(nodes.c.id, nodes.c.version_id)
        .join(versions, versions.c.node_id == nodes.c.id)
        .where(
            nodes.c.share_id == share_id,
            nodes.c.id > after_id,
            nodes.c.deleted_us.is_(None),
            versions.c.id != nodes.c.version_id,
            versions.c.created_us < before_us,
        )
        .distinct()
        .order_by(nodes.c.id)
        .limit(limit)
    )
    return [(row.id, row.version_id) for row in rows]


def trashed(tx: Transaction, share_id: bytes, before_us: int, limit: int) -> list[bytes]:
    """Return nodes of the share that were deleted before ``before_us``."""
    rows = connection_of(tx).execute(
        sa.select(nodes.c.id)
        .where(nodes.c.share_id == share_id, nodes.c.deleted_us < before_us)
        .limit(limit)
    )
    return list(rows.scalars())


def all_children(tx: Transaction, parent_id: bytes) -> list[tuple[bytes, bool]]:
    """Return (id, is_folder) of everything whose parent this is, trashed or not."""
    rows = connection_of(tx).execute(
        sa.select(nodes.c.id, nodes.c.is_folder).where(nodes.c.parent_id == parent_id)
    )
    return [(row.id, row.is_folder) for row in rows]


def is_folder(tx: Transaction, node_id: bytes) -> bool | None:
    """Return whether the node, trashed or not, is a folder; None when there is none."""
    statement = sa.select(nodes.c.is_folder).where(nodes.c.id == node_id)
    return connection_of(tx).execute(statement).scalar()


def mark_orphans(tx: Transaction, now_us: int) -> None:
    """Note since when segments are unused, and forget that of those in use."""
    connection = writer_of(tx)
    connection.execute(
        segments.update()
        .where(segments.c.orphaned_us.is_(None), _UNUSED)
        .values(orphaned_us=now_us)
    )
    connection.execute(
        segments.update()
        .where(segments.c.orphaned_us.is_not(None), ~_UNUSED)
        .values(orphaned_us=None)
    )


def orphans(tx: Transaction, before_us: int, limit: int) -> list[bytes]:
    """Return segments that have been unused since before ``before_us``."""
    rows = connection_of(tx).execute(
        sa.select(segments.c.id).where(segments.c.orphaned_us < before_us, _UNUSED).limit(limit)
    )
    return list(rows.scalars())


def remove_segments(tx: Transaction, segment_ids: Sequence[bytes]) -> None:
    """Forget segments."""
    writer_of(tx).execute(segments.delete().where(segments.c.id.in_(segment_ids)))


def known_segments(tx: Transaction, segment_ids: Sequence[bytes]) -> frozenset[bytes]:
    """Return those of the segments that the catalog knows."""
    rows = connection_of(tx).execute(sa.select(segments.c.id).where(segments.c.id.in_(segment_ids)))
    return frozenset(rows.scalars())
