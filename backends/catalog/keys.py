"""Statements over shares, their wrapped keys, and the catalog's own settings."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from backends.catalog.engine import connection_of, writer_of
from backends.catalog.schema import epochs, meta, shares
from gateway.model import Transaction


@dataclass(frozen=True, slots=True)
class ShareRow:
    """One row of ``shares``. ``used_bytes`` counts the plaintext of every kept version."""

    id: bytes
    name: str
    root_id: bytes
    name_key_wrapped: bytes
    epoch: int
    used_bytes: int
    node_count: int
    created_us: int


_SHARE_COLUMNS = tuple(shares.c[name] for name in ShareRow.__slots__)
_SHARE_BY_NAME = sa.select(*_SHARE_COLUMNS).where(shares.c.name == sa.bindparam("name"))
_EPOCH = sa.select(epochs.c.key_wrapped).where(
    epochs.c.share_id == sa.bindparam("share_id"), epochs.c.epoch == sa.bindparam("epoch")
)
_META = sa.select(meta.c.value).where(meta.c.key == sa.bindparam("key"))
_COUNT_UP = (
    shares.update()
    .where(shares.c.id == sa.bindparam("share_id"))
    .values(
        used_bytes=shares.c.used_bytes + sa.bindparam("more_bytes"),
        node_count=shares.c.node_count + sa.bindparam("more_nodes"),
    )
)


def share_by_name(tx: Transaction, name: str) -> ShareRow | None:
    """Return the share of that name."""
    row = connection_of(tx).execute(_SHARE_BY_NAME, {"name": name}).first()
    return None if row is None else ShareRow(*row)


def insert_share(tx: Transaction, row: ShareRow, epoch_key_wrapped: bytes) -> None:
    """Add a share with the wrapped key of its first epoch."""
    connection = writer_of(tx)
    connection.execute(shares.insert(), {name: getattr(row, name) for name in ShareRow.__slots__})
    connection.execute(
        epochs.insert(),
        {
            "share_id": row.id,
            "epoch": row.epoch,
            "key_wrapped": epoch_key_wrapped,
            "created_us": row.created_us,
        },
    )


def count_up(tx: Transaction, share_id: bytes, *, more_bytes: int, more_nodes: int) -> None:
    """Add to a share's counters (negative to take away)."""
    writer_of(tx).execute(
        _COUNT_UP, {"share_id": share_id, "more_bytes": more_bytes, "more_nodes": more_nodes}
    )


def epoch_key(tx: Transaction, share_id: bytes, epoch: int) -> bytes | None:
    """Return the wrapped key of a share's epoch; None when unknown or destroyed."""
    return connection_of(tx).execute(_EPOCH, {"share_id": share_id, "epoch": epoch}).scalar()


def setting(tx: Transaction, key: str) -> bytes | None:
    """Return one of the catalog's own settings."""
    return connection_of(tx).execute(_META, {"key": key}).scalar()


def put_setting(tx: Transaction, key: str, value: bytes) -> None:
    """Set one of the catalog's own settings."""
    connection = writer_of(tx)
    connection.execute(meta.delete().where(meta.c.key == key))
    connection.execute(meta.insert(), {"key": key, "value": value})
