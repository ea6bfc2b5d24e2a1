"""A large folder is copied and removed in turns: what is half done nobody finds."""

from __future__ import annotations

import pytest

from backends.catalog import nodes
from backends.catalog.statement import Tx
from backends.copies import Copied, StagedCopy
from backends.errors import ChangedMeanwhileError, NotFoundError, QuotaExceededError
from backends.share import ShareSettings
from gateway.model import SECOND_US, PropertyName
from tests.backends.scrubbing import judged
from tests.backends.world import World, sample

EVERY_CATALOG = True
BIG = sample(100_000)
COLOUR = PropertyName("urn:x", "colour")
DAY_US = 24 * 3600 * SECOND_US


@pytest.fixture
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("copies", "gc", "past", "vault"):
        monkeypatch.setattr(f"backends.{module}.SUBTREE_LIMIT", 2)


def fill(world: World, share: str = "kept") -> None:
    """Make a folder ``f`` with two files, and a folder with one."""
    world.mkdir(f"/{share}/f")
    world.mkdir(f"/{share}/f/inner")
    world.write(f"/{share}/f/a", BIG)
    world.write(f"/{share}/f/b", b"b")
    world.write(f"/{share}/f/inner/c", b"c")


def begun(world: World, *, author: str = "p1") -> StagedCopy:
    """Begin to copy ``f``, with what lies right in it."""
    with world.catalog.begin() as tx:
        source = world.node(tx, "/kept/f")
        staged = world.vault.copies.begin(tx, source.share, source.row, "copy", author=author)
        staged.listed.update(ids_in(tx, source.id))
        copied = add(world, tx, staged, *ids_in(tx, source.id))
    staged.take(source.id, copied)
    return staged


def ids_in(tx: Tx, folder_id: bytes) -> list[bytes]:
    return [node_id for node_id, _is_folder in nodes.kinds_in(tx, folder_id, 100)]


def add(world: World, tx: Tx, staged: StagedCopy, *node_ids: bytes) -> list[Copied]:
    """Copy these nodes that lie in ``f``."""
    source, copies = world.node(tx, "/kept/f"), world.vault.copies
    found = copies.present(tx, source.share, source.id, node_ids)
    return copies.add(tx, source.share, staged, source.id, found)


def attach(world: World, staged: StagedCopy) -> None:
    with world.catalog.begin() as tx:
        root = world.node(tx, "/kept")
        world.vault.copies.attach(tx, root.share, staged, root.id, "copy")


def purge(world: World, share: str = "kept") -> list[int]:
    """Purge until nothing is left to; return how many nodes went each time."""
    counts: list[int] = []
    while not counts or counts[-1]:
        with world.catalog.begin() as tx:
            counts.append(world.vault.purge_next(tx, share))
    return counts[:-1]


def test_a_copy_made_in_turns_is_a_copy(world: World) -> None:
    """Names, contents, properties, counters."""
    fill(world)
    with world.catalog.begin() as tx:
        world.vault.put_properties(tx, world.node(tx, "/kept/f/a"), {COLOUR: "red"})
    with world.catalog.begin() as tx:
        world.copy_in_turns(tx, world.node(tx, "/kept/f"), world.node(tx, "/kept"), "copy")
    assert world.names("/kept/copy") == ["a", "b", "inner"]
    assert world.read("/kept/copy/a") == BIG
    assert world.read("/kept/copy/inner/c") == b"c"
    assert world.counters("kept") == (2 * (len(BIG) + 2), 10)
    with world.catalog.snapshot() as tx:
        assert world.vault.properties(tx, world.node(tx, "/kept/copy/a")) == {COLOUR: "red"}


def test_what_is_being_copied_is_neither_in_the_tree_nor_in_the_trash(world: World) -> None:
    """Nobody finds it by its path, in a listing, in the trash or by its id."""
    fill(world)
    staged = begun(world)
    assert world.names("/kept") == ["f"]
    assert not world.exists("/kept/copy")
    with world.catalog.snapshot() as tx:
        share = world.vault.share(tx, "kept")
        assert list(world.vault.past.trash(tx, share)) == []
        with pytest.raises(NotFoundError):
            world.vault.past.in_trash(tx, share, staged.top_id)
        for copied in (staged.top_id, *ids_in(tx, staged.top_id)):
            assert world.vault.locate(tx, "kept", copied) is None


def test_what_a_crash_left_of_a_copy_is_removed_after_a_day(world: World) -> None:
    """Not before: it may be under way. The space is free again."""
    fill(world)
    before = world.counters("kept")
    begun(world)
    world.clock.now_us += DAY_US
    assert purge(world) == []
    world.clock.now_us += SECOND_US
    assert sum(purge(world)) == 4
    assert world.counters("kept") == before


