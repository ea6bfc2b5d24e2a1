"""What is particular to the catalog in an SQLite file; the contract is in ``test_catalog``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.catalog import keys, sqlite
from backends.catalog.engine import Catalog
from backends.catalog.sqlite import CATALOG_FILE, open_catalog
from backends.catalog.statement import Tx
from backends.errors import StorageUnavailableError

LOG_LIMIT_BYTES = 6 << 20


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """A new catalog."""
    made = open_catalog(tmp_path)
    made.migrate()
    yield made
    made.close()


def test_the_catalog_is_for_its_owner_alone(catalog: Catalog, tmp_path: Path) -> None:
    """The file, its log and its lock."""
    with catalog.begin() as tx:
        keys.put_setting(tx, "k", b"v")
    for file in tmp_path.glob("catalog*"):
        assert file.stat().st_mode & 0o077 == 0, file.name


def test_commits_are_durable(catalog: Catalog) -> None:
    """WAL with a full fsync for each commit, on every connection."""
    for opened in (catalog.begin, catalog.snapshot):
        with opened() as tx:
            assert isinstance(tx, Tx)
            assert tx.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert tx.connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_log_that_grew_during_a_long_snapshot_is_cut_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the disk would keep the most that it ever was."""
    small = [
        f"journal_size_limit = {LOG_LIMIT_BYTES}" if "size_limit" in each else each
        for each in sqlite._PRAGMAS
    ]
    assert small != list(sqlite._PRAGMAS)
    monkeypatch.setattr(sqlite, "_PRAGMAS", small)
    catalog = open_catalog(tmp_path)
    catalog.migrate()

    def write(times: int) -> int:
        for number in range(times):
            with catalog.begin() as tx:
                keys.put_setting(tx, f"k{number}", bytes(4000))
        return (tmp_path / f"{CATALOG_FILE}-wal").stat().st_size

    with catalog.snapshot() as tx:
        keys.setting(tx, "k0")
        assert write(1200) > 2 * LOG_LIMIT_BYTES
    assert write(1200) <= LOG_LIMIT_BYTES
    catalog.close()


def test_a_broken_catalog_file_is_a_storage_error(tmp_path: Path) -> None:
    """Not a traceback of the database library."""
    (tmp_path / CATALOG_FILE).write_bytes(b"not a database, but long enough" * 100)
    catalog = open_catalog(tmp_path)
    with pytest.raises(StorageUnavailableError, match="catalog"):
        catalog.migrate()
    catalog.close()


def test_a_data_folder_that_is_missing_is_a_storage_error(tmp_path: Path) -> None:
    """With what to do about it."""
    with pytest.raises(StorageUnavailableError, match=r"storage\.data_dir"):
        open_catalog(tmp_path / "absent")
