"""Statements over audit journals and their records. The chain is made in ``gateway.audit``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from backends.catalog.engine import connection_of, writer_of
from backends.catalog.schema import audit, journals
from gateway.model import Transaction


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One row of ``audit``: the body is canonical JSON, the detail is sealed."""

    journal: str
    seq: int
    time_us: int
    body: str
    detail_sealed: bytes
    hash: bytes


_COLUMNS = tuple(audit.c[name] for name in AuditRow.__slots__)
_INSERT = audit.insert()


def insert_journal(tx: Transaction, journal: str, node: str, started_us: int) -> None:
    """Register a new journal."""
    writer_of(tx).execute(
        journals.insert(), {"id": journal, "node": node, "started_us": started_us}
    )


def journal_ids(tx: Transaction) -> list[str]:
    """Return every registered journal, oldest first."""
    rows = connection_of(tx).execute(
        sa.select(journals.c.id).order_by(journals.c.started_us, journals.c.id)
    )
    return list(rows.scalars())


def insert(tx: Transaction, rows: Sequence[AuditRow]) -> None:
    """Append records."""
    writer_of(tx).execute(
        _INSERT, [{name: getattr(row, name) for name in AuditRow.__slots__} for row in rows]
    )


def last_of_journal(tx: Transaction, journal: str) -> AuditRow | None:
    """Return the last record of one journal."""
    row = (
        connection_of(tx)
        .execute(
            sa.select(*_COLUMNS)
            .where(audit.c.journal == journal)
            .order_by(audit.c.seq.desc())
            .limit(1)
        )
        .first()
    )
    return None if row is None else AuditRow(*row)


def between(tx: Transaction, since_us: int, until_us: int) -> Iterator[AuditRow]:
    """Yield the records of a span of time, oldest first."""
    rows = connection_of(tx).execute(
        sa.select(*_COLUMNS)
        .where(audit.c.time_us >= since_us, audit.c.time_us < until_us)
        .order_by(audit.c.time_us, audit.c.journal, audit.c.seq)
    )
    for row in rows:
        yield AuditRow(*row)


def count_since(tx: Transaction, since_us: int, limit: int) -> int:
    """Return how many records are younger than ``since_us``, counting up to ``limit``."""
    young = sa.select(sa.literal(1)).where(audit.c.time_us > since_us).limit(limit).subquery()
    return int(
        connection_of(tx).execute(sa.select(sa.func.count()).select_from(young)).scalar_one()
    )
