"""Catalog transactions on SQLite: one writer at a time, readers never blocked, commits durable.

Knows nothing of what the tables mean. ``Catalog`` implements ``gateway.model.UnitOfWork``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, StatementError
from sqlalchemy.pool import QueuePool

from backends.catalog.migrations import REVISION
from backends.errors import (
    IntegrityError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
)
from gateway.model import Transaction

CATALOG_FILE = "catalog.sqlite"
BUSY_TIMEOUT_MS = 10_000
_POOL_SIZE = 16
_POOL_OVERFLOW = 128
_CACHE_KIB = 8 * 1024


@dataclass(frozen=True, slots=True)
class Tx:
    """A transaction in progress; implements ``gateway.model.Transaction``."""

    connection: sa.Connection
    writable: bool


def connection_of(tx: Transaction) -> sa.Connection:
    """Return the connection behind an opaque transaction handed back by an upper layer."""
    assert isinstance(tx, Tx)
    return tx.connection


def writer_of(tx: Transaction) -> sa.Connection:
    """Return the connection of ``tx``, which must be a write transaction."""
    assert isinstance(tx, Tx)
    assert tx.writable
    return tx.connection


def _translated(error: DBAPIError) -> StorageError:
    text = str(error.orig)
    if "full" in text:
        return StorageFullError("The disk that keeps the catalog is full; free some space.")
    if isinstance(error.orig, sqlite3.OperationalError | sqlite3.DatabaseError):
        return StorageUnavailableError(f"The catalog failed ({text}).")
    raise error


class Catalog:
    """Opens transactions on the catalog file in ``folder``. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / CATALOG_FILE
        self._engine = sa.create_engine(
            f"sqlite:///{self._path}",
            poolclass=QueuePool,
            pool_size=_POOL_SIZE,
            max_overflow=_POOL_OVERFLOW,
            connect_args={"check_same_thread": False},
            # Row values must not stand in an error's text, which a log may see.
            hide_parameters=True,
        )
        sa.event.listen(self._engine, "connect", _prepare_connection)
        sa.event.listen(self._engine, "begin", _begin)
        self._writer = threading.Lock()
        # SQLite's own wait for the write lock polls and is unfair; a file lock blocks in the
        # kernel, wakes at once, and vanishes with the process that held it.
        self._lock_path = folder / "catalog.lock"
        try:
            self._lock_descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StorageUnavailableError(
                f"The data folder {folder} cannot be written ({error.strerror}). Give this "
                "user the right to, or change storage.data_dir."
            ) from error

    @property
    def exists(self) -> bool:
        """Whether the catalog file has been made."""
        return self._path.exists()

    def migrate(self) -> None:
        """Make the tables, or bring an older catalog up to this version."""
        if not self._path.exists():
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        with self._write_lock(), self._translating(), self._engine.connect() as connection:
            if _revision(connection) == REVISION:
                return
            # Alembic takes a fifth of a second to load, which only the first start needs.
            from backends.catalog.migrate import upgrade  # noqa: PLC0415

            upgrade(connection)
            connection.commit()

    @contextlib.contextmanager
    def begin(self) -> Iterator[Tx]:
        """Run a write transaction: durable when the block ends, rolled back if it raises."""
        with self._write_lock(), self._translating(), self._engine.connect() as connection:
            connection.execution_options(sealgate_begin="BEGIN IMMEDIATE")
            with connection.begin():
                yield Tx(connection, writable=True)

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Tx]:
        """Give a read-only view of one moment."""
        with self._translating(), self._engine.connect() as connection, connection.begin():
            yield Tx(connection, writable=False)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()
        os.close(self._lock_descriptor)

    @contextlib.contextmanager
    def _write_lock(self) -> Iterator[None]:
        with self._writer:
            fcntl.flock(self._lock_descriptor, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._lock_descriptor, fcntl.LOCK_UN)

    @staticmethod
    @contextlib.contextmanager
    def _translating() -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise _translated(error) from error
        except StatementError as error:
            # A row was edited to a type that Sealgate never writes.
            raise IntegrityError("The catalog holds a value of the wrong type.") from error


def _revision(connection: sa.Connection) -> str:
    """Return the revision of the catalog's tables; empty when there are none yet."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return ""
    found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return str(found or "")


def _prepare_connection(connection: sqlite3.Connection, _record: object) -> None:
    # With isolation_level None the driver leaves transactions to the "begin" event below.
    connection.isolation_level = None
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        f"cache_size = -{_CACHE_KIB}",
        "temp_store = MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: sa.Connection) -> None:
    statement = connection.get_execution_options().get("sealgate_begin", "BEGIN")
    connection.exec_driver_sql(statement)
