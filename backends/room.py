"""Room: whether a share and the storage under it can take so many more bytes.

A share's quota counts the plaintext of every kept version and unfinished upload, and what running
uploads have reserved, so that two of them cannot both be promised the last of it. Imports the
catalog and the blob store's protocol.
"""

from __future__ import annotations

from dataclasses import dataclass

from backends.blobs import BlobStore
from backends.catalog import keys, uploads
from backends.errors import QuotaExceededError
from backends.share import Share
from gateway.model import SECOND_US, Clock, Transaction, Usage

RESERVE_BYTES = 64 * 1024 * 1024
"""Free space that uploads must leave: a full disk stops the audit trail, and so everyone."""

RESERVED_FROM_BYTES = 1024 * 1024
"""Uploads up to this size reserve nothing: they are over before another could be misled."""

RESERVATION_STEP_BYTES = 64 * 1024 * 1024
"""How much more an upload of unknown size reserves when it has outgrown what it had."""

RESERVATION_US = 600 * SECOND_US
"""How long a reservation lasts without being renewed; that of a crashed process runs out."""

NOBODY = b""


@dataclass(frozen=True, slots=True)
class Reservation:
    """How much an upload has reserved, and when it must renew that (µs)."""

    size_bytes: int
    renew_us: int


class Room:
    """Thread-safe: all its state is in the transaction and the blob store."""

    def __init__(self, store: BlobStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def usage(self, tx: Transaction, share: Share) -> Usage:
        """Return the space of a share; ``available_bytes`` is what a new upload may take."""
        available = self._store.available_bytes()
        left = self._left_bytes(tx, share, NOBODY)
        if left is not None:
            available = max(0, min(available, left))
        row = share.row
        return Usage(row.used_bytes, available, share.settings.quota_bytes, row.node_count)

    def available_bytes(self) -> int:
        """Return how many more bytes the blob store can keep."""
        return self._store.available_bytes()

    def require_quota(
        self, tx: Transaction, share: Share, more_bytes: int, *, upload: bytes = NOBODY
    ) -> None:
        """Raise QuotaExceededError unless the share may hold ``more_bytes`` more.

        What ``upload`` itself has reserved does not stand in its way.
        """
        left = self._left_bytes(tx, share, upload)
        if left is not None and more_bytes > left:
            raise QuotaExceededError("The share is full: its quota does not hold this file.")

    def require_disk(self, more_bytes: int) -> None:
        """Raise QuotaExceededError unless the blob store can take ``more_bytes`` more."""
        if more_bytes and more_bytes > self._store.available_bytes():
            raise QuotaExceededError("The storage under the share does not hold this file.")

    def require_reserve(self) -> None:
        """Raise QuotaExceededError when so little is free that uploads must stop."""
        if self._store.available_bytes() < RESERVE_BYTES:
            raise QuotaExceededError("The storage under the share is nearly full.")

    @staticmethod
    def worth_reserving(share: Share, size_bytes: int) -> bool:
        """Return whether an upload of that size must reserve its room."""
        return share.settings.quota_bytes is not None and size_bytes > RESERVED_FROM_BYTES

    def reserve(
        self, tx: Transaction, share: Share, upload: bytes, size_bytes: int, *, ahead: bool = False
    ) -> Reservation:
        """Reserve room for an upload of ``size_bytes``, and ``ahead`` a step more if there is.

        Replaces what it had reserved. Raises QuotaExceededError when there is not that much.
        """
        self.require_quota(tx, share, size_bytes, upload=upload)
        if ahead:
            left = self._left_bytes(tx, share, upload)
            wanted = size_bytes + RESERVATION_STEP_BYTES
            size_bytes = wanted if left is None else max(size_bytes, min(left, wanted))
        expires_us = self._clock() + RESERVATION_US
        uploads.reserve(tx, upload, share.id, size_bytes, expires_us)
        return Reservation(size_bytes, expires_us - RESERVATION_US // 2)

    @staticmethod
    def release(tx: Transaction, upload: bytes) -> None:
        """Give back what an upload had reserved."""
        uploads.release(tx, upload)

    def _left_bytes(self, tx: Transaction, share: Share, upload: bytes) -> int | None:
        quota = share.settings.quota_bytes
        if quota is None:
            return None
        # Not what ``share`` was read with: this transaction may have freed or used some since.
        row = keys.share_by_id(tx, share.id)
        used_bytes = share.row.used_bytes if row is None else row.used_bytes
        reserved = uploads.reserved_bytes(tx, share.id, upload, self._clock())
        return quota - used_bytes - reserved
