"""Copies of whole catalogs: row by row, from any database into any other.

A dump is one SQLite file that the same migrations made, complete without a log beside it. What
only a running gateway needs (LEFT_OUT, marks) is not copied. Nothing of what the rows mean.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.pool import NullPool

from backends.catalog.marks import PREFIX
from backends.catalog.schema import meta, metadata, segments
from backends.catalog.statement import Query, Row, Tx, insert, parameter
from backends.catalog.versions import SegmentRow
from backends.errors import StorageError, StorageFullError, StorageUnavailableError
from gateway.model import Transaction

LEFT_OUT = frozenset({"leases", "locks", "reservations", "sessions", "throttles", "vacated"})
"""The tables whose rows mean nothing to another process than those that wrote them."""

BATCH_ROWS = 1000
"""How many rows are held in memory at once."""

_CACHE_KIB = 64 * 1024


class _Copied:
    """How the rows of one table are read, in the order of its key, and added elsewhere.

    By pages, because a cursor over a whole table is streamed by some databases only.
    """

    def __init__(self, table: sa.Table) -> None:
        self.name = table.name
        self.names = tuple(column.name for column in table.columns)
        key = list(table.primary_key.columns)
        page = sa.select(*table.columns).order_by(*key).limit(parameter("count"))
        after = [sa.bindparam(f"after_{column.name}", type_=column.type) for column in key]
        self._first = Query(page)
        self._next = Query(
            page.where(key[0] > after[0] if len(key) == 1 else sa.tuple_(*key) > sa.tuple_(*after))
        )
        self._key = [(f"after_{column.name}", self.names.index(column.name)) for column in key]
        self._truths = [
            index
            for index, column in enumerate(table.columns)
            if isinstance(column.type, sa.Boolean)
        ]
        self._insert = insert(table)

    def pages(self, tx: Tx) -> Iterator[list[Row]]:
        """Yield all rows, some at a time."""
        rows = self._first.rows(tx, count=BATCH_ROWS)
        while rows:
            yield rows
            if len(rows) < BATCH_ROWS:
                return
            last = rows[-1]
            after = {name: last[index] for name, index in self._key}
            rows = self._next.rows(tx, count=BATCH_ROWS, **after)

    def add(self, tx: Tx, rows: list[Row]) -> None:
        """Add rows."""
        self._insert.many(
            tx, [dict(zip(self.names, self._typed(row), strict=True)) for row in rows]
        )

    def _typed(self, row: Row) -> Row:
        """Return the row with truth values as such: SQLite gives numbers, others want none."""
        if not self._truths:
            return row
        typed = list(row)
        for index in self._truths:
            if typed[index] in {0, 1}:
                typed[index] = bool(typed[index])
        return tuple(typed)


_TABLES = tuple(_Copied(table) for table in metadata.tables.values() if table.name not in LEFT_OUT)
_ANY = tuple(
    Query(sa.select(sa.literal_column("1")).select_from(table).limit(1))
    for table in metadata.tables.values()
    if table is not meta
)
_SETTING = Query(
    sa.select(sa.literal_column("1")).where(meta.c.key.not_like(f"{PREFIX}%")).limit(1)
)
_SEGMENTS = Query(
    sa.select(*(segments.c[name] for name in SegmentRow._fields))
    .where(segments.c.id > parameter("after_id"))
    .order_by(segments.c.id)
    .limit(parameter("count"))
)
_FIRST_SEGMENTS = Query(
    sa.select(*(segments.c[name] for name in SegmentRow._fields))
    .order_by(segments.c.id)
    .limit(parameter("count"))
)
_REVISION = Query(sa.text("SELECT version_num FROM alembic_version"))


class Table(NamedTuple):
    """How many rows of a table were copied."""

    name: str
    row_count: int


def copy_rows(
    source: Transaction, target: Transaction, moved: Callable[[int], None]
) -> list[Table]:
    """Add all rows of ``source`` to the empty tables of ``target``; return how many there were.

    ``moved`` is called with the number of rows after every few thousand.
    """
    assert isinstance(source, Tx)
    assert isinstance(target, Tx)
    counts = []
    for table in _TABLES:
        count = 0
        for page in table.pages(source):
            rows = page
            if table.name == meta.name:
                rows = [row for row in page if not str(row[0]).startswith(PREFIX)]
            table.add(target, rows)
            count += len(rows)
            moved(len(rows))
        counts.append(Table(table.name, count))
    return counts


def is_empty(tx: Transaction) -> bool:
    """Return whether no table holds a row, marks aside."""
    return all(query.first(tx) is None for query in (*_ANY, _SETTING))


def all_segments(tx: Transaction) -> Iterator[SegmentRow]:
    """Yield every segment by id, a few thousand rows in memory at once."""
    rows = _FIRST_SEGMENTS.rows(tx, count=BATCH_ROWS)
    while rows:
        yield from map(SegmentRow._make, rows)
        rows = _SEGMENTS.rows(tx, after_id=rows[-1][0], count=BATCH_ROWS)


def revision(tx: Transaction) -> str:
    """Return the revision of the tables."""
    return str(_REVISION.value(tx))


@contextlib.contextmanager
def new_dump(path: Path) -> Iterator[Transaction]:
    """Give the empty tables of the new file ``path``, which is durable when the block ends well.

    A crash, or an error in the block, leaves a file of no use.
    """
    # Alembic takes a fifth of a second to load.
    from backends.catalog.migrate import upgrade  # noqa: PLC0415

    with _translating():
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)), poolclass=NullPool)
        sa.event.listen(engine, "connect", lambda made, _record: _hasten(made))
        with engine.begin() as tables:
            upgrade(tables, "")
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            _hasten(connection)
            connection.execute("BEGIN IMMEDIATE")
            yield Tx(connection, SQLiteDialect_pysqlite(paramstyle="named"), writable=True)
            connection.execute("COMMIT")
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def open_dump(path: Path) -> Iterator[Transaction]:
    """Give the rows of a dump to read; works on a medium that cannot be written."""
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    with (
        _translating(),
        contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection,
    ):
        yield Tx(connection, SQLiteDialect_pysqlite(paramstyle="named"), writable=False)


def _hasten(connection: sqlite3.Connection) -> None:
    # No journal: nobody reads the file before it is whole, or after a crash.
    for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIB}"):
        connection.execute(f"PRAGMA {pragma}")


@contextlib.contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, sa.exc.DBAPIError) as error:
        raise _translated(error) from error


def _translated(error: Exception) -> StorageError:
    reason = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    if "full" in str(reason):
        return StorageFullError("A disk is full while the catalog is copied; make room and go on.")
    return StorageUnavailableError(f"The catalog, or its copy in a backup, failed ({reason}).")
