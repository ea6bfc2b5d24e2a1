"""Where segments lie: the contract of every blob store.

Blob stores keep opaque, immutable, already sealed bytes under 16-byte ids. They know nothing of
keys, shares or files. Imports the storage errors only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class BlobWriter(Protocol):
    """One blob being written; used by one thread at a time. Ends in ``finish`` or ``discard``."""

    def write(self, data: bytes | memoryview) -> None:
        """Append ``data``, whose memory the caller uses again afterwards."""

    def read_back(self, offset: int, size_bytes: int) -> bytes:
        """Return bytes that were written already; short only at the end."""

    def finish(self) -> None:
        """Make the blob durable under its id; after this returns a crash cannot lose it.

        Raises StorageFullError or StorageUnavailableError; the blob is then as good as
        discarded, and a retry must write another blob (an fsync that failed once may report
        success the second time without having written anything).
        """

    def discard(self) -> None:
        """Drop the blob. Idempotent; after ``finish`` a no-op."""


class BlobStore(Protocol):
    """Keeps blobs. Thread-safe. An id is never used for two different contents."""

    def create(self, blob_id: bytes) -> BlobWriter:
        """Return a writer for the new blob ``blob_id``; nothing exists under the id meanwhile."""

    def read(self, blob_id: bytes, offset: int, size_bytes: int) -> bytes:
        """Return ``size_bytes`` from ``offset``; short only at the end of the blob.

        Raises IntegrityError when there is no such blob: the catalog said that there is.
        """

    def read_into(self, blob_id: bytes, offset: int, buffer: memoryview) -> int:
        """Read into ``buffer`` as ``read`` does; return how many bytes there were.

        Fast when one blob is read many times.
        """

    def size(self, blob_id: bytes) -> int:
        """Return the blob's size in bytes; IntegrityError when there is none."""

    def delete(self, blob_id: bytes) -> None:
        """Remove the blob, if there."""

    def listing(self) -> Iterator[tuple[bytes, int]]:
        """Yield the id of every blob and when it was last written (µs), in no order.

        Blobs that are still being written may be among them.
        """

    def available_bytes(self) -> int:
        """Return how many more bytes can be kept; a very large number where nobody can tell."""
