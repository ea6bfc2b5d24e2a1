"""Statements over audit checkpoints, and the heads of the journals that they vouch for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import sqlalchemy as sa

from backends.catalog import journal
from backends.catalog.journal import AuditRow
from backends.catalog.schema import checkpoints
from backends.catalog.statement import Query, insert, parameter
from gateway.model import Transaction


class CheckpointRow(NamedTuple):
    """One row of ``checkpoints``."""

    number: int
    time_us: int
    line: str


_INSERT = insert(checkpoints)
_LAST = Query(
    sa.select(*(checkpoints.c[name] for name in CheckpointRow._fields))
    .order_by(checkpoints.c.number.desc())
    .limit(1)
)
_LINES_AFTER = Query(
    sa.select(checkpoints.c.line)
    .where(checkpoints.c.number > parameter("after"))
    .order_by(checkpoints.c.number)
)


def insert_checkpoint(tx: Transaction, number: int, time_us: int, line: str) -> None:
    """Add a checkpoint."""
    _INSERT.run(tx, number=number, time_us=time_us, line=line)


def last(tx: Transaction) -> CheckpointRow | None:
    """Return the newest checkpoint."""
    row = _LAST.first(tx)
    return None if row is None else CheckpointRow(*row)


def lines_after(tx: Transaction, number: int) -> list[str]:
    """Return the lines of the checkpoints that come after ``number``."""
    return [row[0] for row in _LINES_AFTER.rows(tx, after=number)]


def lines(tx: Transaction) -> Iterator[str]:
    """Yield every checkpoint's line, oldest first."""
    yield from lines_after(tx, -1)


def heads(tx: Transaction) -> dict[str, AuditRow]:
    """Return the last record of every journal that has one."""
    found = ((each, journal.last_of_journal(tx, each)) for each in journal.journal_ids(tx))
    return {each: row for each, row in found if row is not None}
