"""Writing a new version: bytes at any offset in, durable sealed segments out.

Log-structured: every full block is sealed once into the segment being built, and a block that is
written again is sealed again elsewhere; blocks that are not touched keep lying where the base
version has them. At most DIRTY_LIMIT_BLOCKS lie in memory. No names, no rights, no transactions.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass

from backends.blobs import BlobStore
from backends.catalog.versions import SegmentRow
from backends.content import ChunkSource, Content
from backends.errors import LimitError, StorageUnavailableError
from backends.extents import Extent, ExtentMap
from backends.keyring import RandomBytes
from backends.segment import (
    CHUNK_SIZE_BYTES,
    ID_SIZE_BYTES,
    SEGMENT_CHUNK_LIMIT,
    seal_whole,
)
from backends.segment_writer import Lane, SegmentWriter
from backends.share import EpochKey

INLINE_LIMIT_BYTES = 16 * 1024
"""The largest content that is kept in the catalog row instead of in segments."""

DIRTY_LIMIT_BLOCKS = 64
"""How many partly written blocks are held in memory: 4 MiB."""

FINISHING_LIMIT = 4
"""How many full segments may be on their way to the disk while the next one fills."""

POOL_LIMIT = FINISHING_LIMIT + 8
"""How many threads the drafts of one process share: one upload uses up to five of them."""

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
        """Begin with the content of ``base``, or empty. ``executor`` seals and stores."""
        self.version_id = random_bytes(ID_SIZE_BYTES)
        self._store = store
        self._key = key
        self._random_bytes = random_bytes
        self._lane = Lane(executor)
        self._sources: dict[bytes, ChunkSource] = dict(base.sources) if base else {}
        self._content = Content(
            base.size_bytes if base and not base.inline else 0,
            ExtentMap(tuple(base.extents)) if base else ExtentMap(),
            self._sources,
        )
        self._dirty: OrderedDict[int, bytearray] = OrderedDict()
        self._filling: SegmentWriter | None = None
        self._finishing: list[SegmentWriter] = []
        self._hash = hashlib.sha256()
        self._hashed_bytes = 0
        # Of what the draft began with, as long as nothing of that was changed.
        self._known_sha256 = base.sha256 if base else ""
        self._broken = False
        if base is not None and base.inline:
            self.write_at(0, base.read_at(0, base.size_bytes))

    @property
    def size_bytes(self) -> int:
        """The plaintext size as it stands."""
        return self._content.size_bytes

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Put ``data`` at ``offset``; a gap before it reads as zeros. LimitError beyond 64 TiB.

        After any other StorageError the draft can only be discarded: a part of ``data``, or of
        what was put before and is being stored meanwhile, is lost.
        """
        view = memoryview(data)
        end = offset + len(view)
        if end > FILE_LIMIT_BYTES:
            raise LimitError("A file cannot be larger than 64 TiB.")
        if not view:
            return
        self._known_sha256 = ""
        if offset == self._hashed_bytes:
            self._hash.update(view)
            self._hashed_bytes = end
        elif offset < self._hashed_bytes:
            self._hashed_bytes = -1
        with self._broken_by_errors():
            self._put(offset, view)

    def _put(self, offset: int, view: memoryview) -> None:
        end = offset + len(view)
        position = offset
        while position < end:
            block, within = divmod(position, CHUNK_SIZE_BYTES)
            full = 0 if within else (end - position) // CHUNK_SIZE_BYTES
            count = full * CHUNK_SIZE_BYTES or min(CHUNK_SIZE_BYTES - within, end - position)
            piece = view[position - offset : position - offset + count]
            if full:
                for overwritten in range(block, block + full) if self._dirty else ():
                    self._dirty.pop(overwritten, None)
                self._grow(position + count)
                self._seal_blocks(block, piece)
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
        """Cut the content, or extend it with zeros. Errors are those of ``write_at``."""
        if size_bytes > FILE_LIMIT_BYTES:
            raise LimitError("A file cannot be larger than 64 TiB.")
        if size_bytes != self.size_bytes:
            with self._broken_by_errors():
                self._resize(size_bytes)

    def _resize(self, size_bytes: int) -> None:
        self._known_sha256 = ""
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
        self._content.size_bytes = size_bytes
        self._spill()

    def seal(self) -> SealedContent:
        """Make everything durable and return what the catalog must record.

        Raises StorageFullError or StorageUnavailableError; the draft can then only be discarded.
        """
        if self._broken:
            raise StorageUnavailableError(
                "A part of this file could not be stored when it was written; write it again."
            )
        with self._broken_by_errors():
            return self._sealed()

    def _sealed(self) -> SealedContent:
        digest = bytes.fromhex(self._known_sha256) or None
        if self._hashed_bytes == self.size_bytes:
            digest = self._hash.digest()
        if self.size_bytes <= INLINE_LIMIT_BYTES:
            return self._seal_inline(digest)
        for block in sorted(self._dirty):
            self._seal_blocks(block, memoryview(self._padded(block, self._dirty[block])))
        self._dirty.clear()
        self._finish_segment()
        rows = [finishing.row() for finishing in self._finishing]
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
        self._lane.strand.stop()
        if self._filling is not None:
            self._filling.discard()
            self._filling = None
        for finishing in self._finishing:
            finishing.discard()
        self._finishing.clear()
        self._dirty.clear()

    @contextmanager
    def _broken_by_errors(self) -> Iterator[None]:
        """Never seal what an error left incomplete: the block being stored then may be lost."""
        try:
            yield
        except BaseException:
            self._broken = True
            raise

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
            self._seal_blocks(block, memoryview(buffer))
        else:
            self._spill()

    def _spill(self) -> None:
        """Seal the block touched longest ago if more are dirty than memory may hold."""
        if len(self._dirty) > DIRTY_LIMIT_BLOCKS:
            oldest, part = self._dirty.popitem(last=False)
            self._seal_blocks(oldest, memoryview(part.ljust(CHUNK_SIZE_BYTES, b"\0")))

    def _load(self, block: int) -> bytearray:
        """Return the block's buffer, filled with what the file holds there."""
        buffer = self._dirty.get(block)
        if buffer is None:
            present = self._content.read_at(block * CHUNK_SIZE_BYTES, CHUNK_SIZE_BYTES)
            buffer = self._dirty[block] = bytearray(present)
        else:
            self._dirty.move_to_end(block)
        return buffer

    def _padded(self, block: int, buffer: bytearray) -> bytearray:
        """Return a block as it is sealed: full, unless it is both short and the file's last."""
        in_file = min(CHUNK_SIZE_BYTES, self.size_bytes - block * CHUNK_SIZE_BYTES)
        return buffer.ljust(in_file, b"\0")

    def _seal_blocks(self, block: int, plain: memoryview) -> None:
        """Pass on blocks from ``block`` on; all are full but one that ends the file."""
        while plain:
            filling = self._filling or self._new_segment()
            start = filling.chunk_count
            piece = plain[: (SEGMENT_CHUNK_LIMIT - start) * CHUNK_SIZE_BYTES]
            filling.put(piece)
            count = filling.chunk_count - start
            self._content.extents.put(Extent(block, count, filling.id, start))
            if filling.chunk_count == SEGMENT_CHUNK_LIMIT or len(piece) % CHUNK_SIZE_BYTES:
                self._finish_segment()
            block += count
            plain = plain[len(piece) :]

    def _new_segment(self) -> SegmentWriter:
        self._filling = SegmentWriter(self._store, self._key, self._lane, self._random_bytes)
        self._sources[self._filling.id] = self._filling
        return self._filling

    def _finish_segment(self) -> None:
        if self._filling is None:
            return
        if len(self._finishing) >= FINISHING_LIMIT:
            self._finishing[-FINISHING_LIMIT].row()
        finishing, self._filling = self._filling, None
        self._finishing.append(finishing)
        finishing.finish()
        self._drop_overwritten()

    def _drop_overwritten(self) -> None:
        """Delete segments of which nothing is left, so that rewriting cannot fill the disk."""
        written_blocks = (len(self._finishing) - FINISHING_LIMIT) * SEGMENT_CHUNK_LIMIT
        if written_blocks * CHUNK_SIZE_BYTES <= 2 * self.size_bytes:
            return
        used = self._content.extents.segment_ids()
        for finishing in list(self._finishing):
            if finishing.id not in used and finishing.is_durable:
                self._store.delete(finishing.row().id)
                self._finishing.remove(finishing)
                del self._sources[finishing.id]

    def _grow(self, end: int) -> None:
        self._content.size_bytes = max(end, self._content.size_bytes)
