"""Resealing: older epochs come to hold nothing, and everything reads on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from backends.catalog import keys, segments, versions
from backends.destruction import samples_of, try_all
from backends.epochs import RETIRE_GRACE_US, older_uses, retire, uses_of
from backends.errors import (
    ConflictError,
    IntegrityError,
    LimitError,
    QuotaExceededError,
)
from backends.gc import ORPHAN_GRACE_US
from backends.history import History
from backends.reseal import Resealing
from backends.share import Shares
from backends.vault import Vault
from tests.backends.epochs import (
    BIG,
    CutError,
    change,
    every_content,
    ignore,
    require_sound,
    rotate,
    share_row,
    unfinished,
    upload,
)
from tests.backends.world import BLOCK, SETTINGS, World, sample

EVERY_CATALOG = True

EDITED = BIG[:BLOCK] + b"edited" + BIG[BLOCK + 6 :]


def resealing(world: World, name: str = "docs", done: Callable[[int], None] = ignore) -> Resealing:
    """Return a run in what could be another process."""
    shares = Shares(world.master, SETTINGS, world.random_bytes)
    return Resealing(
        world.catalog,
        world.store,
        shares,
        name,
        clock=world.clock,
        random_bytes=world.random_bytes,
        done=done,
    )


def reseal(world: World, name: str = "docs") -> Resealing:
    run = resealing(world, name)
    run.run()
    return run


def left(world: World, name: str = "docs") -> list[tuple[int, int, int, int]]:
    """Return (epoch, versions, segments, unused segments) of older epochs with a key."""
    with world.catalog.snapshot() as tx:
        row = share_row(tx, name)
        return [
            (use.row.epoch, use.version_count, use.segment_count, use.unused_count)
            for use in older_uses(row, uses_of(tx, row))
        ]


def retired(world: World, name: str = "docs") -> list[int]:
    with world.catalog.begin() as tx:
        return [row.epoch for row in retire(tx, share_row(tx, name), world.clock())]


def collect(world: World) -> None:
    """Let unused segments be collected, as the janitor does over more than a day."""
    world.collect()
    world.clock.now_us += ORPHAN_GRACE_US + 1
    world.collect()


@pytest.fixture
def full(world: World) -> World:
    """A share with all that a share can hold, written under two epochs; a third is current."""
    world.mkdir("/kept/folder")
    for epoch in (1, 2):
        base = f"/kept/folder/{epoch}"
        world.write(f"{base}-short", b"short")
        world.write(f"{base}-empty", b"")
        world.write(f"{base}-big", BIG)
        world.write(f"{base}-big", b"edited", offset=BLOCK, keep=True)
        world.write(f"{base}-many", sample(300 * BLOCK, "many"))
        world.write(f"{base}-replaced", b"first")
        world.write(f"{base}-replaced", BIG)
        world.write(f"{base}-hole", b"after a hole", offset=20 * BLOCK)
        world.write(f"{base}-gone", BIG)
        upload(world, f"{base}-unfinished", BIG)
        with world.catalog.begin() as tx:
            folder = world.node(tx, "/kept/folder")
            source = world.node(tx, f"{base}-big")
            world.vault.copy(tx, source, folder, f"{epoch}-copy", author="p1", deep=False)
            world.vault.delete(tx, world.node(tx, f"{base}-gone"), author="p1")
        world.clock.now_us += 60_000_000
        rotate(world, "kept")
    world.write("/kept/folder/1-big", b"E", offset=2 * BLOCK, keep=True)
    return world


def test_everything_of_older_epochs_is_brought_under_the_current_one(full: World) -> None:
    """Old versions, trash, copies, edited files and unfinished uploads; all ids stay."""
    world = full
    before = every_content(world, "kept")
    names, counters = world.names("/kept/folder"), world.counters("kept")
    run = reseal(world, "kept")
    assert run.damages == []
    assert run.segment_count > 10
    assert every_content(world, "kept") == before
    assert world.names("/kept/folder") == names
    assert world.counters("kept") == counters
    assert world.read("/kept/folder/2-copy") == EDITED
    assert world.read("/kept/folder/1-big") == EDITED[: 2 * BLOCK] + b"E" + EDITED[2 * BLOCK + 1 :]
    assert unfinished(world, "/kept/folder/2-unfinished") == BIG
    require_sound(world, "kept")
    assert [(epoch, *used) for epoch, *used, _ in left(world, "kept")] == [(1, 0, 0), (2, 0, 0)]
    with world.catalog.snapshot() as tx:
        row = share_row(tx, "kept")
        assert set(versions.totals_by_epoch(tx, row.id)) == {3}
        assert set(segments.used_totals_by_epoch(tx, row.id)) == {3}


def test_content_reads_on_without_the_older_keys(full: World) -> None:
    """Once unused segments are collected old epochs go, and a new process reads all."""
    world = full
    before = every_content(world, "kept")
    reseal(world, "kept")
    assert retired(world, "kept") == []
    collect(world)
    assert left(world, "kept") == [(1, 0, 0, 0), (2, 0, 0, 0)]
    assert retired(world, "kept") == [1, 2]
    assert left(world, "kept") == []
    world.restart()
    # The upload that waited for more than a day is gone from sight, but not yet removed.
    assert every_content(world, "kept") == before
    require_sound(world, "kept")
    with world.catalog.snapshot() as tx:
        row = share_row(tx, "kept")
        for each in keys.epochs_of(tx, row.id):
            assert (each.key_wrapped is None) == (each.epoch < 3)
            assert (each.destroyed_us == world.clock()) == (each.epoch < 3)


def test_an_old_segment_is_unreadable_once_its_epoch_is_destroyed(world: World) -> None:
    """Whoever kept the blob and has the master key has nothing."""
    world.write("/docs/a", BIG)
    with world.catalog.snapshot() as tx:
        row = share_row(tx, "docs")
        before = samples_of(tx, row.id, "docs")
        blob = world.store.read(before.segments[0].id, 0, 1 << 20)
    rotate(world)
    reseal(world)
    collect(world)
    assert retired(world) == [1]
    world.store.keep(before.segments[0].id, blob)
    world.restart()
    history = History(world.shares, world.store, clock=world.clock, random_bytes=world.random_bytes)
    with world.catalog.snapshot() as tx:
        now = try_all(tx, world.shares, world.store, history, before)
        assert (now.version_count, now.segment_count, now.name_count) == (0, 0, 1)
    assert world.read("/docs/a") == BIG


def test_other_shares_are_left_alone(world: World) -> None:
    """Not a row of them changes."""
    for share in ("docs", "kept"):
        world.write(f"/{share}/a", BIG)
        rotate(world, share)
    with world.catalog.snapshot() as tx:
        before = versions.of_share(tx, share_row(tx, "kept").id, b"", 10)
    reseal(world)
    with world.catalog.snapshot() as tx:
        assert versions.of_share(tx, share_row(tx, "kept").id, b"", 10) == before
    assert left(world, "kept") == [(1, 1, 1, 0)]


def test_a_second_run_finds_nothing_to_do(world: World) -> None:
    """Nothing is read or written again."""
    world.write("/docs/a", BIG)
    world.write("/docs/b", b"short")
    rotate(world)
    run = reseal(world)
    assert (run.segment_count, run.version_count) == (1, 2)
    blobs = set(world.store.listing())
    again = reseal(world)
    assert (again.segment_count, again.version_count) == (0, 0)
    assert set(world.store.listing()) == blobs


@pytest.mark.parametrize("piece", range(5))
def test_a_run_cut_off_anywhere_leaves_what_opens(
    world: World, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    """Strays at most; another run ends well."""
    monkeypatch.setattr("backends.reseal.SEGMENT_BATCH", 2)
    monkeypatch.setattr("backends.reseal.VERSION_BATCH", 1)
    for number in range(3):
        world.write(f"/docs/{number}", BIG)
        world.write(f"/docs/{number}-short", b"short")
    rotate(world)
    before = every_content(world, "docs")
    pieces = 0

    def cut(_: int) -> None:
        nonlocal pieces
        pieces += 1
        if pieces > piece:
            raise CutError

    with pytest.raises(CutError):
        resealing(world, done=cut).run()
    assert every_content(world, "docs") == before
    require_sound(world)
    assert reseal(world).damages == []
    assert every_content(world, "docs") == before
    assert [(epoch, *used) for epoch, *used, _ in left(world)] == [(1, 0, 0)]
    require_sound(world)


def test_a_swap_that_is_rolled_back_changes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new segments are strays then, and stay: nobody knows how a commit ended."""
    world.write("/docs/a", BIG)
    rotate(world)
    before = left(world)

    def fail(*_: object) -> None:
        raise CutError

    with monkeypatch.context() as patch:
        patch.setattr(versions, "add_segments", fail)
        with pytest.raises(CutError):
            reseal(world)
    assert left(world) == before
    assert len(list(world.store.listing())) == 2
    reseal(world)
    assert left(world) == [(1, 0, 0, 1)]
    assert world.read("/docs/a") == BIG


