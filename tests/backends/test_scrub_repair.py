"""Repairing what a scrub found: nothing is deleted, and nothing is made to look right."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from backends.catalog import segments
from backends.errors import (
    IntegrityError,
)
from backends.rotation import rotate_share
from backends.scrub.finding import Kind
from backends.share import ShareSettings
from gateway.model import SECOND_US
from tests.backends.scrubbing import (
    DAY_US,
    NODE_EDITS,
    SHARE_EDITS,
    dump,
    judged,
    kinds,
    segment_of,
    tamper,
)
from tests.backends.world import World


def repaired(world: World) -> bool:
    rows = judged(world)
    with world.catalog.begin() as tx:
        return world.vault.scrub.reseal(tx, "kept", rows)


def test_a_share_is_sealed_anew_when_every_row_verifies(kept: World) -> None:
    """After a dropped row; what was written between the look and the repair stays counted."""
    tamper(kept, "DELETE FROM versions WHERE node_id = [inline] AND id <> <inline>")
    rows = judged(kept)
    before = dump(kept)
    kept.write("/kept/meanwhile", b"counted")
    with kept.catalog.begin() as tx:
        assert kept.vault.scrub.reseal(tx, "kept", rows)
    assert judged(kept).findings == ()
    assert set(before["versions"]) < set(dump(kept)["versions"])


@pytest.mark.parametrize("edit", ["bytes used", "nodes", "its state"])
def test_an_edited_row_of_a_share_is_sealed_anew(kept: World, edit: str) -> None:
    """The counters are counted; nobody could write meanwhile, and everybody can again."""
    right = kept.counters("kept")
    tamper(kept, SHARE_EDITS[edit])
    with pytest.raises(IntegrityError):
        kept.write("/kept/new", b"x")
    assert repaired(kept)
    assert judged(kept).findings == ()
    assert kept.counters("kept") == right
    kept.write("/kept/new", b"x")


def test_a_share_that_changed_since_is_not_sealed_anew(kept: World) -> None:
    """What was counted is not what is there."""
    tamper(kept, SHARE_EDITS["nodes"])
    rows = judged(kept)
    with contextlib.closing(sqlite3.connect(kept.catalog_file)) as connection:
        connection.execute("UPDATE shares SET node_count = 1 WHERE name = 'kept'")
        connection.commit()
    with kept.catalog.begin() as tx:
        assert not kept.vault.scrub.reseal(tx, "kept", rows)


def test_a_share_set_back_to_an_older_epoch_goes_on_under_the_newest(kept: World) -> None:
    """What is written must not go under a key that was given up."""
    with kept.catalog.begin() as tx:
        rotate_share(tx, kept.master, kept.vault.share(tx, "kept").row, 1, kept.random_bytes)
    tamper(kept, "UPDATE shares SET epoch = 1 WHERE id = [share]")
    assert kinds(judged(kept)) == {Kind.SHARE}
    assert repaired(kept)
    with kept.catalog.snapshot() as tx:
        assert kept.vault.share(tx, "kept").row.epoch == 2


@pytest.mark.parametrize("edit", [*NODE_EDITS])
def test_nothing_is_sealed_anew_while_a_row_does_not_verify(kept: World, edit: str) -> None:
    """Resealing would make what an attacker wrote look right."""
    tamper(kept, NODE_EDITS[edit], SHARE_EDITS["nodes"])
    assert not repaired(kept)
    assert Kind.SHARE in kinds(judged(kept))


def lost_found(world: World) -> list[bool]:
    rows = judged(world)
    with world.catalog.begin() as tx:
        return [world.vault.scrub.keep_lost(tx, "kept", node_id) for node_id in rows.lost]


def test_what_lies_below_nothing_goes_into_the_trash(kept: World) -> None:
    """With all below it; it can be restored, and nothing went away."""
    before = dump(kept)
    tamper(kept, "DELETE FROM nodes WHERE id = [f]")
    assert lost_found(kept) == [True]
    assert judged(kept).lost == ()
    assert len(dump(kept)["nodes"]) == len(before["nodes"]) - 1
    with kept.catalog.begin() as tx:
        share = kept.vault.share(tx, "kept")
        (found,) = (one for one in kept.vault.past.trash(tx, share) if one.info.parts[-1] == "g")
        kept.vault.past.bring_back(tx, found, kept.node(tx, "/kept").row, "found")
    assert kept.read("/kept/found/deep") == b"deep"
    assert lost_found(kept) == []


def test_what_lies_in_its_place_is_left_there(kept: World) -> None:
    """Somebody may have restored the catalog in the meantime."""
    with kept.catalog.begin() as tx:
        inner = kept.node(tx, "/kept/f/g").id
        assert not kept.vault.scrub.keep_lost(tx, "kept", inner)
        assert not kept.vault.scrub.keep_lost(tx, "kept", bytes(16))


def test_a_share_without_a_trash_keeps_what_is_lost_where_it_is(kept: World) -> None:
    """In a trash that is emptied at once it would be deleted."""
    tamper(kept, "DELETE FROM nodes WHERE id = [f]")
    kept.vault.configure({"kept": ShareSettings("kept", trash_s=0)})
    before = dump(kept)
    assert lost_found(kept) == [False]
    assert dump(kept) == before


def test_quarantine_keeps_a_segment_from_being_collected(kept: World) -> None:
    """Though no version needs it any more; released, it goes like any other."""
    segment = segment_of(kept, "/kept/big2")
    with kept.catalog.begin() as tx:
        kept.vault.scrub.quarantine(tx, segment.row, "It does not verify.")
        kept.vault.delete(tx, kept.node(tx, "/kept/big2"), author="p1")
    kept.clock.now_us += 2 * 3600 * SECOND_US
    with kept.catalog.begin() as tx:
        kept.vault.purge_next(tx, "kept")
    for _ in range(3):
        kept.clock.now_us += 2 * DAY_US
        kept.collect()
    assert (segment.row.id,) in dump(kept)["blobs"]
    with kept.catalog.begin() as tx:
        ((damage, found),) = kept.vault.scrub.quarantined(tx)
        assert damage.segment_id == segment.row.id
        assert found is not None
        segments.release(tx, damage.segment_id)
    kept.collect()
    assert (segment.row.id,) not in dump(kept)["blobs"]
