"""Rotation: other master keys and new epochs under processes that go on working."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from backends.catalog import keys
from backends.errors import KeyUnavailableError
from backends.keyfile import MasterKeys
from backends.keyring import MasterKey
from backends.rotation import prepare_master, rewrap, rotate_share
from backends.share import EPOCH_LIMIT, Shares, master_key, system_key
from backends.vault import Vault
from tests.backends.world import BLOCK, SETTINGS, World, sample

BIG = sample(3 * BLOCK)


@dataclass
class Site:
    """A catalog whose master key is in a file, and processes over it."""

    world: World
    key_file: Path
    held: ExitStack

    def process(self) -> World:
        """Return a vault of its own over the same catalog, as another process has."""
        world = self.world
        shares = Shares(MasterKeys(self.key_file), SETTINGS, world.random_bytes)
        vault = Vault(shares, world.store, clock=world.clock, random_bytes=world.random_bytes)
        self.held.callback(vault.close)
        return replace(world, shares=shares, vault=vault)

    @property
    def key_ids(self) -> tuple[str, ...]:
        return MasterKeys(self.key_file).key_ids

    def current_id(self) -> str:
        """Return the id of the catalog's master key, which must be in the file."""
        masters = MasterKeys(self.key_file)
        with self.world.catalog.snapshot() as tx:
            system_key(tx, masters)
            return master_key(tx, masters).key_id

    def rotate(self) -> str:
        """Rotate the master key to the end; return the new one's id."""
        masters = MasterKeys(self.key_file)
        old_id = self.current_id()
        with masters.changing():
            new = prepare_master(masters, old_id)
            with self.world.catalog.begin() as tx:
                rewrap(tx, masters, new)
            masters.remove([old_id])
        return new.key_id

    def rotate_share(self, name: str) -> int:
        with self.world.catalog.begin() as tx:
            row = keys.share_by_name(tx, name)
            assert row is not None
            return rotate_share(tx, MasterKeys(self.key_file), row, self.world.clock())

    def column(self, statement: str) -> list[object]:
        """Return the first column of what ``statement`` selects."""
        with closing(sqlite3.connect(self.world.catalog_file)) as connection:
            return [row[0] for row in connection.execute(statement)]

    def wrapped(self) -> dict[str, bytes]:
        """Return every wrapped key of the catalog, by its place."""
        with self.world.catalog.snapshot() as tx:
            found = {"system": keys.setting(tx, "system_key_wrapped")}
            for row in keys.all_shares(tx):
                found[row.name] = row.name_key_wrapped
                for each in keys.epochs_of(tx, row.id):
                    found[f"{row.name} {each.epoch}"] = each.key_wrapped
        return {place: wrapped for place, wrapped in found.items() if wrapped is not None}


@pytest.fixture
def site(world: World, tmp_path: Path) -> Iterator[Site]:
    key_file = tmp_path / "master.key"
    world.master.write(key_file)
    with world.catalog.begin() as tx:
        system_key(tx, MasterKeys(key_file))
    with ExitStack() as held:
        yield Site(world, key_file, held)


def test_running_processes_follow_a_rotated_master_key(site: Site) -> None:
    """They read and write on without a restart, old content and new."""
    one, two = site.process(), site.process()
    one.write("/docs/a", BIG)
    assert two.read("/docs/a") == BIG
    new_id = site.rotate()
    assert site.key_ids == (new_id,)
    assert one.read("/docs/a") == BIG
    two.write("/docs/b", b"later")
    assert one.read("/docs/b") == b"later"
    assert site.process().names("/docs") == ["a", "b"]


def test_every_key_is_wrapped_anew_and_none_is_changed(site: Site) -> None:
    """Other bytes in every place, the same keys inside, nothing left for the old master."""
    site.rotate_share("docs")
    old = site.world.master
    before = site.wrapped()
    assert len(before) == 1 + 2 * len(SETTINGS) + 1
    with site.world.catalog.snapshot() as tx:
        system = system_key(tx, old)
    new_id = site.rotate()
    after = site.wrapped()
    assert set(after) == set(before)
    assert not set(after.values()) & set(before.values())
    masters = MasterKeys(site.key_file)
    with site.world.catalog.snapshot() as tx:
        assert system_key(tx, masters) == system
        with pytest.raises(KeyUnavailableError, match=new_id):
            system_key(tx, old)
        for row in keys.all_shares(tx):
            opened = masters.newest.unwrap(row.name_key_wrapped, "names", row.id)
            assert opened == old.unwrap(before[row.name], "names", row.id)


