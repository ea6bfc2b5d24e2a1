"""The catalog: transactions over one driver's connections. Knows nothing of what tables mean.

``Catalog`` implements ``gateway.model.UnitOfWork`` for every database; what differs between them
is behind ``Driver``. One write transaction runs at a time, whatever the database: the layers above
rely on nothing changing between what they read and what they write.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

from backends.catalog.migrations import REVISION
from backends.catalog.statement import Tx
from backends.errors import StorageError


class Driver(Protocol):
    """One kind of database. Thread-safe."""

    dialect: Dialect
    errors: tuple[type[Exception], ...]
    """What the driver's connections raise."""

    @property
    def exists(self) -> bool:
        """Whether the database has been made; a question that makes nothing."""

    def connection(self) -> contextlib.AbstractContextManager[Any]:
        """Lend a connection with no transaction on it; one that failed is not lent again."""

    def writing(self) -> contextlib.AbstractContextManager[Any]:
        """Lend a connection inside the one write transaction; commits durably, or rolls back."""

    def reading(self) -> contextlib.AbstractContextManager[Any]:
        """Lend a connection inside a read-only transaction that sees one moment."""

    def migrating(self) -> contextlib.AbstractContextManager[sa.Connection]:
        """Lend a connection inside the one write transaction, as SQLAlchemy's own, for Alembic.

        Makes the database first when there is none; commits durably, or rolls back.
        """

    def translated(self, error: Exception) -> StorageError:
        """Return the storage error that an error of the driver means."""

    def close(self) -> None:
        """Close every connection."""


class Catalog:
    """Opens transactions. Thread-safe."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    @property
    def exists(self) -> bool:
        """Whether the catalog has been made."""
        return self._driver.exists

    @property
    def dialect(self) -> str:
        """The database's name, as SQLAlchemy calls it."""
        return self._driver.dialect.name

    def migrate(self) -> None:
        """Make the tables, or bring an older catalog up to this version."""
        with self._translating(), self._driver.migrating() as connection:
            found = _revision(connection)
            if found == REVISION:
                return
            # Alembic takes a fifth of a second to load, which only the first start needs.
            from backends.catalog.migrate import upgrade  # noqa: PLC0415

            upgrade(connection, found)

    @contextlib.contextmanager
    def begin(self) -> Iterator[Tx]:
        """Run a write transaction: durable when the block ends, rolled back if it raises."""
        with self._translating(), self._driver.writing() as connection:
            yield Tx(connection, self._driver.dialect, writable=True)

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Tx]:
        """Give a read-only view of one moment."""
        with self._translating(), self._driver.reading() as connection:
            yield Tx(connection, self._driver.dialect, writable=False)

    def close(self) -> None:
        """Close every connection."""
        self._driver.close()

    @contextlib.contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except self._driver.errors as error:
            raise self._driver.translated(error) from error


def _revision(connection: sa.Connection) -> str:
    """Return the revision of the catalog's tables; empty when there are none yet."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return ""
    found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return str(found or "")


@contextlib.contextmanager
def giving_way() -> Iterator[None]:
    """Rest after the block for as long as it took.

    The catalog's lock knows no queue: who takes it again at once keeps those out who wait for it.
    """
    begun_s = time.monotonic()
    yield
    time.sleep(time.monotonic() - begun_s)