def between(world: World, act: Callable[[World], object]) -> Resealing:
    """Run while ``act`` happens after the first segment was sealed and before it is swapped."""
    other = Vault(
        Shares(world.master, SETTINGS, world.random_bytes),
        world.store,
        clock=world.clock,
        random_bytes=world.random_bytes,
    )
    acted: list[int] = []

    def done(size_bytes: int) -> None:
        if not acted:
            acted.append(size_bytes)
            mine, world.vault = world.vault, other
            act(world)
            world.vault = mine

    run = resealing(world, done=done)
    try:
        run.run()
    finally:
        other.close()
    assert acted
    return run


def edit(world: World) -> None:
    world.write("/docs/a", b"edited", offset=BLOCK, keep=True)


def copy(world: World) -> None:
    with world.catalog.begin() as tx:
        docs = world.node(tx, "/docs")
        world.vault.copy(tx, world.node(tx, "/docs/a"), docs, "b", author="p1", deep=False)


def remove(world: World) -> None:
    with world.catalog.begin() as tx:
        world.vault.delete(tx, world.node(tx, "/docs/a"), author="p1")


def test_a_file_changed_meanwhile_keeps_the_change(world: World) -> None:
    """Its new version goes over to the new segment like the old one."""
    world.write("/docs/a", BIG)
    rotate(world)
    run = between(world, edit)
    assert (run.segment_count, run.version_count) == (1, 2)
    assert world.read("/docs/a") == EDITED
    assert left(world) == [(1, 0, 0, 1)]
    require_sound(world)


