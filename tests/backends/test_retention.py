"""What a share does not keep goes: old versions, the trash, segments that nothing needs."""

from __future__ import annotations

import pytest

from backends import gc
from backends.catalog import nodes, versions
from backends.errors import ConflictError
from backends.share import ShareSettings
from gateway.model import SECOND_US
from tests.backends.world import BLOCK, START_US, World, sample

EVERY_CATALOG = True
BIG = sample(200_000)
DAY_US = 24 * 3600 * SECOND_US


def purged(world: World) -> int:
    """Purge what has lain in the trash of ``kept`` for too long; return how many nodes went."""
    with world.catalog.begin() as tx:
        return world.vault.purge_next(tx, "kept")


def pruned(world: World, after_id: bytes = b"") -> tuple[int, bytes | None]:
    """Prune a batch of files of ``docs``; return how many versions went and where to go on."""
    with world.catalog.snapshot() as tx:
        files, after = world.vault.prunable(tx, "docs", after_id)
    with world.catalog.begin() as tx:
        return world.vault.prune(tx, "docs", files), after


def test_a_trashed_folder_is_out_of_the_tree_and_still_counted(world: World) -> None:
    """Its name is free again, and what lies in it can no longer be reached or located."""
    world.mkdir("/kept/f")
    world.write("/kept/f/a", BIG)
    with world.catalog.begin() as tx:
        file = world.node(tx, "/kept/f/a")
        world.vault.delete(tx, world.node(tx, "/kept/f"), author="p1")
        assert world.vault.locate(tx, "kept", file.id) is None
    assert not world.exists("/kept/f")
    assert world.counters("kept") == (len(BIG), 2)
    world.mkdir("/kept/f")
    assert world.names("/kept/f") == []


def test_trash_is_purged_when_it_is_old_enough(world: World) -> None:
    """Not a moment before; then bytes and nodes are given back."""
    world.mkdir("/kept/f")
    world.write("/kept/f/a", BIG)
    with world.catalog.begin() as tx:
        world.vault.delete(tx, world.node(tx, "/kept/f"), author="p1")
    world.clock.now_us += 3599 * SECOND_US
    assert purged(world) == 0
    world.clock.now_us += 2 * SECOND_US
    assert purged(world) == 2
    assert world.counters("kept") == (0, 0)


def test_trash_within_trash_is_counted_once(world: World) -> None:
    """A file deleted before its folder was is purged with it."""
    world.mkdir("/kept/f")
    world.write("/kept/f/a", BIG)
    with world.catalog.begin() as tx:
        world.vault.delete(tx, world.node(tx, "/kept/f/a"), author="p1")
        world.vault.delete(tx, world.node(tx, "/kept/f"), author="p1")
    world.clock.now_us += 3601 * SECOND_US
    purged(world)
    assert world.counters("kept") == (0, 0)


def test_old_versions_are_pruned_by_count_and_by_age(world: World) -> None:
    """The share's settings decide; the current version always stays."""
    for number in range(40):
        world.clock.now_us += SECOND_US
        world.write("/docs/a", b"%02d" % number)
    assert world.counters("docs") == (2 * 31, 1)
    world.clock.now_us += 91 * 24 * 3600 * SECOND_US
    assert pruned(world) == (30, None)
    with world.catalog.snapshot() as tx:
        assert len(versions.dated(tx, world.node(tx, "/docs/a").id)) == 1
    assert world.read("/docs/a") == b"39"
    assert world.counters("docs") == (2, 1)


@pytest.mark.parametrize("step_us", [0, -SECOND_US], ids=["same instant", "clock set back"])
def test_the_current_version_is_never_pruned(world: World, step_us: int) -> None:
    """Whatever the clock says: the current version is the one that the node names."""
    world.vault.configure({"docs": ShareSettings("docs", versions_keep=0)})
    for number in range(8):
        world.clock.now_us += step_us
        world.write("/docs/a", b"%d" % number)
        assert world.read("/docs/a") == b"%d" % number


def test_segments_no_version_needs_are_collected_after_a_day(world: World) -> None:
    """First noted, then deleted; what a copy still needs stays."""
    world.write("/docs/a", BIG)
    world.write("/docs/b", sample(100_000, "b"))
    with world.catalog.begin() as tx:
        docs = world.node(tx, "/docs")
        world.vault.copy(tx, world.node(tx, "/docs/b"), docs, "c", author="p1", deep=False)
        world.vault.delete(tx, world.node(tx, "/docs/a"), author="p1")
        world.vault.delete(tx, world.node(tx, "/docs/b"), author="p1")
    assert world.collect() == 0
    world.clock.now_us += 23 * 3600 * SECOND_US
    assert world.collect() == 0
    world.clock.now_us += 2 * 3600 * SECOND_US
    assert world.collect() == 1
    assert len(list(world.store.listing())) == 1
    assert world.read("/docs/c") == sample(100_000, "b")


def test_blobs_that_no_row_names_are_collected_after_a_week(world: World) -> None:
    """What a crash before the commit left; younger ones may be an upload in progress."""
    world.write("/docs/a", BIG)
    writer = world.store.create(b"stray" + bytes(11))
    writer.write(b"x")
    writer.finish()
    world.clock.now_us += 6 * 24 * 3600 * SECOND_US
    assert world.collect() == 0
    world.clock.now_us += 2 * 24 * 3600 * SECOND_US
    assert world.collect() == 1
    assert world.read("/docs/a") == BIG


