"""The catalog: its tables, its transactions, and what survives."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from backends.catalog import keys
from backends.catalog.engine import Catalog
from backends.catalog.migrations import REVISION
from backends.catalog.schema import metadata
from backends.catalog.sqlite import CATALOG_FILE, open_catalog
from backends.catalog.statement import Tx
from backends.errors import KeyUnavailableError, StorageUnavailableError
from backends.keyring import MasterKey
from backends.share import system_key

PROJECT = Path(__file__).resolve().parent.parent.parent
ROUNDS = 25

COUNTER = """
import sys
from pathlib import Path
from backends.catalog import keys
from backends.catalog.sqlite import open_catalog

catalog = open_catalog(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[2])):
    with catalog.begin() as tx:
        value = int(keys.setting(tx, "counter") or b"0")
        keys.put_setting(tx, "counter", str(value + 1).encode())
catalog.close()
"""


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """A new catalog."""
    made = open_catalog(tmp_path)
    made.migrate()
    yield made
    made.close()


def setting(catalog: Catalog, key: str) -> bytes | None:
    with catalog.snapshot() as tx:
        return keys.setting(tx, key)


def put(catalog: Catalog, key: str, value: bytes) -> None:
    with catalog.begin() as tx:
        keys.put_setting(tx, key, value)


def test_the_migrations_make_exactly_the_schema(catalog: Catalog, tmp_path: Path) -> None:
    """Alembic finds nothing that differs between the two."""
    with sa.create_engine(f"sqlite:///{tmp_path / CATALOG_FILE}").connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_the_newest_revision_is_the_head_of_the_migrations(
    catalog: Catalog, tmp_path: Path
) -> None:
    """A start compares with it alone, and loads Alembic only when they differ."""
    config = Config()
    config.set_main_option("script_location", str(PROJECT / "backends" / "catalog" / "migrations"))
    assert ScriptDirectory.from_config(config).get_heads() == [REVISION]
    with sa.create_engine(f"sqlite:///{tmp_path / CATALOG_FILE}").connect() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == REVISION


def test_a_catalog_that_is_up_to_date_does_not_load_alembic(
    catalog: Catalog, tmp_path: Path
) -> None:
    """Loading it takes longer than the rest of a worker's start."""
    put(catalog, "k", b"v")
    code = (
        "import sys\nfrom pathlib import Path\nfrom backends.catalog.sqlite import open_catalog\n"
        "open_catalog(Path(sys.argv[1])).migrate()\nsys.exit('alembic' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=PROJECT, check=False)
    assert done.returncode == 0


def test_migrating_twice_changes_nothing(catalog: Catalog, tmp_path: Path) -> None:
    """Every start migrates; data stays."""
    put(catalog, "k", b"v")
    catalog.migrate()
    again = open_catalog(tmp_path)
    again.migrate()
    assert setting(again, "k") == b"v"
    again.close()


def test_the_catalog_is_for_its_owner_alone(catalog: Catalog, tmp_path: Path) -> None:
    """The file, its log and its lock."""
    put(catalog, "k", b"v")
    for file in tmp_path.glob("catalog*"):
        assert file.stat().st_mode & 0o077 == 0, file.name


def test_what_was_committed_is_there_after_reopening(catalog: Catalog, tmp_path: Path) -> None:
    """By another catalog object at once, and after everything was closed."""
    first = open_catalog(tmp_path)
    put(first, "k", b"v")
    assert setting(catalog, "k") == b"v"
    first.close()
    reopened = open_catalog(tmp_path)
    assert setting(reopened, "k") == b"v"
    reopened.close()


def test_commits_are_durable(catalog: Catalog) -> None:
    """WAL with a full fsync for each commit, on every connection."""
    for opened in (catalog.begin, catalog.snapshot):
        with opened() as tx:
            assert isinstance(tx, Tx)
            assert tx.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert tx.connection.execute("PRAGMA synchronous").fetchone() == (2,)


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


def test_a_process_that_dies_leaves_nothing_and_no_lock(catalog: Catalog, tmp_path: Path) -> None:
    """A killed writer's transaction is gone, and the next writer need not wait for it."""
    dying = (
        "import os, sys\nfrom pathlib import Path\nfrom backends.catalog import keys\n"
        "from backends.catalog.sqlite import open_catalog\n"
        "with open_catalog(Path(sys.argv[1])).begin() as tx:\n"
        "    keys.put_setting(tx, 'k', b'half')\n    os._exit(9)\n"
    )
    done = subprocess.run([sys.executable, "-c", dying, str(tmp_path)], cwd=PROJECT, check=False)
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


def test_a_snapshot_cannot_write(catalog: Catalog) -> None:
    """Writing needs the write lock, so this is a bug of the caller."""
    with catalog.snapshot() as tx, pytest.raises(AssertionError):
        keys.put_setting(tx, "k", b"v")


def test_two_processes_do_not_lose_updates(catalog: Catalog, tmp_path: Path) -> None:
    """Two processes and two threads here read, add one and write, at the same time."""
    command = [sys.executable, "-c", COUNTER, str(tmp_path), str(ROUNDS)]
    writers = [
        subprocess.Popen(
            command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
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


def test_a_broken_catalog_file_is_a_storage_error(tmp_path: Path) -> None:
    """Not a traceback of the database library."""
    (tmp_path / "catalog.sqlite").write_bytes(b"not a database, but long enough" * 100)
    catalog = open_catalog(tmp_path)
    with pytest.raises(StorageUnavailableError, match="catalog"):
        catalog.migrate()
    catalog.close()


def test_a_data_folder_that_is_missing_is_a_storage_error(tmp_path: Path) -> None:
    """With what to do about it."""
    with pytest.raises(StorageUnavailableError, match=r"storage\.data_dir"):
        open_catalog(tmp_path / "absent")


def test_a_row_that_breaks_a_constraint_is_a_storage_error(catalog: Catalog) -> None:
    """The transaction is rolled back whole."""

    def twice() -> None:
        with catalog.begin() as tx:
            for _ in range(2):
                tx.connection.execute("INSERT INTO meta (key, value) VALUES ('k', x'00')")

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