def test_a_copy_made_meanwhile_goes_over_too(world: World) -> None:
    """Both share the new segment."""
    world.write("/docs/a", BIG)
    rotate(world)
    between(world, copy)
    assert world.read("/docs/a") == world.read("/docs/b") == BIG
    assert left(world) == [(1, 0, 0, 1)]
    require_sound(world)


def test_the_segment_of_a_file_removed_meanwhile_is_not_kept(world: World) -> None:
    """The new one is deleted at once: no row ever names it."""
    world.write("/docs/a", BIG)
    rotate(world)
    run = between(world, remove)
    assert run.segment_count == 0
    assert len(list(world.store.listing())) == 1
    require_sound(world)


def test_a_new_epoch_begun_meanwhile_is_used_for_the_rows(world: World) -> None:
    """The segments of the epoch before are brought over by the next run."""
    world.write("/docs/a", BIG)
    rotate(world)
    between(world, rotate)
    assert left(world) == [(1, 0, 0, 1), (2, 0, 1, 0)]
    assert world.read("/docs/a") == BIG
    reseal(world)
    assert left(world) == [(1, 0, 0, 1), (2, 0, 0, 1)]
    assert world.read("/docs/a") == BIG
    require_sound(world)


def test_nothing_comes_under_an_epoch_destroyed_meanwhile(world: World) -> None:
    """The run ends; the old segment stays in use, and another run ends well."""
    world.write("/docs/a", BIG)
    rotate(world)

    def lose(other: World) -> None:
        rotate(other)
        with other.catalog.begin() as tx:
            row = share_row(tx, "docs")
            second = keys.epochs_of(tx, row.id)[1]
            keys.put_epoch(tx, second._replace(key_wrapped=None, destroyed_us=other.clock()))

    with pytest.raises(ConflictError, match="'docs' was destroyed"):
        between(world, lose)
    assert left(world) == [(1, 1, 1, 0)]
    reseal(world)
    assert world.read("/docs/a") == BIG


def test_an_open_reader_reads_on_from_the_old_segments(world: World) -> None:
    """They go a day later."""
    world.write("/docs/a", BIG)
    with world.catalog.snapshot() as tx:
        content = world.vault.open_content(tx, world.node(tx, "/docs/a"))
    rotate(world)
    reseal(world)
    assert content.read_at(0, content.size_bytes) == BIG


@pytest.mark.parametrize("size_bytes", [10, 3 * BLOCK])
def test_an_upload_under_an_old_epoch_is_caught_by_the_next_run(
    world: World, size_bytes: int
) -> None:
    """Its key stays a day, so that it may end; after the key is gone it is refused."""
    drafts = []
    for _ in range(2):
        with world.catalog.snapshot() as tx:
            drafts.append(world.vault.draft(world.node(tx, "/docs").share, None))
        drafts[-1].write_at(0, sample(size_bytes))
    rotate(world)
    reseal(world)
    assert retired(world) == []
    with world.catalog.begin() as tx:
        docs, sealed = world.node(tx, "/docs"), drafts[0].seal()
        world.vault.add_file(tx, docs, "a", sealed, modified_us=0, author="p1")
    world.clock.now_us += RETIRE_GRACE_US
    assert retired(world) == []
    assert reseal(world).version_count == 1
    assert world.read("/docs/a") == sample(size_bytes)
    collect(world)
    assert retired(world) == [1]
    with world.catalog.begin() as tx:
        docs, sealed = world.node(tx, "/docs"), drafts[1].seal()
        with pytest.raises(ConflictError, match="key"):
            world.vault.add_file(tx, docs, "b", sealed, modified_us=0, author="p1")


