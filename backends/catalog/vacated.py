"""Statements over names that were vacated a moment ago (what NTFS calls tunnelling)."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from backends.catalog.schema import vacated
from backends.catalog.statement import Command, Query, insert, parameter
from gateway.model import Transaction


class VacatedRow(NamedTuple):
    """One row of ``vacated``: which file had the name, with what version, who took it away when."""

    folder_id: bytes
    name_sealed: bytes
    node_id: bytes
    version_id: bytes
    principal_id: str
    vacated_us: int
    mac: bytes = b""


_THIS = (
    vacated.c.folder_id == parameter("of_folder"),
    vacated.c.name_sealed == parameter("of_name"),
)
_BY_NAME = Query(sa.select(*(vacated.c[name] for name in VacatedRow._fields)).where(*_THIS))
_INSERT = insert(vacated)
_REMOVE = Command(vacated.delete().where(*_THIS))
_FORGET_ALL = Command(vacated.delete())
_FORGET_NODE = Command(vacated.delete().where(vacated.c.node_id == parameter("of_node")))
_FORGET = Command(vacated.delete().where(vacated.c.vacated_us < parameter("before_us")))


def by_name(tx: Transaction, folder_id: bytes, name_sealed: bytes) -> VacatedRow | None:
    """Return what is known of a vacated name."""
    row = _BY_NAME.first(tx, of_folder=folder_id, of_name=name_sealed)
    return None if row is None else VacatedRow(*row)


def put(tx: Transaction, row: VacatedRow) -> None:
    """Note a vacated name."""
    remove(tx, row.folder_id, row.name_sealed)
    _INSERT.run(tx, **row._asdict())


def remove(tx: Transaction, folder_id: bytes, name_sealed: bytes) -> None:
    """Forget a vacated name, which has been filled."""
    _REMOVE.run(tx, of_folder=folder_id, of_name=name_sealed)


def forget_node(tx: Transaction, node_id: bytes) -> None:
    """Forget every name that the node vacated: it has one again."""
    _FORGET_NODE.run(tx, of_node=node_id)


def forget_all(tx: Transaction) -> None:
    """Forget every vacated name."""
    _FORGET_ALL.run(tx)


def forget(tx: Transaction, before_us: int) -> int:
    """Forget names that were vacated before ``before_us``; return how many."""
    return _FORGET.run(tx, before_us=before_us)
