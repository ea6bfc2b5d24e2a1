"""Statements over versions, their extents and the segments that these lie in.

Rows of versions carry a MAC that is made and checked above (``backends.history``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa

from backends.catalog.schema import extents, nodes, segments, versions
from backends.catalog.statement import Command, Query, insert, parameter
from backends.extents import Extent
from gateway.model import Transaction


class VersionRow(NamedTuple):
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


class SegmentRow(NamedTuple):
    """One row of ``segments``, as far as reading needs it."""

    id: bytes
    share_id: bytes
    epoch: int
    size_sealed_bytes: int


class Dated(NamedTuple):
    """A version with what retention needs to know of it."""

    id: bytes
    created_us: int
    size_bytes: int
    mac: bytes


_COLUMNS = tuple(versions.c[name] for name in VersionRow._fields)
_DATED = tuple(versions.c[name] for name in Dated._fields)
_SEGMENT_COLUMNS = tuple(segments.c[name] for name in SegmentRow._fields)
_NEWEST_FIRST = (versions.c.created_us.desc(), versions.c.id.desc())
_OF_THIS_NODE = versions.c.node_id == parameter("node_id")
_THIS = versions.c.id == parameter("version_id")
_OF_THIS = extents.c.version_id == parameter("version_id")

_BY_ID = Query(sa.select(*_COLUMNS).where(_THIS))
_OF_NODE = Query(sa.select(*_COLUMNS).where(_OF_THIS_NODE).order_by(*_NEWEST_FIRST))
_DATED_OF_NODE = Query(sa.select(*_DATED).where(_OF_THIS_NODE).order_by(*_NEWEST_FIRST))
_COUNT_OF_NODE = Query(sa.select(sa.func.count()).where(_OF_THIS_NODE))
_OF_SHARE = Query(
    sa.select(*_COLUMNS)
    .where(versions.c.share_id == parameter("share_id"), versions.c.id > parameter("after_id"))
    .order_by(versions.c.id)
    .limit(parameter("count"))
)
_UNHASHED = Query(
    sa.select(*_COLUMNS)
    .where(
        versions.c.share_id == parameter("share_id"),
        versions.c.sha256_sealed.is_(None),
        versions.c.id > parameter("after_id"),
    )
    .order_by(versions.c.id)
    .limit(parameter("count"))
)
# The share hidden from the planner, which would sort all its versions for each page of them.
_IN_SHARE = sa.func.coalesce(versions.c.share_id, versions.c.share_id) == parameter("share_id")
_LIES_UNDER_OLDER_EPOCH = sa.exists().where(
    extents.c.version_id == versions.c.id,
    segments.c.id == extents.c.segment_id,
    segments.c.epoch < parameter("epoch"),
)
_TO_RESEAL = Query(
    sa.select(versions.c.id)
    .where(
        versions.c.id > parameter("after_id"),
        _IN_SHARE,
        sa.or_(versions.c.epoch < parameter("epoch"), _LIES_UNDER_OLDER_EPOCH),
    )
    .order_by(versions.c.id)
    .limit(parameter("count"))
)
_PLACES_UNDER_OLDER_EPOCH = Query(
    sa.select(*_SEGMENT_COLUMNS, extents.c.block_start)
    .join(extents, extents.c.segment_id == segments.c.id)
    .where(
        _OF_THIS,
        extents.c.block_start >= parameter("from_block"),
        segments.c.epoch < parameter("epoch"),
    )
    .order_by(extents.c.block_start)
    .limit(parameter("count"))
)
_TOTALS_BY_EPOCH = Query(
    sa.select(
        versions.c.epoch,
        sa.func.count(),
        sa.func.coalesce(sa.func.sum(sa.func.length(versions.c.inline_sealed)), 0),
    )
    .where(versions.c.share_id == parameter("share_id"))
    .group_by(versions.c.epoch)
)
_IDS_OF_SHARE = Query(
    sa.select(versions.c.id)
    .where(versions.c.share_id == parameter("share_id"))
    .limit(parameter("count"))
)
_EXTENTS = Query(
    sa.select(
        extents.c.block_start, extents.c.block_count, extents.c.segment_id, extents.c.chunk_start
    )
    .where(_OF_THIS)
    .order_by(extents.c.block_start)
)
_SEGMENTS = Query(
    sa.select(*_SEGMENT_COLUMNS)
    .join(extents, extents.c.segment_id == segments.c.id)
    .where(_OF_THIS)
    .distinct()
)
_SEGMENT = Query(sa.select(*_SEGMENT_COLUMNS).where(segments.c.id == parameter("segment_id")))
_USERS = Query(
    sa.select(extents.c.version_id)
    .where(extents.c.segment_id == parameter("segment_id"))
    .distinct()
)
_LIVE_FILES_WITH_OLD = Query(
    sa.select(nodes.c.id)
    .join(versions, versions.c.node_id == nodes.c.id)
    .where(
        nodes.c.share_id == parameter("share_id"),
        nodes.c.id > parameter("after_id"),
        nodes.c.deleted_us.is_(None),
        versions.c.id != nodes.c.version_id,
        versions.c.created_us < parameter("before_us"),
    )
    .distinct()
    .order_by(nodes.c.id)
    .limit(parameter("count"))
)
_INSERT = insert(versions, *VersionRow._fields)
_PUT = Command(versions.update().where(_THIS), *VersionRow._fields)
_INSERT_EXTENTS = insert(extents)
_INSERT_SEGMENTS = insert(segments, *SegmentRow._fields, "created_us", "verified_us")
_REPLACE_SEGMENT = Command(
    extents.update()
    .where(_OF_THIS, extents.c.segment_id == parameter("old_id"))
    .values(segment_id=parameter("new_id"))
)
_REMOVE = Command(versions.delete().where(_THIS))
_REMOVE_EXTENTS = Command(extents.delete().where(_OF_THIS))


def by_id(tx: Transaction, version_id: bytes) -> VersionRow | None:
    """Return the version of that id."""
    row = _BY_ID.first(tx, version_id=version_id)
    return None if row is None else VersionRow(*row)


def of_node(tx: Transaction, node_id: bytes) -> list[VersionRow]:
    """Return every version of the node, newest first."""
    return [VersionRow(*row) for row in _OF_NODE.each(tx, node_id=node_id)]


def dated(tx: Transaction, node_id: bytes) -> list[Dated]:
    """Return the node's versions as retention sees them, newest first."""
    return [Dated(*row) for row in _DATED_OF_NODE.each(tx, node_id=node_id)]


