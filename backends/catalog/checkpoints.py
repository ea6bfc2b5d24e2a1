"""Statements over audit checkpoints, and the heads of the journals that they vouch for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from backends.catalog import journal
from backends.catalog.engine import connection_of, writer_of
from backends.catalog.journal import AuditRow
from backends.catalog.schema import checkpoints
from gateway.model import Transaction


def insert(tx: Transaction, number: int, time_us: int, line: str) -> None:
    """Add a checkpoint."""
    writer_of(tx).execute(
        checkpoints.insert(), {"number": number, "time_us": time_us, "line": line}
    )


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """One row of ``checkpoints``."""

    number: int
    time_us: int
    line: str


def last(tx: Transaction) -> CheckpointRow | None:
    """Return the newest checkpoint."""
    statement = (
        sa.select(checkpoints.c.number, checkpoints.c.time_us, checkpoints.c.line)
        .order_by(checkpoints.c.number.desc())
        .limit(1)
    )
    row = connection_of(tx).execute(statement).first()
    return None if row is None else CheckpointRow(row.number, row.time_us, row.line)


def lines_after(tx: Transaction, number: int) -> list[str]:
    """Return the lines of the checkpoints that come after ``number``."""
    statement = (
        sa.select(checkpoints.c.line)
        .where(checkpoints.c.number > number)
        .order_by(checkpoints.c.number)
    )
    return list(connection_of(tx).execute(statement).scalars())


def lines(tx: Transaction) -> Iterator[str]:
    """Yield every checkpoint's line, oldest first."""
    statement = sa.select(checkpoints.c.line).order_by(checkpoints.c.number)
    yield from connection_of(tx).execute(statement).scalars()


def heads(tx: Transaction) -> dict[str, AuditRow]:
    """Return the last record of every journal that has one."""
    found = ((each, journal.last_of_journal(tx, each)) for each in journal.journal_ids(tx))
    return {each: row for each, row in found if row is not None}
