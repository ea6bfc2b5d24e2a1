"""The contract of every catalog: its tables, its transactions, and what survives."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from backends.catalog import keys, postgres, sqlite
from backends.catalog.engine import Catalog
from backends.catalog.migrations import REVISION
from backends.catalog.schema import metadata, sessions
from backends.catalog.statement import Tx
from backends.errors import KeyUnavailableError, StorageUnavailableError
from backends.keyring import MasterKey
from backends.share import system_key
from tests.support.postgres import PostgresServer

PROJECT = Path(__file__).resolve().parent.parent.parent
ROUNDS = 25

COUNTER = """
import sys
from backends.catalog import keys

print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[1])):
    with catalog.begin() as tx:
        value = int(keys.setting(tx, "counter") or b"0")
        keys.put_setting(tx, "counter", str(value + 1).encode())
catalog.close()
"""

DYING = """
import os
from backends.catalog import keys

with catalog.begin() as tx:
    keys.put_setting(tx, "k", b"half")
    os._exit(9)
"""

STARTING = """
import sys

catalog.migrate()
catalog.close()
sys.exit("alembic" in sys.modules)
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one catalog lies; ``opening`` is Python that makes ``catalog`` in another process."""

    open: Callable[[], Catalog]
    opening: str
    connected: Callable[[], contextlib.AbstractContextManager[sa.Connection]]

    def program(self, code: str, *arguments: str) -> list[str]:
        """Return the command that runs ``code`` on this catalog."""
        return [sys.executable, "-c", self.opening + code, *arguments]


def sqlite_place(folder: Path) -> Place:
    opening = "from pathlib import Path\nfrom backends.catalog.sqlite import open_catalog\n"
    engine = sa.create_engine(f"sqlite:///{folder / sqlite.CATALOG_FILE}", poolclass=sa.NullPool)
    return Place(
        open=lambda: sqlite.open_catalog(folder),
        opening=f"{opening}catalog = open_catalog(Path({str(folder)!r}))\n",
        connected=engine.connect,
    )


@contextlib.contextmanager
def postgres_place(server: PostgresServer, database: str) -> Iterator[Place]:
    settings = server.settings(database)
    engine = sa.create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(**settings.parameters()),
        poolclass=sa.NullPool,
    )
    yield Place(
        open=lambda: postgres.open_catalog(settings),
        opening="from backends.catalog.postgres import PostgresSettings, open_catalog\n"
        f"catalog = open_catalog({settings!r})\n",
        connected=engine.connect,
    )
    server.drop(database)


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a catalog that nothing was done with."""
    folder = tmp_path_factory.mktemp("migrated")
    catalog = sqlite.open_catalog(folder)
    catalog.migrate()
    catalog.close()
    return folder / sqlite.CATALOG_FILE


@pytest.fixture(params=["sqlite", "postgresql"])
def no_catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Where no catalog has been made yet."""
    if request.param == "sqlite":
        yield sqlite_place(tmp_path)
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with postgres_place(server, server.new_database()) as made:
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, migrated: Path, tmp_path: Path) -> Iterator[Place]:
    """Where a new catalog lies."""
    if request.param == "sqlite":
        shutil.copy(migrated, tmp_path)
        yield sqlite_place(tmp_path)
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with postgres_place(server, server.new_catalog()) as made:
        yield made


@pytest.fixture
def catalog(place: Place) -> Iterator[Catalog]:
    """A new catalog."""
    made = place.open()
    yield made
    made.close()


def setting(catalog: Catalog, key: str) -> bytes | None:
    with catalog.snapshot() as tx:
        return keys.setting(tx, key)


def put(catalog: Catalog, key: str, value: bytes) -> None:
    with catalog.begin() as tx:
        keys.put_setting(tx, key, value)


def test_a_catalog_exists_once_it_was_made(no_catalog: Place) -> None:
    """Asking makes nothing."""
    catalog = no_catalog.open()
    found = [catalog.exists, catalog.exists]
    catalog.migrate()
    assert [*found, catalog.exists] == [False, False, True]
    catalog.close()


def test_the_migrations_make_exactly_the_schema(catalog: Catalog, place: Place) -> None:
    """Alembic finds nothing that differs between the two."""
    with place.connected() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_the_newest_revision_is_the_head_of_the_migrations(catalog: Catalog, place: Place) -> None:
    """A start compares with it alone, and loads Alembic only when they differ."""
    config = Config()
    config.set_main_option("script_location", str(PROJECT / "backends" / "catalog" / "migrations"))
    assert ScriptDirectory.from_config(config).get_heads() == [REVISION]
    with place.connected() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == REVISION


def test_a_catalog_that_is_up_to_date_does_not_load_alembic(catalog: Catalog, place: Place) -> None:
    """Loading it takes longer than the rest of a worker's start."""
    put(catalog, "k", b"v")
    done = subprocess.run(place.program(STARTING), cwd=PROJECT, check=False)
    assert done.returncode == 0


