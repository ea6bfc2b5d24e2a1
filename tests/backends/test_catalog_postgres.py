"""What is particular to the catalog in PostgreSQL; the contract is in ``test_catalog``."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from backends.catalog import keys, postgres
from backends.catalog.engine import Catalog
from backends.catalog.postgres import PostgresSettings, open_catalog
from backends.catalog.statement import Tx
from backends.errors import StorageFullError, StorageUnavailableError
from tests.support.postgres import PASSWORD, PostgresServer
from tests.support.slapd import Authority


@pytest.fixture
def settings(server: PostgresServer) -> Iterator[PostgresSettings]:
    """A database with a new catalog."""
    name = server.new_catalog()
    yield server.settings(name)
    server.drop(name)


@pytest.fixture
def server(postgres: PostgresServer) -> PostgresServer:
    """The server, under a name that the driver's module leaves free."""
    return postgres


@pytest.fixture
def catalog(settings: PostgresSettings) -> Iterator[Catalog]:
    """A new catalog."""
    made = open_catalog(settings)
    yield made
    made.close()


def put(catalog: Catalog, value: bytes, key: str = "k") -> None:
    with catalog.begin() as tx:
        keys.put_setting(tx, key, value)


def got(catalog: Catalog, key: str = "k") -> bytes | None:
    with catalog.snapshot() as tx:
        return keys.setting(tx, key)


def shown(tx: Tx, setting: str) -> str:
    return str(tx.connection.execute(f"SHOW {setting}").fetchone()[0])


def backend_of(tx: Tx) -> int:
    """Return the process that serves this transaction."""
    return int(tx.connection.info.backend_pid)


def terminate(server: PostgresServer, backend: int) -> None:
    """End a server process, and return when it is gone."""
    with contextlib.closing(server.connect()) as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 10000)", [backend])


def test_commits_are_durable_and_sessions_limited(catalog: Catalog) -> None:
    """Whatever the server's own settings say."""
    for opened, level in (
        (catalog.begin, "read committed"),
        (catalog.snapshot, "repeatable read"),
    ):
        with opened() as tx:
            assert shown(tx, "synchronous_commit") == "on"
            assert shown(tx, "transaction_isolation") == level
            assert shown(tx, "statement_timeout") == "1min"
            assert shown(tx, "lock_timeout") == "20s"


