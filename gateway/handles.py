"""Open files: what a protocol holds between open and close.

A handle moves bytes and counts them; what opening, committing and closing mean for policy, locks
and audit is the monitor's, which hands in the callbacks. Imports the vault's content classes.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from backends.draft import Draft
from backends.errors import LengthMismatchError, StorageError, StorageUnavailableError
from backends.room import Reservation
from gateway.model import NodeInfo

DELETED = "deleted"
"""The end of a handle whose file was deleted through the same session."""


class Source(Protocol):
    """Something to read from: the content of a version, or a file that is being written."""

    @property
    def size_bytes(self) -> int:
        """The plaintext size."""

    def read_at(self, offset: int, size: int, /) -> bytes:
        """Return up to ``size`` bytes from ``offset``; short only at the end."""


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

    def read_at(self, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes from ``offset``; short only at the end of the file.

        Raises IntegrityError when the content does not verify, SessionEndedError when the
        session is over.
        """
        self._pulse()
        if self._on_close is None:
            raise StorageUnavailableError("The file was closed; open it again.")
        try:
            data = self._source.read_at(offset, size)
        except StorageError as error:
            self._error = error
            raise
        with self._lock:
            self._sent_bytes += len(data)
        return data

    def close(self, *, complete: bool = True) -> None:
        """Write the closing record. Idempotent. ``complete`` False: the client was cut off."""
        with self._lock:
            on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close(self._sent_bytes, complete=complete, error=self._error)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a write will be committed, by ids, so that renaming a folder above does no harm.

    ``node_id`` is None while no file of that name existed when the handle was opened.
    """

    share: str
    folder_id: bytes
    name: str
    node_id: bytes | None


@dataclass(frozen=True, slots=True)
class Terms:
    """What must hold for a commit. ``base`` is a version id in hex, ``""``: absent, None: any."""

    replace: bool
    base: str | None
    expected_size: int | None


class WriteDoor(Protocol):
    """What the monitor does for a file that is being written.

    Lock order: a handle's lock is taken before the journal's. So nothing that runs inside a
    transaction may call a method of a handle that takes its lock.
    """

    def pulse(self, handle: WriteHandle) -> None:
        """Require that the session lives, may still write this, and that there is room."""

    def read_back(self, handle: WriteHandle) -> None:
        """Require and record the right to read what the file held before."""

    def read_ended(self, handle: WriteHandle) -> None:
        """Record how much of the old content left."""

    def commit(self, handle: WriteHandle) -> NodeInfo:
        """Make the draft the current version; discards it where that certainly did not happen."""

    def aborted(self, handle: WriteHandle, reason: str) -> None:
        """Record that nothing came of it."""

    def forgotten(self, handle: WriteHandle) -> None:
        """Give back what the write had reserved; its file was deleted."""

    def suspend(self, handle: WriteHandle, reason: str) -> bool:
        """Keep what arrived for its uploader and record that; False: it cannot be kept."""


class WriteHandle:
    """A file open for writing; nothing is visible to others before ``commit``. Thread-safe."""

    def __init__(
        self,
        door: WriteDoor,
        info: NodeInfo,
        draft: Draft,
        target: Target,
        terms: Terms,
        *,
        kept: bool,
        resumes: bool = False,
        credit_bytes: int = 0,
    ) -> None:
        """``kept``: the draft began with the present content, which needs the right to read.

        ``resumes``: with what had arrived of a cut-off upload. ``credit_bytes``: how much of what
        the quota counts goes away when this is committed.
        """
        self.info = info
        self.draft = draft
        self.target = target
        self.terms = terms
        self.kept = kept
        self.resumes = resumes
        self.credit_bytes = credit_bytes
        self.pulsed_us = 0
        self.received_bytes = 0
        self.read_bytes = 0
        self.modified_us: int | None = None
        self.reservation: Reservation | None = None
        self.changed = not resumes and not kept
        self.created = not info.version_id
        self._door = door
        self._read_recorded = False
        self._lock = threading.RLock()
        self._result: NodeInfo | None = None
        self._aborted = ""
        self._unfit = False

    @property
    def size_bytes(self) -> int:
        """The plaintext size of what would be committed."""
        return self.draft.size_bytes

    @property
    def complete(self) -> bool:
        """Whether as many bytes have arrived as were announced."""
        return self.terms.expected_size in {None, self.size_bytes}

    @property
    def present_info(self) -> NodeInfo:
        """What the writing session itself sees of the file."""
        modified_us = self.info.modified_us if self.modified_us is None else self.modified_us
        return replace(self.info, size_bytes=self.size_bytes, modified_us=modified_us)

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Put ``data`` at ``offset``; a gap reads as zeros.

        Raises LimitError, LengthMismatchError when more comes than was announced,
        QuotaExceededError, SessionEndedError, DeniedError, StorageFullError.
        """
        with self._lock, self._unfit_by_errors():
            announced = self.terms.expected_size
            if announced is not None and offset + len(data) > announced:
                raise LengthMismatchError("More bytes arrived than were announced.")
            self.draft.write_at(offset, data)
            self.received_bytes += len(data)
            self.changed = True

    def read_at(self, offset: int, size: int) -> bytes:
        """Return what the file would hold; DeniedError without the right to read the old content.

        The first read of old content is recorded like any other read, the end of it at the close.
        """
        self._door.pulse(self)
        with self._lock:
            self._require_open()
            if self.kept and not self._read_recorded:
                self._door.read_back(self)
                self._read_recorded = True
            data = self.draft.read_at(offset, size)
            self.read_bytes += len(data)
            return data

    def truncate(self, size_bytes: int) -> None:
        """Cut the file, or extend it with zeros."""
        with self._lock, self._unfit_by_errors():
            if size_bytes != self.draft.size_bytes:
                self.draft.truncate(size_bytes)
                self.changed = True

    def set_modified(self, modified_us: int) -> None:
        """Give the committed file this modification time. Takes no lock: see ``WriteDoor``."""
        self.modified_us = modified_us

    def commit(self) -> NodeInfo:
        """Make the content the file's current version, durably, and return what it is then.

        Raises LengthMismatchError, ConflictError, LockedError, DeniedError, QuotaExceededError and
        whatever else refuses; the old content is then untouched and the handle is over. A file
        that was deleted through the same session stays deleted.
        """
        with self._lock:
            if self._result is not None or self._aborted == DELETED:
                return self._result or self.present_info
            self._require_open()
            if self._unfit:
                try:
                    self._door.pulse(self)
                finally:
                    self.abort("incomplete")
                raise StorageUnavailableError(
                    "A part of this file was not stored, so nothing of it is; write it again."
                )
            self._aborted = "failed"
            try:
                self._result = self._door.commit(self)
            finally:
                self._end_reading()
            return self._result

    def abort(self, reason: str = "aborted") -> None:
        """Drop what was written and record that. Idempotent; after ``commit`` a no-op."""
        with self._lock:
            if self._result is not None or self._aborted:
                return
            self._aborted = reason
            try:
                self.draft.discard()
            finally:
                self._door.aborted(self, reason)
                self._end_reading()

    def suspend(self, reason: str) -> None:
        """Keep what arrived, for its uploader alone, to be continued; else as ``abort``."""
        with self._lock:
            if self._result is not None or self._aborted:
                return
            if not self.kept and self.received_bytes and self._door.suspend(self, reason):
                self._aborted = reason
                self._end_reading()
                return
        self.abort(reason)

    def forget(self) -> None:
        """Drop what was written because its file was deleted; that operation has the record."""
        with self._lock:
            if self._result is None and not self._aborted:
                self._aborted = DELETED
                self.draft.discard()
                self._door.forgotten(self)
                self._end_reading()

    @contextlib.contextmanager
    def _unfit_by_errors(self) -> Iterator[None]:
        """Pulse, and never commit what a refused or failed write left incomplete.

        A client that sends many writes at once goes on after one that failed, and then closes.
        """
        self._require_open()
        try:
            self._door.pulse(self)
            if self._unfit:
                raise StorageUnavailableError(  # noqa: TRY301  as the door's own refusals
                    "An earlier part of this file was not stored; write the file again."
                )
            yield
        except BaseException:
            self._unfit = True
            # The next try is told anew why it cannot go on.
            self.pulsed_us = 0
            raise

    def _end_reading(self) -> None:
        if self._read_recorded:
            self._read_recorded = False
            self._door.read_ended(self)

    def _require_open(self) -> None:
        if self._aborted or self._result is not None:
            raise StorageUnavailableError("The file was closed; open it again.")
