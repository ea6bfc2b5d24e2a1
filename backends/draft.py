"""Writing a new version: bytes at any offset in, durable sealed segments out.

Log-structured: every full block is sealed once into the segment being built, and a block that is
written again is sealed again elsewhere; blocks that are not touched keep lying where the base
version has them. At most DIRTY_LIMIT_BLOCKS lie in memory. No names, no rights, no transactions.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from concurrent.futures import Executor, Future
from dataclasses import dataclass

from backends.blobs import BlobStore, BlobWriter
from backends.catalog.versions import SegmentRow
from backends.content import ChunkSource, Content, StoredSegment
from backends.errors import LimitError, StorageError, StorageUnavailableError
from backends.extents import Extent, ExtentMap
from backends.keyring import RandomBytes
from backends.segment import (
    CHUNK_SIZE_BYTES,
    HEADER_SIZE_BYTES,
    ID_SIZE_BYTES,
    SEALED_CHUNK_SIZE_BYTES,
    SEGMENT_CHUNK_LIMIT,
    chunk_offset_sealed,
    seal_whole,
)
from backends.share import EpochKey

INLINE_LIMIT_BYTES = 16 * 1024
"""The largest content that is kept in the catalog row instead of in segments."""

DIRTY_LIMIT_BLOCKS = 64
"""How many partly written blocks are held in memory: 4 MiB."""

FINISHING_LIMIT = 4
"""How many full segments may be on their way to the disk while the next one fills."""

FILE_LIMIT_BYTES = 1 << 46
"""The largest file: 64 TiB, so that offsets near 2⁶³ are refused, not tried."""


@dataclass(frozen=True, slots=True)
class SealedContent:
    """What a finished draft leaves: durable, but not yet part of any version in the catalog."""

    version_id: bytes
    epoch_key: EpochKey
    size_bytes: int
    sha256: bytes | None
    inline_sealed: bytes | None
    extents: tuple[Extent, ...]
    new_segments: tuple[SegmentRow, ...]


class _SegmentBuilder:
    """A segment that is being filled. The last chunk waits in memory: it may be the final one."""

    def __init__(self, store: BlobStore, key: EpochKey, random_bytes: RandomBytes) -> None:
        self.id = random_bytes(ID_SIZE_BYTES)
        self.count = 0
        self._key = key
        self._cipher = key.new_segment(self.id, random_bytes)
        self._waiting = b""
        self._writer: BlobWriter = store.create(self.id)
        self._size_sealed = HEADER_SIZE_BYTES
        try:
            self._writer.write(self._cipher.header.pack())
        except StorageError:
            self._writer.discard()
            raise

    def put(self, plain: bytes) -> int:
        """Add a chunk; return its index. All but the last must be full."""
        if self.count:
            self._flush(final=False)
        self._waiting = plain
        self.count += 1
        return self.count - 1

    def read_chunks(self, start: int, count: int) -> list[bytes]:
        """Return chunks that were put already."""
        plain = []
        for index in range(start, start + count):
            if index == self.count - 1:
                plain.append(self._waiting)
            else:
                sealed = self._writer.read_back(chunk_offset_sealed(index), SEALED_CHUNK_SIZE_BYTES)
                plain.append(self._cipher.unseal(index, sealed, final=False))
        return plain

    def finish(self) -> SegmentRow:
        """Seal the last chunk and make the segment durable; on failure nothing of it is left."""
        try:
            self._flush(final=True)
            self._writer.finish()
        except StorageError:
            self._writer.discard()
            raise
        return SegmentRow(self.id, self._key.share_id, self._key.epoch, self._size_sealed)

    def discard(self) -> None:
        """Drop the segment."""
        self._writer.discard()

    def _flush(self, *, final: bool) -> None:
        sealed = self._cipher.seal(self.count - 1, self._waiting, final=final)
        self._writer.write(sealed)
        self._size_sealed += len(sealed)


class _FinishingSegment:
    """A full segment on its way to the disk; reading from it waits until it is there."""

    def __init__(
        self, store: BlobStore, key: EpochKey, segment_id: bytes, future: Future[SegmentRow]
    ) -> None:
        self.id = segment_id
        self._store = store
        self._key = key
        self.future = future

    def read_chunks(self, start: int, count: int) -> list[bytes]:
        """Return chunks of the finished segment."""
        return StoredSegment(self._store, self.future.result(), self._key).read_chunks(start, count)


class Draft:
    """A version being written. One thread at a time. Ends in ``seal`` or ``discard``."""

    def __init__(
        self,
        store: BlobStore,
        key: EpochKey,
        base: Content | None,
        *,
        executor: Executor,
        random_bytes: RandomBytes,
    ) -> None:
        """Begin with the content of ``base``, or empty. ``executor`` makes segments durable."""
        self.version_id = random_bytes(ID_SIZE_BYTES)
        self._store = store
        self._key = key
        self._executor = executor
        self._random_bytes = random_bytes
        self._sources: dict[bytes, ChunkSource] = dict(base.sources) if base else {}
        self._content = Content(
            base.size_bytes if base and not base.inline else 0,
            ExtentMap(tuple(base.extents)) if base else ExtentMap(),
            self._sources,
        )
        self._dirty: OrderedDict[int, bytearray] = OrderedDict()
        self._builder: _SegmentBuilder | None = None
        self._finishing: list[_FinishingSegment] = []
        self._hash = hashlib.sha256()
        self._hashed_bytes = 0
        self._broken = False
        if base is not None and base.inline:
            self.write_at(0, base.read_at(0, base.size_bytes))

    @property
    def size_bytes(self) -> int:
        """The plaintext size as it stands."""
        return self._content.size_bytes

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Put ``data`` at ``offset``; a gap before it reads as zeros. LimitError beyond 64 TiB.

        After any other StorageError the draft can only be discarded: a part of ``data`` is lost.
        """
        view = memoryview(data)
        end = offset + len(view)
        if end > FILE_LIMIT_BYTES:
            raise LimitError("A file cannot be larger than 64 TiB.")
        if not view:
            return
        if offset == self._hashed_bytes:
            self._hash.update(view)
            self._hashed_bytes = end
        elif offset < self._hashed_bytes:
            self._hashed_bytes = -1
        try:
            self._put(offset, view)
        except StorageError:
            self._broken = True
            raise

    def _put(self, offset: int, view: memoryview) -> None:
        end = offset + len(view)
        position = offset
        while position < end:
            block, within = divmod(position, CHUNK_SIZE_BYTES)
            count = min(CHUNK_SIZE_BYTES - within, end - position)
            piece = view[position - offset : position - offset + count]
            if count == CHUNK_SIZE_BYTES:
                self._dirty.pop(block, None)
                self._grow(position + count)
                self._seal_block(block, bytes(piece))
            else:
                self._write_part(block, within, piece)
            position += count

    def read_at(self, offset: int, size_bytes: int) -> bytes:
        """Return what was written so far, as ``Content.read_at`` does."""
        end = min(offset + size_bytes, self.size_bytes)
        parts = []
        position = offset
        while position < end:
            block, within = divmod(position, CHUNK_SIZE_BYTES)
            count = min(CHUNK_SIZE_BYTES - within, end - position)
            dirty = self._dirty.get(block)
            if dirty is None:
                parts.append(self._content.read_at(position, count))
            else:
                parts.append(bytes(dirty[within : within + count]).ljust(count, b"\0"))
            position += count
        return b"".join(parts)

    def truncate(self, size_bytes: int) -> None:
        """Cut the content, or extend it with zeros."""
        if size_bytes > FILE_LIMIT_BYTES:
            raise LimitError("A file cannot be larger than 64 TiB.")
        if size_bytes == self.size_bytes:
            return
        if size_bytes < self.size_bytes:
            block, within = divmod(size_bytes, CHUNK_SIZE_BYTES)
            if within:
                # What lay beyond the cut must read as zeros if the file grows again.
                del self._load(block)[within:]
            for beyond in [number for number in self._dirty if number >= block + bool(within)]:
                del self._dirty[beyond]
            self._content.extents.truncate(block + bool(within))
            if size_bytes < self._hashed_bytes:
                self._hashed_bytes = -1
        self._content.resize(size_bytes)
        self._spill()

    def seal(self) -> SealedContent:
        """Make everything durable and return what the catalog must record.

        Raises StorageFullError or StorageUnavailableError; the draft can then only be discarded.
        """
        if self._broken:
            raise StorageUnavailableError(
                "A part of this file could not be stored when it was written; write it again."
            )
        digest = self._hash.digest() if self._hashed_bytes == self.size_bytes else None
        if self.size_bytes <= INLINE_LIMIT_BYTES:
            return self._seal_inline(digest)
        for block in sorted(self._dirty):
            self._seal_block(block, self._padded(block, self._dirty[block]))
        self._dirty.clear()
        self._finish_segment()
        rows = [finishing.future.result() for finishing in self._finishing]
        used = self._content.extents.segment_ids()
        for row in rows:
            if row.id not in used:
                self._store.delete(row.id)
        return SealedContent(
            version_id=self.version_id,
            epoch_key=self._key,
            size_bytes=self.size_bytes,
            sha256=digest,
            inline_sealed=None,
            extents=tuple(self._content.extents),
            new_segments=tuple(row for row in rows if row.id in used),
        )

    def discard(self) -> None:
        """Drop everything that was written. Idempotent; never call it after a commit."""
        if self._builder is not None:
            self._builder.discard()
            self._builder = None
        for finishing in self._finishing:
            if finishing.future.exception() is None:
                self._store.delete(finishing.future.result().id)
        self._finishing.clear()
        self._dirty.clear()

    def _seal_inline(self, digest: bytes | None) -> SealedContent:
        plain = self.read_at(0, self.size_bytes)
        self.discard()
        cipher = self._key.new_segment(self.version_id, self._random_bytes)
        return SealedContent(
            version_id=self.version_id,
            epoch_key=self._key,
            size_bytes=len(plain),
            sha256=digest or hashlib.sha256(plain).digest(),
            inline_sealed=seal_whole(cipher, plain),
            extents=(),
            new_segments=(),
        )

    def _write_part(self, block: int, within: int, piece: memoryview) -> None:
        buffer = self._load(block)
        if len(buffer) < within:
            buffer.extend(bytes(within - len(buffer)))
        buffer[within : within + len(piece)] = piece
        self._grow(block * CHUNK_SIZE_BYTES + within + len(piece))
        if len(buffer) == CHUNK_SIZE_BYTES and within + len(piece) == CHUNK_SIZE_BYTES:
            del self._dirty[block]
            self._seal_block(block, bytes(buffer))
        else:
            self._spill()

    def _spill(self) -> None:
        """Seal the block touched longest ago if more are dirty than memory may hold."""
        if len(self._dirty) > DIRTY_LIMIT_BLOCKS:
            oldest, part = self._dirty.popitem(last=False)
            self._seal_block(oldest, bytes(part).ljust(CHUNK_SIZE_BYTES, b"\0"))

    def _load(self, block: int) -> bytearray:
        """Return the block's buffer, filled with what the file holds there."""
        buffer = self._dirty.get(block)
        if buffer is None:
            present = self._content.read_at(block * CHUNK_SIZE_BYTES, CHUNK_SIZE_BYTES)
            buffer = self._dirty[block] = bytearray(present)
        else:
            self._dirty.move_to_end(block)
        return buffer

    def _padded(self, block: int, buffer: bytearray) -> bytes:
        """Return a block as it is sealed: full, unless it is both short and the file's last."""
        in_file = min(CHUNK_SIZE_BYTES, self.size_bytes - block * CHUNK_SIZE_BYTES)
        return bytes(buffer).ljust(in_file, b"\0")

    def _seal_block(self, block: int, plain: bytes) -> None:
        if self._builder is None:
            self._builder = _SegmentBuilder(self._store, self._key, self._random_bytes)
            self._sources[self._builder.id] = self._builder
        index = self._builder.put(plain)
        self._content.extents.put(Extent(block, 1, self._builder.id, index))
        self._content.forget(block)
        if self._builder.count == SEGMENT_CHUNK_LIMIT or len(plain) < CHUNK_SIZE_BYTES:
            self._finish_segment()

    def _finish_segment(self) -> None:
        if self._builder is None:
            return
        if len(self._finishing) >= FINISHING_LIMIT:
            self._finishing[-FINISHING_LIMIT].future.result()
        builder, self._builder = self._builder, None
        future = self._executor.submit(builder.finish)
        finishing = _FinishingSegment(self._store, self._key, builder.id, future)
        self._finishing.append(finishing)
        self._sources[builder.id] = finishing
        self._drop_overwritten()

    def _drop_overwritten(self) -> None:
        """Delete segments of which nothing is left, so that rewriting cannot fill the disk."""
        written_blocks = (len(self._finishing) - FINISHING_LIMIT) * SEGMENT_CHUNK_LIMIT
        if written_blocks * CHUNK_SIZE_BYTES <= 2 * self.size_bytes:
            return
        used = self._content.extents.segment_ids()
        for finishing in list(self._finishing):
            if finishing.id not in used and finishing.future.done():
                self._store.delete(finishing.future.result().id)
                self._finishing.remove(finishing)
                del self._sources[finishing.id]

    def _grow(self, end: int) -> None:
        if end > self.size_bytes:
            self._content.resize(end)
