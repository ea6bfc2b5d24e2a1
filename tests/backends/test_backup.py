"""Backups of a vault: consistent while writes go on, incremental, resumable, and never believed."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from backends import gc
from backends.backup import checking, making, restoring
from backends.backup.folder import MANIFEST, UNFINISHED, BackupError, BackupFolder
from backends.backup.making import HOLD_US, RENEW_US, Made, Pace, Source
from backends.backup.manifest import Damaged
from backends.blobs import BlobStore
from backends.blobs.local import LocalBlobStore
from backends.blobs.memory import MemoryBlobStore
from backends.catalog import dump, keys, marks, nodes, segments, versions
from backends.catalog import postgres as postgres_catalog
from backends.catalog.engine import Catalog
from backends.catalog.schema import metadata
from backends.catalog.sqlite import open_catalog
from backends.errors import (
    IntegrityError,
    KeyUnavailableError,
    StorageFullError,
    StorageUnavailableError,
)
from backends.history import History
from backends.keyring import MasterKey
from backends.rotation import rewrap
from backends.share import Shares, system_key
from backends.vault import Vault
from tests.backends.world import SETTINGS, START_US, SetClock, World, running_world, sample
from tests.support.postgres import PostgresServer

MASTER = MasterKey(bytes(range(32)))
LARGE = 300_000


@dataclass
class Tally:
    """A meter that remembers, and does something at a named moment."""

    phases: list[str] = field(default_factory=list)
    at: str = ""
    after: int = 0
    then: Callable[[], None] = lambda: None

    def begin(self, phase: str, total: int) -> None:
        self.phases.append(phase)
        if phase == self.at and not self.after:
            self.then()

    def advance(self, count: int) -> None:
        if self.after and self.phases[-1] == self.at:
            self.after -= 1
            if not self.after:
                self.then()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[bytes, bytes]]:
    """The catalog and the blobs of a vault with keys and a few files, for tests to copy."""
    folder = tmp_path_factory.mktemp("template")
    with running_world(folder) as made:
        with made.catalog.begin() as tx:
            system_key(tx, made.master, made.random_bytes)
        made.mkdir("/docs/folder")
        made.write("/docs/folder/large", sample(LARGE, "large"))
        made.write("/docs/folder/large", b"changed", offset=70_000, keep=True)
        made.write("/docs/small", b"small")
        made.write("/kept/trashed", sample(LARGE, "trashed"))
        with made.catalog.begin() as tx:
            made.vault.delete(tx, made.node(tx, "/kept/trashed"), author="p1")
        blobs = dict(made.store._blobs)
    return folder / "catalog.sqlite", blobs


@pytest.fixture
def world(template: tuple[Path, dict[bytes, bytes]], tmp_path: Path) -> Iterator[World]:
    """A vault of its own for one test."""
    file, blobs = template
    folder = tmp_path / "source"
    folder.mkdir()
    shutil.copy(file, folder)
    clock, store = SetClock(), MemoryBlobStore()
    for blob_id, data in blobs.items():
        store.keep(blob_id, data)
    catalog = open_catalog(folder)
    shares = Shares(MASTER, SETTINGS, os.urandom)
    vault = Vault(shares, store, clock=clock, random_bytes=os.urandom)
    path = folder / "catalog.sqlite"
    try:
        yield World(catalog, store, shares, vault, MASTER, path, os.urandom, clock)
    finally:
        vault.close()
        catalog.close()


@pytest.fixture(scope="module")
def finished(
    template: tuple[Path, dict[bytes, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A finished backup of the template, for tests to copy; one segment was damaged before."""
    file, blobs = template
    folder = tmp_path_factory.mktemp("finished")
    shutil.copy(file, folder)
    catalog, store = open_catalog(folder), MemoryBlobStore()
    for blob_id, data in sorted(blobs.items())[1:]:
        store.keep(blob_id, data)
    made = Source(catalog, store, MASTER, "node-1", "1.0", SetClock(), os.urandom)
    with making.claimed(made, BackupFolder(folder / "backup")) as maker:
        maker.make(Tally(), Pace(None))
    catalog.close()
    return folder / "backup"


@pytest.fixture
def backup(finished: Path, tmp_path: Path) -> Path:
    """A finished backup that one test may change, with one segment noted as damaged."""
    return shutil.copytree(finished, tmp_path / "backup")


def source_of(world: World, *, store: BlobStore | None = None) -> Source:
    return Source(
        catalog=world.catalog,
        store=store or world.store,
        masters=world.master,
        node="node-1",
        release="1.0",
        clock=world.clock,
        random_bytes=os.urandom,
    )