def test_gateways_that_start_together_make_one_catalog(no_catalog: Place) -> None:
    """Both migrate; one of them finds nothing and makes the tables, the other finds them."""
    starting = [subprocess.Popen(no_catalog.program(STARTING), cwd=PROJECT) for _ in range(2)]
    assert sorted(process.wait(60) for process in starting) == [0, 1]


def test_a_catalog_of_a_newer_version_is_refused(catalog: Catalog, place: Place) -> None:
    """By its number, and nothing is changed."""
    with place.connected() as connection, connection.begin():
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StorageUnavailableError, match="9999"):
        catalog.migrate()


def test_a_catalog_of_the_first_release_is_brought_up_to_date(no_catalog: Place) -> None:
    """Whoever is signed in meanwhile stays so, and belongs to no lease."""
    config = Config()
    config.set_main_option("script_location", str(PROJECT / "backends" / "catalog" / "migrations"))
    with no_catalog.connected() as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        columns = [one for one in sessions.c if one.name != "lease_id"]
        row = {one.name: b"" if isinstance(one.type, sa.LargeBinary) else 0 for one in columns}
        text = {one.name: "x" for one in columns if isinstance(one.type, sa.Text)}
        names = ", ".join(row)
        values = ", ".join(f":{name}" for name in row)
        connection.execute(sa.text(f"INSERT INTO sessions ({names}) VALUES ({values})"), row | text)
    catalog = no_catalog.open()
    catalog.migrate()
    catalog.close()
    with no_catalog.connected() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        found = connection.execute(sa.select(sessions.c.id, sessions.c.lease_id)).all()
    assert [tuple(one) for one in found] == [("x", None)]


def test_migrating_twice_changes_nothing(catalog: Catalog, place: Place) -> None:
    """Every start migrates; data stays."""
    put(catalog, "k", b"v")
    catalog.migrate()
    again = place.open()
    again.migrate()
    assert setting(again, "k") == b"v"
    again.close()


def test_what_was_committed_is_there_after_reopening(catalog: Catalog, place: Place) -> None:
    """By another catalog object at once, and after everything was closed."""
    first = place.open()
    put(first, "k", b"v")
    assert setting(catalog, "k") == b"v"
    first.close()
    reopened = place.open()
    assert setting(reopened, "k") == b"v"
    reopened.close()


