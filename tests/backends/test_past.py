"""The past of a share: older versions of files, and the trash."""

from __future__ import annotations

import pytest

from backends import past
from backends.catalog import nodes
from backends.errors import (
    AlreadyExistsError,
    CrossShareError,
    IntegrityError,
    NotFoundError,
    ParentMissingError,
    QuotaExceededError,
)
from backends.share import ShareSettings
from gateway.model import SECOND_US, Kind, PropertyName, VersionInfo
from tests.backends.acts import (
    bring_back,
    delete,
    history,
    rename,
    require_sound,
    save,
    trash,
    trashed,
)
from tests.backends.world import SETTINGS, World, sample

ONE, TWO, THREE = b"one", sample(70_000, "two"), sample(200_000, "three")
COLOUR = PropertyName("urn:x", "colour")


# Versions


def test_versions_are_told_newest_first(world: World) -> None:
    """With size, times, author and hash; the current one says so."""
    save(world, "/docs/a", ONE)
    later(world)
    save(world, "/docs/a", TWO, "p2")
    newest, oldest = told(world, "/docs/a")
    assert (newest.current, newest.size_bytes, newest.author) == (True, len(TWO), "p2")
    assert (oldest.current, oldest.size_bytes, oldest.author) == (False, 3, "p1")
    assert newest.created_us - oldest.created_us == SECOND_US
    assert oldest.sha256 == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    assert history(world, "/docs/a") == [TWO, ONE]


def test_a_version_opens_by_its_id_through_its_own_file_alone(world: World) -> None:
    """An id of another file's version, or of none, finds nothing."""
    save(world, "/docs/a", ONE)
    save(world, "/docs/b", TWO)
    mine, other = told(world, "/docs/a")[0], told(world, "/docs/b")[0]
    with world.catalog.snapshot() as tx:
        row = world.node(tx, "/docs/a").row
        info, content = world.vault.past.open(tx, row, bytes.fromhex(mine.version_id))
        assert (info, content.read_at(0, 10)) == (mine, ONE)
        for unknown in (bytes.fromhex(other.version_id), bytes(16), b""):
            with pytest.raises(NotFoundError):
                world.vault.past.open(tx, row, unknown)


def test_an_edited_old_version_is_noticed(world: World) -> None:
    """In the list, which shows the others all the same, and when it is opened."""
    save(world, "/docs/a", ONE)
    save(world, "/docs/a", TWO)
    old = bytes.fromhex(told(world, "/docs/a")[1].version_id)
    with world.catalog.begin() as tx:
        tx.connection.execute("UPDATE versions SET author = 'p9' WHERE id = ?", (old,))
        row = world.node(tx, "/docs/a").row
        assert [each.damaged for each in world.vault.past.versions(tx, row)] == [False, True]
        with pytest.raises(IntegrityError):
            world.vault.past.open(tx, row, old)


@pytest.mark.parametrize("content", [b"", ONE, TWO])
def test_restoring_a_version_makes_a_new_one(world: World, content: bytes) -> None:
    """Nothing of the history is lost by it, and it costs no segment."""
    save(world, "/docs/a", content)
    later(world)
    save(world, "/docs/a", THREE)
    blobs = len(world.store._blobs)
    restore(world, "/docs/a", 1)
    assert history(world, "/docs/a") == [content, THREE, content]
    assert len({one.version_id for one in told(world, "/docs/a")}) == 3
    assert len(world.store._blobs) == blobs
    require_sound(world, "docs")


def test_restoring_a_version_needs_room(world: World) -> None:
    """It is a version more."""
    save(world, "/small/a", sample(40_000))
    save(world, "/small/a", sample(30_000))
    with pytest.raises(QuotaExceededError):
        restore(world, "/small/a", 1)
    assert history(world, "/small/a") == [sample(30_000), sample(40_000)]
    require_sound(world, "small")


# What lies in the trash


def test_the_trash_lists_what_was_deleted_in_that_order(world: World) -> None:
    """With where it lay, when it went and by whom; what a folder held goes with it."""
    world.mkdir("/kept/f")
    save(world, "/kept/f/inside", ONE)
    save(world, "/kept/b", TWO)
    save(world, "/kept/a", ONE)
    delete(world, "/kept/b", "p2")
    later(world)
    delete(world, "/kept/f")
    later(world)
    delete(world, "/kept/a")
    listed = trash(world)
    assert ["/".join(one.parts) for one in listed] == ["kept/b", "kept/f", "kept/a"]
    assert [one.kind for one in listed] == [Kind.FILE, Kind.FOLDER, Kind.FILE]
    assert [one.deleted_by for one in listed] == ["p2", "p1", "p1"]
    assert [one.size_bytes for one in listed] == [len(TWO), 0, len(ONE)]
    assert all(one.folder_lives for one in listed)
    assert listed[2].deleted_us - listed[0].deleted_us == 2 * SECOND_US
    require_sound(world, "kept")