def back_up(
    world: World,
    folder: Path,
    meter: Tally | None = None,
    *,
    prune: bool = False,
    pace: Pace | None = None,
) -> Made:
    with making.claimed(source_of(world), BackupFolder(folder)) as maker:
        return maker.make(meter or Tally(), pace or Pace(None), prune=prune)


def restore(
    folder: Path, target: Path, master: MasterKey = MASTER, *, accept: bool = False
) -> list[Damaged]:
    """Restore onto a bare folder as the command does; return what was not right."""
    target.mkdir(exist_ok=True)
    with restoring.opened(BackupFolder(folder), master, os.urandom) as backup:
        catalog = open_catalog(target)
        try:
            place = restoring.Target(catalog, LocalBlobStore.prepare(target / "blobs"), SetClock())
            return restore_into(backup, place, accept=accept)
        finally:
            catalog.close()


def restore_into(
    backup: restoring.Opened, place: restoring.Target, *, accept: bool = False
) -> list[Damaged]:
    again = restoring.claim(place, backup.manifest)
    damaged = restoring.copy_segments(backup, place, Tally(), again=again)
    if accept or not damaged:
        with place.catalog.begin() as tx:
            restoring.fill(backup, tx, damaged, place.clock(), lambda _: None)
    return damaged


@dataclass
class Restored:
    """A restored vault, opened by nothing but its folder and the key."""

    catalog: Catalog
    vault: Vault
    history: History
    shares: Shares

    def contents(self) -> dict[bytes, bytes]:
        """Return the SHA-256 of every version of every share by its id, each read whole."""
        found = {}
        with self.catalog.snapshot() as tx:
            for share in keys.all_shares(tx):
                for row in versions.of_share(tx, share.id, b"", 100_000):
                    verified = self.history.verified(tx, row)
                    content = self.history.content(tx, verified)
                    digest = sha256(content.read_at(0, content.size_bytes)).digest()
                    assert verified.sha256 in {None, digest}
                    found[row.id] = digest
        return found

    def problems(self) -> list[str]:
        """Return what the rows of all shares have wrong, digests and counters included."""
        with self.catalog.snapshot() as tx:
            check = checking.RowCheck(
                tx, self.shares, MemoryBlobStore(), clock=SetClock(), random_bytes=os.urandom
            )
            return [one for row in keys.all_shares(tx) for one in check.problems(row.name, Tally())]

    def tree(self) -> set[str]:
        """Return the path of every live node."""
        found = set()
        with self.catalog.snapshot() as tx:
            for name in SETTINGS:
                share = self.vault.share(tx, name)
                for row in nodes.of_share(tx, share.id, b"", 100_000):
                    node = self.vault.locate(tx, name, row.id)
                    if node is not None:
                        found.add(str(node.path))
        return found


@contextlib.contextmanager
def opened(target: Path, master: MasterKey = MASTER) -> Iterator[Restored]:
    catalog = open_catalog(target)
    store = LocalBlobStore(target / "blobs")
    shares = Shares(master, SETTINGS, os.urandom)
    vault = Vault(shares, store, clock=SetClock(), random_bytes=os.urandom)
    history = History(shares, store, clock=SetClock(), random_bytes=os.urandom)
    try:
        with catalog.snapshot() as tx:
            marks.require_restored(tx)
        yield Restored(catalog, vault, history, shares)
    finally:
        vault.close()
        catalog.close()


def in_source(world: World) -> Restored:
    """Return the source with the same questions."""
    history = History(world.shares, world.store, clock=world.clock, random_bytes=os.urandom)
    return Restored(world.catalog, world.vault, history, world.shares)


def verify(folder: Path, master: MasterKey = MASTER) -> list[str]:
    """Return everything that is wrong in a backup; raises as opening it does."""
    with restoring.opened(BackupFolder(folder), master, os.urandom) as backup:
        check = checking.RowCheck(
            backup.tx,
            backup.shares,
            MemoryBlobStore(),
            clock=SetClock(),
            random_bytes=os.urandom,
        )
        rows = [
            one for row in keys.all_shares(backup.tx) for one in check.problems(row.name, Tally())
        ]
        bad = checking.damaged_in_backup(
            backup.tx, backup.folder, backup.manifest, backup.shares, Tally()
        )
        return rows + [each.segment for each in bad]


def segment_files(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "blobs").rglob("*") if path.is_file())


