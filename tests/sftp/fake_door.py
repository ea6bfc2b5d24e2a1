"""A door without storage, policy or audit trail: a tree in memory that writes down what it did.

It keeps the promises of ``gateway.monitor`` and ``gateway.handles`` that the SFTP front end
relies on, so that the front end can be tested alone.
"""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from auth.errors import LoginRefusedError
from auth.policy import Decision
from backends.errors import (
    AlreadyExistsError,
    IsAFolderError,
    NotAFolderError,
    NotEmptyError,
    NotFoundError,
    ParentMissingError,
)
from gateway.errors import DeniedError, SessionEndedError
from gateway.model import (
    SECOND_US,
    Attempt,
    Client,
    Entry,
    Factor,
    Kind,
    NodeInfo,
    Principal,
    Session,
    Usage,
    Wire,
)
from gateway.paths import VirtualPath
from tests.sftp.fake_files import QUOTA_BYTES, FakeFile, FakeReading, FakeWriting

if TYPE_CHECKING:
    from gateway.handles import ReadHandle, WriteHandle
    from gateway.monitor import Door, Monitor

PASSWORD = "correct horse"
CODE = "123456"
START_US = 1_700_000_000 * SECOND_US


@dataclass(slots=True)
class SteppedClock:
    """A clock that moves only when told."""

    now_us: int = START_US

    def __call__(self) -> int:
        return self.now_us

    def advance(self, seconds: float) -> None:
        self.now_us += int(seconds * SECOND_US)


@dataclass(slots=True)
class Node:
    """A file or folder: ``content`` None makes it a folder."""

    content: bytes | None
    modified_us: int


@dataclass(frozen=True, slots=True)
class FakeListing:
    folder: NodeInfo
    pages: Iterator[Sequence[Entry]]


@dataclass
class FakeMonitor:
    """Accepts ``PASSWORD`` with ``CODE``, and listed keys; keeps everything that was said."""

    clock: SteppedClock = field(default_factory=SteppedClock)
    keys: dict[str, str] = field(default_factory=dict)
    key_needs_code: bool = False
    idle_timeout_s: int = 600
    scp: Decision = field(default_factory=lambda: Decision(allowed=False, rule="default-deny"))
    tree: dict[VirtualPath, Node] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    sessions: dict[str, Session] = field(default_factory=dict)
    connections: Counter[str] = field(default_factory=Counter)
    ended: list[tuple[str, str]] = field(default_factory=list)
    refusals: list[tuple[str, Client, bool]] = field(default_factory=list)
    events: list[tuple[str, str]] = field(default_factory=list)
    open_writers: int = 0
    waiting: int = 0
    most_waiting: int = 0
    drafts: dict[tuple[str, VirtualPath], FakeFile] = field(default_factory=dict)
    fault: Callable[[str], None] = lambda _operation: None
    login_gate: threading.Event = field(default_factory=threading.Event)
    mutex: threading.RLock = field(default_factory=threading.RLock)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.login_gate.set()
        for text in ("/", "/share"):
            self.tree[VirtualPath.resolve(text)] = Node(None, self.clock())

    def facade(self) -> Monitor:
        """Return this under the real monitor's type."""
        return cast("Monitor", self)

    # gateway.monitor.Monitor

    def login(self, attempt: Attempt) -> Session:
        with self.mutex:
            self.waiting += 1
            self.most_waiting = max(self.most_waiting, self.waiting)
        assert self.login_gate.wait(20)
        with self.mutex:
            self.waiting -= 1
            self.attempts.append(attempt)
            if attempt.ssh_key:
                good = self.keys.get(attempt.name) == attempt.ssh_key
                if good and self.key_needs_code and attempt.code != CODE:
                    raise LoginRefusedError("code-wrong")
            else:
                said = attempt.secret or attempt.password + attempt.code
                good = attempt.name == "alice" and said == PASSWORD + CODE
            if not good:
                raise LoginRefusedError("wrong-password")
            now = self.clock()
            session = Session(
                id=f"s{next(self.numbers)}",
                principal=Principal(
                    id="1", name=attempt.name, memberships=frozenset({f"user:{attempt.name}"})
                ),
                wire=Wire.SFTP,
                client=attempt.client,
                factors=frozenset({Factor.PASSWORD}),
                opened_us=now,
                last_active_us=now,
                idle_timeout_s=self.idle_timeout_s,
                ends_us=now + 12 * 3600 * SECOND_US,
            )
            self.sessions[session.id] = session
            self.connections[session.id] += 1
            return session

    def key_may_log_in(self, name: str, ssh_key: str, client: Client) -> bool:
        self.queries.append(ssh_key)
        return self.keys.get(name) == ssh_key

    def bind(self, session: Session) -> Door:
        return cast("Door", FakeDoor(self, session))

    def may_use_scp(self, session: Session) -> Decision:
        return self.scp

    def deadline_us(self, session: Session) -> int | None:
        with self.mutex:
            held = self.sessions.get(session.id)
            if held is None or held.over(self.clock()):
                return None
            return min(held.idle_deadline_us, held.ends_us)

    def end(self, session: Session, reason: str) -> None:
        with self.mutex:
            self.connections[session.id] -= 1
            if self.connections[session.id] <= 0:
                self.expire(session, reason)

    def expire(self, session: Session, reason: str) -> None:
        with self.mutex:
            if self.sessions.pop(session.id, None):
                self.ended.append((session.id, reason))

    def refused(
        self, client: Client, wire: Wire, what: str, session: Session | None = None
    ) -> None:
        assert wire is Wire.SFTP
        self.refusals.append((what, client, session is not None))

    # For tests

    def put(self, path: str, content: bytes | None) -> None:
        self.tree[VirtualPath.resolve(path)] = Node(content, self.clock())

    def content(self, path: str) -> bytes | None:
        node = self.tree.get(VirtualPath.resolve(path))
        return node.content if node else None

    def touch(self, session: Session, operation: str, *, activity: bool = True) -> None:
        """Do what every operation of the door begins with."""
        with self.mutex:
            held = self.sessions.get(session.id)
            if held is None or held.over(self.clock()):
                raise SessionEndedError("idle")
            if activity:
                self.sessions[session.id] = dataclasses.replace(held, last_active_us=self.clock())
        self.fault(operation)