def test_what_was_deleted_before_its_folder_lists_by_itself(world: World) -> None:
    """Its folder does not live any more, wherever in the lineage that was deleted."""
    world.mkdir("/kept/f")
    world.mkdir("/kept/f/g")
    save(world, "/kept/f/g/a", ONE)
    delete(world, "/kept/f/g/a")
    assert [one.folder_lives for one in trash(world)] == [True]
    later(world)
    delete(world, "/kept/f")
    assert [("/".join(one.parts), one.folder_lives) for one in trash(world)] == [
        ("kept/f/g/a", False),
        ("kept/f", True),
    ]


def test_the_trash_follows_a_folder_that_was_renamed(world: World) -> None:
    """Its path is the one that it would be restored to."""
    world.mkdir("/kept/f")
    save(world, "/kept/f/a", ONE)
    delete(world, "/kept/f/a")
    rename(world, "/kept/f", "/kept/g")
    assert trash(world)[0].parts == ("kept", "g", "a")


@pytest.mark.parametrize("apart_us", [0, 1])
def test_a_full_trash_lists_whole(
    world: World, monkeypatch: pytest.MonkeyPatch, apart_us: int
) -> None:
    """However much of it was deleted in one moment."""
    monkeypatch.setattr(past, "BATCH_LIMIT", 2)
    names = [f"{number}" for number in range(7)]
    for name in names:
        save(world, f"/kept/{name}", ONE)
        delete(world, f"/kept/{name}")
        world.clock.now_us += apart_us
    assert sorted(one.parts[-1] for one in trash(world)) == names


def test_only_what_was_deleted_lies_in_the_trash(world: World) -> None:
    """Not a live node, not what a deleted folder held, not another share's, not nothing."""
    world.mkdir("/kept/f")
    inside = save(world, "/kept/f/a", ONE).id
    live = save(world, "/kept/a", ONE).id
    folder = delete(world, "/kept/f")
    assert trashed(world, folder).info.parts == ("kept", "f")
    for node_id in (inside, live, bytes(16)):
        with pytest.raises(NotFoundError):
            trashed(world, node_id)
    with pytest.raises(NotFoundError):
        trashed(world, folder, share="docs")


def test_an_edited_row_in_the_trash_is_noticed(world: World) -> None:
    """Who deleted it, for one, is not for others to write; the rest is listed all the same."""
    save(world, "/kept/a", ONE)
    save(world, "/kept/b", ONE)
    node_id, whole_id = delete(world, "/kept/a"), delete(world, "/kept/b")
    with world.catalog.begin() as tx:
        tx.connection.execute("UPDATE nodes SET deleted_by = 'p9' WHERE id = ?", (node_id,))
    assert [each.node_id for each in trash(world)] == [whole_id.hex()]
    with pytest.raises(IntegrityError):
        trashed(world, node_id)


# Restoring from it


@pytest.mark.parametrize("path", ["/kept/a", "/kept/b", "/kept/f/a"])
def test_a_deleted_file_comes_back_with_its_history(world: World, path: str) -> None:
    """At its old place or any other, with id, versions and properties."""
    world.mkdir("/kept/f")
    save(world, "/kept/a", ONE)
    later(world)
    node = save(world, "/kept/a", TWO)
    with world.catalog.begin() as tx:
        world.vault.put_properties(tx, node, {COLOUR: "red"})
    before = world.counters("kept")
    delete(world, "/kept/a")
    later(world)
    bring_back(world, node.id, path)
    assert history(world, path) == [TWO, ONE]
    with world.catalog.snapshot() as tx:
        found = world.node(tx, path)
        assert found.id == node.id
        assert world.vault.properties(tx, found) == {COLOUR: "red"}
        assert world.node(tx, path.rpartition("/")[0]).row.modified_us == world.clock()
    assert trash(world) == []
    assert world.counters("kept") == before
    require_sound(world, "kept")


def test_a_deleted_folder_comes_back_with_all_that_it_held(world: World) -> None:
    """But for what had been deleted before it, which stays in the trash, its folder alive again."""
    world.mkdir("/kept/f")
    world.mkdir("/kept/f/g")
    save(world, "/kept/f/g/a", ONE)
    save(world, "/kept/f/b", TWO)
    delete(world, "/kept/f/b")
    node_id = delete(world, "/kept/f")
    bring_back(world, node_id, "/kept/h")
    assert world.names("/kept") == ["h"]
    assert world.names("/kept/h") == ["g"]
    assert world.read("/kept/h/g/a") == ONE
    assert [(one.parts, one.folder_lives) for one in trash(world)] == [(("kept", "h", "b"), True)]
    require_sound(world, "kept")


def test_restoring_replaces_nothing(world: World) -> None:
    """A name that was taken meanwhile stays taken."""
    node_id = save(world, "/kept/a", ONE).id
    delete(world, "/kept/a")
    later(world, 16)
    save(world, "/kept/a", TWO)
    with pytest.raises(AlreadyExistsError):
        bring_back(world, node_id, "/kept/a")
    assert world.read("/kept/a") == TWO
    bring_back(world, node_id, "/kept/b")
    assert world.read("/kept/b") == ONE
    require_sound(world, "kept")


