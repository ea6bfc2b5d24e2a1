"""The open files of the fake door, which the handles of one session on one path share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from backends.errors import LengthMismatchError, QuotaExceededError, StorageUnavailableError
from gateway.model import NodeInfo

if TYPE_CHECKING:
    from tests.sftp.fake_door import FakeDoor

QUOTA_BYTES = 64 * 1024 * 1024


@dataclass(slots=True, eq=False)
class FakeFile:
    """A ``gateway.open_file.OpenFile``, or the content of a version."""

    info: NodeInfo
    content: bytearray
    changed: bool = False
    unfit: bool = False
    deleted: bool = False
    modified_us: int | None = None
    expected_size: int | None = None
    holders: list[FakeWriting] = field(default_factory=list)

    @property
    def present_info(self) -> NodeInfo:
        when = self.info.modified_us if self.modified_us is None else self.modified_us
        return replace(self.info, size_bytes=len(self.content), modified_us=when)

    def spoil(self) -> None:
        self.unfit = True

    def grow(self, size_bytes: int) -> None:
        if size_bytes > QUOTA_BYTES:
            self.unfit = True
            raise QuotaExceededError("The share's quota does not hold that much more.")
        self.content.extend(bytes(max(0, size_bytes - len(self.content))))
        self.changed = True

    def truncate(self, size_bytes: int) -> None:
        if size_bytes != len(self.content):
            self.grow(size_bytes)
            del self.content[size_bytes:]


@dataclass(slots=True)
class FakeReading:
    """A ``gateway.handles.ReadHandle``."""

    door: FakeDoor
    info: NodeInfo
    file: FakeFile

    @property
    def size_bytes(self) -> int:
        return len(self.file.content)

    @property
    def present_info(self) -> NodeInfo:
        return self.file.present_info

    def read_at(self, offset: int, size: int) -> bytes:
        self.door.monitor.touch(self.door.session, "read")
        return bytes(self.file.content[offset : offset + size])

    def sync(self) -> None:
        if self.file.holders:
            self.file.holders[-1].sync()

    def close(self, *, complete: bool = True) -> None:
        self.door.monitor.events.append(("close", "complete" if complete else "cut"))


@dataclass(slots=True, eq=False)
class FakeWriting:
    """A ``gateway.handles.WriteHandle``."""

    door: FakeDoor
    file: FakeFile
    over: bool = False
    resumes: bool = False

    def __post_init__(self) -> None:
        self.door.monitor.open_writers += 1
        self.file.holders.append(self)

    @property
    def size_bytes(self) -> int:
        return len(self.file.content)

    @property
    def present_info(self) -> NodeInfo:
        return self.file.present_info

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        self.door.monitor.touch(self.door.session, "write")
        self._require_fit()
        self.file.grow(max(offset + len(data), self.size_bytes))
        self.file.content[offset : offset + len(data)] = data
        self.door.monitor.events.append(("write", str(self.file.info.path)))

    def append(self, data: bytes | memoryview) -> None:
        self.write_at(self.size_bytes, data)

    def read_at(self, offset: int, size: int) -> bytes:
        return bytes(self.file.content[offset : offset + size])

    def truncate(self, size_bytes: int) -> None:
        self.door.monitor.touch(self.door.session, "truncate")
        self._require_fit()
        self.file.truncate(size_bytes)

    def set_modified(self, modified_us: int) -> None:
        self.file.modified_us = modified_us

    def sync(self) -> None:
        self._begin("sync")
        if self.file.changed:
            self._store("sync")

    def commit(self) -> NodeInfo:
        if not self.file.deleted:
            self._begin("commit")
        self._leave()
        if self.file.expected_size not in {None, len(self.file.content)}:
            raise LengthMismatchError("Not as many bytes as were announced.")
        if not self.file.deleted:
            self._store("commit")
        return self.file.present_info

    def abort(self, reason: str = "aborted") -> None:
        if not self.over:
            self._leave()
            self.door.monitor.events.append(("abort", reason))

    def suspend(self, reason: str) -> None:
        if not self.over:
            self._leave()
            self.door.monitor.events.append(("suspend", reason))

    def _begin(self, operation: str) -> None:
        try:
            self.door.monitor.touch(self.door.session, operation)
            self._require_fit()
        except BaseException:
            self.file.unfit = True
            raise

    def _require_fit(self) -> None:
        if self.file.unfit:
            raise StorageUnavailableError("A part of this file was not stored.")

    def _store(self, event: str) -> None:
        file, monitor = self.file, self.door.monitor
        path = file.info.path
        monitor.events.append((event if file.changed else "unchanged", str(path)))
        if file.changed:
            monitor.put(str(path), bytes(file.content))
        if file.modified_us is not None:
            monitor.tree[path].modified_us = file.modified_us
        node = monitor.tree[path]
        file.info = replace(file.info, modified_us=node.modified_us)
        file.changed, file.modified_us = False, None

    def _leave(self) -> None:
        self.over = True
        self.door.monitor.open_writers -= 1
        self.file.holders.remove(self)
        key = (self.door.session.id, self.file.info.path)
        if not self.file.holders and self.door.monitor.drafts.get(key) is self.file:
            del self.door.monitor.drafts[key]