def test_a_transaction_that_raises_leaves_nothing(catalog: Catalog) -> None:
    """And the next one works."""
    put(catalog, "k", b"before")

    def half_done() -> None:
        with catalog.begin() as tx:
            keys.put_setting(tx, "k", b"after")
            keys.put_setting(tx, "other", b"x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half_done()
    assert setting(catalog, "k") == b"before"
    assert setting(catalog, "other") is None
    put(catalog, "k", b"next")


def test_a_process_that_dies_leaves_nothing_and_no_lock(catalog: Catalog, place: Place) -> None:
    """A killed writer's transaction is gone, and the next writer need not wait for it."""
    done = subprocess.run(place.program(DYING), cwd=PROJECT, check=False)
    assert done.returncode == 9
    assert setting(catalog, "k") is None
    put(catalog, "k", b"whole")


def test_a_snapshot_shows_one_moment_and_blocks_nobody(catalog: Catalog) -> None:
    """A commit during a snapshot is not seen in it."""
    put(catalog, "k", b"1")
    with catalog.snapshot() as tx:
        assert keys.setting(tx, "k") == b"1"
        put(catalog, "k", b"2")
        assert keys.setting(tx, "k") == b"1"
    assert setting(catalog, "k") == b"2"


def test_a_writer_sees_what_the_writer_before_it_committed(catalog: Catalog, place: Place) -> None:
    """Also when it began to wait before that commit."""
    other = place.open()
    seen: list[bytes | None] = []

    def read() -> None:
        waiting.set()
        with other.begin() as tx:
            seen.append(keys.setting(tx, "k"))

    waiting = threading.Event()
    thread = threading.Thread(target=read)
    with catalog.begin() as tx:
        thread.start()
        waiting.wait(30)
        keys.put_setting(tx, "k", b"v")
        assert seen == []
    thread.join(30)
    assert seen == [b"v"]
    other.close()


def test_a_statement_that_failed_leaves_the_catalog_usable(catalog: Catalog) -> None:
    """The transaction is over, and its connection is as good as new or replaced."""

    def fail(opened: Callable[[], contextlib.AbstractContextManager[Tx]]) -> None:
        with opened() as tx:
            tx.connection.execute("SELECT no_such_column FROM meta")

    for opened in (catalog.begin, catalog.snapshot):
        with pytest.raises(StorageUnavailableError):
            fail(opened)
        put(catalog, "k", b"v")
        assert setting(catalog, "k") == b"v"


def test_an_error_shows_nothing_of_a_row(catalog: Catalog) -> None:
    """What is stored does not reach the log with the reason of a failure."""
    secret = "/radiology/secret name"

    def twice() -> None:
        with catalog.begin() as tx:
            for _ in range(2):
                tx.connection.execute(f"INSERT INTO meta (key, value) VALUES ('{secret}', '')")

    with pytest.raises(StorageUnavailableError) as caught:
        twice()
    assert secret not in str(caught.value)


def test_a_snapshot_cannot_write(catalog: Catalog) -> None:
    """Writing needs the write lock, so this is a bug of the caller."""
    with catalog.snapshot() as tx, pytest.raises(AssertionError):
        keys.put_setting(tx, "k", b"v")


def test_two_processes_do_not_lose_updates(catalog: Catalog, place: Place) -> None:
    """Two processes and two threads here read, add one and write, at the same time."""
    writers = [
        subprocess.Popen(
            place.program(COUNTER, str(ROUNDS)),
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"

    def count() -> None:
        for _ in range(ROUNDS):
            with catalog.begin() as tx:
                value = int(keys.setting(tx, "counter") or b"0")
                keys.put_setting(tx, "counter", str(value + 1).encode())

    threads = [threading.Thread(target=count) for _ in range(2)]
    for thread in threads:
        thread.start()
    for writer in writers:
        writer.communicate("go\n", timeout=60)
        assert writer.returncode == 0
    for thread in threads:
        thread.join(60)
    assert setting(catalog, "counter") == str(4 * ROUNDS).encode()


def test_a_row_that_breaks_a_constraint_is_a_storage_error(catalog: Catalog) -> None:
    """The transaction is rolled back whole."""

    def twice() -> None:
        with catalog.begin() as tx:
            for _ in range(2):
                tx.connection.execute("INSERT INTO meta (key, value) VALUES ('k', '')")

    with pytest.raises(StorageUnavailableError):
        twice()
    assert setting(catalog, "k") is None


def test_the_catalog_belongs_to_its_first_master_key(catalog: Catalog) -> None:
    """The system key is made once; another master key is refused by name."""
    master = MasterKey(b"m" * 32)
    with catalog.begin() as tx:
        made = system_key(tx, master)
    with catalog.begin() as tx:
        assert system_key(tx, master) == made
    other = MasterKey(b"n" * 32)
    with pytest.raises(KeyUnavailableError, match=other.key_id), catalog.begin() as tx:
        system_key(tx, other)
    assert made not in b"".join(
        value for value in (setting(catalog, "system_key_wrapped"),) if value is not None
    )


def test_a_lost_system_key_is_an_error_not_a_new_key(catalog: Catalog) -> None:
    """A new one would make everything sealed under the old one unreadable for good."""
    master = MasterKey(b"m" * 32)
    with catalog.begin() as tx:
        system_key(tx, master)
        keys.remove_setting(tx, "system_key_wrapped")
    with pytest.raises(KeyUnavailableError, match="backup"), catalog.snapshot() as tx:
        system_key(tx, master)
