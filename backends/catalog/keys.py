"""Statements over shares, their wrapped keys, and the catalog's own settings."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from backends.catalog.schema import epochs, meta, shares
from backends.catalog.statement import Command, Query, insert, parameter
from gateway.model import Transaction


class ShareRow(NamedTuple):
    """One row of ``shares``. ``used_bytes`` counts the plaintext of every kept version.

    ``state_sealed`` vouches for the row and for all rows of the share (``backends.ledger``).
    """

    id: bytes
    name: str
    root_id: bytes
    name_key_wrapped: bytes
    epoch: int
    used_bytes: int
    node_count: int
    created_us: int
    state_sealed: bytes


class EpochRow(NamedTuple):
    """One row of ``epochs``; ``key_wrapped`` None: destroyed at ``destroyed_us``."""

    share_id: bytes
    epoch: int
    key_wrapped: bytes | None
    created_us: int
    destroyed_us: int | None


_SHARE_COLUMNS = tuple(shares.c[name] for name in ShareRow._fields)
_THIS_SHARE = shares.c.id == parameter("share_id")
_SHARE_BY_NAME = Query(sa.select(*_SHARE_COLUMNS).where(shares.c.name == parameter("name")))
_SHARE_BY_ID = Query(sa.select(*_SHARE_COLUMNS).where(_THIS_SHARE))
_SHARES = Query(sa.select(*_SHARE_COLUMNS).order_by(shares.c.name))
_INSERT_SHARE = insert(shares)
_PUT_SHARE = Command(shares.update().where(_THIS_SHARE), *ShareRow._fields)
_PUT_STATE = Command(
    shares.update().where(_THIS_SHARE), "used_bytes", "node_count", "epoch", "state_sealed"
)
_REMOVE_SHARE = Command(shares.delete().where(_THIS_SHARE))

_THIS_EPOCH = (
    epochs.c.share_id == parameter("of_share"),
    epochs.c.epoch == parameter("of_epoch"),
)
_EPOCH = Query(sa.select(epochs.c.key_wrapped).where(*_THIS_EPOCH))
_EPOCHS = Query(
    sa.select(*(epochs.c[name] for name in EpochRow._fields))
    .where(epochs.c.share_id == parameter("share_id"))
    .order_by(epochs.c.epoch)
)
_INSERT_EPOCH = insert(epochs)
_PUT_EPOCH = Command(epochs.update().where(*_THIS_EPOCH), *EpochRow._fields)

_META = Query(sa.select(meta.c.value).where(meta.c.key == parameter("key")))
_REMOVE_META = Command(meta.delete().where(meta.c.key == parameter("key")))
_INSERT_META = insert(meta)
_ALL_META = Query(sa.select(meta.c.key, meta.c.value).order_by(meta.c.key))
_ALL_WRAPPED = Query(
    sa.union_all(
        sa.select(epochs.c.key_wrapped).where(epochs.c.key_wrapped.is_not(None)),
        sa.select(shares.c.name_key_wrapped),
        sa.select(meta.c.value),
    )
)


def share_by_name(tx: Transaction, name: str) -> ShareRow | None:
    """Return the share of that name."""
    row = _SHARE_BY_NAME.first(tx, name=name)
    return None if row is None else ShareRow(*row)


def share_by_id(tx: Transaction, share_id: bytes) -> ShareRow | None:
    """Return the share of that id."""
    row = _SHARE_BY_ID.first(tx, share_id=share_id)
    return None if row is None else ShareRow(*row)


def all_shares(tx: Transaction) -> list[ShareRow]:
    """Return every share in the catalog, configured or not, by name."""
    return [ShareRow(*row) for row in _SHARES.rows(tx)]


def insert_share(tx: Transaction, row: ShareRow) -> None:
    """Add a share."""
    _INSERT_SHARE.run(tx, **row._asdict())


def put_share(tx: Transaction, row: ShareRow) -> None:
    """Replace the row of that id."""
    _PUT_SHARE.run(tx, share_id=row.id, **row._asdict())


def put_state(tx: Transaction, row: ShareRow) -> None:
    """Store the counters, the epoch and the sealed state of a share."""
    _PUT_STATE.run(
        tx,
        share_id=row.id,
        used_bytes=row.used_bytes,
        node_count=row.node_count,
        epoch=row.epoch,
        state_sealed=row.state_sealed,
    )


def remove_share(tx: Transaction, share_id: bytes) -> None:
    """Remove the row of a share; its epochs stay, as a trace of what was destroyed."""
    _REMOVE_SHARE.run(tx, share_id=share_id)


def epoch_key(tx: Transaction, share_id: bytes, epoch: int) -> bytes | None:
    """Return the wrapped key of a share's epoch; None when unknown or destroyed."""
    wrapped: bytes | None = _EPOCH.value(tx, of_share=share_id, of_epoch=epoch)
    return wrapped


def epochs_of(tx: Transaction, share_id: bytes) -> list[EpochRow]:
    """Return every epoch of a share, destroyed ones too, oldest first."""
    return [EpochRow(*row) for row in _EPOCHS.rows(tx, share_id=share_id)]


def insert_epoch(tx: Transaction, row: EpochRow) -> None:
    """Add an epoch."""
    _INSERT_EPOCH.run(tx, **row._asdict())


def put_epoch(tx: Transaction, row: EpochRow) -> None:
    """Replace the row of that epoch."""
    _PUT_EPOCH.run(tx, of_share=row.share_id, of_epoch=row.epoch, **row._asdict())


def setting(tx: Transaction, key: str) -> bytes | None:
    """Return one of the catalog's own settings."""
    value: bytes | None = _META.value(tx, key=key)
    return value


def put_setting(tx: Transaction, key: str, value: bytes) -> None:
    """Set one of the catalog's own settings."""
    _REMOVE_META.run(tx, key=key)
    _INSERT_META.run(tx, key=key, value=value)


def remove_setting(tx: Transaction, key: str) -> None:
    """Remove one of the catalog's own settings."""
    _REMOVE_META.run(tx, key=key)


def settings_beginning(tx: Transaction, prefix: str) -> dict[str, bytes]:
    """Return those of the catalog's own settings whose keys begin with ``prefix``."""
    return {key: value for key, value in _ALL_META.rows(tx) if key.startswith(prefix)}


def all_wrapped(tx: Transaction) -> list[bytes]:
    """Return every value that could be a wrapped key, wherever it stands."""
    return [row[0] for row in _ALL_WRAPPED.rows(tx)]
