"""Open files: what a protocol holds between open and close.

A handle moves bytes and counts them; what opening, committing and closing mean for policy, locks
and audit is the monitor's, which hands in the callbacks. What the handles on one file share is in
``gateway.open_file``. Imports the vault's errors.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

from backends.errors import StorageError, StorageUnavailableError
from gateway.model import NodeInfo
from gateway.open_file import CLOSED, INCOMPLETE, OpenFile, Source, Target

DELETED = "deleted"
"""The end of a handle whose file was deleted, or replaced by a rename, through its session."""


class OnClose(Protocol):
    """What the monitor does when a read ends."""

    def __call__(self, sent_bytes: int, *, complete: bool, error: StorageError | None) -> None:
        """Record that ``sent_bytes`` left; ``complete`` False: the client was cut off.

        ``error``: what went wrong with the content, if anything did.
        """


class ReadHandle:
    """A file open for reading. Thread-safe."""

    def __init__(
        self,
        info: NodeInfo,
        source: Source,
        *,
        pulse: Callable[[], None],
        on_close: OnClose,
    ) -> None:
        """``on_close`` writes the closing record."""
        self.info = info
        self._source = source
        self._pulse = pulse
        self._on_close: OnClose | None = on_close
        self._lock = threading.Lock()
        self._sent_bytes = 0
        self._error: StorageError | None = None

    @property
    def size_bytes(self) -> int:
        """The plaintext size of the content."""
        return self._source.size_bytes

    @property
    def present_info(self) -> NodeInfo:
        """What is known of the file now: it grows while its own session writes it."""
        if isinstance(self._source, OpenFile):
            return self._source.present_info
        return self.info

    def read_at(self, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes from ``offset``; short only at the end of the file.

        Raises IntegrityError when the content does not verify, SessionEndedError when the
        session is over.
        """
        self._pulse()
        if self._on_close is None:
            raise StorageUnavailableError(CLOSED)
        try:
            data = self._source.read_at(offset, size)
        except StorageError as error:
            self._error = error
            raise
        with self._lock:
            self._sent_bytes += len(data)
        return data

    def sync(self) -> None:
        """Make durable what its own session is writing; what others read of a file is so already.

        Raises what ``WriteHandle.sync`` does.
        """
        if isinstance(self._source, OpenFile):
            self._source.sync()

    def close(self, *, complete: bool = True) -> None:
        """Write the closing record. Idempotent. ``complete`` False: the client was cut off."""
        with self._lock:
            on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close(self._sent_bytes, complete=complete, error=self._error)


class WriteDoor(Protocol):
    """What the monitor does for a file that is being written.

    Lock order: a file's lock is taken before the journal's. So nothing that runs inside a
    transaction, a snapshot included, may call what takes it.
    """

    def pulse(self, handle: WriteHandle) -> None:
        """Require that the session lives, may still write this, and that there is room."""

    def read_back(self, handle: WriteHandle) -> None:
        """Require and record the right to read what the file held before."""

    def commit(self, handle: WriteHandle, *, goes_on: bool, syncs: bool) -> NodeInfo:
        """Make the draft the current version, and have its file end, ``goes_on``, or fail.

        ``syncs``: the handle stays, and the version only until the file's next one.
        """

    def aborted(self, handle: WriteHandle, reason: str) -> None:
        """Record that nothing came of it."""

    def forgotten(self, handle: WriteHandle) -> None:
        """Give back what the write had reserved; its file was deleted."""

    def suspend(self, handle: WriteHandle, reason: str) -> bool:
        """Keep what arrived for its uploader and record that; False: it cannot be kept."""

    def ended(self, handle: WriteHandle) -> None:
        """Show the handle no more; record how much of the old content left, if any could."""