def test_restoring_needs_a_live_folder_of_the_same_share(world: World) -> None:
    """Not one that lies in the trash itself, no file, and none under other keys."""
    world.mkdir("/kept/f")
    inside = save(world, "/kept/f/a", ONE).id
    save(world, "/kept/file", TWO)
    delete(world, "/kept/f/a")
    folder = delete(world, "/kept/f")
    with world.catalog.begin() as tx:
        share = world.vault.share(tx, "kept")
        found = world.vault.past.in_trash(tx, share, inside)
        gone = nodes.any_by_id(tx, folder)
        assert gone is not None
        for row in (gone, world.node(tx, "/kept/file").row):
            with pytest.raises(ParentMissingError):
                world.vault.past.bring_back(tx, found, row, "a")
        with pytest.raises(CrossShareError):
            world.vault.past.bring_back(tx, found, world.node(tx, "/docs").row, "a")
    bring_back(world, inside, "/kept/a")
    assert world.read("/kept/a") == ONE
    bring_back(world, folder, "/kept/f")
    assert world.names("/kept/f") == []
    require_sound(world, "kept")


def test_restoring_needs_no_room(world: World) -> None:
    """The trash counts in the quota already."""
    world.vault.configure({"small": ShareSettings("small", quota_bytes=100_000, trash_s=3600)})
    node_id = save(world, "/small/a", sample(60_000)).id
    delete(world, "/small/a")
    with pytest.raises(QuotaExceededError):
        save(world, "/small/b", sample(60_000))
    bring_back(world, node_id, "/small/a")
    assert world.counters("small") == (60_000, 1)
    require_sound(world, "small")
    world.vault.configure(SETTINGS)


# Emptying it


def test_purging_is_for_good(world: World) -> None:
    """Nodes, versions and properties go at once, their segments when gc has been twice."""
    save(world, "/kept/a", TWO)
    node = save(world, "/kept/a", THREE)
    with world.catalog.begin() as tx:
        world.vault.put_properties(tx, node, {COLOUR: "red"})
    delete(world, "/kept/a")
    assert purge(world, node.id) == 1
    assert trash(world) == []
    assert world.counters("kept") == (0, 0)
    require_sound(world, "kept")
    world.collect()
    later(world, 25 * 3600)
    assert world.collect() == 2
    assert world.store._blobs == {}
    with pytest.raises(NotFoundError):
        trashed(world, node.id)


def test_purging_a_folder_takes_what_was_deleted_in_it(world: World) -> None:
    """It could be restored nowhere but by way of its folder."""
    world.mkdir("/kept/f")
    world.mkdir("/kept/f/g")
    for path in ("/kept/f/g/a", "/kept/f/b", "/kept/c"):
        save(world, path, ONE)
    delete(world, "/kept/f/b")
    delete(world, "/kept/c")
    assert purge(world, delete(world, "/kept/f")) == 4
    assert [one.parts for one in trash(world)] == [("kept", "c")]
    assert world.counters("kept") == (len(ONE), 1)
    require_sound(world, "kept")


def test_purging_a_folder_spares_what_was_restored_from_it(world: World) -> None:
    """That lies elsewhere now."""
    world.mkdir("/kept/f")
    node_id = save(world, "/kept/f/a", TWO).id
    delete(world, "/kept/f/a")
    folder = delete(world, "/kept/f")
    bring_back(world, node_id, "/kept/a")
    assert purge(world, folder) == 1
    assert history(world, "/kept/a") == [TWO]
    require_sound(world, "kept")


def test_the_trash_empties_itself_in_time(world: World) -> None:
    """A folder that is due takes what it held along, whenever that was deleted."""
    world.mkdir("/kept/f")
    save(world, "/kept/f/a", ONE)
    save(world, "/kept/b", TWO)
    delete(world, "/kept/f/a")
    delete(world, "/kept/f")
    later(world, 10)
    delete(world, "/kept/b")
    later(world, 3591)
    with world.catalog.begin() as tx:
        assert world.vault.purge_next(tx, "kept") == 2
    assert [one.parts for one in trash(world)] == [("kept", "b")]
    require_sound(world, "kept")


def later(world: World, seconds: int = 1) -> None:
    world.clock.now_us += seconds * SECOND_US


def told(world: World, path: str) -> list[VersionInfo]:
    """Return what is told of the file's versions."""
    with world.catalog.snapshot() as tx:
        return world.vault.past.versions(tx, world.node(tx, path).row)


def restore(world: World, path: str, index: int) -> None:
    """Make the version at ``index`` of the history the current one."""
    version_id = bytes.fromhex(told(world, path)[index].version_id)
    with world.catalog.begin() as tx:
        world.vault.restore(tx, world.node(tx, path), version_id, author="p1")


def purge(world: World, node_id: bytes) -> int:
    """Remove something in the trash for good; return how many nodes went."""
    with world.catalog.begin() as tx:
        found = world.vault.past.in_trash(tx, world.vault.share(tx, "kept"), node_id)
        return world.vault.past.purge(tx, found)
