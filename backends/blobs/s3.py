"""A blob store in a bucket of any S3-compatible object store: one object a blob.

A segment is small enough for one PUT, so a blob is there whole or not at all. Objects lie under
``PREFIX/XX/HEX``, like the files of the local store. Where the server honours conditional PUT, it
makes sure that no blob is ever overwritten; where it does not, the store looks first, and blob ids
are random. How requests are repeated and explained is in ``backends.blobs.s3_bucket``. Imports
that, obstore's errors and the storage errors.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from obstore.exceptions import AlreadyExistsError, BaseError

from backends.blobs.s3_bucket import Answer, Bucket, Pacing, S3Settings
from backends.errors import IntegrityError, StorageUnavailableError

ENDLESS_BYTES = 1 << 60
"""What ``available_bytes`` says: S3 has no request that asks for the room left in a bucket."""

PROBE_LIMIT_S = 10.0
"""How long ``prepare`` repeats a request: whoever starts the gateway is waiting."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BLOB_KEY = re.compile(r"([0-9a-f]{2})/(\1[0-9a-f]{30})")


class _S3Writer:
    def __init__(self, store: S3BlobStore, blob_id: bytes) -> None:
        self._store = store
        self._blob_id = blob_id
        self._data = bytearray()
        self._ended = False

    def write(self, data: bytes | memoryview) -> None:
        assert not self._ended
        self._data += data

    def read_back(self, offset: int, size_bytes: int) -> bytes:
        return bytes(self._data[offset : offset + size_bytes])

    def finish(self) -> None:
        assert not self._ended
        data, self._data, self._ended = self._data, bytearray(), True
        self._store.keep(self._blob_id, data)

    def discard(self) -> None:
        # An upload that failed may still arrive. It is then a blob that the catalog never heard
        # of, like those of a crash, and the garbage collection removes it.
        self._data, self._ended = bytearray(), True


class S3BlobStore:
    """Implements ``BlobStore``; the whole blob waits in memory until it is finished.

    Times in ``listing`` are the object store's. Make it in the process that uses it: obstore's
    threads do not survive a fork.
    """

    def __init__(self, settings: S3Settings, bucket: Bucket, *, conditional_put: bool) -> None:
        self._prefix = settings.prefix
        self._bucket = bucket
        self._uploads = threading.BoundedSemaphore(settings.upload_limit)
        self.conditional_put = conditional_put

    @classmethod
    def prepare(
        cls,
        settings: S3Settings,
        pacing: Pacing | None = None,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> S3BlobStore:
        """Return the store after a trial: one small object written, listed, read and deleted.

        Raises StorageUnavailableError saying what the bucket or the access key does not allow.
        """
        pacing = pacing or Pacing()
        impatient = replace(settings, retry_for_s=min(settings.retry_for_s, PROBE_LIMIT_S))
        folder = f"{settings.prefix}probe/"
        probing = Bucket(impatient, pacing)
        with probing.speaking():
            conditional_put = _probe(probing, folder, folder + random_bytes(16).hex())
        return cls(settings, Bucket(settings, pacing), conditional_put=conditional_put)

    def create(self, blob_id: bytes) -> _S3Writer:
        return _S3Writer(self, blob_id)

    def keep(self, blob_id: bytes, data: bytearray) -> None:
        """Store a finished blob; returns when the object store has acknowledged all of it."""
        key = self._key(blob_id)

        def upload() -> None:
            try:
                self._bucket.put(key, data, conditional=self.conditional_put)
            except AlreadyExistsError:
                # Either an earlier attempt arrived and only its answer was lost, or (409) the
                # server is still busy with it: then the object is not there yet.
                if not self._holds(key, blob_id, data):
                    raise

        with self._uploads, self._bucket.speaking():
            if self.conditional_put or not self._bucket.persist(
                lambda: self._holds(key, blob_id, data)
            ):
                self._bucket.persist(upload)

    def read(self, blob_id: bytes, offset: int, size_bytes: int) -> bytes:
        if size_bytes == 0:
            self.size(blob_id)
            return b""
        return self._get(blob_id, offset, size_bytes)[1]

    def read_into(self, blob_id: bytes, offset: int, buffer: memoryview) -> int:
        data = self.read(blob_id, offset, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def size(self, blob_id: bytes) -> int:
        # Not by HEAD: its 404 has no body that tells a missing object from a missing bucket.
        return self._get(blob_id, 0, 1)[0]

    def delete(self, blob_id: bytes) -> None:
        key = self._key(blob_id)
        with self._bucket.speaking():
            self._bucket.persist(lambda: self._bucket.delete(key))

    def listing(self) -> Iterator[tuple[bytes, int]]:
        with self._bucket.speaking():
            for key, written in self._bucket.objects(self._prefix):
                # Something else may lie here: a probe that was cut off, say.
                if blob := _BLOB_KEY.fullmatch(key.removeprefix(self._prefix)):
                    yield bytes.fromhex(blob[2]), (written - _EPOCH) // timedelta(microseconds=1)

    def available_bytes(self) -> int:
        return ENDLESS_BYTES

    def _key(self, blob_id: bytes) -> str:
        name = blob_id.hex()
        return f"{self._prefix}{name[:2]}/{name}"

    def _get(self, blob_id: bytes, offset: int, size_bytes: int) -> tuple[int, bytes]:
        key = self._key(blob_id)
        with self._bucket.speaking():
            try:
                return self._bucket.persist(lambda: self._bucket.get(key, offset, size_bytes))
            except FileNotFoundError as error:
                if Answer.of(error).object_missing:
                    raise IntegrityError(f"Segment {blob_id.hex()} is missing.") from None
                raise

    def _holds(self, key: str, blob_id: bytes, data: bytearray) -> bool:
        """Return whether ``data`` lies under ``key`` already; raise if something else does."""
        found = self._bucket.find(key, len(data) + 1)
        if found is not None and found != data:
            raise StorageUnavailableError(
                f"{self._bucket.name} holds something else as segment {blob_id.hex()}; it was"
                " left as it is. Check that no other program writes under this prefix."
            )
        return found is not None


def _probe(bucket: Bucket, folder: str, key: str) -> bool:
    """Use all rights once on ``key``; return whether the server honours conditional PUT."""

    def refused(data: bytes) -> bool:
        try:
            bucket.put(key, data, conditional=True)
        except AlreadyExistsError:
            return True
        return False

    try:
        bucket.persist(lambda: refused(b"first"))
        honoured = bucket.persist(lambda: refused(b"second"))
    except BaseError as error:
        if Answer.of(error).status != 501:
            raise
        bucket.persist(lambda: bucket.put(key, b"second", conditional=False))
        honoured = False
    expected = b"first" if honoured else b"second"
    if bucket.persist(lambda: bucket.find(key, 100)) != expected:
        raise StorageUnavailableError(f"{bucket.name} does not return what was just written.")
    next(bucket.objects(folder), None)
    bucket.persist(lambda: bucket.delete(key))
    if bucket.persist(lambda: bucket.find(key, 100)) is not None:
        raise StorageUnavailableError(f"{bucket.name} returns an object that was just deleted.")
    return honoured