def test_what_was_trashed_in_a_folder_still_in_use_is_purged_alone(world: World) -> None:
    """The folder and its other files stay."""
    world.mkdir("/kept/f")
    world.write("/kept/f/a", BIG)
    world.write("/kept/f/b", b"stays")
    with world.catalog.begin() as tx:
        world.vault.delete(tx, world.node(tx, "/kept/f/a"), author="p1")
    world.clock.now_us += 3601 * SECOND_US
    assert purged(world) == 1
    assert purged(world) == 0
    assert world.names("/kept/f") == ["b"]
    assert world.counters("kept") == (5, 2)


def test_trash_is_purged_in_batches(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No transaction grows with the trash; what is left comes with the next call."""
    monkeypatch.setattr(gc, "SUBTREE_LIMIT", 2)
    for name in "abc":
        world.write(f"/kept/{name}", b"x")
        with world.catalog.begin() as tx:
            world.vault.delete(tx, world.node(tx, f"/kept/{name}"), author="p1")
    world.clock.now_us += 3601 * SECOND_US
    assert [purged(world) for _ in range(3)] == [2, 1, 0]
    assert world.counters("kept") == (0, 0)


def test_files_with_old_versions_are_the_live_ones_with_a_version_made_before(
    world: World,
) -> None:
    """In the order of their ids; current versions, other shares and deleted files do not count."""
    for path in ("/docs/a", "/docs/b", "/docs/once", "/docs/gone", "/small/a"):
        world.write(path, b"1")
    world.clock.now_us += SECOND_US
    for path in ("/docs/a", "/docs/b", "/docs/gone", "/small/a"):
        world.write(path, b"2")
    with world.catalog.begin() as tx:
        world.vault.delete(tx, world.node(tx, "/docs/gone"), author="p1")
        found = [world.node(tx, path) for path in ("/docs/a", "/docs/b")]
        first, second = sorted(node.id for node in found)
        share = found[0].share.id

        def files(before_us: int, after_id: bytes, limit: int) -> list[bytes]:
            return versions.files_with_old_versions(tx, share, before_us, after_id, limit)

        assert files(START_US, b"", 9) == []
        assert files(START_US + 1, b"", 9) == [first, second]
        assert files(START_US + 1, b"", 1) == [first]
        assert files(START_US + 1, first, 9) == [second]


def test_versions_are_pruned_in_batches_of_files(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call says where the next one goes on, and every file has its turn."""
    monkeypatch.setattr(gc, "BATCH_LIMIT", 2)
    for name in "abc":
        world.write(f"/docs/{name}", b"one")
    world.clock.now_us += SECOND_US
    for name in "abc":
        world.write(f"/docs/{name}", b"two")
    world.clock.now_us += 91 * DAY_US
    count, after = pruned(world)
    assert count == 2
    assert after is not None
    assert pruned(world, after) == (1, None)
    assert world.counters("docs") == (9, 3)
    assert [world.read(f"/docs/{name}") for name in "abc"] == [b"two"] * 3


def test_what_changed_since_a_file_was_found_to_be_prunable_is_judged_anew(world: World) -> None:
    """It is found in a snapshot: by its turn it may have a new version, be deleted, or edited."""
    for name in "abc":
        world.write(f"/docs/{name}", b"one")
        world.write(f"/docs/{name}", b"two")
    world.clock.now_us += 91 * DAY_US
    with world.catalog.snapshot() as tx:
        files, _after = world.vault.prunable(tx, "docs", b"")
    assert len(files) == 3
    world.write("/docs/a", b"three")
    with world.catalog.begin() as tx:
        world.vault.delete(tx, world.node(tx, "/docs/b"), author="p1")
        edited = world.node(tx, "/docs/c")
        nodes.put(tx, edited.row._replace(version_id=bytes(16)), frozenset({"version_id"}))
    with world.catalog.begin() as tx:
        # The upload of "three" pruned the first version; the second was current until just now.
        assert world.vault.prune(tx, "docs", files) == 0
        assert len(versions.dated(tx, edited.id)) == 2
    assert world.read("/docs/a") == b"three"


def test_a_file_based_on_what_was_cleared_away_is_a_conflict(world: World) -> None:
    """Its version would name segments that are gone."""
    world.write("/docs/a", sample(4 * BLOCK))
    with world.catalog.snapshot() as tx:
        file = world.node(tx, "/docs/a")
        draft = world.vault.draft(file.share, world.vault.open_content(tx, file))
    draft.write_at(0, b"!")
    sealed = draft.seal()
    with world.catalog.begin() as tx:
        world.vault.delete(tx, file, author="p1")
    for _ in range(2):
        world.collect()
        world.clock.now_us += 2 * DAY_US

    def add() -> None:
        with world.catalog.begin() as tx:
            docs = world.node(tx, "/docs")
            world.vault.add_file(tx, docs, "a", sealed, modified_us=START_US, author="p1")

    with pytest.raises(ConflictError):
        add()
    assert world.names("/docs") == []


def test_unused_segments_are_marked_in_batches(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No transaction grows with the vault; what is in use again is not collected."""
    monkeypatch.setattr(gc, "MARK_LIMIT", 2)
    for name in "abcde":
        world.write(f"/docs/{name}", sample(100_000, name))
    with world.catalog.begin() as tx:
        for name in "abcd":
            world.vault.delete(tx, world.node(tx, f"/docs/{name}"), author="p1")
    assert world.collect() == 0
    world.clock.now_us += 2 * DAY_US
    assert world.collect() == 4
    assert world.read("/docs/e") == sample(100_000, "e")


def test_the_blob_store_is_gone_through_only_when_asked(world: World) -> None:
    """Listing a large one takes long, and costs where it is rented."""
    world.store.keep(b"stray" + bytes(11), b"x")
    world.clock.now_us += 8 * DAY_US
    assert world.collect(strays=False) == 0
    assert world.collect() == 1
