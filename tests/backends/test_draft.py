"""Drafts and contents against a plain bytearray, and what a draft may leave behind."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from backends import draft as draft_module
from backends.catalog.versions import SegmentRow
from backends.content import Content, StoredSegment
from backends.draft import INLINE_LIMIT_BYTES, Draft, SealedContent
from backends.errors import IntegrityError, LimitError
from backends.extents import ExtentMap
from backends.segment import HEADER_SIZE_BYTES, unseal_whole
from tests.backends.world import BLOCK, Bench, running_bench, sample

SPAN_BLOCKS = 24
OFFSETS = st.one_of(
    st.integers(0, 100),
    st.builds(
        lambda block, delta: max(0, block * BLOCK + delta),
        st.integers(0, SPAN_BLOCKS),
        st.integers(-3, 3),
    ),
    st.integers(0, SPAN_BLOCKS * BLOCK),
)
SIZES = st.one_of(
    st.integers(0, 40),
    st.sampled_from([BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 7, INLINE_LIMIT_BYTES]),
    st.integers(0, 3 * BLOCK),
)
PATTERN = sample(5 * BLOCK)


def opened(bench: Bench, sealed: SealedContent, rows: dict[bytes, SegmentRow]) -> Content:
    """Return the content of what a draft left, read as the vault reads it."""
    if sealed.inline_sealed is not None:
        header = sealed.inline_sealed[:HEADER_SIZE_BYTES]
        cipher = bench.key.open_segment(sealed.version_id, header)
        return Content.of_bytes(unseal_whole(cipher, sealed.inline_sealed))
    extents = ExtentMap(sealed.extents)
    used = extents.segment_ids()
    sources = {key: StoredSegment(bench.store, rows[key], bench.key) for key in used}
    return Content(sealed.size_bytes, extents, sources)


def new_draft(bench: Bench, base: Content | None = None) -> Draft:
    return Draft(
        bench.store, bench.key, base, executor=bench.executor, random_bytes=bench.random_bytes
    )


def sealed_rows(sealed: SealedContent) -> dict[bytes, SegmentRow]:
    return {row.id: row for row in sealed.new_segments}


class DraftMachine(RuleBasedStateMachine):
    """A draft and a bytearray get the same writes and cuts; they must stay alike.

    Segments of 4 chunks and 3 dirty blocks, so that small files cross every limit.
    """

    def __init__(self) -> None:
        super().__init__()
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(draft_module, "SEGMENT_CHUNK_LIMIT", 4)
        self._patch.setattr(draft_module, "DIRTY_LIMIT_BLOCKS", 3)
        self._running = running_bench()
        self.bench = self._running.__enter__()
        self.rows: dict[bytes, SegmentRow] = {}
        self.base: tuple[Content, bytes] | None = None
        self.model = bytearray()
        self.draft = new_draft(self.bench)

    def teardown(self) -> None:
        self._running.__exit__(None, None, None)
        self._patch.undo()

    @rule(offset=OFFSETS, size=SIZES, start=st.integers(0, BLOCK))
    def write(self, offset: int, size: int, start: int) -> None:
        self._write(offset, PATTERN[start : start + size])

    @rule(size=SIZES, start=st.integers(0, BLOCK))
    def append(self, size: int, start: int) -> None:
        self._write(len(self.model), PATTERN[start : start + size])

    def _write(self, offset: int, data: bytes) -> None:
        self.draft.write_at(offset, data)
        if data:
            if offset > len(self.model):
                self.model.extend(bytes(offset - len(self.model)))
            self.model[offset : offset + len(data)] = data

    @rule(size=OFFSETS)
    def truncate(self, size: int) -> None:
        self.draft.truncate(size)
        del self.model[size:]
        self.model.extend(bytes(size - len(self.model)))

    @rule(offset=OFFSETS, size=SIZES)
    def read(self, offset: int, size: int) -> None:
        assert self.draft.read_at(offset, size) == self.model[offset : offset + size]

    @rule(offset=OFFSETS, size=SIZES)
    @precondition(lambda self: self.base is not None)
    def read_base(self, offset: int, size: int) -> None:
        assert self.base is not None
        content, plain = self.base
        assert content.read_at(offset, size) == plain[offset : offset + size]

    @rule()
    def seal_and_reopen(self) -> None:
        sealed = self.draft.seal()
        plain = bytes(self.model)
        assert sealed.size_bytes == len(plain)
        assert (sealed.inline_sealed is not None) == (len(plain) <= INLINE_LIMIT_BYTES)
        assert sealed.sha256 in {None, sha256(plain).digest()}
        self.rows |= sealed_rows(sealed)
        content = opened(self.bench, sealed, self.rows)
        assert content.read_at(0, len(plain) + 1) == plain
        assert {blob_id for blob_id, _ in self.bench.store.listing()} == self.rows.keys()
        self.base = (content, plain)
        self.draft = new_draft(self.bench, content)

    @rule()
    def discard_and_start_again(self) -> None:
        self.draft.discard()
        self.draft.discard()
        assert {blob_id for blob_id, _ in self.bench.store.listing()} == self.rows.keys()
        content, plain = self.base or (None, b"")
        self.model = bytearray(plain)
        self.draft = new_draft(self.bench, content)

    @invariant()
    def sizes_agree_and_memory_is_bounded(self) -> None:
        assert self.draft.size_bytes == len(self.model)
        assert len(self.draft._dirty) <= 3


TestDraftMachine = DraftMachine.TestCase
TestDraftMachine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


@pytest.mark.parametrize("size", [0, 1, INLINE_LIMIT_BYTES, INLINE_LIMIT_BYTES + 1, BLOCK, 300_000])
@pytest.mark.parametrize("step", [1 << 20, 32_768, 261_120])
def test_a_sequential_upload_knows_its_hash(bench: Bench, size: int, step: int) -> None:
    """Whatever the size of the pieces, the SHA-256 of content written in order is known."""
    plain = sample(size)
    draft = new_draft(bench)
    for start in range(0, size, step):
        draft.write_at(start, plain[start : start + step])
    sealed = draft.seal()
    assert sealed.sha256 == sha256(plain).digest()
    content = opened(bench, sealed, sealed_rows(sealed))
    assert content.read_at(0, size) == plain


def test_a_file_of_more_than_one_segment_is_read_across_their_border(bench: Bench) -> None:
    """16 MiB and a byte lie in two segments, with the sizes that FORMAT.md works out."""
    plain = sample(16 * 1024 * 1024 + 1)
    draft = new_draft(bench)
    draft.write_at(0, plain)
    sealed = draft.seal()
    assert [row.size_sealed_bytes for row in sealed.new_segments] == [16_781_440, 145]
    assert [extent.block_count for extent in sealed.extents] == [256, 1]
    content = opened(bench, sealed, sealed_rows(sealed))
    assert content.read_at(len(plain) - 70_000, 1 << 20) == plain[-70_000:]


def test_changing_one_byte_seals_one_block(bench: Bench) -> None:
    """An in-place change costs what it changes, and the base stays as it was."""
    plain = sample(20 * BLOCK)
    draft = new_draft(bench)
    draft.write_at(0, plain)
    first = draft.seal()
    rows = sealed_rows(first)
    base = opened(bench, first, rows)
    change = new_draft(bench, base)
    change.write_at(7 * BLOCK + 5, b"!")
    second = change.seal()
    assert second.sha256 is None
    assert [row.size_sealed_bytes for row in second.new_segments] == [65_680]
    changed = opened(bench, second, rows | sealed_rows(second))
    assert (
        changed.read_at(7 * BLOCK + 4, 3)
        == plain[7 * BLOCK + 4 :][:1] + b"!" + plain[7 * BLOCK + 6 : 7 * BLOCK + 7]
    )
    assert base.read_at(0, len(plain)) == plain


def test_a_hole_costs_nothing_and_reads_as_zeros(bench: Bench) -> None:
    """A byte at the far end of a sparse file is one chunk on disk."""
    draft = new_draft(bench)
    draft.write_at((1 << 46) - 1, b"x")
    sealed = draft.seal()
    assert sealed.size_bytes == 1 << 46
    assert [row.size_sealed_bytes for row in sealed.new_segments] == [65_680]
    content = opened(bench, sealed, sealed_rows(sealed))
    assert content.read_at(1 << 40, 10) == bytes(10)
    assert content.read_at((1 << 46) - 2, 10) == b"\0x"


@pytest.mark.parametrize("offset", [1 << 46, (1 << 63) - 1, (1 << 64) - 1])
def test_an_offset_beyond_the_largest_file_is_refused(bench: Bench, offset: int) -> None:
    """Refused at once, with nothing changed; the draft goes on."""
    draft = new_draft(bench)
    draft.write_at(0, b"kept")
    with pytest.raises(LimitError):
        draft.write_at(offset, b"x")
    with pytest.raises(LimitError):
        draft.truncate(offset + 1)
    assert draft.size_bytes == 4
    assert draft.seal().sha256 == sha256(b"kept").digest()


def test_scattered_small_writes_stay_within_the_memory_limit(bench: Bench) -> None:
    """One byte in each of 200 blocks holds at most 64 blocks, and none is lost."""
    draft = new_draft(bench)
    for block in range(199, -1, -1):
        draft.write_at(block * BLOCK, bytes([block]))
        assert len(draft._dirty) <= draft_module.DIRTY_LIMIT_BLOCKS
    assert bytes(draft.read_at(block * BLOCK, 1)[0] for block in range(200)) == bytes(range(200))


def test_cutting_and_growing_stays_within_the_memory_limit(bench: Bench) -> None:
    """Truncates alone, each within another block, do not fill the memory."""
    draft = new_draft(bench)
    for block in range(100):
        draft.truncate(1000 * BLOCK)
        draft.truncate(block * BLOCK + 1)
        assert len(draft._dirty) <= draft_module.DIRTY_LIMIT_BLOCKS


def test_bytes_beyond_a_cut_never_come_back(bench: Bench) -> None:
    """Cut, then grown: zeros, also when the cut block had been sealed before."""
    plain = sample(3 * BLOCK)
    draft = new_draft(bench)
    draft.write_at(0, plain)
    draft.truncate(BLOCK + 10)
    draft.truncate(3 * BLOCK)
    expected = plain[: BLOCK + 10].ljust(3 * BLOCK, b"\0")
    assert draft.read_at(0, 3 * BLOCK) == expected
    sealed = draft.seal()
    content = opened(bench, sealed, sealed_rows(sealed))
    assert content.read_at(0, 3 * BLOCK) == expected


def test_segments_that_nothing_needs_are_deleted_when_sealing(bench: Bench) -> None:
    """What was overwritten completely leaves no segment behind."""
    draft = new_draft(bench)
    draft.write_at(0, sample(256 * BLOCK, "first"))
    draft.write_at(0, sample(256 * BLOCK, "second"))
    sealed = draft.seal()
    assert len(sealed.new_segments) == 1
    assert [blob_id for blob_id, _ in bench.store.listing()] == [sealed.new_segments[0].id]


def test_a_file_cut_to_inline_size_leaves_no_segment(bench: Bench) -> None:
    """A large draft that ends small is inline alone."""
    draft = new_draft(bench)
    draft.write_at(0, sample(256 * BLOCK))
    draft.truncate(100)
    sealed = draft.seal()
    assert (sealed.new_segments, sealed.extents) == ((), ())
    assert sealed.sha256 == sha256(sample(256 * BLOCK)[:100]).digest()
    assert list(bench.store.listing()) == []


def test_every_segment_gets_its_own_id_and_salt(bench: Bench) -> None:
    """Two uploads of the same bytes share nothing on disk."""
    blobs = []
    for _ in range(2):
        draft = new_draft(bench)
        draft.write_at(0, sample(BLOCK))
        (row,) = draft.seal().new_segments
        blobs.append(bench.store.read(row.id, 0, row.size_sealed_bytes))
    assert blobs[0][36:128] != blobs[1][36:128]
    assert blobs[0][128:] != blobs[1][128:]


def damaged(bench: Bench, blob_id: bytes, data: bytes) -> None:
    bench.store.delete(blob_id)
    bench.store.keep(blob_id, data)


@pytest.mark.parametrize("how", ["bit", "short", "long", "gone", "other"])
def test_a_damaged_blob_is_noticed_when_read(bench: Bench, how: str) -> None:
    """A flipped bit, a cut, an extension, a loss and a swap end in IntegrityError."""
    draft, another = new_draft(bench), new_draft(bench)
    draft.write_at(0, sample(3 * BLOCK))
    another.write_at(0, sample(3 * BLOCK, "other"))
    sealed, other = draft.seal(), another.seal()
    (row,), (other_row,) = sealed.new_segments, other.new_segments
    data = bench.store.read(row.id, 0, row.size_sealed_bytes)
    match how:
        case "bit":
            damaged(bench, row.id, data[:-1] + bytes([data[-1] ^ 1]))
        case "short":
            damaged(bench, row.id, data[:-1])
        case "long":
            damaged(bench, row.id, data + b"\0")
        case "gone":
            bench.store.delete(row.id)
        case "other":
            damaged(bench, row.id, bench.store.read(other_row.id, 0, len(data)))
    content = opened(bench, sealed, sealed_rows(sealed))
    with pytest.raises(IntegrityError):
        content.read_at(0, 3 * BLOCK)


def test_one_content_serves_many_threads(bench: Bench) -> None:
    """Readers of one content do not disturb each other."""
    plain = sample(40 * BLOCK)
    draft = new_draft(bench)
    draft.write_at(0, plain)
    sealed = draft.seal()
    content = opened(bench, sealed, sealed_rows(sealed))

    def read(seed: int) -> bool:
        places = [(seed * 7919 + step * 104_729) % len(plain) for step in range(40)]
        return all(content.read_at(at, 3000) == plain[at : at + 3000] for at in places)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(16)))


def test_writing_a_block_again_and_again_does_not_fill_the_disk(bench: Bench) -> None:
    """What was overwritten goes while the upload runs, not only at its end."""
    draft = new_draft(bench)
    data = sample(BLOCK)
    for _ in range(12 * 256):
        draft.write_at(0, data)
    stored = sum(bench.store.size(blob_id) for blob_id, _ in bench.store.listing())
    assert stored <= 6 * 16_781_440
    assert draft.seal().size_bytes == BLOCK
    assert len(list(bench.store.listing())) == 1


def test_the_hash_is_not_that_of_bytes_cut_meanwhile(bench: Bench) -> None:
    """Written in order, cut, and grown to the same size: the zeros count."""
    draft = new_draft(bench)
    draft.write_at(0, sample(100_000))
    draft.truncate(50_000)
    draft.truncate(100_000)
    expected = sha256(sample(100_000)[:50_000].ljust(100_000, b"\0")).digest()
    assert draft.seal().sha256 in {None, expected}


def test_the_hash_is_not_that_of_bytes_written_over(bench: Bench) -> None:
    """Written in order, then changed in the middle."""
    draft = new_draft(bench)
    draft.write_at(0, sample(100_000))
    draft.write_at(99_999, b"x")
    expected = sha256(sample(100_000)[:99_999] + b"x").digest()
    assert draft.seal().sha256 in {None, expected}


def test_a_block_that_was_just_read_is_read_anew_after_a_change(bench: Bench) -> None:
    """What a reader is told is never what was there before."""
    draft = new_draft(bench)
    draft.write_at(0, sample(3 * BLOCK))
    assert draft.read_at(BLOCK, 10) == sample(3 * BLOCK)[BLOCK : BLOCK + 10]
    draft.write_at(BLOCK, b"n" * BLOCK)
    assert draft.read_at(BLOCK + 20, 10) == b"n" * 10


def test_a_last_block_that_was_just_read_is_longer_after_growing(bench: Bench) -> None:
    """A file grown within its last block reads to its new end."""
    first = new_draft(bench)
    first.write_at(0, sample(BLOCK + 100))
    sealed = first.seal()
    draft = new_draft(bench, opened(bench, sealed, sealed_rows(sealed)))
    assert draft.read_at(BLOCK, 10) == sample(BLOCK + 100)[BLOCK : BLOCK + 10]
    draft.truncate(BLOCK + 300)
    assert draft.read_at(BLOCK + 90, 999) == sample(BLOCK + 100)[-10:] + bytes(200)
