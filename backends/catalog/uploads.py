"""Statements over unfinished uploads, and over the room that running ones have reserved."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from backends.catalog.schema import reservations, unfinished
from backends.catalog.statement import Command, Query, insert, parameter
from gateway.model import Transaction


class UnfinishedRow(NamedTuple):
    """One row of ``unfinished``; its ``id`` stands for a node's in ``versions``.

    ``base_id`` is the version that the name held when the upload began, empty for none.
    """

    id: bytes
    share_id: bytes
    folder_id: bytes
    name_sealed: bytes
    principal_id: str
    base_id: bytes
    version_id: bytes
    size_bytes: int
    created_us: int
    modified_us: int
    expires_us: int
    mac: bytes = b""


_COLUMNS = tuple(unfinished.c[name] for name in UnfinishedRow._fields)
_MINE = unfinished.c.principal_id == parameter("principal_id")
_IN_FOLDER = unfinished.c.folder_id == parameter("folder_id")

_BY_NAME = Query(
    sa.select(*_COLUMNS).where(
        _IN_FOLDER, unfinished.c.name_sealed == parameter("name_sealed"), _MINE
    )
)
_BY_ID = Query(sa.select(*_COLUMNS).where(unfinished.c.id == parameter("upload_id")))
_OF_FOLDER = Query(sa.select(*_COLUMNS).where(_IN_FOLDER, _MINE))
_OF_SHARE = Query(
    sa.select(*_COLUMNS)
    .where(unfinished.c.share_id == parameter("share_id"))
    .order_by(unfinished.c.id)
)
_EXPIRED = Query(
    sa.select(*_COLUMNS)
    .where(
        unfinished.c.share_id == parameter("share_id"),
        unfinished.c.expires_us < parameter("now_us"),
    )
    .limit(parameter("count"))
)
_INSERT = insert(unfinished)
_REMOVE = Command(unfinished.delete().where(unfinished.c.id == parameter("upload_id")))

_RESERVED = Query(
    sa.select(sa.func.coalesce(sa.func.sum(reservations.c.size_bytes), 0)).where(
        reservations.c.share_id == parameter("share_id"),
        reservations.c.expires_us > parameter("now_us"),
        reservations.c.id != parameter("except_id"),
    )
)
_RESERVE = insert(reservations)
_RELEASE = Command(reservations.delete().where(reservations.c.id == parameter("reserved_by")))
_FORGET_RESERVED = Command(
    reservations.delete().where(reservations.c.expires_us <= parameter("now_us"))
)


def by_name(
    tx: Transaction, folder_id: bytes, name_sealed: bytes, principal_id: str
) -> UnfinishedRow | None:
    """Return the principal's unfinished upload of that name."""
    row = _BY_NAME.first(
        tx, folder_id=folder_id, name_sealed=name_sealed, principal_id=principal_id
    )
    return None if row is None else UnfinishedRow(*row)


def by_id(tx: Transaction, upload_id: bytes) -> UnfinishedRow | None:
    """Return the unfinished upload of that id."""
    row = _BY_ID.first(tx, upload_id=upload_id)
    return None if row is None else UnfinishedRow(*row)


def of_folder(tx: Transaction, folder_id: bytes, principal_id: str) -> list[UnfinishedRow]:
    """Return the principal's unfinished uploads in the folder."""
    rows = _OF_FOLDER.rows(tx, folder_id=folder_id, principal_id=principal_id)
    return [UnfinishedRow(*row) for row in rows]


def of_share(tx: Transaction, share_id: bytes) -> list[UnfinishedRow]:
    """Return everyone's unfinished uploads in the share."""
    return [UnfinishedRow(*row) for row in _OF_SHARE.rows(tx, share_id=share_id)]


def expired(tx: Transaction, share_id: bytes, now_us: int, count: int) -> list[UnfinishedRow]:
    """Return up to ``count`` of the share's unfinished uploads whose time is over."""
    rows = _EXPIRED.rows(tx, share_id=share_id, now_us=now_us, count=count)
    return [UnfinishedRow(*row) for row in rows]


def add(tx: Transaction, row: UnfinishedRow) -> None:
    """Add an unfinished upload."""
    _INSERT.run(tx, **row._asdict())


def remove(tx: Transaction, upload_id: bytes) -> None:
    """Remove an unfinished upload."""
    _REMOVE.run(tx, upload_id=upload_id)


def reserved_bytes(tx: Transaction, share_id: bytes, except_id: bytes, now_us: int) -> int:
    """Return how much room the share's running uploads but one have reserved."""
    value = _RESERVED.value(tx, share_id=share_id, except_id=except_id, now_us=now_us)
    return int(value)


def reserve(
    tx: Transaction, reserved_by: bytes, share_id: bytes, size_bytes: int, expires_us: int
) -> None:
    """Reserve room for one upload, in place of what it had reserved before."""
    release(tx, reserved_by)
    _RESERVE.run(
        tx, id=reserved_by, share_id=share_id, size_bytes=size_bytes, expires_us=expires_us
    )


def release(tx: Transaction, reserved_by: bytes) -> None:
    """Give back what one upload had reserved."""
    _RELEASE.run(tx, reserved_by=reserved_by)


def forget_reserved(tx: Transaction, now_us: int) -> int:
    """Give back what crashed uploads had reserved; return how many."""
    return _FORGET_RESERVED.run(tx, now_us=now_us)
