"""Statements over segments as things to care for: unused, verified, damaged, forgotten ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from backends.catalog.schema import extents, quarantine, segments
from backends.catalog.statement import Command, Query, insert, parameter
from backends.catalog.versions import SegmentRow
from gateway.model import SECOND_US, Transaction

START = (-1 << 62, b"")
"""What comes before every segment in the order of ``least_recently_verified``."""

SKEW_US = 24 * 3600 * SECOND_US
"""How far the clocks of two machines may be apart."""


class Due(NamedTuple):
    """Which segments in use are due: of one share or of all, verified before ``before_us``.

    So are those that were verified more than SKEW_US after ``now_us``, which nobody can have done.
    """

    before_us: int
    now_us: int
    share_id: bytes | None = None

    def choose(self, of_all: Query, of_share: Query) -> Query:
        """Return the statement that fits."""
        return of_all if self.share_id is None else of_share

    def values(self) -> dict[str, object]:
        """Return the values of the statement."""
        values: dict[str, object] = {
            "before_us": self.before_us,
            "future_us": self.now_us + SKEW_US,
        }
        return values if self.share_id is None else {**values, "share_id": self.share_id}


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

_AFTER = segments.c.id > parameter("after_id")
_BETWEEN = (_AFTER, segments.c.id <= parameter("last_id"))
_IDS = Query(
    sa.select(segments.c.id).where(_AFTER).order_by(segments.c.id).limit(parameter("count"))
)
_MARK = Command(
    segments.update()
    .where(*_BETWEEN, segments.c.orphaned_us.is_(None), _UNUSED)
    .values(orphaned_us=parameter("now_us"))
)
_UNMARK = Command(
    segments.update()
    .where(*_BETWEEN, segments.c.orphaned_us.is_not(None), ~_UNUSED)
    .values(orphaned_us=sa.null())
)
_ORPHANS = Query(
    sa.select(segments.c.id)
    .where(segments.c.orphaned_us < parameter("before_us"), _UNUSED, ~_QUARANTINED)
    .limit(parameter("count"))
)
_KNOWN = Query(sa.select(segments.c.id).where(_THIS))
_IN_EXTENT = Query(
    sa.select(extents.c.segment_id).where(extents.c.segment_id == parameter("segment_id")).limit(1)
)
_REMOVE = Command(segments.delete().where(_THIS))
# A time that is yet to come was edited: trusted, it would keep the segment from being read.
_DUE = (
    sa.or_(
        segments.c.verified_us < parameter("before_us"),
        segments.c.verified_us > parameter("future_us"),
    ),
    ~_UNUSED,
    ~_QUARANTINED,
)
_LEAST_RECENTLY_VERIFIED = sa.select(*_COLUMNS, segments.c.verified_us).where(
    *_DUE,
    sa.or_(
        segments.c.verified_us > parameter("after_us"),
        sa.and_(segments.c.verified_us == parameter("after_us"), _AFTER),
    ),
)
_DUE_ORDER = (segments.c.verified_us, segments.c.id)
_DUE_NEXT = Query(_LEAST_RECENTLY_VERIFIED.order_by(*_DUE_ORDER).limit(parameter("count")))
_DUE_NEXT_OF_SHARE = Query(
    _LEAST_RECENTLY_VERIFIED.where(_OF_SHARE).order_by(*_DUE_ORDER).limit(parameter("count"))
)
_DUE_BYTES = sa.select(sa.func.coalesce(sa.func.sum(segments.c.size_sealed_bytes), 0)).where(*_DUE)
_DUE_BYTES_OF_ALL = Query(_DUE_BYTES)
_DUE_BYTES_OF_SHARE = Query(_DUE_BYTES.where(_OF_SHARE))
_VERIFIED = Command(segments.update().where(_THIS), "verified_us")
_EPOCH_TOTALS = Query(
    sa.select(
        segments.c.epoch,
        sa.func.count(),
        sa.func.coalesce(sa.func.sum(segments.c.size_sealed_bytes), 0),
    )
    .where(_OF_SHARE)
    .group_by(segments.c.epoch)
)
_USED_EPOCH_TOTALS = Query(
    sa.select(
        segments.c.epoch,
        sa.func.count(),
        sa.func.coalesce(sa.func.sum(segments.c.size_sealed_bytes), 0),
    )
    .where(_OF_SHARE, ~_UNUSED)
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


def mark_orphans(tx: Transaction, now_us: int, after_id: bytes, count: int) -> bytes | None:
    """Note of the next ``count`` segments since when they are unused; forget it of those in use.

    Returns where to go on, None at the end.
    """
    page = _IDS.rows(tx, after_id=after_id, count=count)
    if not page:
        return None
    last_id: bytes = page[-1][0]
    _MARK.run(tx, now_us=now_us, after_id=after_id, last_id=last_id)
    _UNMARK.run(tx, after_id=after_id, last_id=last_id)
    return last_id if len(page) == count else None


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


def needed(tx: Transaction, segment_ids: Iterable[bytes]) -> frozenset[bytes]:
    """Return those of the segments that the catalog knows, or that any version lies in.

    A version whose segment's row was dropped is damaged, and its content can still be saved.
    """
    return frozenset(
        segment_id
        for segment_id in segment_ids
        if _KNOWN.first(tx, segment_id=segment_id) is not None
        or _IN_EXTENT.first(tx, segment_id=segment_id) is not None
    )


def least_recently_verified(
    tx: Transaction, span: Due, after: tuple[int, bytes], count: int
) -> list[tuple[SegmentRow, int]]:
    """Return the next segments that are due, and when each was verified last, oldest first.

    ``after`` is the time and the id of the one to go on after, ``START`` for the first.
    """
    after_us, after_id = after
    rows = span.choose(_DUE_NEXT, _DUE_NEXT_OF_SHARE).rows(
        tx, **span.values(), after_us=after_us, after_id=after_id, count=count
    )
    return [(SegmentRow(*row[:-1]), row[-1]) for row in rows]


def due_bytes(tx: Transaction, span: Due) -> int:
    """Return how many sealed bytes are due."""
    value = span.choose(_DUE_BYTES_OF_ALL, _DUE_BYTES_OF_SHARE).value(tx, **span.values())
    return int(value)


def note_verified(tx: Transaction, segment_ids: Sequence[bytes], now_us: int) -> None:
    """Note that the segments verified at ``now_us``."""
    _VERIFIED.many(
        tx, [{"segment_id": segment_id, "verified_us": now_us} for segment_id in segment_ids]
    )


def totals_by_epoch(tx: Transaction, share_id: bytes) -> dict[int, tuple[int, int]]:
    """Return (segments, sealed bytes) of a share under each epoch."""
    rows = _EPOCH_TOTALS.rows(tx, share_id=share_id)
    return {epoch: (int(count), int(size_bytes)) for epoch, count, size_bytes in rows}


def used_totals_by_epoch(tx: Transaction, share_id: bytes) -> dict[int, tuple[int, int]]:
    """Return (segments, sealed bytes) of a share under each epoch, of those in use."""
    rows = _USED_EPOCH_TOTALS.rows(tx, share_id=share_id)
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