def count_of_node(tx: Transaction, node_id: bytes) -> int:
    """Return how many versions the node has."""
    return int(_COUNT_OF_NODE.value(tx, node_id=node_id))


def of_share(tx: Transaction, share_id: bytes, after_id: bytes, count: int) -> list[VersionRow]:
    """Return up to ``count`` versions of the share, by id from after ``after_id`` on."""
    rows = _OF_SHARE.rows(tx, share_id=share_id, after_id=after_id, count=count)
    return [VersionRow(*row) for row in rows]


def unhashed(tx: Transaction, share_id: bytes, after_id: bytes, count: int) -> list[VersionRow]:
    """Return versions whose SHA-256 is not known, by id from after ``after_id`` on."""
    rows = _UNHASHED.rows(tx, share_id=share_id, after_id=after_id, count=count)
    return [VersionRow(*row) for row in rows]


def to_reseal(
    tx: Transaction, share_id: bytes, epoch: int, after_id: bytes, count: int
) -> list[bytes]:
    """Return the ids of versions that lie, whole or in part, under an epoch before ``epoch``.

    In the order of their ids, from the one after ``after_id`` on.
    """
    rows = _TO_RESEAL.rows(tx, share_id=share_id, epoch=epoch, after_id=after_id, count=count)
    return [row[0] for row in rows]


def places_under_older_epoch(
    tx: Transaction, version_id: bytes, epoch: int, from_block: int, count: int
) -> list[tuple[SegmentRow, int]]:
    """Return (segment, block) where the version lies in segments of an epoch before ``epoch``.

    In the order of the blocks, from ``from_block`` on; a segment comes once for each extent.
    """
    rows = _PLACES_UNDER_OLDER_EPOCH.rows(
        tx, version_id=version_id, epoch=epoch, from_block=from_block, count=count
    )
    return [(SegmentRow(*row[:-1]), row[-1]) for row in rows]


