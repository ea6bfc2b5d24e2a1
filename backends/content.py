"""Reading the content of one version: from extents over segments to verified plaintext.

No names, no rights, no transactions: everything that it needs was read when it was opened.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
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
"""The most chunks fetched from a blob at once: 1 MiB."""


class ChunkSource(Protocol):
    """Something that holds chunks of one segment."""

    def read_chunks(self, start: int, count: int) -> list[bytes]:
        """Return the plaintext of ``count`` chunks from chunk ``start`` on, each verified."""


class StoredSegment:
    """A finished segment in a blob store; its header is read and checked on first use."""

    __slots__ = ("_cipher", "_key", "_row", "_shape", "_store")

    def __init__(self, store: BlobStore, row: SegmentRow, key: EpochKey) -> None:
        self._store = store
        self._row = row
        self._key = key
        self._shape = SegmentShape.of(row.size_sealed_bytes)
        self._cipher: SegmentCipher | None = None

    def read_chunks(self, start: int, count: int) -> list[bytes]:
        """Return the plaintext of ``count`` chunks; IntegrityError when anything is off."""
        cipher = self._cipher or self._opened()
        if start + count > self._shape.chunk_count:
            raise IntegrityError(f"Segment {self._row.id.hex()} has no chunk {start + count - 1}.")
        wanted = sum(self._shape.sealed_bytes(index) for index in range(start, start + count))
        sealed = memoryview(self._store.read(self._row.id, chunk_offset_sealed(start), wanted))
        if len(sealed) != wanted:
            raise IntegrityError(f"Segment {self._row.id.hex()} is cut short.")
        plain = []
        for index in range(start, start + count):
            offset = (index - start) * SEALED_CHUNK_SIZE_BYTES
            chunk = sealed[offset : offset + self._shape.sealed_bytes(index)]
            plain.append(cipher.unseal(index, chunk, final=self._shape.is_final(index)))
        return plain

    def _opened(self) -> SegmentCipher:
        actual = self._store.size(self._row.id)
        if actual != self._row.size_sealed_bytes:
            raise IntegrityError(
                f"Segment {self._row.id.hex()} has {actual} bytes instead of "
                f"{self._row.size_sealed_bytes}: it was cut or extended."
            )
        header = self._store.read(self._row.id, 0, HEADER_SIZE_BYTES)
        self._cipher = self._key.open_segment(self._row.id, header)
        return self._cipher


class Content:
    """The plaintext of one version. Thread-safe; holds at most one run of chunks in memory."""

    def __init__(
        self, size_bytes: int, extents: ExtentMap, sources: Mapping[bytes, ChunkSource]
    ) -> None:
        self.size_bytes = size_bytes
        self.extents = extents
        self.sources = sources
        self.inline = False
        self._recent: tuple[int, bytes] = (-1, b"")
        self._lock = threading.Lock()

    @classmethod
    def of_bytes(cls, plain: bytes) -> Content:
        """Return content that was kept inline and is already verified."""
        content = cls(len(plain), ExtentMap(), {})
        content.inline = True
        content._recent = (0, plain)
        return content

    def read_at(self, offset: int, size_bytes: int) -> bytes:
        """Return up to ``size_bytes`` from ``offset``; short only at the end of the content."""
        end = min(offset + size_bytes, self.size_bytes)
        if offset >= end:
            return b""
        parts: list[bytes] = []
        position = offset
        while position < end:
            piece = self._piece(position, end)
            parts.append(piece)
            position += len(piece)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def resize(self, size_bytes: int) -> None:
        """Take ``size_bytes`` as the size from now on (a draft's own content only)."""
        self.size_bytes = size_bytes
        self.forget(self._recent[0])

    def forget(self, block: int) -> None:
        """Drop what is remembered of ``block``, which lies elsewhere from now on."""
        with self._lock:
            if self._recent[0] == block:
                self._recent = (-1, b"")

    def _piece(self, position: int, end: int) -> bytes:
        """Return some plaintext from ``position`` on, at least one byte, none after ``end``."""
        block, within = divmod(position, CHUNK_SIZE_BYTES)
        with self._lock:
            recent_block, recent = self._recent
        if block == recent_block:
            return recent[within : within + end - position]
        count = min(RUN_LIMIT_CHUNKS, -(-end // CHUNK_SIZE_BYTES) - block)
        chunks = self._chunks(block, count)
        last_block = block + len(chunks) - 1
        if end < min(self.size_bytes, (last_block + 1) * CHUNK_SIZE_BYTES):
            with self._lock:
                self._recent = (last_block, chunks[-1])
        if len(chunks) == 1:
            return chunks[0][within : within + end - position]
        return b"".join(chunks)[within : within + end - position]

    def _chunks(self, block: int, count: int) -> list[bytes]:
        """Return up to ``count`` blocks from ``block`` on, each as long as the file has it."""
        extent = self.extents.find(block)
        if extent is None:
            return [self._fitted(block, b"")]
        count = min(count, extent.block_end - block)
        start = extent.chunk_start + block - extent.block_start
        chunks = self.sources[extent.segment_id].read_chunks(start, count)
        return [self._fitted(block + index, chunk) for index, chunk in enumerate(chunks)]

    def _fitted(self, block: int, chunk: bytes) -> bytes:
        """Return ``chunk`` as long as block ``block`` is in this file; missing bytes are zeros."""
        size = min(CHUNK_SIZE_BYTES, self.size_bytes - block * CHUNK_SIZE_BYTES)
        return chunk if len(chunk) == size else chunk[:size].ljust(size, b"\0")
