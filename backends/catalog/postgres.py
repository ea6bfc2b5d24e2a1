"""The catalog in a PostgreSQL database: one writer at a time among all gateways that share it.

An advisory lock of the transaction makes the writer the only one; PostgreSQL gives it back at the
commit, or when the connection is gone. Time limits on both sides of every connection turn a server
that died into an error, and a gateway that died into a lock that is free again. Imports psycopg,
SQLAlchemy for its dialect and the migrations, and the storage errors.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg.abc import RV, PQGen
from psycopg.pq import Format, TransactionStatus
from psycopg.rows import TupleRow
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import Dialect
from sqlalchemy.pool import NullPool

from backends.catalog.engine import Catalog
from backends.errors import StorageError, StorageFullError, StorageUnavailableError

CONNECT_LIMIT_S = 5
"""How long the server may take to accept a connection."""

SILENCE_LIMIT_S = 6
"""How long the network may stay silent before a connection counts as lost."""

LOCK_LIMIT_S = 20
"""How long a writer waits for the other writers, in this process and elsewhere."""

STATEMENT_LIMIT_S = 60
"""How long the server may work on one statement, and wait for a writer's next one."""

READERS_LIMIT = 4
"""The most transactions of one process that read at the same time; one more may write."""

_WRITE_LOCK = 0x5EA1_6A7E
"""Sealgate's advisory lock; other programs' locks in the same database have other numbers."""

_ANSWER_LIMIT_S = STATEMENT_LIMIT_S + 5.0
_KEEPALIVE_IDLE_S, _KEEPALIVE_INTERVAL_S, _KEEPALIVE_COUNT = 2, 2, 2
_SESSION = {
    "synchronous_commit": "on",
    "statement_timeout": f"{STATEMENT_LIMIT_S}s",
    "lock_timeout": f"{LOCK_LIMIT_S}s",
    # The lock of a gateway whose machine is gone must not stop the others.
    "tcp_keepalives_idle": f"{_KEEPALIVE_IDLE_S}s",
    "tcp_keepalives_interval": f"{_KEEPALIVE_INTERVAL_S}s",
    "tcp_keepalives_count": f"{_KEEPALIVE_COUNT}",
    "tcp_user_timeout": f"{SILENCE_LIMIT_S}s",
}
# Under READ COMMITTED each statement sees what the writer before has committed; a snapshot taken
# for the whole transaction could be older than the lock. A gateway that hangs loses the lock.
_BEGIN_WRITING = (
    "BEGIN ISOLATION LEVEL READ COMMITTED; "
    f"SET LOCAL idle_in_transaction_session_timeout = '{STATEMENT_LIMIT_S}s'; "
    f"SELECT pg_advisory_xact_lock({_WRITE_LOCK})"
)
_BEGIN_READING = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresSettings:
    """Which database, as whom. ``host`` is a name, an address, or the folder of a Unix socket.

    ``sslmode`` is libpq's; ``ca_file`` (PEM) is whom ``verify-ca`` and ``verify-full`` trust.
    """

    host: str
    database: str
    user: str
    port: int = 5432
    password: str = field(default="", repr=False)
    sslmode: str = "verify-full"
    ca_file: Path | None = None

    @property
    def place(self) -> str:
        """The database's name and place as messages show them."""
        return f"database '{self.database}' on {self.host} (port {self.port})"

    def parameters(self) -> dict[str, Any]:
        """Return libpq's parameters, so complete that PG... variables change neither where nor how."""
        return {
            "host": self.host,
            "hostaddr": "",
            "port": self.port,
            "dbname": self.database,
            "user": self.user,
            "password": self.password,
            "sslmode": self.sslmode,
            "sslrootcert": "" if self.ca_file is None else str(self.ca_file),
            "gssencmode": "disable",
            "target_session_attrs": "read-write",
            "application_name": "sealgate",
            "client_encoding": "utf8",
            "options": " ".join(f"-c {name}={value}" for name, value in _SESSION.items()),
            "connect_timeout": CONNECT_LIMIT_S,
            "keepalives": 1,
            "keepalives_idle": _KEEPALIVE_IDLE_S,
            "keepalives_interval": _KEEPALIVE_INTERVAL_S,
            "keepalives_count": _KEEPALIVE_COUNT,
            "tcp_user_timeout": SILENCE_LIMIT_S * 1000,
        }


