"""A blob store in a local folder: one file a blob, 256 sub-folders, fsync before acknowledging.

A blob is written straight under its final name: its id is random and nothing refers to it before
the catalog commits, so a crash leaves at most an unreferenced file. Imports the storage errors.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

from backends.errors import (
    IntegrityError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
)

OPEN_LIMIT = 128
"""How many blobs are kept open for the next read; those opened longest ago are closed."""

_BLOB_NAME = re.compile(r"[0-9a-f]{32}")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def storage_error(error: OSError) -> StorageError:
    """Return the storage error for an OSError; without the path, which an application log sees."""
    if error.errno in _FULL:
        return StorageFullError("The disk that keeps the segments is full; free some space.")
    return StorageUnavailableError(f"The disk that keeps the segments failed: {error.strerror}.")


def fsync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _blobs_in(folder: Path) -> Iterator[tuple[bytes, int]]:
    with os.scandir(folder) as files:
        for file in files:
            # Something else may lie here: a network file system's remains, say.
            if not _BLOB_NAME.fullmatch(file.name):
                continue
            # A blob may be deleted meanwhile.
            with contextlib.suppress(FileNotFoundError):
                written_us = file.stat().st_mtime_ns // 1000
                yield bytes.fromhex(file.name), written_us


class _LocalWriter:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._failed = False
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise storage_error(error) from error

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            self._failed = True
            raise storage_error(error) from error

    def read_back(self, offset: int, size_bytes: int) -> bytes:
        try:
            return os.pread(self._descriptor, size_bytes, offset)
        except OSError as error:
            raise storage_error(error) from error

    def finish(self) -> None:
        assert self._descriptor >= 0
        try:
            # After one failed write or fsync the kernel may drop the dirty pages and report
            # success next time: such a blob is never finished.
            if self._failed:
                raise OSError(errno.EIO, os.strerror(errno.EIO))  # noqa: TRY301  one exit path
            os.fsync(self._descriptor)
            self._close()
            fsync_folder(self._path.parent)
        except OSError as error:
            self.discard()
            raise storage_error(error) from error

    def discard(self) -> None:
        if self._descriptor >= 0:
            self._close()
            with contextlib.suppress(OSError):
                self._path.unlink()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)


class _LocalReader:
    """An open blob. Closed when nobody refers to it: a thread may still be reading."""

    __slots__ = ("descriptor",)

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class LocalBlobStore:
    """Implements ``BlobStore`` in ``folder``, which must exist and be writable."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._readers: OrderedDict[bytes, _LocalReader] = OrderedDict()
        self._readers_lock = threading.Lock()

    @classmethod
    def prepare(cls, folder: Path) -> LocalBlobStore:
        """Return the store in ``folder``, making the folder and its 256 sub-folders durable."""
        try:
            for number in range(256):
                (folder / f"{number:02x}").mkdir(mode=0o700, parents=True, exist_ok=True)
            fsync_folder(folder)
            fsync_folder(folder.parent)
        except OSError as error:
            raise storage_error(error) from error
        return cls(folder)

    def create(self, blob_id: bytes) -> _LocalWriter:
        return _LocalWriter(self._path(blob_id))

    def read(self, blob_id: bytes, offset: int, size_bytes: int) -> bytes:
        try:
            descriptor = os.open(self._path(blob_id), os.O_RDONLY)
            try:
                return os.pread(descriptor, size_bytes, offset)
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            raise IntegrityError(f"Segment {blob_id.hex()} is missing.") from None
        except OSError as error:
            raise storage_error(error) from error

    def read_into(self, blob_id: bytes, offset: int, buffer: memoryview) -> int:
        try:
            reader = self._readers.get(blob_id) or self._opened(blob_id)
            return os.preadv(reader.descriptor, [buffer], offset)
        except FileNotFoundError:
            raise IntegrityError(f"Segment {blob_id.hex()} is missing.") from None
        except OSError as error:
            raise storage_error(error) from error

    def _opened(self, blob_id: bytes) -> _LocalReader:
        reader = _LocalReader(self._path(blob_id))
        with self._readers_lock:
            self._readers[blob_id] = reader
            if len(self._readers) > OPEN_LIMIT:
                self._readers.popitem(last=False)
        return reader

    def size(self, blob_id: bytes) -> int:
        try:
            status = self._path(blob_id).stat()
            reader = self._readers.get(blob_id)
            # Someone may have put a good copy in place of a damaged blob.
            if reader is not None and os.fstat(reader.descriptor).st_ino != status.st_ino:
                self._forget(blob_id)
            return status.st_size
        except FileNotFoundError:
            raise IntegrityError(f"Segment {blob_id.hex()} is missing.") from None
        except OSError as error:
            raise storage_error(error) from error

    def _forget(self, blob_id: bytes) -> None:
        with self._readers_lock:
            self._readers.pop(blob_id, None)

    def delete(self, blob_id: bytes) -> None:
        self._forget(blob_id)
        try:
            self._path(blob_id).unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error) from error

    def listing(self) -> Iterator[tuple[bytes, int]]:
        try:
            # Only the store's own sub-folders: a mount point may hold lost+found as well.
            for number in range(256):
                yield from _blobs_in(self._folder / f"{number:02x}")
        except OSError as error:
            raise storage_error(error) from error

    def available_bytes(self) -> int:
        try:
            status = os.statvfs(self._folder)
        except OSError as error:
            raise storage_error(error) from error
        return status.f_bavail * status.f_frsize

    def _path(self, blob_id: bytes) -> Path:
        name = blob_id.hex()
        return self._folder / name[:2] / name
