"""Scrubbing segments and contents: damage is found, named with what to do, and left alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from hashlib import sha256

import pytest

from backends.catalog import segments, uploads, versions
from backends.catalog.segments import Due
from backends.errors import (
    IntegrityError,
    KeyUnavailableError,
    StorageError,
    StorageUnavailableError,
)
from backends.scrub.finding import Finding, Kind
from backends.scrub.reading import Pace, StoppedError, digest_of
from backends.scrub.scrub import DueSegment
from gateway.model import SECOND_US
from tests.backends.scrubbing import (
    BIG,
    DAY_US,
    FAST,
    all_due,
    dump,
    judged,
    segment_of,
    tamper,
)
from tests.backends.world import BLOCK, SetClock, World, sample


def replace_blob(world: World, blob_id: bytes, change: Callable[[bytes], bytes | None]) -> bytes:
    """Put another blob in the place of one; return what was there."""
    data = world.store.read(blob_id, 0, 1 << 30)
    world.store.delete(blob_id)
    changed = change(data)
    if changed is not None:
        world.store.keep(blob_id, changed)
    return data


def flipped(place: int, data: bytes) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "missing": lambda _data: None,
    "empty": lambda _data: b"",
    "cut": lambda data: data[:-1],
    "cut at a chunk": lambda data: data[:-65_552],
    "extended": lambda data: data + b"\0",
    "a flipped bit in the header": partial(flipped, 20),
    "a flipped bit in the salt": partial(flipped, 60),
    "a flipped bit in the first chunk": partial(flipped, 200),
    "a flipped bit in the last tag": lambda data: flipped(len(data) - 1, data),
    "chunks swapped": lambda data: (
        data[:128] + data[65_680:131_232] + data[128:65_680] + data[131_232:]
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_segment_does_not_verify(kept: World, damage: str) -> None:
    """Missing, cut, extended, or any bit of it changed."""
    segment = segment_of(kept, "/kept/big2")
    replace_blob(kept, segment.row.id, DAMAGES[damage])
    with pytest.raises(IntegrityError):
        kept.vault.scrub.verify(segment, FAST)


def test_every_chunk_of_a_segment_is_read(world: World) -> None:
    """A bit in whichever megabyte of a large one is noticed; memory does not depend on the size."""
    world.write("/docs/large", sample(40 * BLOCK))
    segment = segment_of(world, "/docs/large")
    for chunk in (0, 17, 39):
        place = 128 + chunk * 65_552 + 5
        data = replace_blob(world, segment.row.id, partial(flipped, place))
        with pytest.raises(IntegrityError, match=f"Chunk {chunk} "):
            world.vault.scrub.verify(segment, FAST)
        world.store.delete(segment.row.id)
        world.store.keep(segment.row.id, data)
    assert world.vault.scrub.verify(segment, FAST) == segment.row.size_sealed_bytes


def test_a_blob_swapped_for_another_does_not_verify(kept: World) -> None:
    """It is a good segment, and another one."""
    one, two = segment_of(kept, "/kept/big"), segment_of(kept, "/kept/big2")
    data = kept.store.read(two.row.id, 0, 1 << 30)
    replace_blob(kept, one.row.id, lambda _data: data)
    with pytest.raises(IntegrityError):
        kept.vault.scrub.verify(one, FAST)


def damaged(world: World, segment: DueSegment, error: StorageError | None = None) -> list[Finding]:
    with world.catalog.snapshot() as tx:
        reason = error or IntegrityError("It does not verify.")
        return world.vault.scrub.damage(tx, segment.row, reason, frozenset())


def test_every_file_that_needs_a_damaged_segment_is_named(kept: World) -> None:
    """With share, node, version, path, and what to do; a copy needs it too."""
    with kept.catalog.begin() as tx:
        root = kept.node(tx, "/kept")
        kept.vault.copy(tx, kept.node(tx, "/kept/big2"), root, "copy", author="p1", deep=False)
    segment = segment_of(kept, "/kept/big2")
    found = damaged(kept, segment)
    assert {each.path for each in found} == {"/kept/big2", "/kept/copy"}
    for each in found:
        assert (each.kind, each.share) == (Kind.SEGMENT, "kept")
        assert each.segment_id == segment.row.id.hex()
        assert each.node_id
        assert each.version_id
        assert "big2" not in each.text
        assert "backup" in each.remedy


def test_the_newest_whole_version_is_offered(kept: World) -> None:
    """Only one whose row verifies, and all of whose segments are there and not in quarantine."""
    for text in ("second", "third", "fourth"):
        kept.clock.now_us += 30 * SECOND_US
        kept.write("/kept/big2", sample(3 * BLOCK, text))
    with kept.catalog.snapshot() as tx:
        ids = [row.id for row in versions.of_node(tx, kept.node(tx, "/kept/big2").id)]
        lies_in = {each: versions.extents_of(tx, each)[0].segment_id for each in ids}
    segment = segment_of(kept, "/kept/big2")
    (found,) = damaged(kept, segment)
    assert f"versions restore '/kept/big2' {ids[1].hex()}" in found.remedy
    kept.store.delete(lies_in[ids[1]])
    (found,) = damaged(kept, segment)
    assert ids[2].hex() in found.remedy
    with kept.catalog.begin() as tx:
        row = versions.segment(tx, lies_in[ids[2]])
        assert row is not None
        kept.vault.scrub.quarantine(tx, row, "found before")
    (found,) = damaged(kept, segment)
    assert ids[3].hex() in found.remedy
    tamper(kept, f"UPDATE versions SET author = 'x' WHERE id = x'{ids[3].hex()}'")
    (found,) = damaged(kept, segment)
    assert "versions restore" not in found.remedy


def test_a_file_whose_current_content_is_whole_needs_nothing_restored(kept: World) -> None:
    """Only its past is damaged, which the finding says."""
    segment = segment_of(kept, "/kept/big2")
    kept.write("/kept/big2", b"whole")
    (found,) = damaged(kept, segment)
    assert "only older ones" in found.text
    assert "restore" not in found.remedy


def test_an_unfinished_upload_that_needs_a_segment_is_told(kept: World) -> None:
    """It has no path that anybody else may see."""
    with kept.catalog.snapshot() as tx:
        (upload,) = uploads.of_share(tx, kept.vault.share(tx, "kept").id)
        segment_id = versions.extents_of(tx, upload.version_id)[0].segment_id
    segment = next(each for each in all_due(kept) if each.row.id == segment_id)
    (found,) = damaged(kept, segment)
    assert "unfinished upload" in found.text
    assert found.path == ""


def test_a_segment_that_was_cleared_away_meanwhile_is_no_finding(kept: World) -> None:
    """It was listed, and gone when it was read."""
    segment = segment_of(kept, "/kept/big2")
    with kept.catalog.begin() as tx:
        node = kept.node(tx, "/kept/big2")
        kept.vault.delete(tx, node, author="p1")
        kept.vault.past.purge(tx, kept.vault.past.in_trash(tx, node.share, node.id))
    assert damaged(kept, segment) == []


def test_a_segment_whose_key_is_gone_is_a_finding_about_the_key(kept: World) -> None:
    """It may be as whole as it likes."""
    segment = segment_of(kept, "/kept/big2")
    (found, *_) = damaged(kept, segment, KeyUnavailableError("No key."))
    assert found.kind is Kind.KEY
    (found, *_) = damaged(kept, segment, StorageUnavailableError("I/O error."))
    assert found.kind is Kind.UNREADABLE
    tamper(kept, "UPDATE segments SET epoch = 9")
    with pytest.raises(KeyUnavailableError):
        kept.vault.scrub.verify(segment_of(kept, "/kept/big2"), FAST)
    tamper(kept, "UPDATE segments SET epoch = 'x'")
    with pytest.raises(KeyUnavailableError):
        kept.vault.scrub.verify(segment_of(kept, "/kept/big2"), FAST)


def test_the_least_recently_verified_come_first(kept: World) -> None:
    """Also those with a time to come, which nobody can have set by the rules; each once."""
    tamper(kept, "UPDATE segments SET verified_us = 5")
    first, *others = all_due(kept)
    with kept.catalog.begin() as tx:
        segments.note_verified(tx, [first.row.id], kept.clock())
    assert [each.row.id for each in all_due(kept)] == [
        *(each.row.id for each in others),
        first.row.id,
    ]

    def due(after: tuple[int, bytes], before_us: int = 6) -> list[DueSegment]:
        with kept.catalog.snapshot() as tx:
            return kept.vault.scrub.due(tx, Due(before_us, kept.clock()), after, 1)

    seen, place = [], segments.START
    while page := due(place):
        seen.append(page[0].row.id)
        place = page[0].place
    assert seen == [each.row.id for each in others]
    tamper(kept, f"UPDATE segments SET verified_us = {kept.clock() + DAY_US}")
    assert not due(segments.START)
    tamper(kept, f"UPDATE segments SET verified_us = {kept.clock() + DAY_US + 1}")
    assert due(segments.START)


def test_segments_of_one_share_can_be_asked_for(kept: World) -> None:
    """Others are left out, and so is what is in quarantine or unused."""
    kept.write("/docs/a", BIG)
    with kept.catalog.snapshot() as tx:
        docs = kept.vault.share(tx, "docs").id
        (only,) = all_due(kept, docs)
        assert segments.due_bytes(tx, Due(1 << 62, kept.clock(), docs)) == only.size_bytes
    with kept.catalog.begin() as tx:
        kept.vault.scrub.quarantine(tx, only.row, "damaged")
    assert all_due(kept, docs) == []


# Pace


def test_reading_keeps_the_rate(kept: World) -> None:
    """It rests for what a piece took less than its share, whatever is done to the clock."""
    clock, slept = SetClock(), list[float]()
    segment = segment_of(kept, "/kept/big2")
    plain = 3 * BLOCK
    pace = Pace(plain, clock, slept.append)
    kept.vault.scrub.verify(segment, pace)
    assert slept == [1.0]
    slept.clear()
    times = iter((0, 400_000, 1, -5, 1, 9_000_000))
    pace = Pace(plain, lambda: next(times), slept.append)
    for _ in range(3):
        kept.vault.scrub.verify(segment, pace)
    assert slept == [0.6, 1.0]


def test_reading_stops_after_the_piece_that_it_is_at(world: World) -> None:
    """Not at the end of the segment."""
    world.write("/docs/large", sample(40 * BLOCK))
    segment = segment_of(world, "/docs/large")
    answers = iter((False, True))
    pace = Pace(None, world.clock, lambda _seconds: None, lambda: next(answers))
    with pytest.raises(StoppedError):
        world.vault.scrub.verify(segment, pace)
    assert list(answers) == []


# The SHA-256 of contents that were changed in place


def test_a_missing_hash_is_computed_and_sealed(kept: World) -> None:
    """The version changed in place has none at first; everything stays as right as it was."""
    with kept.catalog.snapshot() as tx:
        (row,) = (each for each in kept.vault.scrub.unhashed(tx, "kept", b"", 9))
        version, content = kept.vault.scrub.opened(tx, row)
    digest = digest_of(content, FAST)
    with kept.catalog.begin() as tx:
        assert kept.vault.scrub.note_hash(tx, "kept", version, digest)
    with kept.catalog.snapshot() as tx:
        assert kept.vault.scrub.unhashed(tx, "kept", b"", 9) == []
        shown = kept.vault.past.versions(tx, kept.node(tx, "/kept/big").row)[0]
    assert shown.sha256 == sha256(kept.read("/kept/big")).hexdigest() == digest.hex()
    assert judged(kept).findings == ()


def test_a_hash_of_what_changed_meanwhile_is_dropped(kept: World) -> None:
    """The row that was read is not the one that is there now."""
    with kept.catalog.snapshot() as tx:
        (row,) = kept.vault.scrub.unhashed(tx, "kept", b"", 9)
        version, _ = kept.vault.scrub.opened(tx, row)
    with kept.catalog.begin() as tx:
        assert kept.vault.scrub.note_hash(tx, "kept", version, bytes(32))
        assert not kept.vault.scrub.note_hash(tx, "kept", version, bytes(32))


# Blobs that no row names


def test_strays_are_counted_and_left_alone(kept: World) -> None:
    """They may be uploads in progress."""
    kept.store.keep(b"stray" + bytes(11), b"x")
    before = dump(kept)
    counts = list(kept.vault.scrub.strays(kept.catalog))
    assert counts == [(len(before["blobs"]), 1)]
    assert dump(kept) == before


def test_the_blob_of_a_segment_whose_row_was_dropped_is_never_collected(kept: World) -> None:
    """The content can still be saved: put the row back, and it opens."""
    tamper(kept, "DELETE FROM segments")
    before = dump(kept)["blobs"]
    kept.clock.now_us += 30 * DAY_US
    kept.collect()
    assert dump(kept)["blobs"] == before
