"""The catalog in an SQLite file: one writer at a time, readers never blocked, commits durable."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.pool import NullPool

from backends.catalog.engine import Catalog
from backends.errors import StorageError, StorageFullError, StorageUnavailableError

CATALOG_FILE = "catalog.sqlite"
BUSY_TIMEOUT_S = 10.0
_IDLE_LIMIT = 16
_CACHE_KIB = 4 * 1024
_LOG_LIMIT_BYTES = 64 * 1024 * 1024
_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    f"cache_size = -{_CACHE_KIB}",
    "temp_store = MEMORY",
    # While a scrub or a backup reads its snapshot the log only grows; afterwards it is cut again.
    f"journal_size_limit = {_LOG_LIMIT_BYTES}",
    # What is deleted is overwritten: a destroyed key must not lie on in a free page.
    "secure_delete = ON",
)


def open_catalog(folder: Path) -> Catalog:
    """Return the catalog in ``folder``, which must exist; StorageUnavailableError."""
    return Catalog(SqliteDriver(folder))


class SqliteDriver:
    """Implements ``Driver`` on the file CATALOG_FILE in a folder."""

    def __init__(self, folder: Path) -> None:
        self.dialect: Dialect = SQLiteDialect_pysqlite(paramstyle="named")
        self.errors: tuple[type[Exception], ...] = (sqlite3.Error, sa.exc.DBAPIError)
        self._path = folder / CATALOG_FILE
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        self._writer = threading.Lock()
        # SQLite's own wait for the write lock polls and is unfair; a file lock blocks in the
        # kernel, wakes at once, and vanishes with the process that held it.
        try:
            self._lock_descriptor = os.open(folder / "catalog.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StorageUnavailableError(
                f"The data folder {folder} cannot be written ({error.strerror}). Give this "
                "user the right to, or change storage.data_dir."
            ) from error

    @property
    def exists(self) -> bool:
        return self._path.exists()

    @contextlib.contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        try:
            lent = self._idle.pop()
        except IndexError:
            lent = self._connected()
        sound = True
        try:
            yield lent
        except sqlite3.Error:
            sound = False
            raise
        finally:
            # Appending and popping are atomic; a few more than the limit do no harm.
            if sound and not self._closed and len(self._idle) < _IDLE_LIMIT:
                self._idle.append(lent)
            else:
                lent.close()

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        with (
            self._write_lock(),
            self.connection() as lent,
            _transaction(lent, "BEGIN IMMEDIATE"),
        ):
            yield lent

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        with self.connection() as lent, _transaction(lent, "BEGIN"):
            yield lent

    @contextlib.contextmanager
    def migrating(self) -> Iterator[sa.Connection]:
        if not self._path.exists():
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        engine = sa.create_engine(f"sqlite:///{self._path}", poolclass=NullPool)
        sa.event.listen(engine, "connect", lambda made, _record: _prepare(made))
        sa.event.listen(engine, "begin", lambda made: made.exec_driver_sql("BEGIN IMMEDIATE"))
        with self._write_lock(), engine.connect() as connection, connection.begin():
            yield connection

    def translated(self, error: Exception) -> StorageError:
        return _translated(error.orig if isinstance(error, sa.exc.DBAPIError) else error)

    def close(self) -> None:
        self._closed = True
        while self._idle:
            self._idle.pop().close()
        # Under the lock: a writer may hold the descriptor, and its number would be used again.
        with self._writer:
            descriptor, self._lock_descriptor = self._lock_descriptor, -1
            if descriptor >= 0:
                os.close(descriptor)

    def _connected(self) -> sqlite3.Connection:
        made = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
        _prepare(made)
        return made

    @contextlib.contextmanager
    def _write_lock(self) -> Iterator[None]:
        with self._writer:
            if self._lock_descriptor < 0:
                raise StorageUnavailableError("The catalog was closed; the gateway is stopping.")
            fcntl.flock(self._lock_descriptor, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._lock_descriptor, fcntl.LOCK_UN)


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A commit that failed may have ended the transaction already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _prepare(connection: sqlite3.Connection) -> None:
    # With isolation_level None the driver leaves transactions to the statements above.
    connection.isolation_level = None
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _translated(error: BaseException | None) -> StorageError:
    text = str(error)
    if "full" in text:
        return StorageFullError("The disk that keeps the catalog is full; free some space.")
    if "malformed" in text or "not a database" in text:
        return StorageUnavailableError(
            f"The catalog file is damaged ({text}); restore it from a backup."
        )
    return StorageUnavailableError(f"The catalog failed ({text}).")