def test_a_restored_backup_is_bit_identical(world: World, tmp_path: Path) -> None:
    """Every version, trashed ones too, reads as it did; rows, digests and counters verify."""
    made = back_up(world, tmp_path / "backup")
    assert made.manifest.damaged == ()
    assert made.copied_count == made.manifest.segment_count > 2
    assert verify(tmp_path / "backup") == []
    assert restore(tmp_path / "backup", tmp_path / "target") == []
    with opened(tmp_path / "target") as restored:
        assert restored.contents() == in_source(world).contents()
        assert restored.tree() == in_source(world).tree()
        assert restored.problems() == []


def test_a_backup_while_writes_go_on_is_one_moment(world: World, tmp_path: Path) -> None:
    """What was acknowledged before is there; all that is there verifies; segments outlive gc."""
    before = in_source(world).contents()
    halt, began = threading.Event(), threading.Event()
    written: dict[int, bytes] = {}
    failures: list[BaseException] = []

    def churn() -> None:
        number = 0
        try:
            # Not so often that the versions which the test began with are pruned.
            while number < 8 or (not halt.is_set() and number < 20):
                world.write(f"/docs/new-{number}", sample(70_000 + number, f"new {number}"))
                world.write("/docs/folder/large", sample(20_000, f"more {number}"), offset=5)
                with world.catalog.begin() as tx:
                    node = world.node(tx, f"/docs/new-{number}")
                    folder = world.node(tx, "/docs/folder")
                    if number % 3 == 0:
                        world.vault.delete(tx, node, author="p1")
                    else:
                        world.vault.move(tx, node, folder, f"moved-{number}", author="p1")
                with world.catalog.snapshot() as tx:
                    written[number] = b"done"
                    began.set()
                world.collect(strays=False)
                number += 1
        except BaseException as error:  # noqa: BLE001  told in the test's thread
            failures.append(error)
            began.set()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        assert began.wait(30)
        acknowledged = set(written)
        for folder in ("backup", "backup", "other"):
            assert back_up(world, tmp_path / folder).manifest.damaged == ()
    finally:
        halt.set()
        thread.join()
    assert failures == []
    for folder in ("backup", "other"):
        assert verify(tmp_path / folder) == []
        assert restore(tmp_path / folder, tmp_path / f"target-{folder}") == []
        with opened(tmp_path / f"target-{folder}") as restored:
            contents = restored.contents()
            assert before.items() <= contents.items()
            assert restored.problems() == []
            tree = restored.tree()
            for number in acknowledged:
                moved = f"/docs/folder/moved-{number}" in tree
                assert moved == (number % 3 != 0)


def test_a_second_backup_copies_only_new_segments(world: World, tmp_path: Path) -> None:
    """Nothing is copied twice, and --prune removes what only the first backup named."""
    folder = tmp_path / "backup"
    first = back_up(world, folder)
    assert back_up(world, folder).copied_count == 0
    world.write("/docs/another", sample(LARGE, "another"))
    second = back_up(world, folder)
    assert second.copied_count == 1
    assert second.manifest.segment_count == first.manifest.segment_count + 1
    assert len(list(folder.glob("catalog-*"))) == 1
    with world.catalog.begin() as tx:
        world.vault.delete(tx, world.node(tx, "/docs/another"), author="p1")
    world.clock.now_us += 2 * gc.ORPHAN_GRACE_US
    world.collect(strays=False)
    world.clock.now_us += 2 * gc.ORPHAN_GRACE_US
    assert world.collect(strays=False) == 1
    assert back_up(world, folder).pruned_count == 0
    assert back_up(world, folder, prune=True).pruned_count == 1
    assert len(segment_files(folder)) == first.manifest.segment_count
    assert verify(folder) == []


def test_a_running_backup_holds_back_collection(world: World, tmp_path: Path) -> None:
    """A hold lasts while the backup runs, is renewed, and is gone at its end; it is not copied."""
    seen: list[bool] = []

    def look() -> None:
        world.clock.now_us += RENEW_US
        with world.catalog.begin() as tx:
            seen.append(marks.held(tx, world.clock()))
            seen.append(marks.held(tx, world.clock() + HOLD_US - RENEW_US))

    back_up(world, tmp_path / "backup", Tally(at="finishing", then=look))
    assert seen == [True, False]
    with world.catalog.snapshot() as tx:
        assert not marks.held(tx, world.clock())
    with dump.open_dump(next((tmp_path / "backup").glob("catalog-*"))) as copied:
        assert not marks.held(copied, world.clock())


def test_a_hold_is_forgotten_when_its_time_is_over(world: World) -> None:
    """A killed backup does not hold back collection for ever."""
    with world.catalog.begin() as tx:
        marks.place_hold(tx, "one", now_us=START_US, until_us=START_US + 10)
        assert marks.held(tx, START_US)
        assert not marks.held(tx, START_US + 10)
        marks.place_hold(tx, "two", now_us=START_US + 20, until_us=START_US + 30)
        marks.lift_hold(tx, "two")
        assert not marks.held(tx, START_US)


