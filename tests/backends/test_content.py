"""Reading: what errors say, what never leaves, and what happens to blobs that go meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends.blobs import BlobStore
from backends.blobs.local import OPEN_LIMIT, LocalBlobStore
from backends.content import Content, StoredSegment, sealed_space
from backends.draft import Draft, SealedContent
from backends.errors import IntegrityError
from backends.extents import ExtentMap
from backends.segment import chunk_offset_sealed
from tests.backends.world import BLOCK, Bench, sample

BLOCKS = 40
PLAIN = sample(BLOCKS * BLOCK - 7)
LABEL = "share 1a2b node 3c4d"


def stored(store: BlobStore, bench: Bench, plain: bytes = PLAIN) -> SealedContent:
    draft = Draft(store, bench.key, None, executor=bench.executor, random_bytes=bench.random_bytes)
    draft.write_at(0, plain)
    return draft.seal()


def opened(store: BlobStore, bench: Bench, sealed: SealedContent, label: str = "") -> Content:
    sources = {row.id: StoredSegment(store, row, bench.key) for row in sealed.new_segments}
    return Content(sealed.size_bytes, ExtentMap(sealed.extents), sources, label=label)


def damage(bench: Bench, sealed: SealedContent, chunk: int) -> None:
    """Flip a bit of one chunk of the only segment."""
    (row,) = sealed.new_segments
    data = bytearray(bench.store.read(row.id, 0, row.size_sealed_bytes))
    data[chunk_offset_sealed(chunk) + 9] ^= 1
    bench.store.delete(row.id)
    bench.store.keep(row.id, bytes(data))


def test_a_damaged_chunk_spoils_only_itself(bench: Bench) -> None:
    """The blocks beside it are read as ever, before the error and after it."""
    sealed = stored(bench.store, bench)
    damage(bench, sealed, 20)
    content = opened(bench.store, bench, sealed)
    for _ in range(2):
        assert content.read_at(0, 20 * BLOCK) == PLAIN[: 20 * BLOCK]
        with pytest.raises(IntegrityError, match="Chunk 20 of segment"):
            content.read_at(20 * BLOCK - 1, 2)
        with pytest.raises(IntegrityError, match="Chunk 20 of segment"):
            content.read_at(0, len(PLAIN))
        assert content.read_at(21 * BLOCK, len(PLAIN)) == PLAIN[21 * BLOCK :]


def test_unverified_bytes_do_not_stay_in_memory(bench: Bench) -> None:
    """AES-GCM decrypts before it knows; what did not verify is gone when the error comes out."""
    sealed = stored(bench.store, bench)
    damage(bench, sealed, 3)
    (row,) = sealed.new_segments
    plain = bytearray(b"?" * 5 * BLOCK)
    with pytest.raises(IntegrityError):
        StoredSegment(bench.store, row, bench.key).read_into(
            0, 5, memoryview(plain), sealed_space(5)
        )
    assert plain == bytes(5 * BLOCK)


@pytest.mark.parametrize("label", ["", LABEL])
def test_an_integrity_error_names_the_content_and_the_segment(bench: Bench, label: str) -> None:
    """A bad tag, a blob of another size, one that is gone, and one with another's header."""
    sealed = stored(bench.store, bench)
    (row,) = sealed.new_segments
    data = bench.store.read(row.id, 0, row.size_sealed_bytes)
    expected = f"^{label}: .*{row.id.hex()}" if label else f"^[CS].*{row.id.hex()}"

    def refused() -> None:
        with pytest.raises(IntegrityError, match=expected):
            opened(bench.store, bench, sealed, label).read_at(0, 10)

    damage(bench, sealed, 0)
    refused()
    bench.store.delete(row.id)
    refused()
    bench.store.keep(row.id, data + b"\0")
    refused()
    for place in (0, 36, 60):
        bench.store.delete(row.id)
        bench.store.keep(row.id, data[:place] + b"?" + data[place + 1 :])
        refused()
    with pytest.raises(IntegrityError, match=row.id.hex()):
        StoredSegment(bench.store, row._replace(size_sealed_bytes=1), bench.key)


def test_a_blob_cut_after_it_was_opened_is_noticed(bench: Bench) -> None:
    """Its size is compared once, its bytes at every read."""
    sealed = stored(bench.store, bench)
    (row,) = sealed.new_segments
    content = opened(bench.store, bench, sealed)
    assert content.read_at(0, 10) == PLAIN[:10]
    data = bench.store.read(row.id, 0, row.size_sealed_bytes)
    bench.store.delete(row.id)
    bench.store.keep(row.id, data[: chunk_offset_sealed(2) - 1])
    assert content.read_at(0, 10) == PLAIN[:10]
    with pytest.raises(IntegrityError, match="cut short"):
        content.read_at(BLOCK, 10)


def test_reading_goes_on_after_another_process_deleted_the_blob(
    tmp_path: Path, bench: Bench
) -> None:
    """A segment that is being read may be collected meanwhile; whoever opens it later is told."""
    store = LocalBlobStore.prepare(tmp_path)
    sealed = stored(store, bench)
    content = opened(store, bench, sealed)
    assert content.read_at(0, 10) == PLAIN[:10]
    LocalBlobStore(tmp_path).delete(sealed.new_segments[0].id)
    assert content.read_at(0, len(PLAIN)) == PLAIN
    with pytest.raises(IntegrityError, match="missing"):
        opened(LocalBlobStore(tmp_path), bench, sealed).read_at(0, 10)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_blobs_kept_open_have_a_limit_and_are_closed_with_the_store(
    tmp_path: Path, bench: Bench
) -> None:
    """However many are read; deleting one closes it."""
    before = open_descriptors()
    store = LocalBlobStore.prepare(tmp_path)
    made = [stored(store, bench, sample(BLOCK)) for _ in range(OPEN_LIMIT + 10)]
    for sealed in made:
        assert opened(store, bench, sealed).read_at(5, 10) == sample(BLOCK)[5:15]
    assert open_descriptors() == before + OPEN_LIMIT
    for sealed in made:
        store.delete(sealed.new_segments[0].id)
    assert open_descriptors() == before
    again = stored(store, bench)
    assert opened(store, bench, again).read_at(0, 10) == PLAIN[:10]
    del store
    assert open_descriptors() == before