def open_catalog(settings: PostgresSettings) -> Catalog:
    """Return the catalog in that database; nothing is asked of the server yet."""
    return Catalog(PostgresDriver(settings))


class _UnreachableError(psycopg.OperationalError):
    """A connection could not be made. Its text quotes no row, and libpq shows no password."""


class _Cursor(psycopg.Cursor[TupleRow]):
    """Takes results in binary form: half of what is read are bytes, which text would double."""

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401  psycopg's own
        super().__init__(*arguments, **named)
        self.format = Format.BINARY


class _Connection(psycopg.Connection[TupleRow]):
    """Never waits for ever: a server may hang, or its disk, while its machine answers."""

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        return super().wait(gen, interval, _ANSWER_LIMIT_S if timeout is None else timeout)


class PostgresDriver:
    """Implements ``Driver`` on one database."""

    def __init__(self, settings: PostgresSettings) -> None:
        self.dialect: Dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call]
        self.errors: tuple[type[Exception], ...] = (psycopg.Error, sa.exc.DBAPIError)
        self._settings = settings
        self._idle: list[_Connection] = []
        self._closed = False
        # Only one thread of a process waits in the server's queue, and needs a connection there.
        self._writer = threading.Lock()
        self._readers = threading.BoundedSemaphore(READERS_LIMIT)

    @property
    def exists(self) -> bool:
        try:
            with self.reading() as lent:
                found = lent.execute("SELECT to_regclass('alembic_version')::text").fetchone()
        except self.errors as error:
            raise self.translated(error) from error
        return found is not None and found[0] is not None

    @contextlib.contextmanager
    def connection(self) -> Iterator[_Connection]:
        with self._lent("SELECT 1") as lent:
            yield lent

    @contextlib.contextmanager
    def writing(self) -> Iterator[_Connection]:
        with self._turn(self._writer), self._transaction(_BEGIN_WRITING) as lent:
            yield lent

    @contextlib.contextmanager
    def reading(self) -> Iterator[_Connection]:
        with self._turn(self._readers), self._transaction(_BEGIN_READING) as lent:
            yield lent

    @contextlib.contextmanager
    def migrating(self) -> Iterator[sa.Connection]:
        engine = sa.create_engine(
            "postgresql+psycopg://",
            creator=self._connected,
            poolclass=NullPool,
        )
        with self._turn(self._writer), engine.connect() as connection, connection.begin():
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITE_LOCK})")
            encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
            if encoding != "UTF8":
                raise StorageUnavailableError(
                    f"The {self._settings.place} has the encoding {encoding}. Make it anew with "
                    "ENCODING 'UTF8'."
                )
            yield connection

    def translated(self, error: Exception) -> StorageError:
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        return _translated(cause, self._settings)

    def close(self) -> None:
        self._closed = True
        self._drop_idle()

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[_Connection]:
        with self._lent(begin) as lent:
            try:
                yield lent
                _commit(lent)
            except BaseException:
                _roll_back(lent)
                raise

    @contextlib.contextmanager
    def _lent(self, first: str) -> Iterator[_Connection]:
        """Lend a connection on which the statements ``first`` have run."""
        lent = self._opened(first)
        try:
            yield lent
        finally:
            sound = lent.info.transaction_status is TransactionStatus.IDLE
            if sound and not self._closed:
                self._idle.append(lent)
            else:
                lent.close()

    def _opened(self, first: str) -> _Connection:
        with contextlib.suppress(IndexError):
            lent = self._idle.pop()
            try:
                return _begun(lent, first)
            except psycopg.OperationalError:
                if not lent.broken:
                    lent.close()
                    raise
                # The server was started anew, so the others are broken as well. Nothing of a
                # transaction has been done yet: a new connection may try.
                self._drop_idle()
        made = self._connected(autocommit=True, cursor_factory=_Cursor)
        try:
            return _begun(made, first)
        except BaseException:
            made.close()
            raise

    def _connected(self, **how: Any) -> _Connection:  # noqa: ANN401  what psycopg takes
        try:
            return _Connection.connect(**self._settings.parameters(), **how)
        except psycopg.OperationalError as error:
            raise _UnreachableError(str(error)) from error

    @contextlib.contextmanager
    def _turn(self, places: threading.Lock | threading.BoundedSemaphore) -> Iterator[None]:
        if not places.acquire(timeout=LOCK_LIMIT_S):
            raise StorageUnavailableError(
                f"The {self._settings.place} is too slow: other transactions of this process have "
                f"not ended for {LOCK_LIMIT_S} s. Look at its load, and at its disk."
            )
        try:
            yield
        finally:
            places.release()

    def _drop_idle(self) -> None:
        # Popping is atomic; another thread may do the same.
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()


