"""The reference monitor: the one door that every operation of every protocol passes.

Each public method of ``Door`` is one operation. Its body runs inside ``Door._operation``, which
requires a live session, has the body ask policy (a body that did not ask cannot commit), acts in
one catalog transaction and appends the audit record in that same transaction; a refusal or a
failure rolls back and is recorded instead. There is no other way to a node's name or content.
Imports the vault, policy, sessions, audit and the operations' bodies; nothing of any protocol.
"""

from __future__ import annotations

import contextlib
import enum
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from auth.policy import Policy, Situation
from auth.session import Sessions
from backends.errors import NotFoundError, StorageError
from backends.vault import Vault
from gateway.audit.journal import Journal
from gateway.audit.record import Record
from gateway.errors import (
    AuditUnavailableError,
    DeniedError,
    LockedError,
    SessionEndedError,
)
from gateway.handles import OpenWrites, ReadHandle, Terms, WriteHandle
from gateway.login import Login, session_record
from gateway.model import (
    SECOND_US,
    Action,
    Attempt,
    Client,
    Clock,
    Kind,
    LockInfo,
    NodeInfo,
    Outcome,
    PropertyName,
    Session,
    Transaction,
    UnitOfWork,
    Usage,
    Wire,
)
from gateway.operations import content, locks, tree
from gateway.operations.operation import Operation
from gateway.operations.tree import Listing
from gateway.paths import VirtualPath

PULSE_US = SECOND_US
"""How often a running transfer asks whether its session still lives, and counts as activity."""

READ_END = "read_end"
"""The action of a read's closing record, which says how many bytes left."""


class Mode(enum.Enum):
    """How an operation is bound to its record."""

    CHANGE = "change"
    """Acts in a write transaction that holds the record too."""
    READ = "read"
    """Sees a snapshot; its record is durable before the caller gets anything."""
    LOOK_UP = "look-up"
    """Sees a snapshot; repeated ones become one counted record within a second, and they do not
    count as activity."""
    PREPARE = "prepare"
    """Sees a snapshot and changes nothing; the commit or the abort that follows is recorded."""


class Monitor:
    """Makes doors. Thread-safe; every method blocks."""

    def __init__(
        self,
        *,
        vault: Vault,
        catalog: UnitOfWork,
        journal: Journal,
        sessions: Sessions,
        login: Login,
        policy: Callable[[], Policy],
        clock: Clock,
    ) -> None:
        """``policy`` returns the policy in force, so that a reload reaches living sessions."""
        self.vault = vault
        self.catalog = catalog
        self.journal = journal
        self.sessions = sessions
        self.policy = policy
        self.clock = clock
        self.writes = OpenWrites()
        self._login = login

    def login(self, attempt: Attempt) -> Session:
        """Return the session that the attempt opens or joins.

        Raises LoginRefusedError, DirectoryUnavailableError, AuditUnavailableError.
        """
        return self._login.login(attempt)

    def key_may_log_in(self, name: str, ssh_key: str, _client: Client) -> bool:
        """Return whether the key is listed for the user; its signature is still to be verified."""
        return self._login.key_may_log_in(name, ssh_key)

    def bind(self, session: Session) -> Door:
        """Return the door for ``session``."""
        return Door(self, session, frozenset())

    def deadline_us(self, session: Session) -> int | None:
        """Return when the session ends unless something happens; None when it is over."""
        now_us = self.clock()
        with self.catalog.snapshot() as tx:
            try:
                fresh = self.sessions.require_live(tx, session.id, now_us)
            except SessionEndedError:
                return None
        return min(fresh.idle_deadline_us, fresh.ends_us)

    def end(self, session: Session, reason: str) -> None:
        """Note that a connection of the session is gone. Idempotent once the session is over."""
        self._login.disconnect(session, reason)

    def expire(self, session: Session, reason: str) -> None:
        """End a session that is overdue. Idempotent."""
        self._login.log_off(session, reason, Outcome.EXPIRED)

    def refused(
        self, client: Client, wire: Wire, what: str, session: Session | None = None
    ) -> None:
        """Record that a protocol refused ``what`` (a shell, a forwarding) before any operation."""
        if session is not None:
            record = session_record("refused", Outcome.DENIED, session, rule=what)
        else:
            record = Record(
                action="refused",
                outcome=Outcome.DENIED,
                protocol=wire.value,
                client_address=client.address,
                rule=what,
                client_software=client.software,
            )
        self.journal.append_durably(record)


