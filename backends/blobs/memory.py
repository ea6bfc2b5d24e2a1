"""A blob store in memory, for tests and for measuring everything above the disk."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from backends.errors import IntegrityError, StorageFullError
from gateway.model import Clock


class _MemoryWriter:
    def __init__(self, store: MemoryBlobStore, blob_id: bytes) -> None:
        self._store = store
        self._blob_id = blob_id
        self._data = bytearray()

    def write(self, data: bytes | memoryview) -> None:
        self._data += data

    def read_back(self, offset: int, size_bytes: int) -> bytes:
        return bytes(self._data[offset : offset + size_bytes])

    def finish(self) -> None:
        self._store.keep(self._blob_id, bytes(self._data))

    def discard(self) -> None:
        self._data.clear()


class MemoryBlobStore:
    """Implements ``BlobStore``; ``capacity_bytes`` makes it full like a disk."""

    def __init__(self, capacity_bytes: int = 1 << 40, clock: Clock = lambda: 0) -> None:
        self._clock = clock
        self._blobs: dict[bytes, bytes] = {}
        self._written_us: dict[bytes, int] = {}
        self._capacity_bytes = capacity_bytes
        self._lock = threading.RLock()

    def create(self, blob_id: bytes) -> _MemoryWriter:
        return _MemoryWriter(self, blob_id)

    def keep(self, blob_id: bytes, data: bytes) -> None:
        """Store a finished blob."""
        with self._lock:
            if len(data) > self.available_bytes():
                raise StorageFullError("The blob store is full.")
            assert blob_id not in self._blobs
            self._blobs[blob_id] = data
            self._written_us[blob_id] = self._clock()

    def read(self, blob_id: bytes, offset: int, size_bytes: int) -> bytes:
        return self._blob(blob_id)[offset : offset + size_bytes]

    def read_into(self, blob_id: bytes, offset: int, buffer: memoryview) -> int:
        data = self.read(blob_id, offset, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def size(self, blob_id: bytes) -> int:
        return len(self._blob(blob_id))

    def delete(self, blob_id: bytes) -> None:
        with self._lock:
            self._blobs.pop(blob_id, None)
            self._written_us.pop(blob_id, None)

    def listing(self) -> Iterator[tuple[bytes, int]]:
        with self._lock:
            return iter(list(self._written_us.items()))

    def available_bytes(self) -> int:
        with self._lock:
            return self._capacity_bytes - sum(map(len, self._blobs.values()))

    def _blob(self, blob_id: bytes) -> bytes:
        try:
            return self._blobs[blob_id]
        except KeyError:
            raise IntegrityError(f"Segment {blob_id.hex()} is missing.") from None