def test_content_of_every_epoch_is_read_after_a_rotation(site: Site) -> None:
    """Each epoch's key was wrapped anew."""
    process = site.process()
    for epoch in (1, 2, 3):
        process.write(f"/docs/{epoch}", f"epoch {epoch}".encode())
        assert site.rotate_share("docs") == epoch + 1
    site.rotate()
    for each in (process, site.process()):
        for epoch in (1, 2, 3):
            assert each.read(f"/docs/{epoch}") == f"epoch {epoch}".encode()


def add(site: Site, masters: MasterKeys) -> None:
    prepare_master(masters, site.current_id())


def rewrap_and_fail(site: Site, masters: MasterKeys) -> None:
    with suppress(ZeroDivisionError), site.world.catalog.begin() as tx:
        rewrap(tx, masters, masters.newest)
        raise ZeroDivisionError


def rewrap_and_commit(site: Site, masters: MasterKeys) -> None:
    with site.world.catalog.begin() as tx:
        rewrap(tx, masters, masters.newest)


Step = Callable[[Site, MasterKeys], None]
CUTS: dict[str, list[Step]] = {
    "the new key was added": [add],
    "the catalog was rolled back": [add, rewrap_and_fail],
    "the catalog was committed": [add, rewrap_and_commit],
}


@pytest.mark.parametrize("cut", CUTS)
def test_a_rotation_cut_off_anywhere_leaves_what_opens(site: Site, cut: str) -> None:
    """A process that ran and one that starts read and write; another rotation ends well."""
    running = site.process()
    running.write("/docs/a", BIG)
    masters = MasterKeys(site.key_file)
    with masters.changing():
        for step in CUTS[cut]:
            step(site, masters)
    assert len(site.key_ids) == 2
    for process in (running, site.process()):
        process.write("/docs/b", b"after the cut")
        assert process.read("/docs/a") == BIG
    new_id = site.rotate()
    assert site.current_id() == site.key_ids[-1] == new_id
    for process in (running, site.process()):
        assert process.read("/docs/a") == BIG
        assert process.read("/docs/b") == b"after the cut"


@pytest.mark.parametrize("cut", ["the new key was added", "the catalog was rolled back"])
def test_a_rotation_goes_on_with_the_key_that_it_made(site: Site, cut: str) -> None:
    """So that a second run makes no third key."""
    masters = MasterKeys(site.key_file)
    with masters.changing():
        for step in CUTS[cut]:
            step(site, masters)
    made = site.key_ids[-1]
    assert site.rotate() == made
    assert site.key_ids == (made,)


def test_an_old_key_that_is_kept_opens_an_old_catalog(site: Site, tmp_path: Path) -> None:
    """A backup from before needs the key of its time, which may stay in the file."""
    site.process().write("/docs/a", BIG)
    masters = MasterKeys(site.key_file)
    backup = tmp_path / "backup.sqlite"
    with closing(sqlite3.connect(site.world.catalog_file)) as old:
        old.execute("VACUUM INTO ?", [str(backup)])
    with masters.changing():
        new = prepare_master(masters, site.current_id())
        with site.world.catalog.begin() as tx:
            rewrap(tx, masters, new)
    with (
        closing(sqlite3.connect(backup)) as old,
        closing(sqlite3.connect(site.world.catalog_file)) as live,
    ):
        old.backup(live)
    assert site.current_id() == site.world.master.key_id
    assert site.process().read("/docs/a") == BIG


def test_a_key_that_does_not_open_stops_the_rotation(site: Site) -> None:
    """An edited catalog is not sealed anew: the share is named and all stays as it was."""
    with closing(sqlite3.connect(site.world.catalog_file)) as connection, connection:
        connection.execute(
            "UPDATE epochs SET key_wrapped = (SELECT value FROM meta WHERE"
            " key = 'system_key_wrapped') WHERE share_id = (SELECT id FROM shares WHERE name = ?)",
            ["kept"],
        )
    before = site.wrapped()
    with pytest.raises(KeyUnavailableError, match="share 'kept'"):
        site.rotate()
    assert site.wrapped() == before
    assert site.current_id() == site.world.master.key_id


def test_a_destroyed_epoch_stays_destroyed(site: Site) -> None:
    """There is no key to wrap, and none is made; a cached one is forgotten as well."""
    running = site.process()
    running.write("/docs/a", BIG)
    site.rotate_share("docs")
    with site.world.catalog.begin() as tx:
        row = keys.share_by_name(tx, "docs")
        assert row is not None
        first = keys.epochs_of(tx, row.id)[0]
        keys.put_epoch(tx, first._replace(key_wrapped=None, destroyed_us=site.world.clock()))
    site.rotate()
    for process in (running, site.process()):
        with pytest.raises(KeyUnavailableError, match="destroyed"):
            process.read("/docs/a")
        process.write("/docs/b", b"epoch 2")


