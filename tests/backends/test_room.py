"""Room: quotas, the reserve on the disk, and what needs no room at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends.catalog import nodes, versions
from backends.errors import QuotaExceededError
from backends.room import RESERVATION_US, RESERVE_BYTES
from gateway.model import SECOND_US, PropertyName
from tests.backends.world import World, running_world, sample

EVERY_CATALOG = True
BIG = sample(200_000)
COLOUR, SIZE = PropertyName("urn:x", "colour"), PropertyName("", "größe")


def test_a_full_share_refuses_and_nothing_changes(world: World) -> None:
    """The quota counts every kept version, and copies."""
    world.write("/small/a", sample(60_000))
    with pytest.raises(QuotaExceededError):
        world.write("/small/b", sample(40_001))
    with pytest.raises(QuotaExceededError):
        world.write("/small/a", sample(50_000))
    assert world.names("/small") == ["a"]
    assert world.read("/small/a") == sample(60_000)
    assert world.counters("small") == (60_000, 1)
    world.write("/small/b", sample(40_000))
    with world.catalog.snapshot() as tx:
        usage = world.vault.usage(tx, "small")
    assert (usage.used_bytes, usage.available_bytes, usage.quota_bytes) == (100_000, 0, 100_000)


def test_copying_a_folder_stays_within_the_quota(world: World) -> None:
    """All files of one copy together, not each for itself."""
    world.mkdir("/small/f")
    for number in range(4):
        world.write(f"/small/f/{number}", sample(15_000))

    def copy() -> None:
        with world.catalog.begin() as tx:
            small = world.node(tx, "/small")
            world.vault.copy(tx, world.node(tx, "/small/f"), small, "g", author="p1", deep=True)

    with pytest.raises(QuotaExceededError):
        copy()
    assert world.counters("small") == (60_000, 5)


def test_a_file_that_fits_the_disk_once_is_committed(tmp_path: Path) -> None:
    """At commit its segments are on the disk already."""
    with running_world(tmp_path, capacity_bytes=1_000_000) as world:
        world.write("/docs/a", sample(600_000))
        assert world.read("/docs/a") == sample(600_000)


def test_taking_over_a_file_adds_a_version_with_its_content(world: World) -> None:
    """The target keeps its id and its history, and takes over the properties."""
    world.write("/docs/a", BIG)
    world.write("/docs/b", b"old")
    with world.catalog.begin() as tx:
        source, target = world.node(tx, "/docs/a"), world.node(tx, "/docs/b")
        world.vault.put_properties(tx, source, {COLOUR: "red"})
        world.vault.put_properties(tx, target, {SIZE: "1"})
        made = world.vault.take_over(tx, target, source, author="p1")
        assert versions.count_of_node(tx, target.id) == 2
    assert made.id == target.id
    assert not world.exists("/docs/a")
    assert world.read("/docs/b") == BIG
    with world.catalog.snapshot() as tx:
        assert world.vault.properties(tx, world.node(tx, "/docs/b")) == {COLOUR: "red"}
    assert world.counters("docs") == (len(BIG) + 3, 1)


@pytest.mark.parametrize("share", ["docs", "small"])
def test_room_is_checked_before_an_upload(tmp_path: Path, share: str) -> None:
    """Neither the quota nor the disk may be exceeded, and nothing more always fits."""
    with running_world(tmp_path, capacity_bytes=90_000) as world, world.catalog.snapshot() as tx:
        found = world.node(tx, f"/{share}").share
        room = world.vault.room
        for more_bytes in (0, 90_000):
            room.require_quota(tx, found, more_bytes)
            room.require_disk(more_bytes)
        for more_bytes in (90_001, 100_001):
            with pytest.raises(QuotaExceededError):
                room.require_disk(more_bytes)


def test_a_full_disk_refuses_no_empty_file(tmp_path: Path) -> None:
    """Inline content lies in the catalog."""
    with running_world(tmp_path, capacity_bytes=0) as world:
        world.write("/docs/a", b"")
        assert world.read("/docs/a") == b""


def test_the_quota_of_a_share_leaves_the_others_alone(world: World) -> None:
    """Exactly the quota fits; a byte more does not."""
    world.write("/small/a", sample(60_000))
    with world.catalog.snapshot() as tx:
        small, docs = world.node(tx, "/small").share, world.node(tx, "/docs").share
        world.vault.room.require_quota(tx, small, 40_000)
        with pytest.raises(QuotaExceededError):
            world.vault.room.require_quota(tx, small, 40_001)
        world.vault.room.require_quota(tx, docs, 1 << 40)


def test_what_an_upload_has_reserved_is_not_there_for_others(world: World) -> None:
    """Nor does it stand in its own way; it comes back when released, and when it runs out."""
    room, small = world.vault.room, "small"
    with world.catalog.begin() as tx:
        share = world.vault.share(tx, small)
        room.reserve(tx, share, b"upload 1", 70_000)
        room.require_quota(tx, share, 30_000)
        room.require_quota(tx, share, 100_000, upload=b"upload 1")
        assert room.usage(tx, share).available_bytes == 30_000
        with pytest.raises(QuotaExceededError, match="quota"):
            room.reserve(tx, share, b"upload 2", 30_001)
        room.reserve(tx, share, b"upload 2", 30_000)
        room.release(tx, b"upload 1")
        room.require_quota(tx, share, 70_000)
        world.clock.now_us += RESERVATION_US
        room.require_quota(tx, share, 100_000)


def test_an_upload_of_unknown_size_reserves_a_step_ahead(world: World) -> None:
    """As far as there is room: it must not keep others out for what it may never need."""
    with world.catalog.begin() as tx:
        share = world.vault.share(tx, "small")
        held = world.vault.room.reserve(tx, share, b"upload", 70_000, ahead=True)
        assert held.size_bytes == 100_000


@pytest.mark.parametrize(("spare_bytes", "fits"), [(0, True), (-1, False)])
def test_uploads_leave_a_reserve_on_the_disk(tmp_path: Path, spare_bytes: int, fits: bool) -> None:
    """A full disk would stop the audit trail."""
    capacity_bytes = RESERVE_BYTES + spare_bytes
    with running_world(tmp_path, capacity_bytes) as world, world.catalog.snapshot() as tx:
        draft = world.vault.draft(world.node(tx, "/docs").share, None)
        draft.write_at(0, b"x")
        if fits:
            world.vault.room.require_reserve()
        else:
            with pytest.raises(QuotaExceededError, match="nearly full"):
                world.vault.room.require_reserve()
        draft.discard()


def test_a_copy_that_does_not_fit_copies_nothing(world: World) -> None:
    """The whole tree is counted first, so that not even the transaction has begun it."""
    world.mkdir("/small/f")
    for number in range(4):
        world.write(f"/small/f/{number}", sample(15_000))
    with world.catalog.begin() as tx:
        small, folder = world.node(tx, "/small"), world.node(tx, "/small/f")
        with pytest.raises(QuotaExceededError):
            world.vault.copy(tx, folder, small, "g", author="p1", deep=True)
        world.vault.copy(tx, folder, small, "h", author="p1", deep=False)
    assert world.names("/small") == ["f", "h"]
    assert world.counters("small") == (60_000, 6)


def test_taking_over_a_file_needs_no_room(world: World) -> None:
    """A rename over a file works in a full share, as editors save that way."""
    world.write("/small/a", sample(60_000))
    world.write("/small/b", sample(40_000, "b"))
    with world.catalog.begin() as tx:
        source, target = world.node(tx, "/small/a"), world.node(tx, "/small/b")
        world.vault.take_over(tx, target, source, author="p1")
    assert world.names("/small") == ["b"]
    assert world.read("/small/b") == sample(60_000)
    assert world.counters("small") == (100_000, 1)


def test_taking_over_a_file_without_history_leaves_no_trash(world: World) -> None:
    """What an editor wrote to the side a moment ago is the target's version now."""
    world.write("/kept/a", BIG)
    world.write("/kept/b", b"old")
    with world.catalog.begin() as tx:
        source, target = world.node(tx, "/kept/a"), world.node(tx, "/kept/b")
        world.vault.take_over(tx, target, source, author="p1")
        assert versions.of_node(tx, source.id) == []
        assert nodes.properties_of(tx, source.id) is None
    assert world.counters("kept") == (len(BIG) + 3, 1)