@dataclass(slots=True)
class FakeDoor:
    """The operations of ``gateway.monitor.Door`` that SFTP calls."""

    monitor: FakeMonitor
    session: Session

    def _node(self, path: VirtualPath) -> Node:
        draft = self._draft(path)
        if draft is not None:
            return Node(bytes(draft.content), draft.present_info.modified_us)
        found = self.monitor.tree.get(path)
        if found is None:
            raise NotFoundError("No such file or folder.")
        return found

    def _draft(self, path: VirtualPath) -> FakeFile | None:
        return self.monitor.drafts.get((self.session.id, path))

    def _info(self, path: VirtualPath) -> NodeInfo:
        node = self._node(path)
        kind = Kind.FOLDER if node.content is None else Kind.FILE
        size = len(node.content or b"")
        return NodeInfo(path, kind, size_bytes=size, modified_us=node.modified_us)

    def _children(self, path: VirtualPath) -> list[VirtualPath]:
        drafts = [one for session, one in self.monitor.drafts if session == self.session.id]
        known = {*self.monitor.tree, *drafts}
        return sorted((one for one in known if one != path and one.parent == path), key=str)

    def _room(self, path: VirtualPath) -> None:
        parent = self.monitor.tree.get(path.parent)
        if parent is None:
            raise ParentMissingError("The folder does not exist.")
        if path.parent.is_root:
            raise DeniedError("shares are configured")

    def stat(self, path: VirtualPath, *, properties: bool = False) -> NodeInfo:
        self.monitor.touch(self.session, "stat", activity=False)
        return self._info(path)

    def scandir(self, path: VirtualPath, *, properties: bool = False) -> FakeListing:
        self.monitor.touch(self.session, "scandir")
        folder = self._info(path)
        if not folder.is_folder:
            raise NotAFolderError("A file has no entries.")
        return FakeListing(folder, self._pages(path))

    def _pages(self, path: VirtualPath) -> Iterator[Sequence[Entry]]:
        """Yield a page of three entries after the other, some of them empty."""
        entries = [Entry.of(self._info(one)) for one in self._children(path)]
        for start in range(0, len(entries), 3):
            self.monitor.touch(self.session, "page", activity=False)
            yield entries[start : start + 3]
            yield ()

    def open_read(self, path: VirtualPath) -> ReadHandle:
        self.monitor.touch(self.session, "open_read")
        info = self._info(path)
        if info.is_folder:
            raise IsAFolderError("A folder cannot be read.")
        draft = self._draft(path)
        if draft is None:
            content = self._node(path).content
            assert content is not None
            draft = FakeFile(info, bytearray(content))
        return cast("ReadHandle", FakeReading(self, info, draft))

    def open_write(
        self,
        path: VirtualPath,
        *,
        create: bool = True,
        replace: bool = True,
        keep: bool = False,
        expected_size: int | None = None,
    ) -> WriteHandle:
        self.monitor.touch(self.session, "open_write")
        present, draft = self.monitor.tree.get(path), self._draft(path)
        if draft is not None and draft.unfit:
            draft = None
        if present is None and draft is None:
            if not create:
                raise NotFoundError("No such file.")
            self._room(path)
        elif not replace:
            raise AlreadyExistsError("The file exists.")
        elif present is not None and present.content is None:
            raise IsAFolderError("A folder cannot be written.")
        if draft is None:
            content = present.content if present is not None and keep else b""
            info = NodeInfo(path, Kind.FILE, modified_us=self.monitor.clock())
            info = info if present is None else self._info(path)
            draft = FakeFile(info, bytearray(content or b""), changed=present is None or not keep)
            self.monitor.drafts[self.session.id, path] = draft
        elif not keep:
            draft.truncate(0)
        draft.expected_size = expected_size
        return cast("WriteHandle", FakeWriting(self, draft))

    def duplicate(self, source: NodeInfo, target: WriteHandle) -> bool:
        """Leave it to the front end to copy."""
        return False

    def mkdir(self, path: VirtualPath) -> NodeInfo:
        self.monitor.touch(self.session, "mkdir")
        if path in self.monitor.tree:
            raise AlreadyExistsError("The name is taken.")
        self._room(path)
        self.monitor.tree[path] = Node(None, self.monitor.clock())
        return self._info(path)

    def delete(
        self, path: VirtualPath, *, kind: Kind | None = None, only_empty: bool = False
    ) -> None:
        self.monitor.touch(self.session, "delete")
        info = self._info(path)
        if kind is not None and info.kind is not kind:
            raise NotAFolderError("no") if kind is Kind.FOLDER else IsAFolderError("no")
        if only_empty and self._children(path):
            raise NotEmptyError("The folder is not empty.")
        self.monitor.tree.pop(path, None)
        draft = self.monitor.drafts.pop((self.session.id, path), None)
        if draft is not None:
            draft.deleted = True

    def move(self, source: VirtualPath, target: VirtualPath, *, replace: bool = False) -> bool:
        self.monitor.touch(self.session, "move")
        self._node(source)
        present = target in self.monitor.tree or self._draft(target) is not None
        if present and not replace:
            raise AlreadyExistsError("The name is taken.")
        self._room(target)
        replaced = self.monitor.drafts.pop((self.session.id, target), None)
        if replaced is not None:
            replaced.deleted = True
        for path in [one for one in self.monitor.tree if one.is_within(source)]:
            self.monitor.tree[path.rebased(source, target)] = self.monitor.tree.pop(path)
        for session, path in list(self.monitor.drafts):
            if session == self.session.id and path.is_within(source):
                moved = path.rebased(source, target)
                draft = self.monitor.drafts.pop((session, path))
                draft.info = dataclasses.replace(draft.info, path=moved)
                self.monitor.drafts[session, moved] = draft
        return not present

    def set_times(self, path: VirtualPath, *, modified_us: int) -> None:
        self.monitor.touch(self.session, "set_times")
        draft = self._draft(path)
        if draft is not None:
            draft.modified_us = modified_us
        else:
            self._node(path).modified_us = modified_us

    def usage(self, path: VirtualPath) -> Usage:
        self.monitor.touch(self.session, "usage", activity=False)
        used = sum(len(node.content or b"") for node in self.monitor.tree.values())
        return Usage(used, 10 * QUOTA_BYTES, QUOTA_BYTES, len(self.monitor.tree))
