"""What lies under each epoch of a share, and destroying the keys of those that nothing needs.

Seals nothing anew: that is ``backends.reseal``. Imports the catalog.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backends.catalog import keys, segments, versions
from backends.gc import ORPHAN_GRACE_US
from gateway.model import Transaction

RETIRE_GRACE_US = ORPHAN_GRACE_US
"""How long an epoch's key stays after the next epoch began: uploads began under it may end."""


@dataclass(frozen=True, slots=True)
class EpochUse:
    """What lies under one epoch of a share.

    ``segment_count`` counts the segments in use; ``unused_count`` those that wait for collection.
    """

    row: keys.EpochRow
    version_count: int
    segment_count: int
    unused_count: int
    sealed_bytes: int
    used_bytes: int

    @property
    def is_empty(self) -> bool:
        """Whether nothing needs the epoch's key."""
        return not (self.version_count or self.segment_count or self.unused_count)

    @property
    def is_resealed(self) -> bool:
        """Whether nothing in use lies under the epoch."""
        return not (self.version_count or self.segment_count)


def uses_of(tx: Transaction, share: keys.ShareRow) -> list[EpochUse]:
    """Return what lies under each epoch of a share, oldest first."""
    in_rows = versions.totals_by_epoch(tx, share.id)
    known = segments.totals_by_epoch(tx, share.id)
    in_use = segments.used_totals_by_epoch(tx, share.id)
    uses = []
    for row in keys.epochs_of(tx, share.id):
        version_count, inline_bytes = in_rows.get(row.epoch, (0, 0))
        count, size_bytes = known.get(row.epoch, (0, 0))
        used_count, used_bytes = in_use.get(row.epoch, (0, 0))
        uses.append(
            EpochUse(
                row=row,
                version_count=version_count,
                segment_count=used_count,
                unused_count=count - used_count,
                sealed_bytes=size_bytes + inline_bytes,
                used_bytes=used_bytes + inline_bytes,
            )
        )
    return uses


def older_uses(share: keys.ShareRow, uses: Sequence[EpochUse]) -> list[EpochUse]:
    """Return those of a share's ``uses`` that are of epochs before its own and not destroyed."""
    return [use for use in uses if use.row.epoch < share.epoch and use.row.key_wrapped is not None]


def retire(tx: Transaction, share: keys.ShareRow, now_us: int) -> list[keys.EpochRow]:
    """Destroy the keys of older epochs that nothing lies under; return their rows from before.

    Not before RETIRE_GRACE_US have passed since the epoch after it began.
    """
    begun_us = {row.epoch: row.created_us for row in keys.epochs_of(tx, share.id)}
    doomed = [
        use.row
        for use in older_uses(share, uses_of(tx, share))
        if use.is_empty and begun_us.get(use.row.epoch + 1, now_us) + RETIRE_GRACE_US <= now_us
    ]
    for row in doomed:
        keys.put_epoch(tx, row._replace(key_wrapped=None, destroyed_us=now_us))
    return doomed