class Door:
    """The operations of one session. Thread-safe; every method blocks."""

    def __init__(self, monitor: Monitor, session: Session, tokens: frozenset[str]) -> None:
        self.session = session
        self._monitor = monitor
        self._tokens = tokens
        self._pulsed_us = 0

    def with_tokens(self, tokens: frozenset[str]) -> Door:
        """Return a door on which the client has submitted these lock tokens."""
        return Door(self._monitor, self.session, tokens)

    # Names

    def stat(self, path: VirtualPath, *, properties: bool = False) -> NodeInfo:
        """Return what is known of the node; NotFoundError, DeniedError."""
        with self._operation("stat", path, Mode.LOOK_UP) as op:
            return tree.stat(op, path, properties=properties)

    def scandir(self, path: VirtualPath, *, properties: bool = False) -> Listing:
        """Return the folder and its children by name; NotAFolderError for a file."""
        with self._operation(Action.LIST, path, Mode.READ) as op:
            return tree.scandir(op, path, properties=properties)

    def mkdir(self, path: VirtualPath) -> NodeInfo:
        """Make an empty folder; AlreadyExistsError, ParentMissingError."""
        with self._operation(Action.CREATE, path, Mode.CHANGE) as op:
            return tree.make_folder(op, path)

    def delete(
        self, path: VirtualPath, *, kind: Kind | None = None, only_empty: bool = False
    ) -> None:
        """Delete a node with all below it; the wrong ``kind``, or NotEmptyError, refuses."""
        with self._operation(Action.DELETE, path, Mode.CHANGE) as op:
            tree.delete(op, path, kind=kind, only_empty=only_empty)

    def move(self, source: VirtualPath, target: VirtualPath, *, replace: bool = False) -> bool:
        """Rename; True when nothing of the new name existed. A replaced file keeps its history."""
        with self._operation(Action.MOVE, source, Mode.CHANGE, target=target) as op:
            return tree.move(op, source, target, replace=replace)

    def copy(
        self,
        source: VirtualPath,
        target: VirtualPath,
        *,
        replace: bool = False,
        recursive: bool = True,
    ) -> bool:
        """Copy; True when nothing of the target's name existed."""
        with self._operation("copy", source, Mode.CHANGE, target=target) as op:
            return tree.copy(op, source, target, replace=replace, recursive=recursive)

    def set_times(self, path: VirtualPath, *, modified_us: int) -> None:
        """Set the modification time (microseconds since 1970 UTC)."""
        with self._operation("set_times", path, Mode.CHANGE) as op:
            tree.set_times(op, path, modified_us=modified_us)

    def set_properties(
        self,
        path: VirtualPath,
        *,
        put: Mapping[PropertyName, str],
        remove: frozenset[PropertyName],
        modified_us: int | None = None,
    ) -> None:
        """Change dead properties, all or none; values are serialised XML elements."""
        with self._operation("set_properties", path, Mode.CHANGE) as op:
            tree.set_properties(op, path, put=put, remove=remove, modified_us=modified_us)

    def usage(self, path: VirtualPath) -> Usage:
        """Return the space of the share that ``path`` lies in; for ``/``, what the store has."""
        with self._operation("stat", path, Mode.LOOK_UP) as op:
            return tree.usage(op, path)

    # Content

    def open_read(self, path: VirtualPath) -> ReadHandle:
        """Open a file for reading; IsAFolderError, IntegrityError. Recorded before any byte."""
        with self._operation(Action.READ, path, Mode.READ) as op:
            info, source = content.open_read(op, path)

        def on_close(sent_bytes: int, *, complete: bool) -> None:
            op.action, op.bytes = READ_END, sent_bytes
            self._append_durably(op.record(Outcome.OK if complete else Outcome.ABORTED))

        return ReadHandle(info, source, pulse=self._pulse, on_close=on_close)

    def open_write(
        self,
        path: VirtualPath,
        *,
        create: bool = True,
        replace: bool = True,
        keep: bool = False,
        base: str | None = None,
        expected_size: int | None = None,
    ) -> WriteHandle:
        """Open a file for writing; nothing changes for anyone else before the handle's commit.

        ``create`` False: it must exist. ``replace`` False: it must not. ``keep``: begin with the
        present content. ``base``: the version id (hex) that must be current now and at the commit,
        ``""`` for none. ``expected_size``: how many bytes the content must have at the commit.
        """
        terms = Terms(replace=replace, base=base, expected_size=expected_size)
        with self._operation(Action.WRITE, path, Mode.PREPARE) as op:
            opening = content.open_write(op, path, terms, create=create, keep=keep)
        handle = WriteHandle(
            opening.info,
            opening.draft,
            opening.target,
            terms,
            kept=keep and bool(opening.info.version_id),
            pulse=self._pulse,
            on_read=self._read_back,
            on_commit=self._commit,
            on_abort=self._aborted,
        )
        self._monitor.writes.add(self.session.id, path, handle)
        return handle

    # Locks

    def lock(
        self,
        path: VirtualPath,
        *,
        exclusive: bool,
        depth_infinity: bool,
        owner: str,
        timeout_s: int,
    ) -> tuple[LockInfo, bool]:
        """Lock a node; True beside the lock: an empty file was made first. LockedError."""
        with self._operation(Action.LOCK, path, Mode.CHANGE) as op:
            return locks.take(
                op,
                path,
                exclusive=exclusive,
                depth_infinity=depth_infinity,
                owner=owner,
                timeout_s=timeout_s,
                new_token=lambda: uuid.uuid4().urn,
            )

    def refresh_lock(self, path: VirtualPath, token: str, *, timeout_s: int) -> LockInfo:
        """Give an own lock a new end; LockTokenError when there is none."""
        with self._operation("refresh_lock", path, Mode.CHANGE, activity=False) as op:
            return locks.refresh(op, path, token, timeout_s=timeout_s)

    def unlock(self, path: VirtualPath, token: str) -> None:
        """Give an own lock back; LockTokenError when there is none."""
        with self._operation("unlock", path, Mode.CHANGE) as op:
            locks.give_back(op, path, token)

    def locks(self, path: VirtualPath, *, below: bool = False) -> list[LockInfo]:
        """Return the locks that cover the node, and with ``below`` those on its children."""
        with self._operation("stat", path, Mode.LOOK_UP) as op:
            return locks.tell(op, path, below=below)

    # The mechanism

    @contextlib.contextmanager
    def _operation(
        self,
        action: str,
        path: VirtualPath,
        mode: Mode,
        *,
        target: VirtualPath | None = None,
        activity: bool = True,
    ) -> Iterator[Operation]:
        """Run one operation's body and bind it to its audit record, whatever happens."""
        monitor = self._monitor
        situation = Situation(self.session.wire, self.session.client.address, monitor.clock())
        op: Operation | None = None
        try:
            with self._transaction(mode) as tx:
                session = monitor.sessions.require_live(tx, self.session.id, situation.now_us)
                op = Operation(
                    tx=tx,
                    session=session,
                    vault=monitor.vault,
                    policy=monitor.policy(),
                    situation=situation,
                    tokens=self._tokens,
                    writes=monitor.writes,
                    action=str(action),
                    path=path,
                    target=target,
                )
                yield op
                # A body that forgot to ask policy is a hole: nothing that it did is kept.
                if not op.decided:
                    raise AssertionError(f"{action} did not ask policy")  # noqa: TRY301
                if mode is Mode.CHANGE:
                    if activity:
                        monitor.sessions.touch(tx, session, situation.now_us)
                    monitor.journal.append(tx, op.record(Outcome.OK))
            self._recorded(op, mode, situation.now_us)
        except AuditUnavailableError:
            raise
        except Exception as error:
            fallback = self._about(str(action), path, target)
            self._record_failure(op, fallback, mode, error)
            raise
        for finish in op.afterwards:
            finish()

    def _transaction(self, mode: Mode) -> contextlib.AbstractContextManager[Transaction]:
        monitor = self._monitor
        return monitor.journal.begin() if mode is Mode.CHANGE else monitor.catalog.snapshot()

    def _recorded(self, op: Operation, mode: Mode, now_us: int) -> None:
        """Record an operation that saw a snapshot and succeeded."""
        monitor = self._monitor
        if mode is Mode.LOOK_UP:
            key = (self.session.id, op.action, str(op.path), Outcome.OK)
            monitor.journal.look_up(key, op.record(Outcome.OK))
        elif mode is Mode.READ:
            session = op.session
            monitor.journal.append_durably(
                op.record(Outcome.OK), lambda tx: monitor.sessions.touch(tx, session, now_us)
            )

    def _about(self, action: str, path: VirtualPath, target: VirtualPath | None) -> Record:
        """Return the record of an operation that got nowhere; its outcome is still to be set."""
        return replace(
            session_record(action, Outcome.FAILED, self.session),
            share=path.share,
            path=str(path),
            target="" if target is None else str(target),
        )

    def _record_failure(
        self, op: Operation | None, fallback: Record, mode: Mode, error: Exception
    ) -> None:
        """Record a refusal or a failure; AuditUnavailableError when even that cannot be written.

        ``fallback`` is the record of an operation that was over before its body began.
        """
        if isinstance(error, SessionEndedError):
            outcome = Outcome.EXPIRED
            self._monitor.expire(self.session, error.reason)
        elif isinstance(error, DeniedError | LockedError):
            outcome = Outcome.DENIED
        else:
            outcome = Outcome.FAILED
        name = type(error).__name__
        if op is None:
            record = replace(fallback, outcome=outcome, error=name)
        else:
            record = op.record(outcome, name)
        journal = self._monitor.journal
        if mode is Mode.LOOK_UP and isinstance(error, NotFoundError):
            journal.look_up((self.session.id, record.action, record.path, outcome), record)
        else:
            journal.append_durably(record)

    # Open files

    def _pulse(self) -> None:
        """Require a live session and count a running transfer as activity, once a second."""
        monitor = self._monitor
        now_us = monitor.clock()
        if now_us - self._pulsed_us < PULSE_US:
            return
        self._pulsed_us = now_us
        try:
            with monitor.catalog.begin() as tx:
                session = monitor.sessions.require_live(tx, self.session.id, now_us)
                monitor.sessions.touch(tx, session, now_us)
        except SessionEndedError as error:
            monitor.expire(self.session, error.reason)
            raise

    def _read_back(self, handle: WriteHandle) -> None:
        """Let a writer read the content that its file had before; that is a read like any other."""
        with self._operation(Action.READ, handle.info.path, Mode.READ) as op:
            op.allow(Action.READ, handle.info.path)

    def _commit(self, handle: WriteHandle) -> NodeInfo:
        self._monitor.writes.remove(self.session.id, handle)
        sealed = None
        try:
            if handle.changed and handle.complete:
                sealed = handle.draft.seal()
        except StorageError as error:
            fallback = self._about(Action.WRITE, handle.info.path, None)
            self._record_failure(None, fallback, Mode.CHANGE, error)
            raise
        with self._operation(Action.WRITE, handle.info.path, Mode.CHANGE) as op:
            return content.commit(op, handle, sealed)

    def _aborted(self, handle: WriteHandle, reason: str) -> None:
        self._monitor.writes.remove(self.session.id, handle)
        action = Action.CREATE if handle.created else Action.WRITE
        self._append_durably(
            replace(
                session_record(action.value, Outcome.ABORTED, self.session, rule=reason),
                share=handle.target.share,
                node_id=handle.info.node_id,
                version_id=handle.info.version_id,
                bytes=handle.received_bytes,
                path=str(handle.info.path),
            )
        )

    def _append_durably(self, record: Record) -> None:
        self._monitor.journal.append_durably(record)
