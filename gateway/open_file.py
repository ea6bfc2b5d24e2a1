"""A file that is being written, whichever of its handles the bytes come through.

All handles that one session of SFTP has on one path share one ``OpenFile``, as POSIX has it: a
client may open a file again before the close of its last handle has arrived. It keeps what they
share. What opening, committing and closing mean for policy, locks and audit is not decided here.
Imports the vault's content classes.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from backends.draft import Draft
from backends.errors import LengthMismatchError, StorageError, StorageUnavailableError
from backends.room import Reservation
from gateway.model import NodeInfo

CLOSED = "The file was closed; open it again."

INCOMPLETE = "An earlier part of this file was not stored; write the file again."


class Source(Protocol):
    """Something to read from: the content of a version, or a file that is being written."""

    @property
    def size_bytes(self) -> int:
        """The plaintext size."""

    def read_at(self, offset: int, size: int, /) -> bytes:
        """Return up to ``size`` bytes from ``offset``; short only at the end."""


class Holder(Protocol):
    """A handle on an open file."""

    def sync(self) -> None:
        """Make what the file holds durable, and go on."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a write will be committed, by ids, so that renaming a folder above does no harm.

    ``node_id`` is None while no file of that name existed when it was opened.
    """

    share: str
    folder_id: bytes
    name: str
    node_id: bytes | None


@dataclass(frozen=True, slots=True)
class Terms:
    """What must hold for a commit. ``expected_size`` None: any."""

    replace: bool
    expected_size: int | None

    @property
    def can_share(self) -> bool:
        """Whether handles can share a file under them: they say nothing of one's own content."""
        return self.expected_size is None


@dataclass(frozen=True, slots=True)
class Committed:
    """What has become of a file with a commit.

    ``reopen`` gives readers what was committed. ``credit_bytes`` is how much of what the quota
    counts goes away with the next commit, and ``synced_id`` the version that the next one
    replaces (hex), empty when none.
    """

    info: NodeInfo
    target: Target
    reopen: Callable[[], Source]
    credit_bytes: int
    synced_id: str


