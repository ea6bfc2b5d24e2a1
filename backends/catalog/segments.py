"""Statements over segments as things to care for: unused, verified, damaged, forgotten ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from backends.catalog.schema import extents, quarantine, segments
from backends.catalog.statement import Command, Query, insert, parameter
from backends.catalog.versions import SegmentRow
from gateway.model import Transaction


class Damage(NamedTuple):
    """One row of ``quarantine``: a segment that did not verify, kept and never collected."""

    segment_id: bytes
    share_id: bytes
    found_us: int
    reason: str


_THIS = segments.c.id == parameter("segment_id")
_UNUSED = ~sa.exists().where(extents.c.segment_id == segments.c.id)
_QUARANTINED = sa.exists().where(quarantine.c.segment_id == segments.c.id)
_OF_SHARE = segments.c.share_id == parameter("share_id")
_COLUMNS = tuple(segments.c[name] for name in SegmentRow._fields)

_MARK = Command(
    segments.update()
    .where(segments.c.orphaned_us.is_(None), _UNUSED)
    .values(orphaned_us=parameter("now_us"))
)
_UNMARK = Command(
    segments.update()
    .where(segments.c.orphaned_us.is_not(None), ~_UNUSED)
    .values(orphaned_us=sa.null())
)
_ORPHANS = Query(
    sa.select(segments.c.id)
    .where(segments.c.orphaned_us < parameter("before_us"), _UNUSED, ~_QUARANTINED)
    .limit(parameter("count"))
)
_KNOWN = Query(sa.select(segments.c.id).where(_THIS))
_REMOVE = Command(segments.delete().where(_THIS))
_LEAST_RECENTLY_VERIFIED = Query(
    sa.select(*_COLUMNS)
    .where(segments.c.verified_us < parameter("before_us"), ~_UNUSED, ~_QUARANTINED)
    .order_by(segments.c.verified_us, segments.c.id)
    .limit(parameter("count"))
)
_VERIFIED = Command(segments.update().where(_THIS), "verified_us")
_TOTALS = Query(
    sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(segments.c.size_sealed_bytes), 0))
)
_EPOCH_TOTALS = Query(
    sa.select(
        segments.c.epoch,
        sa.func.count(),
        sa.func.coalesce(sa.func.sum(segments.c.size_sealed_bytes), 0),
    )
    .where(_OF_SHARE)
    .group_by(segments.c.epoch)
)
_IDS_OF_SHARE = Query(sa.select(segments.c.id).where(_OF_SHARE).limit(parameter("count")))
_QUARANTINE = insert(quarantine)
_RELEASE = Command(quarantine.delete().where(quarantine.c.segment_id == parameter("segment_id")))
_DAMAGES = Query(
    sa.select(*(quarantine.c[name] for name in Damage._fields)).order_by(
        quarantine.c.found_us, quarantine.c.segment_id
    )
)


def mark_orphans(tx: Transaction, now_us: int) -> None:
    """Note since when segments are unused, and forget that of those in use."""
    _MARK.run(tx, now_us=now_us)
    _UNMARK.run(tx)


def orphans(tx: Transaction, before_us: int, count: int) -> list[bytes]:
    """Return segments that have been unused since before ``before_us``."""
    return [row[0] for row in _ORPHANS.rows(tx, before_us=before_us, count=count)]


def remove(tx: Transaction, segment_ids: Sequence[bytes]) -> None:
    """Forget segments."""
    _REMOVE.many(tx, [{"segment_id": segment_id} for segment_id in segment_ids])


def known(tx: Transaction, segment_ids: Iterable[bytes]) -> frozenset[bytes]:
    """Return those of the segments that the catalog knows."""
    return frozenset(
        segment_id
        for segment_id in segment_ids
        if _KNOWN.first(tx, segment_id=segment_id) is not None
    )


def least_recently_verified(tx: Transaction, before_us: int, count: int) -> list[SegmentRow]:
    """Return segments in use that were last verified before ``before_us``, oldest first."""
    rows = _LEAST_RECENTLY_VERIFIED.rows(tx, before_us=before_us, count=count)
    return [SegmentRow(*row) for row in rows]


def note_verified(tx: Transaction, segment_ids: Sequence[bytes], now_us: int) -> None:
    """Note that the segments verified at ``now_us``."""
    _VERIFIED.many(
        tx, [{"segment_id": segment_id, "verified_us": now_us} for segment_id in segment_ids]
    )


def totals(tx: Transaction) -> tuple[int, int]:
    """Return how many segments there are and how many sealed bytes they hold."""
    count, size_bytes = _TOTALS.first(tx) or (0, 0)
    return int(count), int(size_bytes)


def totals_by_epoch(tx: Transaction, share_id: bytes) -> dict[int, tuple[int, int]]:
    """Return (segments, sealed bytes) of a share under each epoch."""
    rows = _EPOCH_TOTALS.rows(tx, share_id=share_id)
    return {epoch: (int(count), int(size_bytes)) for epoch, count, size_bytes in rows}


def ids_of_share(tx: Transaction, share_id: bytes, count: int) -> list[bytes]:
    """Return up to ``count`` segments of the share."""
    return [row[0] for row in _IDS_OF_SHARE.rows(tx, share_id=share_id, count=count)]


def put_in_quarantine(tx: Transaction, damage: Damage) -> None:
    """Note a damaged segment; it is neither collected nor scrubbed again until released."""
    _RELEASE.run(tx, segment_id=damage.segment_id)
    _QUARANTINE.run(tx, **damage._asdict())


def release(tx: Transaction, segment_id: bytes) -> None:
    """Take a segment out of quarantine."""
    _RELEASE.run(tx, segment_id=segment_id)


def damages(tx: Transaction) -> list[Damage]:
    """Return everything in quarantine, oldest first."""
    return [Damage(*row) for row in _DAMAGES.rows(tx)]
