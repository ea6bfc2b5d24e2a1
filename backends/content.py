"""Reading the content of one version: from extents over segments to verified plaintext.

No names, no rights, no transactions: everything that it needs was read when it was opened.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from backends.blobs import BlobStore
from backends.catalog.versions import SegmentRow
from backends.errors import IntegrityError
from backends.extents import ExtentMap
from backends.segment import (
    CHUNK_SIZE_BYTES,
    HEADER_SIZE_BYTES,
    SEALED_CHUNK_SIZE_BYTES,
    SegmentCipher,
    SegmentShape,
    chunk_offset_sealed,
)
from backends.share import EpochKey

RUN_LIMIT_CHUNKS = 16
"""The most chunks that are read and opened, or sealed and written, at once: 1 MiB."""

RUN_SIZE_BYTES = RUN_LIMIT_CHUNKS * CHUNK_SIZE_BYTES

SPARE_LIMIT_RUNS = 2
"""How many runs of memory a content keeps for the next read."""


def sealed_space(count: int) -> memoryview:
    """Return memory for a segment's header and ``count`` sealed chunks."""
    return memoryview(bytearray(HEADER_SIZE_BYTES + count * SEALED_CHUNK_SIZE_BYTES))


class ChunkSource(Protocol):
    """Something that holds chunks of one segment."""

    def read_into(self, start: int, count: int, plain: memoryview, sealed: memoryview) -> int:
        """Put the verified plaintext of ``count`` chunks from ``start`` on into ``plain``.

        Returns its size: full chunks but for the segment's last. ``sealed`` is room to work in.
        At most RUN_LIMIT_CHUNKS; ``plain`` holds no unverified byte even after an error.
        """


class StoredSegment:
    """A finished segment in a blob store; its header is read and checked on first use."""

    __slots__ = ("_cipher", "_key", "_row", "_shape", "_store")

    def __init__(self, store: BlobStore, row: SegmentRow, key: EpochKey) -> None:
        self._store = store
        self._row = row
        self._key = key
        with _named(row.id):
            self._shape = SegmentShape.of(row.size_sealed_bytes)
        self._cipher: SegmentCipher | None = None

    def read_into(self, start: int, count: int, plain: memoryview, sealed: memoryview) -> int:
        """Read as ``ChunkSource`` says; IntegrityError when anything is off."""
        cipher = self._cipher or self._opened()
        end = start + count
        if end > self._shape.chunk_count:
            raise IntegrityError(f"Segment {self._row.id.hex()} has no chunk {end - 1}.")
        offset = chunk_offset_sealed(start)
        wanted = min(chunk_offset_sealed(end), self._row.size_sealed_bytes) - offset
        found = self._store.read_into(self._row.id, offset, sealed[:wanted])
        if found != wanted:
            raise IntegrityError(f"Segment {self._row.id.hex()} is cut short.")
        ends_segment = end == self._shape.chunk_count
        return cipher.unseal_run(start, sealed[:wanted], plain, ends_segment=ends_segment)

    def _opened(self) -> SegmentCipher:
        actual = self._store.size(self._row.id)
        if actual != self._row.size_sealed_bytes:
            raise IntegrityError(
                f"Segment {self._row.id.hex()} has {actual} bytes instead of "
                f"{self._row.size_sealed_bytes}: it was cut or extended."
            )
        header = self._store.read(self._row.id, 0, HEADER_SIZE_BYTES)
        with _named(self._row.id):
            self._cipher = self._key.open_segment(self._row.id, header)
        return self._cipher


@contextmanager
def _named(segment_id: bytes) -> Iterator[None]:
    """Say of which segment a header or a size is wrong."""
    try:
        yield
    except IntegrityError as error:
        raise IntegrityError(f"Segment {segment_id.hex()}: {error}") from error


class Content:
    """The plaintext of one version. Thread-safe; keeps a little memory for the next read."""

    def __init__(
        self,
        size_bytes: int,
        extents: ExtentMap,
        sources: Mapping[bytes, ChunkSource],
        *,
        label: str = "",
        sha256: str = "",
    ) -> None:
        """``label`` names the content in errors; ``sha256`` is its digest in hex, if known."""
        self.size_bytes = size_bytes
        self.extents = extents
        self.sources = sources
        self.sha256 = sha256
        self.inline = False
        self._plain = b""
        self._label = label
        self._spare: deque[tuple[memoryview, memoryview]] = deque(maxlen=SPARE_LIMIT_RUNS)

    @classmethod
    def of_bytes(cls, plain: bytes, *, sha256: str = "") -> Content:
        """Return content that lies in memory and is already verified."""
        content = cls(len(plain), ExtentMap(), {}, sha256=sha256)
        content.inline = True
        content._plain = plain
        return content

    def read_at(self, offset: int, size_bytes: int) -> bytes:
        """Return up to ``size_bytes`` from ``offset``; short only at the end of the content.

        Raises IntegrityError, which names the content and the segment, when a byte that was asked
        for cannot be verified; StorageUnavailableError.
        """
        try:
            return self._read(offset, min(offset + size_bytes, self.size_bytes))
        except IntegrityError as error:
            if not self._label:
                raise
            raise IntegrityError(f"{self._label}: {error}") from error

    def _read(self, offset: int, end: int) -> bytes:
        if self.inline or offset >= end:
            return self._plain[offset:end]
        parts = []
        while offset < end:
            parts.append(self._part(offset, end))
            offset += len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _part(self, offset: int, end: int) -> bytes:
        """Return some plaintext from ``offset`` on, at least one byte, none after ``end``."""
        block, within = divmod(offset, CHUNK_SIZE_BYTES)
        count = min(RUN_LIMIT_CHUNKS, -(-end // CHUNK_SIZE_BYTES) - block)
        size = min(count * CHUNK_SIZE_BYTES - within, end - offset)
        plain, sealed = self._room(count)
        self._fill(plain[: count * CHUNK_SIZE_BYTES], sealed, block)
        part = bytes(plain[within : within + size])
        self._spare.append((plain, sealed))
        return part

    def _room(self, count: int) -> tuple[memoryview, memoryview]:
        """Return memory for ``count`` chunks as they are in the file, and for them sealed."""
        try:
            plain, sealed = self._spare.pop()
        except IndexError:
            plain = sealed = memoryview(b"")
        if len(plain) < count * CHUNK_SIZE_BYTES:
            return memoryview(bytearray(count * CHUNK_SIZE_BYTES)), sealed_space(count)
        return plain, sealed

    def _fill(self, plain: memoryview, sealed: memoryview, block: int) -> None:
        """Fill ``plain`` with whole blocks from ``block`` on; what is stored nowhere is zeros."""
        while plain:
            size, wanted = 0, CHUNK_SIZE_BYTES
            extent = self.extents.find(block)
            if extent is not None:
                count = min(extent.block_end - block, len(plain) // CHUNK_SIZE_BYTES)
                start = extent.chunk_start + block - extent.block_start
                size = self.sources[extent.segment_id].read_into(start, count, plain, sealed)
                wanted = count * CHUNK_SIZE_BYTES
            if size < wanted:
                plain[size:wanted] = bytes(wanted - size)
            plain = plain[wanted:]
            block += wanted // CHUNK_SIZE_BYTES
