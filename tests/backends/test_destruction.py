"""Destroying a share: nothing of it opens, nothing of it is left, and no other is touched."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest

from backends.catalog import keys, marks
from backends.catalog.statement import Tx
from backends.destruction import all_destroyed, clear, destroy, keys_that_open, samples_of, try_all
from backends.errors import ConflictError, KeyUnavailableError, NotFoundError
from backends.history import History
from backends.share import Shares
from tests.backends.epochs import (
    BIG,
    CutError,
    count,
    every_content,
    ignore,
    require_sound,
    rotate,
    share_row,
    unfinished,
    upload,
)
from tests.backends.world import SETTINGS, World

EVERY_CATALOG = True


def destroy_docs(world: World) -> bytes:
    with world.catalog.begin() as tx:
        row = share_row(tx, "docs")
        destroy(tx, row, world.clock())
    return row.id


def clear_away(world: World, share_id: bytes, done: Callable[[int], None] = ignore) -> None:
    clear(world.catalog, world.store, share_id, clock=world.clock, done=done)


def rows_of(world: World, share_id: bytes) -> dict[str, int]:
    """Return how many rows of a share each table has."""
    of_share = ("nodes", "versions", "segments", "unfinished", "reservations", "quarantine")
    found = {
        table: count(world, f"SELECT count(*) FROM {table} WHERE share_id = :id", id=share_id)
        for table in of_share
    }
    for table in ("extents", "properties", "vacated", "locks"):
        found[table] = count(world, f"SELECT count(*) FROM {table}")
    return found


def tried(world: World, tx: Tx, share_id: bytes) -> tuple[int, int, int]:
    shares = Shares(world.master, SETTINGS, world.random_bytes)
    history = History(shares, world.store, clock=world.clock, random_bytes=world.random_bytes)
    opened = try_all(tx, shares, world.store, history, samples_of(tx, share_id, "docs"))
    return opened.version_count, opened.segment_count, opened.name_count


def test_nothing_of_a_destroyed_share_opens(world: World) -> None:
    """With the master key, in a running process and in a new one; its epochs stay as a trace."""
    world.write("/docs/a", BIG)
    world.write("/docs/b", b"short")
    rotate(world)
    world.write("/docs/c", BIG)
    with world.catalog.snapshot() as tx:
        row = share_row(tx, "docs")
        assert tried(world, tx, row.id) == (3, 2, 3)
        assert keys_that_open(tx, world.master, row.id) == 3
    share_id = destroy_docs(world)
    with world.catalog.snapshot() as tx:
        assert tried(world, tx, share_id) == (0, 0, 0)
        assert keys_that_open(tx, world.master, share_id) == 0
        traces = keys.epochs_of(tx, share_id)
        assert [(each.epoch, each.key_wrapped) for each in traces] == [(1, None), (2, None)]
        assert [each.name for each in all_destroyed(tx)] == ["docs"]
        version = samples_of(tx, share_id, "docs").versions[0]
        history = History(
            world.shares, world.store, clock=world.clock, random_bytes=world.random_bytes
        )
        with pytest.raises(KeyUnavailableError, match="destroyed"):
            history.verified(tx, version)
    with pytest.raises(NotFoundError):
        world.read("/docs/a")


def test_a_key_that_was_copied_elsewhere_is_found(world: World) -> None:
    """In any place of the catalog that keeps wrapped keys."""
    world.write("/docs/a", BIG)
    with world.catalog.begin() as tx:
        row = share_row(tx, "docs")
        wrapped = keys.epochs_of(tx, row.id)[0].key_wrapped or b""
        keys.put_setting(tx, "planted", wrapped)
    share_id = destroy_docs(world)
    with world.catalog.snapshot() as tx:
        assert keys_that_open(tx, world.master, share_id) == 1


def test_a_destroyed_share_is_cleared_away_and_no_other(world: World) -> None:
    """No row and no blob of it is left; the other shares verify whole."""
    for share in ("docs", "kept"):
        world.mkdir(f"/{share}/folder")
        world.write(f"/{share}/folder/a", BIG)
        world.write(f"/{share}/folder/b", b"short")
        upload(world, f"/{share}/folder/c", BIG)
    before = every_content(world, "kept")
    share_id = destroy_docs(world)
    clear_away(world, share_id)
    counted = rows_of(world, share_id)
    assert counted.pop("extents") == 2
    assert set(counted.values()) == {0}, counted
    assert len(list(world.store.listing())) == 2
    assert every_content(world, "kept") == before
    require_sound(world, "kept")
    assert unfinished(world, "/kept/folder/c") == BIG


def test_clearing_away_goes_on_where_it_was_cut_off(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After any batch."""
    monkeypatch.setattr("backends.destruction.CLEAR_BATCH", 2)
    for number in range(4):
        world.write(f"/docs/{number}", BIG)
    share_id = destroy_docs(world)

    def cut(_: int) -> None:
        raise CutError

    for _ in range(20):
        with suppress(CutError):
            clear_away(world, share_id, cut)
    assert set(rows_of(world, share_id).values()) == {0}
    assert list(world.store.listing()) == []


def test_segments_stay_while_a_backup_needs_them(world: World) -> None:
    """They go by another run; the share is unreadable all the same."""
    world.write("/docs/a", BIG)
    share_id = destroy_docs(world)
    with world.catalog.begin() as tx:
        marks.place_hold(tx, "one", now_us=world.clock(), until_us=world.clock() + 1000)
    with pytest.raises(ConflictError, match="backup"):
        clear_away(world, share_id)
    assert len(list(world.store.listing())) == 1
    world.clock.now_us += 1000
    clear_away(world, share_id)
    assert list(world.store.listing()) == []


def test_a_destroyed_share_does_not_hinder_the_others_rotation(world: World) -> None:
    """A share of its name can be made anew, with other keys and nothing in it."""
    world.write("/docs/a", BIG)
    share_id = destroy_docs(world)
    with world.catalog.begin() as tx:
        assert world.shares.create_missing(tx, world.clock) == ["docs"]
    assert world.names("/docs") == []
    assert rotate(world, "docs") == 2
    assert rotate(world, "kept") == 2
    clear_away(world, share_id)
    world.write("/docs/b", BIG)
    assert world.read("/docs/b") == BIG
