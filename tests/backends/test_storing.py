"""Segments are stored beside the upload: order, failures, and what is left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pytest

from backends.blobs import BlobWriter
from backends.blobs.memory import MemoryBlobStore
from backends.content import Content, StoredSegment
from backends.draft import DIRTY_LIMIT_BLOCKS, Draft
from backends.errors import StorageError, StorageUnavailableError
from backends.extents import ExtentMap
from backends.segment import SEGMENT_CHUNK_LIMIT
from backends.segment_writer import WAITING_LIMIT_RUNS
from tests.backends.world import BLOCK, Bench, sample

SEGMENT_BYTES = SEGMENT_CHUNK_LIMIT * BLOCK
PIECE_BYTES = 4 * BLOCK
PLAIN = sample(2 * SEGMENT_BYTES + 5)

Event = tuple[str, int]
"""What was called on which blob, counted from 0."""


class RecordingStore(MemoryBlobStore):
    """A store in memory that tells what happened in which order; ``before`` may fail or wait."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []
        self.open: set[int] = set()
        self.before: Callable[[Event], object] = len
        self._count = 0

    def create(self, blob_id: bytes) -> RecordingWriter:  # type: ignore[override]
        number, self._count = self._count, self._count + 1
        self.happen("create", number)
        self.open.add(number)
        return RecordingWriter(self, number, super().create(blob_id))

    def happen(self, name: str, number: int) -> None:
        """Note a call, then fail if that is wanted."""
        self.events.append((name, number))
        self.before((name, number))


class RecordingWriter:
    """Writes to memory and tells the store."""

    def __init__(self, store: RecordingStore, number: int, inner: BlobWriter) -> None:
        self._store = store
        self._number = number
        self._inner = inner

    def write(self, data: bytes | memoryview) -> None:
        self._store.happen("write", self._number)
        self._inner.write(data)

    def read_back(self, offset: int, size_bytes: int) -> bytes:
        return self._inner.read_back(offset, size_bytes)

    def finish(self) -> None:
        self._store.happen("finish", self._number)
        self._inner.finish()
        self._store.events.append(("durable", self._number))
        self._store.open.discard(self._number)

    def discard(self) -> None:
        self._store.open.discard(self._number)
        self._inner.discard()


@pytest.fixture
def store() -> RecordingStore:
    return RecordingStore()


@pytest.fixture
def draft(store: RecordingStore, bench: Bench) -> Iterator[Draft]:
    made = Draft(store, bench.key, None, executor=bench.executor, random_bytes=bench.random_bytes)
    yield made
    made.discard()


def write_all(draft: Draft, plain: bytes = PLAIN) -> None:
    view = memoryview(plain)
    for start in range(0, len(plain), PIECE_BYTES):
        draft.write_at(start, view[start : start + PIECE_BYTES])


def failing_at(event: Event, count: int = 1) -> Callable[[Event], object]:
    """Return what fails when ``event`` happens for the ``count``-th time, and then no more."""
    seen: list[Event] = []

    def before(each: Event) -> None:
        if each == event:
            seen.append(each)
            if len(seen) == count:
                raise StorageUnavailableError("the disk failed")

    return before


@pytest.mark.parametrize("count", [1, 2, 16])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_write_that_fails_in_the_background_fails_the_upload(
    store: RecordingStore, draft: Draft, number: int, count: int
) -> None:
    """At the next write or when sealing; the draft is over, and nothing of it is left."""
    count = 1 if number == 2 else count
    store.before = failing_at(("write", number), count)

    def upload() -> None:
        write_all(draft)
        draft.seal()

    with pytest.raises(StorageUnavailableError, match="the disk failed"):
        upload()
    with pytest.raises(StorageError):
        draft.seal()
    assert ("finish", number) not in store.events
    draft.discard()
    assert (store.open, list(store.listing())) == (set(), [])


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_failed_fsync_is_never_retried(store: RecordingStore, draft: Draft, number: int) -> None:
    """A blob that could not be made durable once is given up, however often one tries to seal."""
    store.before = failing_at(("finish", number))
    write_all(draft)
    for _ in range(2):
        with pytest.raises(StorageUnavailableError):
            draft.seal()
    assert store.events.count(("finish", number)) == 1
    draft.discard()
    assert store.events.count(("finish", number)) == 1
    assert (store.open, list(store.listing())) == (set(), [])


def test_an_error_while_cutting_ends_the_draft(store: RecordingStore, draft: Draft) -> None:
    """The block that had to make room in memory is lost, though the disk works again."""
    store.before = failing_at(("create", 0))
    for block in range(DIRTY_LIMIT_BLOCKS):
        draft.write_at(block * BLOCK, b"x")
    draft.truncate(100 * BLOCK)
    with pytest.raises(StorageUnavailableError, match="the disk failed"):
        draft.truncate(99 * BLOCK + 5)
    with pytest.raises(StorageUnavailableError, match="write it again"):
        draft.seal()


