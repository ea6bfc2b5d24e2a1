"""Statements over leases: the SQL store behind ``auth.lease``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

import sqlalchemy as sa

from backends.catalog.schema import leases, sessions
from backends.catalog.statement import Command, Query, Row, insert, parameter
from backends.keyring import Mac
from gateway.model import Lease, Transaction


class LeaseRow(NamedTuple):
    """One row of ``leases``; ``mac`` covers all the others."""

    id: str
    principal_id: str
    principal_name: str
    client_address: str
    opened_us: int
    idle_timeout_s: int
    ends_us: int
    mac: bytes = b""


_COLUMNS = tuple(leases.c[name] for name in LeaseRow._fields)
_HELD = (
    leases.c.principal_id == parameter("principal_id"),
    leases.c.client_address == parameter("address"),
)

_BY_HOLDER = Query(sa.select(*_COLUMNS).where(*_HELD))
_ALL = Query(sa.select(*_COLUMNS).where(leases.c.ends_us > parameter("now_us")))
_ACTIVITY = Query(
    sa.select(sa.func.max(sessions.c.last_active_us)).where(
        sessions.c.lease_id == parameter("lease_id")
    )
)
_INSERT = insert(leases)
_REMOVE_HELD = Command(leases.delete().where(*_HELD))
_REMOVE_OVER = Command(leases.delete().where(leases.c.ends_us <= parameter("now_us")))


class SqlLeaseStore:
    """Implements ``auth.lease.LeaseStore``.

    A row stands for a code that somebody typed, so that it carries a MAC; an edited one is none.
    """

    def __init__(self, mac: Mac) -> None:
        self._mac = mac

    def put(self, tx: Transaction, lease: Lease) -> None:
        _REMOVE_HELD.run(tx, principal_id=lease.principal_id, address=lease.client_address)
        row = LeaseRow(
            id=lease.id,
            principal_id=lease.principal_id,
            principal_name=lease.principal_name,
            client_address=lease.client_address,
            opened_us=lease.opened_us,
            idle_timeout_s=lease.idle_timeout_s,
            ends_us=lease.ends_us,
        )
        _INSERT.run(tx, **row._replace(mac=self._mac.tag(_text(row)))._asdict())

    def get(self, tx: Transaction, principal_id: str, address: str) -> Lease | None:
        found = _BY_HOLDER.first(tx, principal_id=principal_id, address=address)
        return None if found is None else self._lease(tx, found)

    def all(self, tx: Transaction, now_us: int) -> Iterator[Lease]:
        for found in _ALL.rows(tx, now_us=now_us):
            lease = self._lease(tx, found)
            if lease is not None:
                yield lease

    def remove(self, tx: Transaction, principal_id: str, address: str) -> bool:
        return bool(_REMOVE_HELD.run(tx, principal_id=principal_id, address=address))

    def _lease(self, tx: Transaction, found: Row) -> Lease | None:
        """Return the lease of a row; None when it was edited."""
        row = LeaseRow(*found)
        try:
            right = self._mac.verify(_text(row), row.mac)
        except (TypeError, ValueError):
            right = False
        if not right:
            return None
        active_us = _ACTIVITY.value(tx, lease_id=row.id)
        return Lease(
            id=row.id,
            principal_id=row.principal_id,
            principal_name=row.principal_name,
            client_address=row.client_address,
            opened_us=row.opened_us,
            last_active_us=max(row.opened_us, active_us or 0),
            idle_timeout_s=row.idle_timeout_s,
            ends_us=row.ends_us,
        )


def remove_over(tx: Transaction, now_us: int) -> None:
    """Remove the rows of leases that have reached their absolute end."""
    _REMOVE_OVER.run(tx, now_us=now_us)


def _text(row: LeaseRow) -> bytes:
    """Return what the MAC covers (docs/SIGNING-IN.md, "Leases")."""
    return json.dumps(row[:-1], ensure_ascii=True, separators=(",", ":")).encode("ascii")
