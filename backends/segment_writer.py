"""One segment being written: chunks in, run by run, sealed and durable bytes out.

Runs are sealed and written beside the caller, who receives the next bytes meanwhile. Knows
nothing of files: which chunk is which block is the draft's. Imports the blob stores' contract,
keys and segments.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Executor, Future
from functools import partial

from backends.blobs import BlobStore, BlobWriter
from backends.catalog.versions import SegmentRow
from backends.content import RUN_LIMIT_CHUNKS, RUN_SIZE_BYTES, StoredSegment, sealed_space
from backends.errors import StorageError
from backends.keyring import RandomBytes
from backends.segment import (
    CHUNK_SIZE_BYTES,
    HEADER_SIZE_BYTES,
    ID_SIZE_BYTES,
    SEALED_CHUNK_SIZE_BYTES,
    chunk_offset_sealed,
)
from backends.share import EpochKey
from backends.strand import Strand

WAITING_LIMIT_RUNS = 2
"""How many full runs of an upload may wait to be sealed and written: 2 MiB."""


class Run:
    """The plaintext of up to 16 chunks; its memory is used again and again."""

    __slots__ = ("plain", "size_bytes")

    def __init__(self) -> None:
        self.plain = memoryview(bytearray(RUN_SIZE_BYTES))
        self.size_bytes = 0

    @property
    def room_bytes(self) -> int:
        """How many more bytes fit."""
        return RUN_SIZE_BYTES - self.size_bytes

    def put(self, plain: memoryview) -> None:
        """Append ``plain``, which must fit."""
        end = self.size_bytes + len(plain)
        self.plain[self.size_bytes : end] = plain
        self.size_bytes = end


class Lane:
    """What the segments of one upload share: memory, and the order in which they are stored."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.strand = Strand(executor, WAITING_LIMIT_RUNS)
        self._sealed: memoryview | None = None
        self._spare: deque[Run] = deque()

    @property
    def sealed(self) -> memoryview:
        """Room for the run that is being sealed; the strand's work only."""
        # Most files are small, and those never need it.
        if self._sealed is None:
            self._sealed = sealed_space(RUN_LIMIT_CHUNKS)
        return self._sealed

    def new_run(self) -> Run:
        """Return an empty run."""
        return self._spare.pop() if self._spare else Run()

    def release(self, run: Run) -> None:
        """Take back a run that was stored."""
        run.size_bytes = 0
        self._spare.append(run)


class SegmentWriter:
    """A segment that fills, then waits to be durable; what was put can be read all the time.

    The last run waits in memory: its last chunk may be the segment's final one. Errors of the
    work in the background come out of whatever is called next.
    """

    def __init__(
        self, store: BlobStore, key: EpochKey, lane: Lane, random_bytes: RandomBytes
    ) -> None:
        self.id = random_bytes(ID_SIZE_BYTES)
        self.chunk_count = 0
        self._store = store
        self._key = key
        self._lane = lane
        self._cipher = key.new_segment(self.id, random_bytes)
        self._run: Run | None = lane.new_run()
        self._run_start = 0
        self._size_sealed_bytes = 0
        self._durable: Future[None] | None = None
        self._writer: BlobWriter = store.create(self.id)

    def put(self, plain: memoryview) -> None:
        """Append ``plain`` as chunks, of which only the segment's last may be short."""
        assert self._run is not None
        while plain:
            if not self._run.room_bytes:
                self._pass_on(self._run, ends_segment=False)
                self._run = self._lane.new_run()
                self._run_start += RUN_LIMIT_CHUNKS
            piece = plain[: self._run.room_bytes]
            self._run.put(piece)
            self.chunk_count += -(-len(piece) // CHUNK_SIZE_BYTES)
            plain = plain[len(piece) :]

    def finish(self) -> None:
        """Begin to make the segment durable; ``row`` waits for that."""
        assert self._run is not None
        run, self._run = self._run, None
        self._pass_on(run, ends_segment=True)
        self._lane.strand.add(self._begin_finishing)

    @property
    def is_durable(self) -> bool:
        """Whether ``row`` need not wait."""
        return self._durable is not None and self._durable.done()

    def row(self) -> SegmentRow:
        """Return what the catalog must record, once the segment is durable."""
        if self._durable is None:
            self._lane.strand.settle()
        assert self._durable is not None
        self._durable.result()
        return SegmentRow(self.id, self._key.share_id, self._key.epoch, self._size_sealed_bytes)

    def read_into(self, start: int, count: int, plain: memoryview, sealed: memoryview) -> int:
        """Read back as ``ChunkSource.read_into`` does."""
        if self._run is None:
            stored = StoredSegment(self._store, self.row(), self._key)
            return stored.read_into(start, count, plain, sealed)
        put = 0
        written = min(count, max(0, self._run_start - start))
        if written:
            self._lane.strand.settle()
            size = written * SEALED_CHUNK_SIZE_BYTES
            sealed[:size] = self._writer.read_back(chunk_offset_sealed(start), size)
            put = self._cipher.unseal_run(start, sealed[:size], plain, ends_segment=False)
        begin = (start + written - self._run_start) * CHUNK_SIZE_BYTES
        end = min(self._run.size_bytes, begin + (count - written) * CHUNK_SIZE_BYTES)
        if begin < end:
            plain[put : put + end - begin] = self._run.plain[begin:end]
            put += end - begin
        return put

    def discard(self) -> None:
        """Drop the segment; call it when the lane's strand was stopped."""
        if self._durable is not None and self._durable.exception() is None:
            self._store.delete(self.id)
        else:
            self._writer.discard()

    def _pass_on(self, run: Run, *, ends_segment: bool) -> None:
        self._lane.strand.add(
            partial(self._store_run, run, self._run_start, ends_segment=ends_segment)
        )

    def _store_run(self, run: Run, start: int, *, ends_segment: bool) -> None:
        sealed = self._lane.sealed
        put = 0
        if start == 0:
            put = HEADER_SIZE_BYTES
            sealed[:put] = self._cipher.header.pack()
        plain = run.plain[: run.size_bytes]
        put += self._cipher.seal_run(start, plain, sealed[put:], ends_segment=ends_segment)
        self._writer.write(sealed[:put])
        self._size_sealed_bytes += put
        self._lane.release(run)

    def _begin_finishing(self) -> None:
        self._durable = self._lane.executor.submit(self._finish)

    def _finish(self) -> None:
        try:
            self._writer.finish()
        except StorageError:
            self._writer.discard()
            raise