class OpenFile:
    """One file being written. Its handles change it only while they hold ``lock``.

    What it is (``info``, ``path``, ``target``, ``terms``, sizes) may be asked without the lock,
    so inside a transaction too.
    """

    def __init__(
        self,
        info: NodeInfo,
        draft: Draft,
        target: Target,
        terms: Terms,
        *,
        kept: bool,
        resumes: bool = False,
        credit_bytes: int = 0,
        shared: bool = False,
    ) -> None:
        """``kept``: the draft began with the present content, which needs the right to read.

        ``resumes``: with what had arrived of a cut-off upload. ``credit_bytes``: how much of what
        the quota counts goes away when this is committed. ``shared``: further handles may join.
        """
        self.lock = threading.RLock()
        self.info = info
        self.path = info.path
        self.draft = draft
        self.target = target
        self.terms = terms
        self.kept = kept
        self.resumes = resumes
        self.credit_bytes = credit_bytes
        self.shared = shared
        self.made = not info.version_id
        self.changed = not resumes and not kept
        self.received = False
        self.unfit = self.spoiled = False
        self.over = False
        self.deleted = False
        self.committed = False
        self.synced_id = ""
        self.reservation: Reservation | None = None
        self._modified_us: int | None = None
        self._times = threading.Lock()
        self._holders: list[Holder] = []
        self._reopen: Callable[[], Source] | None = None
        self._content: Source | None = None
        self._read_beside = False

    @property
    def created(self) -> bool:
        """Whether its next commit makes the file."""
        return not self.info.version_id

    @property
    def size_bytes(self) -> int:
        """The plaintext size of what would be committed, or was."""
        return self.info.size_bytes if self.over and self.committed else self.draft.size_bytes

    @property
    def complete(self) -> bool:
        """Whether as many bytes have arrived as were announced."""
        return self.terms.expected_size in {None, self.draft.size_bytes}

    @property
    def modified_us(self) -> int | None:
        """The modification time that the next commit gives the file; None: its own moment."""
        return self._modified_us

    @property
    def present_info(self) -> NodeInfo:
        """What the writing session itself sees of the file."""
        info, modified_us = self.info, self._modified_us
        return replace(
            info,
            path=self.path,
            size_bytes=self.size_bytes,
            modified_us=info.modified_us if modified_us is None else modified_us,
        )

    @property
    def untouched(self) -> bool:
        """Whether it is empty, and nothing has come of it or been kept room for."""
        begun = self.kept or self.resumes or self.received or self.committed
        settled = self.over or self.unfit or self.reservation is not None
        return not (begun or settled or self.draft.size_bytes) and self.terms.can_share

    # Handles

    @property
    def hopeful(self) -> bool:
        """Whether it may still be committed: else its session sees what is stored instead."""
        return not self.over and not self.unfit

    @property
    def joinable(self) -> bool:
        """Whether a further handle may join."""
        return self.shared and self.hopeful

    def hold(self, holder: Holder) -> bool:
        """Take a handle; True when it is the first."""
        self._holders.append(holder)
        return len(self._holders) == 1

    def leave(self, holder: Holder) -> None:
        """Let a handle go."""
        self._holders.remove(holder)

    @property
    def has_one_holder(self) -> bool:
        """Whether the file ends with the handle that asks."""
        return len(self._holders) == 1

    # Content

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Put ``data`` at ``offset``; LengthMismatchError when more comes than was announced."""
        announced = self.terms.expected_size
        if announced is not None and offset + len(data) > announced:
            raise LengthMismatchError("More bytes arrived than were announced.")
        self.draft.write_at(offset, data)
        self.received = self.changed = True

    def truncate(self, size_bytes: int) -> None:
        """Cut the content, or extend it with zeros."""
        if size_bytes != self.draft.size_bytes:
            self.draft.truncate(size_bytes)
            self.changed = True
        if not size_bytes:
            # Nothing is left of what it began with.
            self.kept = False

    def begin_with(self, draft: Draft) -> None:
        """Hold what ``draft`` holds, as if it had been written; only while ``untouched``."""
        self.draft.discard()
        self.draft = draft
        self.received = self.changed = True

    def spoil(self) -> None:
        """Never commit or keep what it holds: a part of what was promised to be there is missing."""
        self.unfit = self.spoiled = True

    def set_modified(self, modified_us: int) -> None:
        """Give the next version this modification time. Needs no lock: see ``WriteDoor``."""
        with self._times:
            self._modified_us = modified_us

    # Beside its handles

    def source(self) -> Source:
        """Return what a reader of the same session reads from, also when the file is closed."""
        self._read_beside = True
        return self

    def read_at(self, offset: int, size: int) -> bytes:
        """Return what the file holds now, or what was committed when its last handle was closed.

        Raises StorageUnavailableError when nothing of it was committed.
        """
        with self.lock:
            if not self.over:
                return self.draft.read_at(offset, size)
            return self._committed_content().read_at(offset, size)

    def sync(self) -> None:
        """Make what was written so far durable, through one of the handles."""
        with self.lock:
            if self._holders:
                self._holders[-1].sync()

    def _committed_content(self) -> Source:
        if self._content is None:
            if self._reopen is None:
                raise StorageUnavailableError(CLOSED)
            self._content = self._reopen()
        return self._content

    # Its way

    def go_on(self, done: Committed, draft: Draft | None) -> None:
        """Continue after a commit: with ``draft`` upon what was committed; None: as it was."""
        self._take(done)
        if draft is not None:
            self.draft = draft
        self.changed = False

    def finish(self, done: Committed) -> None:
        """End after a commit."""
        self._take(done)
        self.over = True
        if self._read_beside:
            # Now: later it could have been replaced and cleared away. If it fails, it is tried
            # again when somebody reads.
            with contextlib.suppress(StorageError):
                self._committed_content()

    def keep(self) -> None:
        """End without a commit: what was written is kept elsewhere."""
        self.over = True

    def drop(self, *, deleted: bool = False) -> None:
        """End without a commit, and without what was written since the last one."""
        if not self.over:
            self.over, self.deleted = True, deleted
            self.draft.discard()

    def fail(self) -> None:
        """End for every handle, because a commit failed."""
        self.over = self.unfit = True

    def _take(self, done: Committed) -> None:
        self.info = done.info
        self.target = done.target
        self.terms = replace(self.terms, replace=True)
        self.credit_bytes = done.credit_bytes
        self.synced_id = done.synced_id
        self.reservation = None
        self.resumes = False
        self.committed = True
        self._reopen, self._content = done.reopen, None
        with self._times:
            # What was set since then is for the next version.
            if self._modified_us == done.info.modified_us:
                self._modified_us = None
