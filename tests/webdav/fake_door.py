"""A door without storage, policy or audit trail: a tree and its locks in memory.

It keeps the promises of ``gateway.monitor`` and ``gateway.handles`` that the WebDAV front end
relies on, so that the front end can be tested alone.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Self, cast

from auth.errors import DirectoryUnavailableError, LoginRefusedError
from backends.errors import (
    AlreadyExistsError,
    IntoItselfError,
    IsAFolderError,
    LengthMismatchError,
    NotFoundError,
    ParentMissingError,
    QuotaExceededError,
)
from gateway.errors import AuditUnavailableError, DeniedError, LockedError, LockTokenError
from gateway.model import (
    Attempt,
    Client,
    Condition,
    Entry,
    Factor,
    Kind,
    LockInfo,
    NodeInfo,
    Principal,
    PropertyName,
    Seen,
    Session,
    Usage,
    Wire,
)
from gateway.paths import ROOT, VirtualPath

SECOND_US = 1_000_000
START_US = 1_700_000_000 * SECOND_US
SECRET = "correct horse123456"
QUOTA_BYTES = 64 * 1024 * 1024


@dataclass(slots=True)
class Node:
    info: NodeInfo
    data: bytes = b""
    properties: dict[PropertyName, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Listing:
    folder: NodeInfo
    pages: Iterator[Sequence[Entry]]


class FakeMonitor:
    """Lets in alice, bob and their SECRET; ``broken`` is raised by every log-in when set."""

    def __init__(self) -> None:
        self.mutex = threading.RLock()
        self.ids = itertools.count(1)
        self.now_us = START_US
        self.nodes: dict[VirtualPath, Node] = {}
        self.held: list[LockInfo] = []
        self.unhashed: set[VirtualPath] = set()
        self.reads: list[tuple[str, bool]] = []
        self.aborts: list[str] = []
        self.attempts: list[Attempt] = []
        self.failure: Exception | None = None
        self.page_size = 1000
        self.page_limit = 100_000
        self.pages: list[int] = []
        self.refusals: list[str] = []
        for path in (ROOT, VirtualPath.parse("/share")):
            self.make(path, Kind.FOLDER)

    def clock(self) -> int:
        return self.now_us

    def login(self, attempt: Attempt) -> Session:
        self.attempts.append(attempt)
        if attempt.name == "nodirectory":
            raise DirectoryUnavailableError("No directory answers. Try again later.")
        if attempt.name == "noaudit":
            raise AuditUnavailableError("The audit trail cannot be written.")
        if attempt.name not in {"alice", "bob"} or attempt.secret != SECRET:
            raise LoginRefusedError("password")
        return Session(
            id=f"session-{attempt.name}",
            principal=Principal(id=f"id-{attempt.name}", name=attempt.name),
            wire=Wire.WEBDAV,
            client=attempt.client,
            factors=frozenset({Factor.PASSWORD, Factor.TOTP}),
            opened_us=START_US,
            last_active_us=START_US,
            idle_timeout_s=600,
            ends_us=START_US + 3600 * SECOND_US,
        )

    def recall(self, attempt: Attempt) -> Session | None:
        """Return None: every request logs in, which tests count."""
        return None

    def forget(self, attempt: Attempt) -> None:
        """Recall nothing."""

    def bind(self, session: Session) -> FakeDoor:
        return FakeDoor(self, session)

    def refused(
        self, client: Client, wire: Wire, what: str, session: Session | None = None
    ) -> None:
        self.refusals.append(what)

    def make(self, path: VirtualPath, kind: Kind, data: bytes = b"") -> Node:
        self.now_us += SECOND_US
        node = Node(
            NodeInfo(
                path=path,
                kind=kind,
                node_id=f"{next(self.ids):032x}",
                version_id=f"{next(self.ids):032x}" if kind is Kind.FILE else "",
                size_bytes=len(data),
                created_us=self.now_us,
                modified_us=self.now_us,
            ),
            data,
        )
        self.nodes[path] = node
        return node

    def hashed(self, node: Node) -> NodeInfo:
        if node.info.is_folder or node.info.path in self.unhashed:
            return node.info
        return replace(node.info, sha256=hashlib.sha256(node.data).hexdigest())


class FakeDoor:
    def __init__(
        self,
        monitor: FakeMonitor,
        session: Session,
        tokens: frozenset[str] = frozenset(),
        condition: Condition | None = None,
    ) -> None:
        self.monitor = monitor
        self.session = session
        self.tokens = tokens
        self.condition = condition

    def with_tokens(self, tokens: frozenset[str], condition: Condition | None = None) -> Self:
        return cast(Self, FakeDoor(self.monitor, self.session, tokens, condition))

    # Reading

    def stat(
        self, path: VirtualPath, *, properties: bool = False, digest: bool = False
    ) -> NodeInfo:
        if self.monitor.failure is not None:
            raise self.monitor.failure
        node = self._node(path)
        info = self.monitor.hashed(node) if digest else node.info
        return replace(info, properties=dict(node.properties)) if properties else info

    def look(self, path: VirtualPath, *, properties: bool = False) -> Listing | NodeInfo:
        folder = self.stat(path, properties=properties)
        if not folder.is_folder:
            return folder
        children = [
            self.stat(other, properties=properties)
            for other in list(self.monitor.nodes)
            if other != path and other.parent == path
        ]
        return Listing(folder, self._pages([Entry.of(child) for child in children]))

    def _pages(self, entries: list[Entry]) -> Iterator[Sequence[Entry]]:
        for start in range(0, len(entries), self.monitor.page_size) or (0,):
            if start >= self.monitor.page_limit:
                raise DeniedError("the right is gone")
            self.monitor.pages.append(start)
            yield entries[start : start + self.monitor.page_size]

    def open_read(self, path: VirtualPath, *, whole_limit_bytes: int = 0) -> FakeReader:
        node = self._node(path)
        if node.info.is_folder:
            raise IsAFolderError("This is a folder.")
        return FakeReader(self.monitor, node)

    def usage(self, path: VirtualPath) -> Usage:
        if path.is_root:
            raise NotFoundError("The root has no space of its own.")
        used = sum(len(node.data) for node in self.monitor.nodes.values())
        return Usage(used, 10 * QUOTA_BYTES, QUOTA_BYTES, len(self.monitor.nodes))

    # Writing

    def open_write(
        self,
        path: VirtualPath,
        *,
        create: bool = True,
        replace: bool = True,
        keep: bool = False,
        expected_size: int | None = None,
    ) -> FakeWriter:
        with self.monitor.mutex:
            self._check_place(path)
            node = self.monitor.nodes.get(path)
            if node is not None and node.info.is_folder:
                raise IsAFolderError("This is a folder.")
            if node is not None and not replace:
                raise AlreadyExistsError("There is a file already.")
            self.require_condition()
            self._check_locks(path, changes_parent=node is None)
            if expected_size is not None and expected_size > QUOTA_BYTES:
                raise QuotaExceededError("The share is full.")
            return FakeWriter(self, path, expected_size)

    def store(
        self, path: VirtualPath, content: bytes, *, modified_us: int | None = None
    ) -> tuple[NodeInfo, bool]:
        handle = self.open_write(path)
        handle.write_at(0, content)
        if modified_us is not None:
            handle.set_modified(modified_us)
        return handle.commit(), handle.created

    def mkdir(self, path: VirtualPath) -> NodeInfo:
        with self.monitor.mutex:
            self._check_place(path)
            if path in self.monitor.nodes:
                raise AlreadyExistsError("The name is taken.")
            self.require_condition()
            self._check_locks(path, changes_parent=True)
            return self.monitor.make(path, Kind.FOLDER).info

    def delete(
        self, path: VirtualPath, *, kind: Kind | None = None, only_empty: bool = False
    ) -> None:
        with self.monitor.mutex:
            node = self._node(path)
            if kind is Kind.FILE and node.info.is_folder:
                raise IsAFolderError("This is a folder.")
            self._check_place(path)
            self.require_condition()
            self._check_locks(path, changes_parent=True, tree=True)
            self._drop(path, locks_too=True)

    def move(
        self,
        source: VirtualPath,
        target: VirtualPath,
        *,
        replace: bool = False,
        replace_folder: bool = False,
    ) -> bool:
        with self.monitor.mutex:
            created = self._check_transfer(source, target, replace=replace)
            self._check_locks(source, changes_parent=True, tree=True)
            self._copy_tree(source, target, recursive=True, same_ids=True)
            self._drop(source, locks_too=True)
            return created

    def copy(
        self,
        source: VirtualPath,
        target: VirtualPath,
        *,
        replace: bool = False,
        recursive: bool = True,
    ) -> bool:
        with self.monitor.mutex:
            created = self._check_transfer(source, target, replace=replace)
            self._copy_tree(source, target, recursive=recursive, same_ids=False)
            return created

    def set_properties(
        self,
        path: VirtualPath,
        *,
        put: dict[PropertyName, str],
        remove: frozenset[PropertyName],
        modified_us: int | None = None,
    ) -> None:
        with self.monitor.mutex:
            node = self._node(path)
            self.require_condition()
            self._check_locks(path, changes_parent=False)
            for name in remove:
                node.properties.pop(name, None)
            node.properties.update(put)
            if modified_us is not None:
                node.info = replace(node.info, modified_us=modified_us)

    # Locks

    def locks(self, path: VirtualPath, *, below: bool = False) -> list[LockInfo]:
        found = [
            lock
            for lock in self.monitor.held
            if _covers(lock, path) or (below and lock.path.parent == path)
        ]
        own = self.session.principal.id
        return [lock if lock.principal_id == own else replace(lock, token="") for lock in found]

    def lock(
        self,
        path: VirtualPath,
        *,
        exclusive: bool,
        depth_infinity: bool,
        owner: str,
        timeout_s: int,
    ) -> tuple[LockInfo, bool]:
        with self.monitor.mutex:
            if path not in self.monitor.nodes:
                self._check_place(path)
            for held in self.monitor.held:
                near = _covers(held, path) or (depth_infinity and held.path.is_within(path))
                if near and (exclusive or held.exclusive):
                    raise LockedError(held.principal_name)
            self.require_condition()
            created = path not in self.monitor.nodes
            if created:
                self._check_locks(path, changes_parent=True)
                self.monitor.make(path, Kind.FILE)
            lock = LockInfo(
                token=f"urn:uuid:{next(self.monitor.ids):032x}",
                path=path,
                principal_id=self.session.principal.id,
                principal_name=self.session.principal.name,
                exclusive=exclusive,
                depth_infinity=depth_infinity,
                owner=owner,
                timeout_s=timeout_s,
                expires_us=self.monitor.now_us + timeout_s * SECOND_US,
            )
            self.monitor.held.append(lock)
            return lock, created

    def refresh_lock(self, path: VirtualPath, token: str, *, timeout_s: int) -> LockInfo:
        lock = self._own(path, token)
        self.require_condition()
        fresh = replace(
            lock, timeout_s=timeout_s, expires_us=self.monitor.now_us + timeout_s * SECOND_US
        )
        self.monitor.held[self.monitor.held.index(lock)] = fresh
        return fresh

    def unlock(self, path: VirtualPath, token: str) -> None:
        lock = self._own(path, token)
        self.require_condition()
        self.monitor.held.remove(lock)

    # Inner

    def require_condition(self) -> None:
        if self.condition is not None:
            self.condition(self._look)

    def _look(self, path: VirtualPath) -> Seen:
        node = self.monitor.nodes.get(path)
        if node is None:
            return Seen(None)
        return Seen(node.info, frozenset(lock.token for lock in self.locks(path) if lock.token))

    def _own(self, path: VirtualPath, token: str) -> LockInfo:
        for lock in self.locks(path):
            if token and lock.token == token:
                return lock
        raise LockTokenError("The token names no lock of yours here.")

    def _node(self, path: VirtualPath) -> Node:
        try:
            return self.monitor.nodes[path]
        except KeyError:
            raise NotFoundError("There is nothing of that name.") from None

    def _check_place(self, path: VirtualPath) -> None:
        if path.is_root or path.is_share:
            raise DeniedError("default")
        parent = self.monitor.nodes.get(path.parent)
        if parent is None or not parent.info.is_folder:
            raise ParentMissingError("The folder does not exist.")

    def _check_locks(self, path: VirtualPath, *, changes_parent: bool, tree: bool = False) -> None:
        groups = [[lock for lock in self.monitor.held if _covers(lock, path)]]
        if changes_parent:
            groups.append([lock for lock in self.monitor.held if lock.path == path.parent])
        if tree:
            groups += [[lock] for lock in self.monitor.held if lock.path.is_within(path)]
        own = self.session.principal.id
        for group in groups:
            mine = any(lock.token in self.tokens and lock.principal_id == own for lock in group)
            if group and not mine:
                root = group[0].path
                folder = root in self.monitor.nodes and self.monitor.nodes[root].info.is_folder
                raise LockedError(group[0].principal_name, root=str(root), root_is_folder=folder)

    def _check_transfer(self, source: VirtualPath, target: VirtualPath, *, replace: bool) -> bool:
        self._node(source)
        self._check_place(source)
        self._check_place(target)
        if target.is_within(source):
            raise IntoItselfError("Into itself.")
        taken = target in self.monitor.nodes
        if taken and not replace:
            raise AlreadyExistsError("The name is taken.")
        self.require_condition()
        self._check_locks(target, changes_parent=not taken, tree=taken)
        return not taken

    def _copy_tree(
        self, source: VirtualPath, target: VirtualPath, *, recursive: bool, same_ids: bool
    ) -> None:
        self._drop(target, locks_too=False)
        for path in [other for other in self.monitor.nodes if other.is_within(source)]:
            if path != source and not recursive:
                continue
            old, to = self.monitor.nodes[path], path.rebased(source, target)
            node = self.monitor.make(to, old.info.kind, old.data)
            node.properties = dict(old.properties)
            if same_ids:
                node.info = replace(old.info, path=to)

    def _drop(self, root: VirtualPath, *, locks_too: bool) -> None:
        for path in [other for other in self.monitor.nodes if other.is_within(root)]:
            del self.monitor.nodes[path]
        self.monitor.held = [
            lock
            for lock in self.monitor.held
            if not lock.path.is_within(root) or (lock.path == root and not locks_too)
        ]


class FakeReader:
    def __init__(self, monitor: FakeMonitor, node: Node) -> None:
        self.monitor = monitor
        self.info = monitor.hashed(node)
        self.data = node.data
        self.size_bytes = len(node.data)

    def read_at(self, offset: int, size: int) -> bytes:
        return self.data[offset : offset + size]

    def close(self, *, complete: bool = True) -> None:
        self.monitor.reads.append((str(self.info.path), complete))


class FakeWriter:
    def __init__(self, door: FakeDoor, path: VirtualPath, expected_size: int | None) -> None:
        self.door = door
        self.path = path
        self.expected_size = expected_size
        self.data = bytearray()
        self.modified_us: int | None = None
        self.aborted = False
        self.created = path not in door.monitor.nodes

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        assert offset == len(self.data)
        self.data += data

    def set_modified(self, modified_us: int) -> None:
        self.modified_us = modified_us

    def commit(self) -> NodeInfo:
        if self.expected_size is not None and self.expected_size != len(self.data):
            raise LengthMismatchError("Fewer or more bytes came than were announced.")
        monitor = self.door.monitor
        with monitor.mutex:
            old = monitor.nodes.get(self.path)
            self.door.require_condition()
            node = monitor.make(self.path, Kind.FILE, bytes(self.data))
            if old is not None:
                node.properties = old.properties
            if self.modified_us is not None:
                node.info = replace(node.info, modified_us=self.modified_us)
            return node.info

    def abort(self, reason: str = "aborted") -> None:
        if not self.aborted:
            self.aborted = True
            self.door.monitor.aborts.append(reason)


def _covers(lock: LockInfo, path: VirtualPath) -> bool:
    return lock.path == path or (lock.depth_infinity and path.is_within(lock.path))
