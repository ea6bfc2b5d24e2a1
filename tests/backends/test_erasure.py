"""Looking for destroyed keys in the files of an SQLite catalog."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from backends.catalog import erasure, keys
from backends.destruction import all_destroyed, destroy
from backends.errors import StorageUnavailableError
from tests.backends.epochs import BIG, share_row
from tests.backends.world import World


def test_the_keys_are_gone_from_the_files(world: World) -> None:
    """After the log was settled; a copy of the catalog beside it is found."""
    world.write("/docs/a", BIG)
    with world.catalog.snapshot() as tx:
        row = share_row(tx, "docs")
        wrapped = [row.name_key_wrapped, keys.epochs_of(tx, row.id)[0].key_wrapped or b""]
    assert erasure.holding(world.catalog_file, wrapped)
    backup = world.catalog_file.with_name("catalog.sqlite.old")
    with closing(sqlite3.connect(world.catalog_file)) as live:
        live.execute("VACUUM INTO ?", [str(backup)])
    with world.catalog.begin() as tx:
        destroy(tx, share_row(tx, "docs"), world.clock())
    assert erasure.settle(world.catalog_file)
    with world.catalog.snapshot() as tx:
        (act,) = all_destroyed(tx)
    assert set(act.pieces) == {each[:8] for each in wrapped}
    assert erasure.holding(world.catalog_file, act.pieces) == [backup]
    backup.unlink()
    assert erasure.holding(world.catalog_file, [*wrapped, *act.pieces]) == []


def test_a_piece_is_found_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it lies in a file, and nowhere when there is none."""
    monkeypatch.setattr("backends.catalog.erasure._BLOCK_SIZE_BYTES", 16)
    file = tmp_path / "catalog.sqlite"
    for offset in range(40):
        file.write_bytes(bytes(offset) + b"12345678" + bytes(50 - offset))
        assert erasure.holding(file, [b"absent.."]) == []
        assert erasure.holding(file, [b"absent..", b"12345678"]) == [file]
    assert erasure.holding(file, []) == []


def test_what_cannot_be_looked_at_proves_nothing(tmp_path: Path) -> None:
    """A file that is no catalog is an error, and not a clean one."""
    file = tmp_path / "catalog.sqlite"
    file.write_bytes(b"no catalog" * 1000)
    with pytest.raises(StorageUnavailableError, match="settled"):
        erasure.settle(file)


def test_a_log_that_is_read_all_the_time_is_not_settled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys are then found in it, or they are not; nobody is misled either way."""
    monkeypatch.setattr("backends.catalog.erasure.BUSY_TIMEOUT_S", 0.0)
    world.write("/docs/a", BIG)
    with world.catalog.snapshot() as tx:
        row = share_row(tx, "docs")
        with world.catalog.begin() as write:
            destroy(write, share_row(write, "docs"), world.clock())
        assert not erasure.settle(world.catalog_file)
        assert erasure.holding(world.catalog_file, [row.name_key_wrapped])
    assert erasure.settle(world.catalog_file)
    assert erasure.holding(world.catalog_file, [row.name_key_wrapped]) == []