def test_taking_over_a_file_with_a_history_leaves_that_in_the_trash(world: World) -> None:
    """Nothing that could be restored before is lost."""
    world.write("/kept/a", b"first")
    world.clock.now_us += SECOND_US
    world.write("/kept/a", BIG)
    world.write("/kept/b", b"old")
    with world.catalog.begin() as tx:
        source, target = world.node(tx, "/kept/a"), world.node(tx, "/kept/b")
        world.vault.take_over(tx, target, source, author="p1")
        assert versions.count_of_node(tx, source.id) == 2
    assert world.names("/kept") == ["b"]
    assert world.read("/kept/b") == BIG
    assert world.counters("kept") == (2 * len(BIG) + 8, 2)
    world.clock.now_us += 3601 * SECOND_US
    with world.catalog.begin() as tx:
        assert world.vault.purge_next(tx, "kept") == 1
    assert world.counters("kept") == (len(BIG) + 3, 1)
    assert world.read("/kept/b") == BIG


@pytest.mark.parametrize("content", [b"", b"inline", BIG], ids=len)
def test_what_was_taken_over_outlives_the_collection_of_its_source(
    world: World, content: bytes
) -> None:
    """The new version holds the segments by itself."""
    world.write("/docs/a", content)
    world.write("/docs/b", b"old")
    with world.catalog.begin() as tx:
        source, target = world.node(tx, "/docs/a"), world.node(tx, "/docs/b")
        made = world.vault.take_over(tx, target, source, author="p1")
        assert made.row.version_id != source.row.version_id
    for _ in range(3):
        assert world.collect() == 0
        world.clock.now_us += 2 * 24 * 3600 * SECOND_US
    assert world.read("/docs/b") == content