def test_an_error_while_sealing_ends_the_draft(store: RecordingStore, draft: Draft) -> None:
    """It is not sealed by trying again, though the disk works again."""
    store.before = failing_at(("create", 0))
    draft.write_at(0, bytes(BLOCK - 1))
    with pytest.raises(StorageUnavailableError, match="the disk failed"):
        draft.seal()
    with pytest.raises(StorageUnavailableError, match="write it again"):
        draft.seal()


def test_a_seal_returns_when_all_is_durable(store: RecordingStore, draft: Draft) -> None:
    """Each blob was written before it was made durable, and each was before the seal returned."""
    write_all(draft)
    sealed = draft.seal()
    events = list(store.events)
    assert sum(name == "durable" for name, _ in events) == 3
    for number in range(3):
        last_write = max(place for place, event in enumerate(events) if event == ("write", number))
        assert last_write < events.index(("finish", number)) < events.index(("durable", number))
    assert {row.id for row in sealed.new_segments} == {blob_id for blob_id, _ in store.listing()}


def test_the_next_segment_is_written_while_one_becomes_durable(
    store: RecordingStore, draft: Draft
) -> None:
    """A slow disk does not make the client wait for each segment."""
    next_begun = threading.Event()

    def before(event: Event) -> None:
        if event == ("write", 1):
            next_begun.set()
        if event == ("finish", 0):
            assert next_begun.wait(timeout=60)

    store.before = before
    write_all(draft)
    assert draft.seal().sha256 == sha256(PLAIN).digest()


def test_what_waits_to_be_stored_has_a_limit(store: RecordingStore, draft: Draft) -> None:
    """However large the file: the runs waiting, the one being stored, the one being filled."""
    write_all(draft)
    draft.seal()
    assert 0 < len(draft._lane._spare) <= WAITING_LIMIT_RUNS + 2


@pytest.mark.parametrize("pieces", [1, 5, 70, 129])
def test_nothing_happens_after_a_discard(
    store: RecordingStore, draft: Draft, bench: Bench, pieces: int
) -> None:
    """What was under way is waited for and deleted; what waited is dropped."""
    write_all(draft, PLAIN[: pieces * PIECE_BYTES])
    draft.discard()
    assert (store.open, list(store.listing())) == (set(), [])
    events = list(store.events)
    bench.executor.shutdown(wait=True)
    assert store.events == events


def test_uploads_make_progress_on_a_single_thread(store: RecordingStore, bench: Bench) -> None:
    """No work in the background waits for other work there."""
    with ThreadPoolExecutor(1) as executor:
        drafts = [
            Draft(store, bench.key, None, executor=executor, random_bytes=bench.random_bytes)
            for _ in range(3)
        ]
        for start in range(0, len(PLAIN), SEGMENT_BYTES // 2):
            for each in drafts:
                each.write_at(start, PLAIN[start : start + SEGMENT_BYTES // 2])
        assert {each.seal().sha256 for each in drafts} == {sha256(PLAIN).digest()}


def test_the_callers_memory_may_change_after_a_write(bench: Bench, draft: Draft) -> None:
    """The bytes at the time of the call are what is stored."""
    buffer = bytearray(PIECE_BYTES)
    expected = b""
    for number in range(10):
        buffer[:] = bytes([number]) * PIECE_BYTES
        expected += buffer
        draft.write_at(number * PIECE_BYTES, memoryview(buffer))
    buffer[:] = b"x" * PIECE_BYTES
    assert draft.read_at(0, len(expected)) == expected
    assert draft.seal().sha256 == sha256(expected).digest()


@pytest.mark.parametrize("size", [BLOCK + 1, 16 * BLOCK, 17 * BLOCK, SEGMENT_BYTES + 17 * BLOCK])
def test_what_is_on_its_way_can_be_read(
    store: RecordingStore, draft: Draft, bench: Bench, size: int
) -> None:
    """From memory, from a blob being written, from one becoming durable, and at last stored."""
    plain = PLAIN[:size]
    write_all(draft, plain)
    assert draft.read_at(0, size + 1) == plain
    assert draft.read_at(BLOCK - 1, 15 * BLOCK) == plain[BLOCK - 1 : 16 * BLOCK - 1]
    sealed = draft.seal()
    sources = {row.id: StoredSegment(store, row, bench.key) for row in sealed.new_segments}
    content = Content(sealed.size_bytes, ExtentMap(sealed.extents), sources)
    assert content.read_at(0, size + 1) == plain
