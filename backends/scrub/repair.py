"""What may be done about findings: nothing here deletes anything.

Every function works in the caller's write transaction, so that the audit record commits with it,
looks again at what it is about to change, and reads no blob. Imports the catalog and the ledger.
"""

from __future__ import annotations

from backends.catalog import keys, nodes, segments
from backends.catalog.segments import Damage
from backends.catalog.versions import SegmentRow
from backends.errors import IntegrityError
from backends.ledger import State, changes
from backends.scrub.places import hangs_together
from backends.scrub.rows import Rows
from backends.share import Share
from gateway.model import Transaction

BY_SCRUB = "scrub"
"""Stands in place of a principal's id as the one who put a lost node into the trash."""


def quarantine(tx: Transaction, row: SegmentRow, reason: str, now_us: int) -> None:
    """Put a damaged segment where nothing collects it."""
    segments.put_in_quarantine(tx, Damage(row.id, row.share_id, now_us, reason))


def reseal(tx: Transaction, share: Share, rows: Rows) -> bool:
    """Make the sealed state of a share agree with the rows that ``rows`` found in it.

    Returns False when nothing was done: a row does not verify by itself, or the share's row is
    another by now. What was changed since by the rules stays counted.
    """
    now = keys.share_by_id(tx, share.id)
    if not rows.sound or now is None:
        return False
    if rows.drift is None:
        # Nobody could change the share since: its state does not open for them either.
        if now != rows.share:
            return False
        keys.put_state(tx, share.seal.stated(now, rows.counted))
        return True
    try:
        state = share.seal.state_of(now)
    except IntegrityError:
        return False
    drift = rows.drift
    mended = State(
        state.digest + drift.digest,
        state.used_bytes + drift.used_bytes,
        state.node_count + drift.node_count,
        state.epoch,
    )
    keys.put_state(tx, share.seal.stated(now, mended))
    return True


def keep_lost(tx: Transaction, share: Share, node_id: bytes, now_us: int) -> bool:
    """Put a node that lies below nothing, with all below it, into the trash under the root.

    Returns False when nothing was done: it is gone or in its place again, or the share keeps no
    trash. Raises IntegrityError when its row does not verify.
    """
    row = nodes.any_by_id(tx, node_id)
    if row is None or not share.settings.trash_s:
        return False
    share.seal.checked(row)
    if hangs_together(tx, share, row):
        return False
    name = share.names.unseal(row.parent_id, row.name_sealed)
    with changes(tx, share.id, share.seal) as ledger:
        ledger.put_node(
            node_id,
            parent_id=share.row.root_id,
            name_sealed=share.names.seal(share.row.root_id, name),
            deleted_us=now_us,
            deleted_by=BY_SCRUB,
        )
    return True
