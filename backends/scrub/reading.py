"""Reading sealed data for no other reason than to see that it verifies, at a limited rate.

Needs no transaction: what is read was looked up before. Imports contents and segments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from backends.blobs import BlobStore
from backends.catalog.versions import SegmentRow
from backends.content import (
    RUN_LIMIT_CHUNKS,
    RUN_SIZE_BYTES,
    Content,
    StoredSegment,
    sealed_space,
)
from backends.errors import IntegrityError, StorageError
from backends.scrub.judge import IMPOSSIBLE
from backends.segment import SegmentShape
from backends.share import EpochKey
from gateway.model import SECOND_US, Clock


class StoppedError(StorageError):
    """Whoever scrubs was asked to stop; what was read so far counts."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast sealed data may be read: ``rate_bytes`` a second, None as fast as it comes.

    ``sleep`` takes seconds. ``stopped`` is asked after each megabyte.
    """

    rate_bytes: int | None
    clock: Clock
    sleep: Callable[[float], object]
    stopped: Callable[[], bool] = lambda: False

    def keep(self, size_bytes: int, begun_us: int) -> None:
        """Wait until ``size_bytes`` that were read since ``begun_us`` keep the rate.

        Raises StoppedError when it was asked to stop.
        """
        if self.rate_bytes is not None:
            due_s = size_bytes / self.rate_bytes
            # A clock that was set must not stretch the pause.
            spent_s = min(max(0.0, (self.clock() - begun_us) / SECOND_US), due_s)
            if due_s > spent_s:
                self.sleep(due_s - spent_s)
        self.require_going()

    def require_going(self) -> None:
        """Raise StoppedError when it was asked to stop."""
        if self.stopped():
            raise StoppedError("The scrub was stopped; the next one goes on where it was.")


def verify_segment(store: BlobStore, row: SegmentRow, key: EpochKey, pace: Pace) -> int:
    """Read a whole segment, every tag checked, and return its sealed size in bytes.

    Works in 2 MiB of memory. Raises IntegrityError when anything is off, StorageUnavailableError
    when the store does not answer, StoppedError.
    """
    plain = memoryview(bytearray(RUN_SIZE_BYTES))
    sealed = sealed_space(RUN_LIMIT_CHUNKS)
    try:
        segment = StoredSegment(store, row, key)
        count = SegmentShape.of(row.size_sealed_bytes).chunk_count
        for start in range(0, count, RUN_LIMIT_CHUNKS):
            begun_us = pace.clock()
            wanted = min(RUN_LIMIT_CHUNKS, count - start)
            size = segment.read_into(start, wanted, plain, sealed)
            pace.keep(size, begun_us)
    except IMPOSSIBLE as error:
        raise IntegrityError(f"The row of segment {row.id.hex()} was edited.") from error
    return row.size_sealed_bytes


def digest_of(content: Content, pace: Pace) -> bytes:
    """Return the SHA-256 of a content, read whole; IntegrityError, StoppedError."""
    digest = sha256()
    for offset in range(0, content.size_bytes, RUN_SIZE_BYTES):
        begun_us = pace.clock()
        part = content.read_at(offset, RUN_SIZE_BYTES)
        digest.update(part)
        pace.keep(len(part), begun_us)
    return digest.digest()