def test_every_table_is_copied_or_left_out_on_purpose(world: World, tmp_path: Path) -> None:
    """Rows of all other tables arrive as they were; a new table is copied unless it is named."""
    assert set(metadata.tables) > dump.LEFT_OUT
    with contextlib.closing(sqlite3.connect(world.catalog_file)) as connection:
        connection.execute(
            "INSERT INTO sessions SELECT 'id','','','','','','',NULL,0,0,0,0,0,0,0,'',x'','lease'"
        )
        connection.execute("INSERT INTO leases VALUES ('lease', '', '', '', 0, 0, 0, x'')")
        connection.execute("INSERT INTO quarantine VALUES (x'00', x'01', 5, 'why')")
        connection.commit()
    back_up(world, tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "target")
    before = all_rows(world.catalog_file)
    after = all_rows(tmp_path / "target" / "catalog.sqlite")
    assert before["quarantine"]
    assert before["sessions"]
    assert before["leases"]
    for name in metadata.tables:
        assert after[name] == ([] if name in dump.LEFT_OUT else before[name]), name


def test_rows_are_copied_page_by_page(tmp_path: Path) -> None:
    """More rows than one page holds, with one column as the key and with two, all arrive once."""
    catalog = open_catalog(tmp_path)
    catalog.migrate()
    count = 2 * dump.BATCH_ROWS + 1
    with contextlib.closing(sqlite3.connect(tmp_path / "catalog.sqlite")) as connection:
        for number in range(count):
            key = number.to_bytes(16, "big")
            connection.execute("INSERT INTO properties VALUES (?, ?)", (key, key))
            place = (key[:15], number, 1, key, 0)
            connection.execute("INSERT INTO extents VALUES (?, ?, ?, ?, ?)", place)
        connection.commit()
    with dump.new_dump(tmp_path / "dump") as target, catalog.snapshot() as tx:
        counts = {each.name: each.row_count for each in dump.copy_rows(tx, target, lambda _: None)}
    catalog.close()
    assert counts["properties"] == counts["extents"] == count
    with contextlib.closing(sqlite3.connect(tmp_path / "dump")) as connection:
        found = connection.execute("SELECT count(*), sum(block_start) FROM extents").fetchone()
    assert found == (count, count * (count - 1) // 2)


def test_a_backup_moves_between_databases(
    world: World, postgres: PostgresServer, tmp_path: Path
) -> None:
    """From SQLite into PostgreSQL and from there back: the same rows and the same contents."""
    with contextlib.closing(sqlite3.connect(world.catalog_file)) as connection:
        connection.execute("INSERT INTO totp_seeds VALUES ('p1', x'00', 7, 1, 5)")
        connection.commit()
    back_up(world, tmp_path / "backup")
    catalog = postgres_catalog.open_catalog(postgres.settings(postgres.new_database()))
    moved = dataclasses.replace(world, catalog=catalog, store=MemoryBlobStore())
    try:
        with restoring.opened(BackupFolder(tmp_path / "backup"), MASTER, os.urandom) as backup:
            place = restoring.Target(catalog, moved.store, SetClock())
            assert restore_into(backup, place) == []
        assert moved.store._blobs == world.store._blobs
        back_up(moved, tmp_path / "from-postgres")
    finally:
        catalog.close()
    assert verify(tmp_path / "from-postgres") == []
    assert restore(tmp_path / "from-postgres", tmp_path / "target") == []
    with opened(tmp_path / "target") as restored:
        assert restored.contents() == in_source(world).contents()
    before, after = all_rows(world.catalog_file), all_rows(tmp_path / "target" / "catalog.sqlite")
    assert {name: after[name] for name in set(before) - dump.LEFT_OUT} == {
        name: before[name] for name in set(before) - dump.LEFT_OUT
    }


def all_rows(file: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return what every table holds, in no particular but always the same order."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        return {
            name: sorted(connection.execute(f"SELECT * FROM {name}").fetchall(), key=repr)
            for name in metadata.tables
        }


def test_every_kind_of_damage_in_the_source_is_noted(world: World, tmp_path: Path) -> None:
    """The manifest names the segment, and all others are copied."""
    victim = min(world.store._blobs)
    data = world.store._blobs.pop(victim)
    for number, bad in enumerate(
        (
            None,
            data[:-1] + bytes([data[-1] ^ 1]),
            data[:-1],
            data + b"\0",
            data[:100] + bytes([data[100] ^ 1]) + data[101:],
            b"",
        )
    ):
        if bad is not None:
            world.store._blobs[victim] = bad
        made = back_up(world, tmp_path / f"backup-{number}")
        assert [each.segment for each in made.manifest.damaged] == [victim.hex()]
        assert (
            made.copied_count
            == made.manifest.segment_count
            == len(world.store._blobs) - (bad is not None)
        )
    world.store._blobs[victim] = data
    mended = back_up(world, tmp_path / "backup-0")
    assert (mended.copied_count, mended.manifest.damaged) == (1, ())


def test_a_restore_does_without_a_segment_only_when_told_to(backup: Path, tmp_path: Path) -> None:
    """Until then no gateway starts on it; afterwards the segment is in quarantine."""
    (damaged,) = restore(backup, tmp_path / "target")
    assert verify(backup) == []
    with pytest.raises(StorageUnavailableError, match="Run 'sealgate restore' again"):
        opened(tmp_path / "target").__enter__()
    assert restore(backup, tmp_path / "target", accept=True) == [damaged]
    with opened(tmp_path / "target") as restored:
        assert restored.problems() == []
        with pytest.raises(IntegrityError, match="missing"):
            restored.contents()
        with restored.catalog.snapshot() as tx:
            assert [each.segment_id.hex() for each in segments.damages(tx)] == [damaged.segment]


def test_a_good_copy_from_another_backup_finishes_a_restore(world: World, tmp_path: Path) -> None:
    """A damaged segment is put in its place and the restore run again: it takes no damage."""
    back_up(world, tmp_path / "one")
    back_up(world, tmp_path / "two")
    bad, good = segment_files(tmp_path / "one")[0], segment_files(tmp_path / "two")[0]
    bad.write_bytes(bytes(bad.stat().st_size))
    assert len(restore(tmp_path / "one", tmp_path / "target")) == 1
    shutil.copy(good, bad)
    assert restore(tmp_path / "one", tmp_path / "target") == []
    with opened(tmp_path / "target") as restored:
        assert restored.contents() == in_source(world).contents()


def test_edited_rows_of_segments_are_noted(world: World, tmp_path: Path) -> None:
    """An impossible size, epoch or id in the catalog damages that segment and no other."""
    for number, change in enumerate(
        (
            "size_sealed_bytes = 'x'",
            "size_sealed_bytes = 5",
            "epoch = 99",
            "id = x'00'",
            "epoch = 'x'",
        )
    ):
        with contextlib.closing(sqlite3.connect(world.catalog_file)) as connection:
            before = connection.execute("SELECT * FROM segments").fetchall()
            first = min(row[0] for row in before)
            connection.execute(f"UPDATE segments SET {change} WHERE id = ?", (first,))
            connection.commit()
        made = back_up(world, tmp_path / f"backup-{number}")
        assert len(made.manifest.damaged) == 1, change
        assert made.manifest.segment_count == len(before) - 1
        with contextlib.closing(sqlite3.connect(world.catalog_file)) as connection:
            connection.execute("DELETE FROM segments")
            connection.executemany("INSERT INTO segments VALUES (?,?,?,?,?,?,?)", before)
            connection.commit()


def test_segments_of_a_destroyed_key_are_left_behind(world: World, tmp_path: Path) -> None:
    """Nobody can read them, which is no damage."""
    with contextlib.closing(sqlite3.connect(world.catalog_file)) as connection:
        connection.execute("UPDATE epochs SET key_wrapped = NULL, destroyed_us = 1")
        connection.commit()
    made = back_up(world, tmp_path / "backup")
    assert (made.manifest.segment_count, made.manifest.damaged) == (0, ())
    assert restore(tmp_path / "backup", tmp_path / "target") == []


def test_a_blob_store_that_is_gone_ends_the_backup(world: World, tmp_path: Path) -> None:
    """After some segments in a row the store is meant, not the segments; nothing is finished."""

    class Gone(MemoryBlobStore):
        def read(self, blob_id: bytes, offset: int, size_bytes: int) -> bytes:
            raise StorageUnavailableError("The bucket does not answer.")

    for number in range(making.UNAVAILABLE_LIMIT):
        world.write(f"/docs/{number}", sample(20_000, f"{number}"))
    with (
        pytest.raises(StorageUnavailableError, match="does not answer"),
        making.claimed(source_of(world, store=Gone()), BackupFolder(tmp_path / "backup")) as maker,
    ):
        maker.make(Tally(), Pace(None))
    assert not (tmp_path / "backup" / MANIFEST).exists()
    with world.catalog.snapshot() as tx:
        assert not marks.held(tx, world.clock())


KILLS = {
    "in the catalog": ("copying the catalog", 3),
    "among the segments": ("copying segments", 2),
    "before the manifest": ("finishing", 0),
    "after the manifest": ("clearing up", 0),
}


@pytest.mark.parametrize("moment", KILLS)
def test_a_killed_backup_goes_on(world: World, tmp_path: Path, moment: str) -> None:
    """Whenever SIGKILL comes, what was there before stays restorable and the next run finishes."""
    folder = tmp_path / "backup"
    first = back_up(world, folder).manifest
    for number in range(3):
        world.write(f"/docs/more-{number}", sample(LARGE, f"more {number}"))
    kill(world, folder, *KILLS[moment])
    assert (folder / UNFINISHED).exists()
    assert verify(folder) == []
    with restoring.opened(BackupFolder(folder), MASTER, os.urandom) as now:
        assert (now.manifest.id == first.id) == (moment != "after the manifest")
    kept = len([path for path in segment_files(folder) if not path.suffix])
    made = back_up(world, folder, prune=True)
    assert made.copied_count == made.manifest.segment_count - kept
    assert not (folder / UNFINISHED).exists()
    assert len(list(folder.glob("catalog-*"))) == 1
    assert all(not path.suffix for path in segment_files(folder))
    assert restore(folder, tmp_path / "target") == []
    with opened(tmp_path / "target") as restored:
        assert restored.contents() == in_source(world).contents()


def test_a_first_backup_that_was_killed_is_none(world: World, tmp_path: Path) -> None:
    """It is neither verified nor restored, and the message says how to go on."""
    folder = tmp_path / "backup"
    for number in range(3 * checking.THREADS):
        world.write(f"/docs/more-{number}", sample(20_000, f"more {number}"))
    kill(world, folder, "copying segments", 1)
    for attempt in (lambda: verify(folder), lambda: restore(folder, tmp_path / "target")):
        with pytest.raises(BackupError, match="resume"):
            attempt()
    made = back_up(world, folder)
    assert 0 < made.copied_count < made.manifest.segment_count
    assert verify(folder) == []


def kill(world: World, folder: Path, phase: str, after: int) -> None:
    """Back up in another process, which SIGKILL ends at the moment asked for."""
    source, root = world.catalog_file.parent, Path(__file__).resolve().parents[2]
    blobs = {key.hex(): data.hex() for key, data in world.store._blobs.items()}
    (source / "blobs.json").write_text(json.dumps(blobs))
    done = subprocess.run(
        [sys.executable, __file__, str(source), str(folder), phase, str(after)],
        env=os.environ | {"PYTHONPATH": str(root)},
        check=False,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL


def test_a_restore_that_was_cut_off_goes_on(world: World, tmp_path: Path) -> None:
    """Half a segment, a whole one and a catalog that is marked: run again, it is all there."""
    folder, target = tmp_path / "backup", tmp_path / "target"
    back_up(world, folder)
    target.mkdir()
    catalog = open_catalog(target)
    store = LocalBlobStore.prepare(target / "blobs")
    with restoring.opened(BackupFolder(folder), MASTER, os.urandom) as backup:
        restoring.claim(restoring.Target(catalog, store, SetClock()), backup.manifest)
    catalog.close()
    whole, half = segment_files(folder)[:2]
    for path, size in ((whole, LARGE * 2), (half, 1000)):
        (target / "blobs" / path.parent.name / path.name).write_bytes(path.read_bytes()[:size])
    with pytest.raises(StorageUnavailableError, match="restore' again"):
        opened(target).__enter__()
    assert restore(folder, target) == []
    with opened(target) as restored:
        assert restored.contents() == in_source(world).contents()
    with pytest.raises(BackupError, match="overwrites nothing"):
        restore(folder, target)


def test_a_restore_overwrites_nothing(world: World, tmp_path: Path) -> None:
    """A catalog with a row, or a blob store with a segment, is refused and stays as it was."""
    folder = tmp_path / "backup"
    back_up(world, folder)
    before = world.catalog_file.read_bytes()
    with pytest.raises(BackupError, match="data in the catalog"):
        restore(folder, tmp_path / "source")
    assert world.catalog_file.read_bytes() == before
    stray = tmp_path / "target" / "blobs" / "00" / ("00" * 16)
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"stray")
    with pytest.raises(BackupError, match="blob store"):
        restore(folder, tmp_path / "target")
    assert stray.read_bytes() == b"stray"
    stray.unlink()
    assert restore(folder, tmp_path / "target") == []


def test_another_master_key_opens_no_backup(world: World, tmp_path: Path) -> None:
    """Verifying and restoring name the key that is needed, and make nothing."""
    back_up(world, tmp_path / "backup")
    other = MasterKey(b"k" * 32)
    for attempt in (
        lambda: verify(tmp_path / "backup", other),
        lambda: restore(tmp_path / "backup", tmp_path / "target", other),
    ):
        with pytest.raises(KeyUnavailableError, match=MASTER.key_id):
            attempt()
    assert list((tmp_path / "target").iterdir()) == []


def test_a_backup_follows_a_rotated_master_key(world: World, tmp_path: Path) -> None:
    """The next backup into the same folder needs the new key, and copies nothing again."""
    back_up(world, tmp_path / "backup")
    new = MasterKey(b"n" * 32)
    with world.catalog.begin() as tx:
        rewrap(tx, world.master, new)
    world.master = new
    assert back_up(world, tmp_path / "backup").copied_count == 0
    with pytest.raises(KeyUnavailableError):
        verify(tmp_path / "backup")
    assert restore(tmp_path / "backup", tmp_path / "target", new) == []
    with opened(tmp_path / "target", new) as restored:
        assert restored.problems() == []


TAMPERED: dict[str, Callable[[dict[str, Any]], object]] = {
    "time": lambda fields: fields | {"made_us": fields["made_us"] + 1},
    "no damage": lambda fields: fields | {"damaged": []},
    "counts": lambda fields: fields | {"segment_count": 0},
    "rows": lambda fields: fields | {"rows": {}},
    "another field": lambda fields: fields | {"more": 1},
    "hash": lambda fields: fields | {"catalog_sha256": "0" * 64},
    "path": lambda fields: fields | {"id": "../../../../../../../../etc/pass"},
    "wrapped key": lambda fields: fields | {"system_key_wrapped": "0" * 80},
    "key id": lambda fields: fields | {"master_key_id": "0" * 16},
    "mac": lambda fields: fields | {"mac": "0" * 64},
    "no mac": lambda fields: {name: fields[name] for name in fields if name != "mac"},
    "format": lambda fields: fields | {"format": 2},
    "format of another type": lambda fields: fields | {"format": "1"},
    "list": lambda fields: [fields],
    "damage of another shape": lambda fields: fields | {"damaged": [1]},
}


def test_an_edited_manifest_is_refused(backup: Path, tmp_path: Path) -> None:
    """Whatever field is edited, neither verifying nor restoring goes on."""
    fields = json.loads((backup / MANIFEST).read_text())
    assert len(fields["damaged"]) == 1
    for kind, change in TAMPERED.items():
        (backup / MANIFEST).write_text(json.dumps(change(dict(fields))))
        refused(backup, tmp_path, kind)
    data = json.dumps(fields)
    for cut in (
        data[:-1],
        data[1:],
        "",
        "null",
        "[" * 100_000,
        data.replace("node-1", "n\u00f6de"),
    ):
        (backup / MANIFEST).write_text(cut)
        refused(backup, tmp_path, cut[:40])


def test_an_edited_catalog_is_refused(backup: Path, tmp_path: Path) -> None:
    """Not one byte of it is looked at by SQLite before its hash is right."""
    file = next(backup.glob("catalog-*"))
    whole = file.read_bytes()
    for kind in DAMAGES:
        for place in (0, 20, 5000, -1):
            damage(file, whole, kind, place)
            refused(backup, tmp_path, f"{kind} at {place}")


def refused(folder: Path, tmp_path: Path, case: str) -> None:
    for attempt in (lambda: verify(folder), lambda: restore(folder, tmp_path / "target")):
        with pytest.raises((IntegrityError, KeyUnavailableError, StorageUnavailableError)):
            pytest.fail(f"{case}: {attempt()}")
    assert list((tmp_path / "target").iterdir()) == []


def test_an_edited_segment_is_never_restored(backup: Path, tmp_path: Path) -> None:
    """Verifying names it, and a restore does not come to its end with it."""
    file = max(segment_files(backup), key=lambda path: path.stat().st_size)
    whole = file.read_bytes()
    for kind in DAMAGES:
        for place in (0, 8, 16, 36, 60, 90, 120, 128, 70_000, -1):
            damage(file, whole, kind, place)
            assert verify(backup) == [file.name], (kind, place)
        target = tmp_path / f"target-{kind}"
        assert file.name in [each.segment for each in restore(backup, target)]
        assert not (target / "blobs" / file.parent.name / file.name).exists()
        with pytest.raises(StorageUnavailableError):
            opened(target).__enter__()


DAMAGES = ("edited", "cut", "extended", "missing")


def damage(file: Path, whole: bytes, kind: str, place: int) -> None:
    data = bytearray(whole)
    if kind == "edited":
        data[place] ^= 0x10
    elif kind == "cut":
        del data[place:]
    elif kind == "extended":
        data.insert(place % len(data), 0)
    file.write_bytes(data)
    if kind == "missing":
        file.unlink()


def test_swapped_segments_are_never_restored(backup: Path) -> None:
    """A segment in another one's place does not verify there."""
    first, second = segment_files(backup)[:2]
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)
    assert sorted(verify(backup)) == [first.name, second.name]