class WriteHandle:
    """A file open for writing; nothing is visible to others before ``commit``. Thread-safe.

    Handles that one session of SFTP has on one path at a time share the file: each sees at once
    what the others write and cut. The first ``commit`` makes all that was written so far the
    current version, and the rest go on upon it. A handle that is aborted or suspended takes away
    what it wrote only if it is the last. When a commit fails, the content is lost to all of them:
    none can read, write or commit any more.
    """

    def __init__(self, door: WriteDoor, file: OpenFile) -> None:
        """Hold ``file``; unless nobody else can do so yet, the caller has its lock."""
        first = file.hold(self)
        self.file = file
        self.created = file.created
        self.resumes = first and file.resumes
        self.pulsed_us = 0
        self.received_bytes = 0
        self.read_bytes = 0
        self.read_recorded = False
        self._door = door
        self._lock = file.lock
        self._result: NodeInfo | None = None
        self._ended = ""

    @property
    def target(self) -> Target:
        """Where the file will be committed."""
        return self.file.target

    @property
    def size_bytes(self) -> int:
        """The plaintext size of what would be committed."""
        return self.file.size_bytes

    @property
    def present_info(self) -> NodeInfo:
        """What the writing session itself sees of the file."""
        return self.file.present_info

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Put ``data`` at ``offset``; a gap reads as zeros.

        Raises LimitError, LengthMismatchError when more comes than was announced,
        QuotaExceededError, SessionEndedError, DeniedError, StorageFullError.
        """
        with self._lock, self._unfit_by_errors():
            self.file.write_at(offset, data)
            self.received_bytes += len(data)

    def append(self, data: bytes | memoryview) -> None:
        """Put ``data`` at the end, wherever that is by now. Raises what ``write_at`` does."""
        with self._lock:
            self.write_at(self.file.size_bytes, data)

    def read_at(self, offset: int, size: int) -> bytes:
        """Return what the file would hold; DeniedError without the right to read the old content.

        The first read of old content is recorded like any other read, the end of it at the close.
        """
        self._door.pulse(self)
        with self._lock:
            self._require_open()
            if self.file.over:
                raise StorageUnavailableError(INCOMPLETE)
            if self.file.kept and not self.read_recorded:
                self._door.read_back(self)
                self.read_recorded = True
            data = self.file.read_at(offset, size)
            self.read_bytes += len(data)
            return data

    def truncate(self, size_bytes: int) -> None:
        """Cut the file, or extend it with zeros."""
        with self._lock, self._unfit_by_errors():
            self.file.truncate(size_bytes)

    def set_modified(self, modified_us: int) -> None:
        """Give the committed file this modification time. Waits for nobody: see ``WriteDoor``."""
        self.file.set_modified(modified_us)

    def sync(self) -> None:
        """Make what the file holds so far its current version, durably, and go on.

        A version that was made so gives way to the file's next one, unless somebody else has made
        one in between. Where nothing has changed there is nothing to do. Raises what ``commit``
        does, after which the content is lost.
        """
        with self._lock:
            self._require_open()
            self._door.pulse(self)
            if self.file.unfit:
                raise StorageUnavailableError(INCOMPLETE)
            if self.file.changed or self.file.modified_us is not None:
                self._door.commit(self, goes_on=True, syncs=True)

    def commit(self) -> NodeInfo:
        """Make the content the file's current version, durably, and return what it is then.

        Raises LengthMismatchError, ConflictError, LockedError, DeniedError, QuotaExceededError and
        whatever else refuses; the old content is then untouched and the handle is over. A file
        that was deleted through the same session stays deleted. Where nothing has changed since
        the file was opened or committed there is no new version.
        """
        with self._lock:
            if self._result is None and self.file.deleted:
                self._end(DELETED)
            if self._result is not None or self._ended == DELETED:
                return self._result or self.present_info
            self._require_open()
            if self.file.unfit:
                try:
                    self._door.pulse(self)
                finally:
                    self.abort("incomplete")
                raise StorageUnavailableError(
                    "A part of this file was not stored, so nothing of it is; write it again."
                )
            try:
                goes_on = not self.file.has_one_holder
                self._result = self._door.commit(self, goes_on=goes_on, syncs=False)
            finally:
                self._end("committed")
            return self._result

    def abort(self, reason: str = "aborted") -> None:
        """Drop what was written and record that. Idempotent; after ``commit`` a no-op."""
        with self._lock:
            if self._ended or self.file.deleted:
                self._end(DELETED)
                return
            try:
                if self.file.has_one_holder:
                    self.file.drop()
            finally:
                try:
                    self._door.aborted(self, reason)
                finally:
                    self._end(reason)

    def suspend(self, reason: str) -> None:
        """Keep what arrived, for its uploader alone, to be continued; else as ``abort``."""
        with self._lock:
            file = self.file
            began = file.received and not (file.kept or file.committed or file.over or file.spoiled)
            mine = not self._ended and file.has_one_holder
            if mine and began and self._door.suspend(self, reason):
                file.keep()
                self._end(reason)
                return
            self.abort(reason)

    def forget(self) -> None:
        """Drop what was written because its file was deleted; that operation has the record."""
        with self._lock:
            if not self._ended and not self.file.over:
                self.file.drop(deleted=True)
                self._door.forgotten(self)
            self._end(DELETED)

    @contextlib.contextmanager
    def _unfit_by_errors(self) -> Iterator[None]:
        """Pulse, and never commit what a refused or failed write left incomplete.

        A client that sends many writes at once goes on after one that failed, and then closes.
        """
        self._require_open()
        try:
            self._door.pulse(self)
            if self.file.unfit:
                raise StorageUnavailableError(INCOMPLETE)  # noqa: TRY301  as the door's refusals
            yield
        except BaseException:
            self.file.unfit = True
            # The next try is told anew why it cannot go on.
            self.pulsed_us = 0
            raise

    def _end(self, reason: str) -> None:
        if not self._ended:
            self._ended = reason
            self.file.leave(self)
            self._door.ended(self)

    def _require_open(self) -> None:
        if self._ended or (self.file.over and not self.file.unfit):
            raise StorageUnavailableError(CLOSED)
