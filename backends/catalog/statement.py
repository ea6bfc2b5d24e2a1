"""Statements: SQLAlchemy's text for each dialect, made once, run on the driver's own cursor.

SQLAlchemy's execution costs four times what the driver itself needs for a look-up by key, and a
request makes a dozen of them. Its expression language stays the one place where SQL is written.
Values reach the database as parameters only. Nothing of what the tables mean.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.elements import CompilerElement

from gateway.model import Transaction

Row = tuple[Any, ...]
"""One row as the driver gives it; SQLite gives truth values as 0 and 1."""


@dataclass(frozen=True, slots=True)
class Tx:
    """A transaction in progress on a driver's connection; implements ``Transaction``."""

    connection: Any
    dialect: Dialect
    writable: bool
    seen: dict[Hashable, Any] = field(default_factory=dict)


class _Statement:
    def __init__(self, element: Executable, *columns: str) -> None:
        """``columns`` are those that an INSERT or the SET of an UPDATE takes as parameters."""
        assert isinstance(element, CompilerElement)
        self._element = element
        self._columns = columns
        self._texts: dict[str, tuple[str, dict[str, object]]] = {}

    def _run(self, tx: Transaction, values: Mapping[str, object]) -> Any:  # noqa: ANN401  a DB-API cursor
        assert isinstance(tx, Tx)
        text, constants = self._texts.get(tx.dialect.name) or self._compiled(tx.dialect)
        return tx.connection.execute(text, {**constants, **values} if constants else values)

    def _compiled(self, dialect: Dialect) -> tuple[str, dict[str, object]]:
        """Return the text for ``dialect`` and the values that the statement itself fixes."""
        keys = list(self._columns) or None
        compiled = self._element.compile(dialect=dialect, column_keys=keys)
        constants = {key: value for key, value in compiled.params.items() if value is not None}
        self._texts[dialect.name] = (str(compiled), constants)
        return self._texts[dialect.name]


class Query(_Statement):
    """A statement that reads."""

    def each(self, tx: Transaction, **values: object) -> Iterator[Row]:
        """Yield the rows."""
        yield from self._run(tx, values)

    def rows(self, tx: Transaction, **values: object) -> list[Row]:
        """Return all rows."""
        found: list[Row] = self._run(tx, values).fetchall()
        return found

    def first(self, tx: Transaction, **values: object) -> Row | None:
        """Return the first row, None when there is none."""
        row: Row | None = self._run(tx, values).fetchone()
        return row

    def value(self, tx: Transaction, **values: object) -> Any:  # noqa: ANN401  whatever the column holds
        """Return the first column of the first row, None when there is no row."""
        row = self._run(tx, values).fetchone()
        return None if row is None else row[0]


class Command(_Statement):
    """A statement that changes rows; only for write transactions.

    Whatever the transaction has seen so far is forgotten with each.
    """

    def run(self, tx: Transaction, **values: object) -> int:
        """Return how many rows were changed."""
        assert tx.writable
        tx.seen.clear()
        return int(self._run(tx, values).rowcount)

    def many(self, tx: Transaction, rows: Sequence[Mapping[str, object]]) -> None:
        """Run it once for each of ``rows``."""
        assert isinstance(tx, Tx)
        assert tx.writable
        if not rows:
            return
        tx.seen.clear()
        text, constants = self._texts.get(tx.dialect.name) or self._compiled(tx.dialect)
        values = [{**constants, **row} for row in rows] if constants else rows
        tx.connection.cursor().executemany(text, values)


def insert(table: sa.Table, *columns: str) -> Command:
    """Return the command that adds a row with ``columns``; the others stay null."""
    return Command(table.insert(), *(columns or [column.name for column in table.columns]))


def parameter(name: str) -> sa.BindParameter[Any]:
    """Return a value that is given when the statement runs."""
    return sa.bindparam(name)
