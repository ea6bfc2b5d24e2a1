"""Statements over marks: settings that last only as long as a backup or a restore does.

A backup that runs holds back the collection of segments; a restore that was cut off keeps a
gateway from starting on half of its data. Copies of a catalog leave marks out.
"""

from __future__ import annotations

import sqlalchemy as sa

from backends.catalog import keys
from backends.catalog.schema import meta
from backends.catalog.statement import Query
from backends.errors import StorageUnavailableError
from gateway.model import Transaction

PREFIX = "mark/"
"""What the key of every mark in ``meta`` begins with."""

_HOLD = f"{PREFIX}hold/"
_RESTORE = f"{PREFIX}restore"
_HOLDS = Query(sa.select(meta.c.key, meta.c.value).where(meta.c.key.startswith(_HOLD)))


def place_hold(tx: Transaction, hold_id: str, *, now_us: int, until_us: int) -> None:
    """Keep every segment until ``until_us``, or until the hold is lifted; renews one of that id."""
    for key, value in _HOLDS.rows(tx):
        if not _lasts(value, now_us):
            keys.remove_setting(tx, key)
    keys.put_setting(tx, _HOLD + hold_id, str(until_us).encode("ascii"))


def lift_hold(tx: Transaction, hold_id: str) -> None:
    """Let go of a hold."""
    keys.remove_setting(tx, _HOLD + hold_id)


def held(tx: Transaction, now_us: int) -> bool:
    """Return whether no segment may be deleted now; ask in the transaction that forgets one."""
    return any(_lasts(value, now_us) for _, value in _HOLDS.rows(tx))


def begin_restore(tx: Transaction, backup_id: str) -> None:
    """Mark the catalog as being filled from a backup."""
    keys.put_setting(tx, _RESTORE, backup_id.encode("ascii"))


def end_restore(tx: Transaction) -> None:
    """Mark the catalog as whole."""
    keys.remove_setting(tx, _RESTORE)


def restoring(tx: Transaction) -> bool:
    """Return whether a restore into this catalog has not come to its end."""
    return keys.setting(tx, _RESTORE) is not None


def require_restored(tx: Transaction) -> None:
    """Raise StorageUnavailableError while a restore has not come to its end."""
    if restoring(tx):
        raise StorageUnavailableError(
            "A restore into this catalog has not come to its end. Run 'sealgate restore' again "
            "with the same configuration; it goes on where it was."
        )


def _lasts(value: bytes, now_us: int) -> bool:
    return value.isdigit() and int(value) > now_us