def test_running_processes_write_under_a_new_epoch_at_once(site: Site) -> None:
    """The row alone tells them; old versions keep their epoch, other shares theirs."""
    one, two = site.process(), site.process()
    one.write("/docs/a", BIG)
    two.write("/kept/a", b"another share")
    assert site.rotate_share("docs") == 2
    one.write("/docs/b", BIG)
    two.write("/docs/c", b"short")
    one.write("/kept/b", b"another share")
    query = "SELECT v.epoch FROM versions v JOIN shares s ON s.id = v.share_id WHERE s.name = "
    assert site.column(f"{query} 'docs' ORDER BY v.created_us, v.epoch") == [1, 2, 2]
    assert site.column(f"{query} 'kept'") == [1, 1]
    for process in (one, two, site.process()):
        assert process.read("/docs/a") == BIG
        assert process.read("/docs/b") == BIG
        assert process.read("/docs/c") == b"short"


def test_a_file_of_an_old_epoch_is_changed_in_place(site: Site) -> None:
    """Its version then has segments of both epochs, and opens."""
    process = site.process()
    process.write("/docs/a", BIG)
    site.rotate_share("docs")
    process.write("/docs/a", b"new", offset=BLOCK, keep=True)
    assert process.read("/docs/a") == BIG[:BLOCK] + b"new" + BIG[BLOCK + 3 :]
    assert sorted(map(repr, site.column("SELECT DISTINCT epoch FROM segments"))) == ["1", "2"]


def test_an_upload_ends_in_the_epoch_in_which_it_began(site: Site) -> None:
    """Both for a file that stays in the catalog and for one with segments."""
    process = site.process()
    for path, content in (("/docs/short", b"short"), ("/docs/long", BIG)):
        with process.catalog.snapshot() as tx:
            draft = process.vault.draft(process.node(tx, "/docs").share, None)
        draft.write_at(0, content)
        site.rotate_share("docs")
        site.rotate()
        sealed = draft.seal()
        with process.catalog.begin() as tx:
            docs = process.node(tx, "/docs")
            name = path.removeprefix("/docs/")
            process.vault.add_file(tx, docs, name, sealed, modified_us=0, author="p1")
        assert process.read(path) == site.process().read(path) == content
    assert site.column("SELECT epoch FROM versions ORDER BY epoch") == [1, 2]


def test_two_epochs_of_a_share_have_different_keys(site: Site) -> None:
    """Wrapped for their own places and random."""
    site.rotate_share("docs")
    site.rotate_share("docs")
    with site.world.catalog.snapshot() as tx:
        row = keys.share_by_name(tx, "docs")
        assert row is not None
        assert row.epoch == 3
        opened = {
            site.world.master.unwrap(each.key_wrapped or b"", "epoch", row.id + bytes(3) + number)
            for number, each in zip((b"\1", b"\2", b"\3"), keys.epochs_of(tx, row.id), strict=True)
        }
    assert len(opened) == 3


def test_a_new_epoch_that_is_rolled_back_leaves_nothing(site: Site) -> None:
    """Neither the key's row nor the share's number."""
    with suppress(ZeroDivisionError), site.world.catalog.begin() as tx:
        row = keys.share_by_name(tx, "docs")
        assert row is not None
        rotate_share(tx, MasterKeys(site.key_file), row, site.world.clock())
        raise ZeroDivisionError
    assert site.column("SELECT epoch FROM epochs") == [1] * len(SETTINGS)
    assert site.rotate_share("docs") == 2


def test_there_is_no_epoch_after_the_last(site: Site) -> None:
    """Segment headers hold 32 bits of it."""
    with site.world.catalog.begin() as tx:
        row = keys.share_by_name(tx, "docs")
        assert row is not None
        last = row._replace(epoch=EPOCH_LIMIT)
        with pytest.raises(KeyUnavailableError, match="'docs' has used up"):
            rotate_share(tx, MasterKeys(site.key_file), last, 0)


@pytest.mark.parametrize("fault", ["lost", "another key", "open to others"])
def test_a_process_without_the_new_key_tells_the_log_and_not_the_client(
    site: Site, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the key file lies is the administrator's business; a mended file is enough."""
    running = site.process()
    running.write("/docs/a", BIG)
    site.rotate()
    good = site.key_file.read_text()
    if fault == "lost":
        site.key_file.unlink()
    elif fault == "another key":
        site.key_file.write_text(MasterKey(b"x" * 32).line())
    else:
        site.key_file.chmod(0o604)
    with caplog.at_level(logging.ERROR), pytest.raises(KeyUnavailableError) as caught:
        running.read("/docs/a")
    assert str(site.key_file) not in str(caught.value)
    assert str(site.key_file) in caplog.text
    site.key_file.touch()
    site.key_file.write_text(good)
    site.key_file.chmod(0o600)
    assert running.read("/docs/a") == BIG
