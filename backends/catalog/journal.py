"""Statements over audit journals and their records. The chain is made in ``gateway.audit``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from backends.catalog.schema import audit, journals
from backends.catalog.statement import Query, insert, parameter
from gateway.model import Transaction


class AuditRow(NamedTuple):
    """One row of ``audit``: the body is canonical JSON, the detail is sealed."""

    journal: str
    seq: int
    time_us: int
    body: str
    detail_sealed: bytes
    hash: bytes


_COLUMNS = tuple(audit.c[name] for name in AuditRow._fields)
_INSERT = insert(audit)
_INSERT_JOURNAL = insert(journals)
_JOURNAL_IDS = Query(sa.select(journals.c.id).order_by(journals.c.started_us, journals.c.id))
_LAST = Query(
    sa.select(*_COLUMNS)
    .where(audit.c.journal == parameter("journal"))
    .order_by(audit.c.seq.desc())
    .limit(1)
)
_BETWEEN = Query(
    sa.select(*_COLUMNS)
    .where(audit.c.time_us >= parameter("since_us"), audit.c.time_us < parameter("until_us"))
    .order_by(audit.c.time_us, audit.c.journal, audit.c.seq)
)
_COUNT_SINCE = Query(
    sa.select(sa.func.count()).select_from(
        sa.select(sa.literal_column("1").label("one"))
        .where(audit.c.time_us > parameter("since_us"))
        .limit(parameter("count"))
        .subquery()
    )
)


def insert_journal(tx: Transaction, journal: str, node: str, started_us: int) -> None:
    """Register a new journal."""
    _INSERT_JOURNAL.run(tx, id=journal, node=node, started_us=started_us)


def journal_ids(tx: Transaction) -> list[str]:
    """Return every registered journal, oldest first."""
    return [row[0] for row in _JOURNAL_IDS.rows(tx)]


def append(tx: Transaction, rows: Sequence[AuditRow]) -> None:
    """Append records."""
    if len(rows) == 1:
        _INSERT.run(tx, **rows[0]._asdict())
    else:
        _INSERT.many(tx, [row._asdict() for row in rows])


def last_of_journal(tx: Transaction, journal: str) -> AuditRow | None:
    """Return the last record of one journal."""
    row = _LAST.first(tx, journal=journal)
    return None if row is None else AuditRow(*row)


def between(tx: Transaction, since_us: int, until_us: int) -> Iterator[AuditRow]:
    """Yield the records of a span of time, oldest first."""
    return map(AuditRow._make, _BETWEEN.each(tx, since_us=since_us, until_us=until_us))


def count_since(tx: Transaction, since_us: int, limit: int) -> int:
    """Return how many records are younger than ``since_us``, counting up to ``limit``."""
    return int(_COUNT_SINCE.value(tx, since_us=since_us, count=limit))