@pytest.mark.usefixtures("few_at_once")
def test_a_copy_that_failed_is_removed_in_turns(world: World) -> None:
    """And what was attached in spite of an error is not."""
    fill(world)
    staged, before = begun(world), world.counters("kept")
    counts: list[int] = []
    while not counts or counts[-1]:
        with world.catalog.begin() as tx:
            share = world.vault.share(tx, "kept")
            counts.append(world.vault.copies.discard_some(tx, share, staged))
    assert counts == [2, 2, 0]
    assert world.counters("kept") == (before[0] - len(BIG) - 1, before[1] - 4)
    staged = begun(world)
    attach(world, staged)
    with world.catalog.begin() as tx:
        assert world.vault.copies.discard_some(tx, world.vault.share(tx, "kept"), staged) == 0
    assert world.read("/kept/copy/a") == BIG


def test_what_left_the_folder_meanwhile_is_not_copied(world: World) -> None:
    """It was deleted, or moved away, between being found and its turn."""
    fill(world)
    with world.catalog.begin() as tx:
        source, root = world.node(tx, "/kept/f"), world.node(tx, "/kept")
        ids = ids_in(tx, source.id)
        world.vault.delete(tx, world.node(tx, "/kept/f/a"), author="p1")
        world.vault.move(tx, world.node(tx, "/kept/f/b"), root, "b", author="p1")
        staged = world.vault.copies.begin(tx, source.share, source.row, "copy", author="p1")
        add(world, tx, staged, *ids)
    attach(world, staged)
    assert world.names("/kept/copy") == ["inner"]


def test_a_name_that_another_file_took_meanwhile_is_a_conflict(world: World) -> None:
    """One of the two, which both were there all the time, would be missing in the copy."""
    fill(world)
    staged = begun(world)
    with world.catalog.begin() as tx:
        source, other = world.node(tx, "/kept/f"), world.node(tx, "/kept/f/b")
        world.vault.move(tx, world.node(tx, "/kept/f/a"), source, "z", author="p1")
        world.vault.move(tx, other, source, "a", author="p1")
        with pytest.raises(ChangedMeanwhileError, match="copy it again"):
            add(world, tx, staged, other.id)


def test_a_file_that_was_saved_anew_does_not_end_the_copy(world: World) -> None:
    """Deleted and written again, as many programs save: what was copied of it stays."""
    fill(world)
    staged = begun(world)
    with world.catalog.begin() as tx:
        world.vault.delete(tx, world.node(tx, "/kept/f/a"), author="p1")
    world.write("/kept/f/a", b"anew")
    with world.catalog.begin() as tx:
        assert add(world, tx, staged, world.node(tx, "/kept/f/a").id) == []
    attach(world, staged)
    assert world.read("/kept/copy/a") == BIG


def test_a_copy_that_was_removed_meanwhile_gets_nothing_more(world: World) -> None:
    """What were added to it nobody would find, and nobody remove."""
    fill(world)
    before, staged = world.counters("kept"), begun(world)
    world.clock.now_us += DAY_US + SECOND_US
    purge(world)
    with world.catalog.begin() as tx:
        inner = ids_in(tx, world.node(tx, "/kept/f").id)
        with pytest.raises(ChangedMeanwhileError):
            add(world, tx, staged, *inner)
    with pytest.raises(ChangedMeanwhileError):
        attach(world, staged)
    assert world.counters("kept") == before
    assert not judged(world).findings


def test_a_copy_in_turns_is_held_to_the_quota(world: World) -> None:
    """What was copied before counts too."""
    fill(world)
    world.vault.configure({"kept": ShareSettings("kept", quota_bytes=len(BIG) + 100, trash_s=3600)})
    with world.catalog.begin() as tx, pytest.raises(QuotaExceededError):
        world.copy_in_turns(tx, world.node(tx, "/kept/f"), world.node(tx, "/kept"), "copy")


@pytest.mark.usefixtures("few_at_once")
def test_a_large_folder_goes_for_good_in_turns(world: World) -> None:
    """From the first on nobody finds it, and it cannot be brought back in part."""
    fill(world)
    with world.catalog.begin() as tx:
        folder = world.node(tx, "/kept/f")
        world.vault.delete(tx, folder, author="p1")
    world.clock.now_us += 3601 * SECOND_US
    with world.catalog.begin() as tx:
        assert world.vault.purge_next(tx, "kept") == 2
        share = world.vault.share(tx, "kept")
        assert list(world.vault.past.trash(tx, share)) == []
        with pytest.raises(NotFoundError):
            world.vault.past.in_trash(tx, share, folder.id)
    assert purge(world) == [2, 1]
    assert world.counters("kept") == (0, 0)


@pytest.mark.usefixtures("few_at_once")
def test_a_large_folder_of_a_share_without_trash_is_gone_at_once(world: World) -> None:
    """Its name is free; its space is when the housekeeping was there."""
    fill(world, "docs")
    with world.catalog.begin() as tx:
        world.vault.delete(tx, world.node(tx, "/docs/f"), author="p1")
    assert world.names("/docs") == []
    world.mkdir("/docs/f")
    assert world.names("/docs/f") == []
    assert sum(purge(world, "docs")) == 3
    assert world.counters("docs") == (0, 1)