def test_a_folder_with_anything_else_is_left_alone(world: World, tmp_path: Path) -> None:
    """Neither a folder of other files nor another gateway's backup is written into."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("mine")
    with pytest.raises(BackupError, match="holds no backup"):
        back_up(world, tmp_path / "other")
    assert [each.name for each in (tmp_path / "other").iterdir()] == ["file"]
    back_up(world, tmp_path / "backup")
    (tmp_path / "second").mkdir()
    with running_world(tmp_path / "second") as second:
        with second.catalog.begin() as tx:
            system_key(tx, second.master, os.urandom)
        before = {path: path.read_bytes() for path in (tmp_path / "backup").glob("*.*")}
        with pytest.raises(BackupError, match="another gateway"):
            back_up(second, tmp_path / "backup")
    assert {path: path.read_bytes() for path in (tmp_path / "backup").glob("*.*")} == before
    assert verify(tmp_path / "backup") == []


def test_one_folder_takes_one_backup_at_a_time(world: World, tmp_path: Path) -> None:
    """The second is refused while the first runs, which ends well."""

    def second() -> None:
        with pytest.raises(BackupError, match="is running"):
            back_up(world, tmp_path / "backup")

    back_up(world, tmp_path / "backup", Tally(at="copying segments", then=second))
    assert verify(tmp_path / "backup") == []


def test_a_backup_is_readable_for_its_owner_alone(world: World, tmp_path: Path) -> None:
    """Files 0600, folders 0700."""
    back_up(world, tmp_path / "backup")
    for path in [tmp_path / "backup", *(tmp_path / "backup").rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)


def test_a_backup_holds_nothing_in_clear(world: World, tmp_path: Path) -> None:
    """No name and no content of a file is in any file of it."""
    world.write("/docs/secret-name", b"secret content")
    back_up(world, tmp_path / "backup")
    for path in (tmp_path / "backup").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            for word in (
                b"secret",
                sample(64, "large"),
                bytes(range(32)),
                b"secret".hex().encode(),
            ):
                assert word not in data


def test_a_full_disk_is_said_before_anything_is_copied(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backup ends, and so does a restore into a store that is too small."""
    monkeypatch.setattr(BackupFolder, "available_bytes", lambda _: 1000)
    with pytest.raises(StorageFullError, match="resume"):
        back_up(world, tmp_path / "backup")
    assert segment_files(tmp_path / "backup") == []
    monkeypatch.undo()
    back_up(world, tmp_path / "backup")
    (tmp_path / "target").mkdir()
    catalog = open_catalog(tmp_path / "target")
    with restoring.opened(BackupFolder(tmp_path / "backup"), MASTER, os.urandom) as backup:
        target = restoring.Target(catalog, MemoryBlobStore(1000), SetClock())
        restoring.claim(target, backup.manifest)
        with pytest.raises(StorageFullError):
            restoring.copy_segments(backup, target, Tally(), again=False)
    catalog.close()


def test_the_pace_lets_so_many_bytes_through_a_second() -> None:
    """Whoever takes more than there is waits for as long as it takes to come."""
    pauses: list[float] = []
    pace = Pace(100, now=lambda: 50.0, pause=pauses.append)
    for size in (50, 100, 10):
        pace.take(size)
    assert pauses == [0.5, 1.5]
    Pace(None, pause=pauses.append).take(1 << 60)
    assert len(pauses) == 2


def _killed(source: Path, folder: Path, phase: str, after: int) -> None:
    """Run a backup in this process and kill it at the moment asked for."""
    clock = SetClock()
    catalog = open_catalog(source)
    store = MemoryBlobStore(clock=clock)
    for key, data in json.loads((source / "blobs.json").read_text()).items():
        store.keep(bytes.fromhex(key), bytes.fromhex(data))
    meter = Tally(at=phase, after=after, then=lambda: os.kill(os.getpid(), signal.SIGKILL))
    made = Source(catalog, store, MASTER, "node-1", "1.0", clock, os.urandom)
    with making.claimed(made, BackupFolder(folder)) as maker:
        maker.make(meter, Pace(None))


if __name__ == "__main__":
    _killed(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
