"""Open files: what a protocol holds between open and close.

A handle moves bytes and counts them; what opening, committing and closing mean for policy, locks
and audit is the monitor's, which hands in the callbacks. Imports the vault's content classes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from backends.draft import Draft
from backends.errors import LengthMismatchError, StorageFullError, StorageUnavailableError
from gateway.errors import SealgateError
from gateway.model import NodeInfo
from gateway.paths import VirtualPath


class Source(Protocol):
    """Something to read from: the content of a version, or a file that is being written."""

    @property
    def size_bytes(self) -> int:
        """The plaintext size."""

    def read_at(self, offset: int, size: int, /) -> bytes:
        """Return up to ``size`` bytes from ``offset``; short only at the end."""


class OnClose(Protocol):
    """What the monitor does when a read ends."""

    def __call__(self, sent_bytes: int, *, complete: bool) -> None:
        """Record that ``sent_bytes`` left; ``complete`` False: the client was cut off."""


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
        data = self._source.read_at(offset, size)
        with self._lock:
            self._sent_bytes += len(data)
        return data

    def close(self, *, complete: bool = True) -> None:
        """Write the closing record. Idempotent. ``complete`` False: the client was cut off."""
        with self._lock:
            on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close(self._sent_bytes, complete=complete)


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


class WriteHandle:
    """A file open for writing; nothing is visible to others before ``commit``."""

    def __init__(
        self,
        info: NodeInfo,
        draft: Draft,
        target: Target,
        terms: Terms,
        *,
        kept: bool,
        pulse: Callable[[], None],
        on_read: Callable[[WriteHandle], None],
        on_commit: Callable[[WriteHandle], NodeInfo],
        on_abort: Callable[[WriteHandle, str], None],
    ) -> None:
        """``kept``: the draft began with the present content, which needs the right to read."""
        self.info = info
        self.draft = draft
        self.target = target
        self.terms = terms
        self.kept = kept
        self.received_bytes = 0
        self.modified_us: int | None = None
        self.changed = not info.version_id or not kept
        self.created = not info.version_id
        self._read_allowed = not kept
        self._pulse = pulse
        self._on_read = on_read
        self._on_commit = on_commit
        self._on_abort = on_abort
        self._lock = threading.RLock()
        self._result: NodeInfo | None = None
        self._aborted = ""

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

        Raises LimitError, LengthMismatchError when more comes than was announced, SessionEndedError,
        StorageFullError.
        """
        self._pulse()
        with self._lock:
            self._require_open()
            announced = self.terms.expected_size
            if announced is not None and offset + len(data) > announced:
                raise LengthMismatchError("More bytes arrived than were announced.")
            self.draft.write_at(offset, data)
            self.received_bytes += len(data)
            self.changed = True

    def read_at(self, offset: int, size: int) -> bytes:
        """Return what the file would hold; DeniedError without the right to read the old content."""
        self._pulse()
        with self._lock:
            self._require_open()
            if not self._read_allowed:
                self._on_read(self)
                self._read_allowed = True
            return self.draft.read_at(offset, size)

    def truncate(self, size_bytes: int) -> None:
        """Cut the file, or extend it with zeros."""
        self._pulse()
        with self._lock:
            self._require_open()
            if size_bytes != self.draft.size_bytes:
                self.draft.truncate(size_bytes)
                self.changed = True

    def set_modified(self, modified_us: int) -> None:
        """Give the committed file this modification time."""
        with self._lock:
            self.modified_us = modified_us

    def commit(self) -> NodeInfo:
        """Make the content the file's current version, durably, and return what it is then.

        Raises LengthMismatchError, ConflictError, LockedError, DeniedError, QuotaExceededError and
        whatever else refuses; the old content is then untouched and the handle is over. A file
        that was deleted through the same session stays deleted.
        """
        with self._lock:
            if self._result is not None or self._aborted == "deleted":
                return self._result or self.present_info
            self._require_open()
            try:
                self._result = self._on_commit(self)
            except (StorageUnavailableError, StorageFullError):
                # The commit may have reached the disk although its success was not reported: the
                # segments stay, for the catalog to refer to or for gc to collect.
                self._aborted = "failed"
                raise
            except SealgateError:
                self._aborted = "failed"
                self.draft.discard()
                raise
            return self._result

    def abort(self, reason: str = "aborted") -> None:
        """Drop what was written and record that. Idempotent; after ``commit`` a no-op."""
        with self._lock:
            if self._result is not None or self._aborted:
                return
            self._aborted = reason
            self.draft.discard()
            self._on_abort(self, reason)

    def forget(self) -> None:
        """Drop what was written because its file was deleted; that operation has the record."""
        with self._lock:
            if self._result is None and not self._aborted:
                self._aborted = "deleted"
                self.draft.discard()

    def _require_open(self) -> None:
        if self._aborted or self._result is not None:
            raise StorageUnavailableError("The file was closed; open it again.")


class OpenWrites:
    """The files being written through this process, by session and path. Thread-safe.

    A session sees its own unfinished files under their paths; nobody else does.
    """

    def __init__(self) -> None:
        self._handles: dict[str, dict[VirtualPath, WriteHandle]] = {}
        self._lock = threading.Lock()

    def add(self, session_id: str, path: VirtualPath, handle: WriteHandle) -> None:
        """Show ``handle`` under ``path``; a later one hides an earlier one."""
        with self._lock:
            self._handles.setdefault(session_id, {})[path] = handle

    def remove(self, session_id: str, handle: WriteHandle) -> None:
        """Forget ``handle``, wherever it is shown."""
        with self._lock:
            shown = self._handles.get(session_id, {})
            for path in [path for path, each in shown.items() if each is handle]:
                del shown[path]
            if not shown:
                self._handles.pop(session_id, None)

    def find(self, session_id: str, path: VirtualPath) -> WriteHandle | None:
        """Return what the session is writing under ``path``."""
        with self._lock:
            return self._handles.get(session_id, {}).get(path)

    def within(self, session_id: str, folder: VirtualPath) -> list[tuple[VirtualPath, WriteHandle]]:
        """Return what the session is writing at or below ``folder``."""
        with self._lock:
            shown = self._handles.get(session_id, {})
            return [(path, handle) for path, handle in shown.items() if path.is_within(folder)]

    def move(self, session_id: str, source: VirtualPath, target: VirtualPath) -> None:
        """Show what lay at or below ``source`` where a rename to ``target`` takes it."""
        with self._lock:
            shown = self._handles.get(session_id, {})
            for path in [path for path in shown if path.is_within(source)]:
                shown[path.rebased(source, target)] = shown.pop(path)