def totals_by_epoch(tx: Transaction, share_id: bytes) -> dict[int, tuple[int, int]]:
    """Return (versions, sealed bytes inside their rows) of a share under each epoch."""
    rows = _TOTALS_BY_EPOCH.rows(tx, share_id=share_id)
    return {epoch: (int(count), int(size_bytes)) for epoch, count, size_bytes in rows}


def ids_of_share(tx: Transaction, share_id: bytes, count: int) -> list[bytes]:
    """Return up to ``count`` versions of the share."""
    return [row[0] for row in _IDS_OF_SHARE.rows(tx, share_id=share_id, count=count)]


def extents_of(tx: Transaction, version_id: bytes) -> tuple[Extent, ...]:
    """Return the extents of the version in the order of their blocks."""
    return tuple(Extent(*row) for row in _EXTENTS.each(tx, version_id=version_id))


def segments_of(tx: Transaction, version_id: bytes) -> tuple[SegmentRow, ...]:
    """Return the segments that the version's extents lie in."""
    return tuple(SegmentRow(*row) for row in _SEGMENTS.each(tx, version_id=version_id))


def segment(tx: Transaction, segment_id: bytes) -> SegmentRow | None:
    """Return the segment of that id."""
    row = _SEGMENT.first(tx, segment_id=segment_id)
    return None if row is None else SegmentRow(*row)


def users_of(tx: Transaction, segment_id: bytes) -> list[bytes]:
    """Return the ids of the versions that have an extent in the segment."""
    return [row[0] for row in _USERS.each(tx, segment_id=segment_id)]


def files_with_old_versions(
    tx: Transaction, share_id: bytes, before_us: int, after_id: bytes, count: int
) -> list[bytes]:
    """Return live files with versions, the current one aside, made before ``before_us``.

    In the order of node ids, from the one after ``after_id`` on. Looks at every file of the share
    until there are ``count``: for a snapshot, not for a transaction that others wait for.
    """
    rows = _LIVE_FILES_WITH_OLD.rows(
        tx, share_id=share_id, before_us=before_us, after_id=after_id, count=count
    )
    return [row[0] for row in rows]


def add(tx: Transaction, row: VersionRow, version_extents: Sequence[Extent]) -> None:
    """Add a version with its extents."""
    _INSERT.run(tx, **row._asdict())
    _add_extents(tx, row.id, version_extents)


def put(tx: Transaction, row: VersionRow, version_extents: Sequence[Extent] | None = None) -> None:
    """Replace the row of that id, and unless None its extents."""
    _PUT.run(tx, version_id=row.id, **row._asdict())
    if version_extents is not None:
        _REMOVE_EXTENTS.run(tx, version_id=row.id)
        _add_extents(tx, row.id, version_extents)


def replace_segment(tx: Transaction, version_id: bytes, old_id: bytes, new_id: bytes) -> None:
    """Let the version's extents in one segment lie in another that holds the same chunks."""
    _REPLACE_SEGMENT.run(tx, version_id=version_id, old_id=old_id, new_id=new_id)


def add_segments(tx: Transaction, rows: Sequence[SegmentRow], created_us: int) -> None:
    """Add segments that were written, and so verified, at ``created_us``."""
    now = {"created_us": created_us, "verified_us": created_us}
    _INSERT_SEGMENTS.many(tx, [row._asdict() | now for row in rows])


def remove(tx: Transaction, version_ids: Sequence[bytes]) -> None:
    """Remove versions and their extents."""
    these = [{"version_id": version_id} for version_id in version_ids]
    _REMOVE_EXTENTS.many(tx, these)
    _REMOVE.many(tx, these)


def _add_extents(tx: Transaction, version_id: bytes, added: Sequence[Extent]) -> None:
    _INSERT_EXTENTS.many(
        tx,
        [
            {
                "version_id": version_id,
                "block_start": extent.block_start,
                "block_count": extent.block_count,
                "segment_id": extent.segment_id,
                "chunk_start": extent.chunk_start,
            }
            for extent in added
        ],
    )