def test_variables_of_the_environment_change_nothing(
    settings: PostgresSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which server, as whom and how is said by the configuration alone."""
    for name, value in {
        "PGHOST": "absent.invalid",
        "PGHOSTADDR": "192.0.2.1",
        "PGOPTIONS": "-c synchronous_commit=off",
        "PGSSLMODE": "require",
    }.items():
        monkeypatch.setenv(name, value)
    catalog = open_catalog(settings)
    with catalog.snapshot() as tx:
        assert shown(tx, "synchronous_commit") == "on"
    catalog.close()


# Who may connect


def by_tcp(server: PostgresServer, settings: PostgresSettings, ca_file: Path) -> PostgresSettings:
    return server.settings(
        settings.database,
        host="localhost",
        password=PASSWORD,
        sslmode="verify-full",
        ca_file=ca_file,
    )


def test_a_server_is_reached_by_tls_and_password(
    server: PostgresServer, settings: PostgresSettings
) -> None:
    """Its certificate is checked against the authority that was named."""
    catalog = open_catalog(by_tcp(server, settings, server.authority.ca_file))
    with catalog.snapshot() as tx:
        assert tx.connection.pgconn.ssl_in_use
    catalog.close()


def test_a_server_of_another_authority_is_refused(
    server: PostgresServer, settings: PostgresSettings, tmp_path: Path
) -> None:
    """It would get the password, and give whatever catalog it likes."""
    catalog = open_catalog(by_tcp(server, settings, Authority(tmp_path).ca_file))
    with pytest.raises(StorageUnavailableError, match="certificate verify failed"):
        got(catalog)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"password": "wrong secret", "host": "127.0.0.1"}, "password authentication failed"),
        ({"host": "127.0.0.1"}, "no password"),
        ({"user": "nobody"}, "role"),
        ({"database": "absent"}, "does not exist"),
        ({"port": 1}, "No such file"),
        ({"host": "127.0.0.1", "port": 1}, "refused"),
        ({"host": "absent.invalid"}, "resolve"),
    ],
)
def test_a_refusal_says_what_to_check(
    server: PostgresServer, settings: PostgresSettings, changes: dict[str, str], words: str
) -> None:
    """In one sentence, with the reason that the server gave, and without the password."""
    catalog = open_catalog(server.settings(**{"database": settings.database} | changes))
    for ask in (lambda: got(catalog), lambda: catalog.exists, catalog.migrate):
        with pytest.raises(StorageUnavailableError, match=words) as caught:
            ask()
        assert "storage.catalog" in str(caught.value)
        assert "wrong secret" not in str(caught.value)


def test_a_password_does_not_show_in_settings() -> None:
    """They may end in a traceback."""
    made = PostgresSettings(host="h", database="d", user="u", password=PASSWORD)
    assert PASSWORD not in repr(made)


def test_a_standby_is_refused(server: PostgresServer, settings: PostgresSettings) -> None:
    """It could be read and never written."""
    with contextlib.closing(server.connect()) as connection:
        connection.execute(
            f"ALTER DATABASE {settings.database} SET default_transaction_read_only = on"
        )
    catalog = open_catalog(settings)
    with pytest.raises(StorageUnavailableError, match="read-only"):
        got(catalog)


def test_a_database_of_another_encoding_is_refused(server: PostgresServer) -> None:
    """Names and records are UTF-8; it would refuse some of them, one day."""
    catalog = open_catalog(server.settings(server.new_database(encoding="LATIN1")))
    with pytest.raises(StorageUnavailableError, match="LATIN1"):
        catalog.migrate()
    assert not catalog.exists
    catalog.close()


# What breaks


def test_a_restarted_server_is_used_again_at_once(server: PostgresServer, catalog: Catalog) -> None:
    """The connections from before are broken; one new attempt is made before anything began."""
    put(catalog, b"1")
    with catalog.snapshot(), catalog.snapshot():
        pass
    server.stop()
    with pytest.raises(StorageUnavailableError):
        got(catalog)
    server.start()
    assert got(catalog) == b"1"
    server.stop()
    server.start()
    put(catalog, b"2")
    assert got(catalog) == b"2"


@pytest.mark.parametrize("statement_follows", [True, False])
def test_a_connection_that_breaks_in_a_transaction_is_an_error(
    server: PostgresServer, catalog: Catalog, *, statement_follows: bool
) -> None:
    """Also when only the commit is left; nothing is tried again, for it may have been done."""

    def broken() -> None:
        with catalog.begin() as tx:
            keys.put_setting(tx, "k", b"v")
            terminate(server, backend_of(tx))
            if statement_follows:
                keys.put_setting(tx, "other", b"v")

    with pytest.raises(StorageUnavailableError):
        broken()
    assert got(catalog) is None
    put(catalog, b"next")


def test_a_transaction_with_a_failure_hidden_in_it_does_not_pass_as_committed(
    catalog: Catalog,
) -> None:
    """PostgreSQL would answer its COMMIT with a rollback, and no error."""

    def hidden() -> None:
        with catalog.begin() as tx:
            keys.put_setting(tx, "k", b"v")
            with contextlib.suppress(psycopg.Error):
                tx.connection.execute("SELECT no_such_column FROM meta")

    with pytest.raises(StorageUnavailableError):
        hidden()
    assert got(catalog) is None


def test_a_server_that_hangs_is_an_error(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its machine answers, and the process that should does not; the connection is given up."""
    put(catalog, b"v")
    with catalog.snapshot() as tx:
        backend = backend_of(tx)
    monkeypatch.setattr(postgres, "_ANSWER_LIMIT_S", 0.3)
    os.kill(backend, signal.SIGSTOP)
    try:
        with pytest.raises(StorageUnavailableError, match="broke"):
            got(catalog)
    finally:
        os.kill(backend, signal.SIGCONT)
    monkeypatch.undo()
    assert got(catalog) == b"v"


def test_a_server_that_never_answers_is_an_error(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something listens there, and says nothing."""
    monkeypatch.setattr(postgres, "CONNECT_LIMIT_S", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        catalog = open_catalog(
            server.settings("any", host="127.0.0.1", port=silent.getsockname()[1])
        )
        with pytest.raises(StorageUnavailableError, match="timeout"):
            got(catalog)


# The one writer, and the readers


def test_a_lock_that_is_never_given_back_is_an_error(
    settings: PostgresSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer does not wait for ever, and can write once the lock is free."""
    monkeypatch.setitem(postgres._SESSION, "lock_timeout", "200ms")
    one, two = open_catalog(settings), open_catalog(settings)
    with one.begin(), pytest.raises(StorageUnavailableError, match="another writer"):
        put(two, b"v")
    put(two, b"v")
    for catalog in (one, two):
        catalog.close()


def test_a_gateway_that_hangs_in_a_transaction_loses_the_lock(
    settings: PostgresSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others write on; what it began is undone, and it is told."""
    impatient = postgres._BEGIN_WRITING.replace("'60s'", "'300ms'")
    assert impatient != postgres._BEGIN_WRITING
    monkeypatch.setattr(postgres, "_BEGIN_WRITING", impatient)
    hanging, other = open_catalog(settings), open_catalog(settings)

    def hang() -> None:
        with hanging.begin() as tx:
            keys.put_setting(tx, "k", b"half")
            put(other, b"whole", key="other")
            keys.put_setting(tx, "k", b"half")

    with pytest.raises(StorageUnavailableError):
        hang()
    assert (got(other), got(other, "other")) == (None, b"whole")
    for catalog in (hanging, other):
        catalog.close()


def test_a_full_disk_of_the_server_is_told_as_such(
    server: PostgresServer, catalog: Catalog, settings: PostgresSettings
) -> None:
    """The layers above know what to do about it."""
    with contextlib.closing(server.connect(settings.database)) as connection:
        connection.execute(
            "CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS "
            "$$BEGIN RAISE EXCEPTION USING ERRCODE = 'disk_full'; END$$"
        )
        connection.execute("CREATE TRIGGER full_disk BEFORE INSERT ON meta EXECUTE FUNCTION fill()")
    with pytest.raises(StorageFullError, match=settings.database):
        put(catalog, b"v")


def test_few_connections_serve_many_threads(
    server: PostgresServer, catalog: Catalog, settings: PostgresSettings
) -> None:
    """A process takes no more of the server's connections than its readers and one writer."""
    together = threading.Barrier(12)

    def work() -> None:
        together.wait(30)
        for _ in range(10):
            put(catalog, b"v")
            got(catalog)

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with contextlib.closing(server.connect()) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s", [settings.database]
        ).fetchone()
    assert row is not None
    assert 1 <= row[0] <= postgres.READERS_LIMIT + 1


def test_more_readers_than_connections_wait_and_do_not_hang(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that gets no turn is told; one may write while all others read."""
    put(catalog, b"v")
    with contextlib.ExitStack() as stack:
        for _ in range(postgres.READERS_LIMIT):
            stack.enter_context(catalog.snapshot())
        put(catalog, b"w")
        monkeypatch.setattr(postgres, "LOCK_LIMIT_S", 0.1)
        with pytest.raises(StorageUnavailableError, match="too slow"):
            got(catalog)
    assert got(catalog) == b"w"


def test_a_closed_catalog_keeps_no_connection(
    server: PostgresServer, catalog: Catalog, settings: PostgresSettings
) -> None:
    """Also none that was lent at that moment."""
    with catalog.snapshot():
        catalog.close()
    with contextlib.closing(server.connect()) as connection:
        connection.execute(f"ALTER DATABASE {settings.database} RENAME TO renamed")
        connection.execute(f"ALTER DATABASE renamed RENAME TO {settings.database}")