def _begun(lent: _Connection, first: str) -> _Connection:
    # Only the text form takes several statements in one round trip, and they cannot be prepared.
    lent.cursor().execute(first, prepare=False, binary=False)
    return lent


def _commit(lent: _Connection) -> None:
    # PostgreSQL answers COMMIT with a rollback, and no error, when a statement has failed.
    if lent.info.transaction_status is TransactionStatus.INERROR:
        raise psycopg.errors.InFailedSqlTransaction
    lent.execute("COMMIT")


def _roll_back(lent: _Connection) -> None:
    """Roll back as far as the connection still works; whoever lent it looks at what is left."""
    if lent.info.transaction_status in {TransactionStatus.INTRANS, TransactionStatus.INERROR}:
        with contextlib.suppress(psycopg.Error):
            lent.execute("ROLLBACK")


# What an administrator can do about an error, by its SQLSTATE or the class of it.
_REMEDIES = {
    "42501": "does not let this user do that. Make the user the owner of the database",
    "42P01": "lacks tables. Restore a backup, or correct storage.catalog",
    "53": "has no memory or room for that. Look at the server's log",
    "55P03": f"was locked by another writer for {LOCK_LIMIT_S} s. Look for a gateway that hangs",
    "57014": f"took more than {STATEMENT_LIMIT_S} s for one statement. Look at its load",
    "57": "is being stopped or started. Look at the server's log",
    "25P03": f"ended a transaction in which nothing was done for {STATEMENT_LIMIT_S} s",
    "25006": "is a standby, which cannot be written. Name the primary server in storage.catalog",
    "58": "had an input or output error. Look at the server's log and its disk",
    "XX": "is damaged or had an internal error. Look at the server's log",
}


def _translated(error: BaseException | None, settings: PostgresSettings) -> StorageError:
    """Return what ``error`` means; its own text could quote rows, and is left out."""
    state = getattr(error, "sqlstate", None) or ""
    if state == "53100":
        return StorageFullError(f"The disk of the {settings.place} is full; free some space there.")
    for length in (5, 2):
        if remedy := _REMEDIES.get(state[:length]):
            return StorageUnavailableError(f"The {settings.place} {remedy} ({state}).")
    if isinstance(error, _UnreachableError):
        reason = str(error).rpartition(" failed: ")[2].splitlines()[0].strip().rstrip(".")
        return StorageUnavailableError(
            f"The {settings.place} cannot be reached ({reason}). Check storage.catalog and "
            "storage.catalog_password, and that the server runs."
        )
    if isinstance(error, psycopg.OperationalError) and (not state or state.startswith("08")):
        return StorageUnavailableError(
            f"The {settings.place} broke the connection off. Check that the server runs and that "
            "this machine can reach it."
        )
    return StorageUnavailableError(
        f"The {settings.place} failed ({state or type(error).__name__})."
    )
