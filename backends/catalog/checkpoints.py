"""Statements over audit checkpoints, and the heads of the journals that they vouch for."""

from __future__ import annotations

from collections.abc import Iterator

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


def last(tx: Transaction) -> tuple[int, str] | None:
    """Return the number and the line of the newest checkpoint."""
    statement = (
        sa.select(checkpoints.c.number, checkpoints.c.line)
        .order_by(checkpoints.c.number.desc())
        .limit(1)
    )
    row = connection_of(tx).execute(statement).first()
    return None if row is None else (row.number, row.line)


def lines(tx: Transaction) -> Iterator[str]:
    """Yield every checkpoint's line, oldest first."""
    statement = sa.select(checkpoints.c.line).order_by(checkpoints.c.number)
    yield from connection_of(tx).execute(statement).scalars()


def heads(tx: Transaction) -> dict[str, AuditRow]:
    """Return the last record of every journal that has one."""
    found = ((each, journal.last_of_journal(tx, each)) for each in journal.journal_ids(tx))
    return {each: row for each, row in found if row is not None}