@pytest.mark.usefixtures("few_at_once")
def test_what_was_purged_by_hand_is_brought_back_by_nobody(world: World) -> None:
    """And what was brought back before is not purged."""
    fill(world)
    vault = world.vault
    with world.catalog.begin() as tx:
        folder = world.node(tx, "/kept/f")
        vault.delete(tx, folder, author="p1")
        trashed = vault.past.in_trash(tx, folder.share, folder.id)
        vault.past.bring_back(tx, trashed, world.node(tx, "/kept").row, "back")
        assert vault.past.purge(tx, trashed) == 0
    assert world.read("/kept/back/inner/c") == b"c"
    with world.catalog.begin() as tx:
        vault.delete(tx, world.node(tx, "/kept/back"), author="p1")
    counts: list[int] = []
    while not counts or counts[-1]:
        with world.catalog.begin() as tx:
            counts.append(vault.past.purge(tx, trashed))
    assert counts == [2, 2, 1, 0]
    assert world.counters("kept") == (0, 0)


@pytest.mark.usefixtures("few_at_once")
def test_an_edited_row_in_a_large_folder_stays_for_scrub_and_the_rest_goes(world: World) -> None:
    """With the folders above it; nobody's edit is had away with."""
    world.mkdir("/kept/f")
    world.mkdir("/kept/f/inner")
    for number in range(9):
        world.write(f"/kept/f/inner/{number}", b"x")
    with world.catalog.begin() as tx:
        top, inner = world.node(tx, "/kept/f"), world.node(tx, "/kept/f/inner")
        # Not among those that are looked at before anything has gone.
        victim = nodes.any_children(tx, inner.id, 100)[4]
        world.vault.delete(tx, top, author="p1")
        nodes.put(tx, victim._replace(size_bytes=7), frozenset({"size_bytes"}))
    world.clock.now_us += 3601 * SECOND_US
    assert sum(purge(world)) == 8
    with world.catalog.snapshot() as tx:
        left = [top.id, *(row.id for row in nodes.any_children(tx, top.id, 100))]
        left += [row.id for row in nodes.any_children(tx, inner.id, 100)]
    assert left == [top.id, inner.id, victim.id]
    assert judged(world).findings


def test_an_edited_row_in_a_small_folder_keeps_it_in_the_trash(world: World) -> None:
    """Nothing of it goes, and it can be looked at there."""
    fill(world)
    with world.catalog.begin() as tx:
        victim = world.node(tx, "/kept/f/inner/c")
        world.vault.delete(tx, world.node(tx, "/kept/f"), author="p1")
        nodes.put(tx, victim.row._replace(size_bytes=7), frozenset({"size_bytes"}))
    world.clock.now_us += 3601 * SECOND_US
    assert purge(world) == []
    with world.catalog.snapshot() as tx:
        trashed = list(world.vault.past.trash(tx, world.vault.share(tx, "kept")))
    assert [each.info.parts for each in trashed] == [("kept", "f")]


def test_what_lies_too_deep_to_be_reached_can_be_removed(world: World) -> None:
    """A folder that holds a deep one in the trash may be moved down, as only what lives counts."""
    path = "/kept/a"
    world.mkdir(path)
    for name in ["d"] * 60 + ["e"] * 60:
        path += f"/{name}"
        world.mkdir(path)
    with world.catalog.begin() as tx:
        deep = "/kept/a" + 60 * "/d" + "/e"
        world.vault.delete(tx, world.node(tx, deep), author="p1")
    down = "/kept"
    for _ in range(50):
        down += "/z"
        world.mkdir(down)
    with world.catalog.begin() as tx:
        top, lowest = world.node(tx, "/kept/a"), world.node(tx, down)
        world.vault.move(tx, top, lowest, "a", author="p1")
        world.vault.delete(tx, world.node(tx, "/kept/z"), author="p1")
    world.clock.now_us += 3601 * SECOND_US
    assert sum(purge(world)) == 171
    assert world.counters("kept") == (0, 0)


@pytest.mark.usefixtures("few_at_once")
def test_what_was_in_the_trash_by_itself_is_not_brought_back_in_part(world: World) -> None:
    """A folder in a trashed folder that is being removed."""
    fill(world)
    for number in range(4):
        world.write(f"/kept/f/inner/{number}", b"x")
    with world.catalog.begin() as tx:
        inner, top = world.node(tx, "/kept/f/inner"), world.node(tx, "/kept/f")
        world.vault.delete(tx, inner, author="p1")
    world.clock.now_us += SECOND_US
    with world.catalog.begin() as tx:
        world.vault.delete(tx, top, author="p1")
    past, gone = world.vault.past, 1
    while gone:
        with world.catalog.begin() as tx:
            share = world.vault.share(tx, "kept")
            listed = [each.row.id for each in past.trash(tx, share)]
            whole = len(nodes.any_children(tx, inner.id, 100))
            assert inner.id not in listed or whole == 5
            trashed = [each for each in past.trash(tx, share) if each.row.id == top.id]
            gone = past.purge(tx, trashed[0]) if trashed else world.vault.purge_next(tx, "kept")
    assert world.counters("kept") == (0, 0)
    assert not judged(world).findings