def spoil(world: World, segment_id: bytes) -> None:
    """Change a byte of a blob's last chunk."""
    data = bytearray(world.store.read(segment_id, 0, 1 << 24))
    data[-1] ^= 1
    world.store.delete(segment_id)
    world.store.keep(segment_id, bytes(data))


def segments_of(world: World, path: str) -> list[bytes]:
    with world.catalog.snapshot() as tx:
        return [row.id for row in versions.segments_of(tx, world.node(tx, path).row.version_id)]


@pytest.mark.parametrize("fault", ["changed", "missing", "its size edited"])
def test_a_damaged_segment_is_named_and_left(world: World, fault: str) -> None:
    """The others go over; its epoch's key stays, and nothing half-made is left."""
    world.write("/docs/a", BIG)
    world.write("/docs/b", BIG)
    (bad,) = segments_of(world, "/docs/b")
    if fault == "changed":
        spoil(world, bad)
    elif fault == "missing":
        world.store.delete(bad)
    else:
        change(world, "UPDATE segments SET size_sealed_bytes = 5 WHERE id = :bad", bad=bad)
    rotate(world)
    blobs = len(list(world.store.listing()))
    run = reseal(world)
    (damage,) = run.damages
    with world.catalog.snapshot() as tx:
        node = world.node(tx, "/docs/b")
    assert (damage.share, damage.segment_id, damage.node_id) == ("docs", bad, node.id)
    assert damage.version_id == node.row.version_id
    assert run.segment_count == 1
    assert len(list(world.store.listing())) == blobs + 1
    assert world.read("/docs/a") == BIG
    collect(world)
    assert retired(world) == []
    require_sound(world)


def test_a_size_of_an_impossible_type_is_damage_too(sqlite_world: World) -> None:
    """SQLite keeps whatever is put into a column."""
    world = sqlite_world
    world.write("/docs/a", BIG)
    rotate(world)
    change(world, "UPDATE segments SET size_sealed_bytes = 'x'")
    run = reseal(world)
    assert "its row in the catalog was edited" in run.damages[0].reason


@pytest.mark.parametrize("content", [b"short", BIG])
def test_an_edited_version_is_never_signed_anew(world: World, content: bytes) -> None:
    """What does not verify before does not verify afterwards."""
    world.write("/docs/a", content)
    rotate(world)
    change(world, "UPDATE versions SET author = 'somebody else'")
    blobs = len(list(world.store.listing()))
    run = reseal(world)
    assert [damage.segment_id for damage in run.damages] == [b""]
    assert len(list(world.store.listing())) == blobs
    with pytest.raises(IntegrityError, match="edited"):
        world.read("/docs/a")


def test_a_quarantined_segment_that_verifies_is_released(world: World) -> None:
    """Every chunk of it was read; otherwise it would keep the old key for ever."""
    world.write("/docs/a", BIG)
    (segment_id,) = segments_of(world, "/docs/a")
    with world.catalog.begin() as tx:
        damage = segments.Damage(segment_id, share_row(tx, "docs").id, 0, "a bad cable")
        segments.put_in_quarantine(tx, damage)
    rotate(world)
    reseal(world)
    collect(world)
    assert retired(world) == [1]


def test_resealing_stops_before_the_storage_is_full(world: World) -> None:
    """What was resealed stays so."""
    world.write("/docs/a", BIG)
    rotate(world)
    world.store._capacity_bytes = 1 << 20
    with pytest.raises(QuotaExceededError):
        reseal(world)
    assert world.read("/docs/a") == BIG


def test_a_file_of_many_extents_is_sealed_anew_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often one segment comes in it, and however small the pages."""
    monkeypatch.setattr("backends.reseal.PAGE_LIMIT", 3)
    monkeypatch.setattr("backends.reseal.SEGMENT_BATCH", 2)
    world.write("/docs/a", sample(40 * BLOCK))
    for block in range(1, 40, 2):
        world.write("/docs/a", b"x", offset=block * BLOCK, keep=True)
    before = world.read("/docs/a")
    used = len(segments_of(world, "/docs/a"))
    rotate(world)
    run = reseal(world)
    assert run.segment_count == used == 21
    assert world.read("/docs/a") == before
    require_sound(world)


def test_too_much_damage_ends_the_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is a case for a backup; what is found in two ways is counted once."""
    for number in range(3):
        world.write(f"/docs/{number}", b"short")
    rotate(world)
    change(world, "UPDATE versions SET author = 'somebody else'")
    assert len(reseal(world).damages) == 3
    monkeypatch.setattr("backends.reseal.DAMAGE_LIMIT", 2)
    with pytest.raises(LimitError, match="more than 2 places"):
        reseal(world)
