"""The reference monitor: the one door that every operation of every protocol passes.

Each public method of ``Door`` is one operation, and each runs its body inside
``Passage.operation``, which binds session, policy, transaction and audit record together. There
is no other way to a node's name or content. Imports the passage and the operations' bodies;
nothing of any protocol.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from auth.limits import decide_scp
from auth.policy import Decision, Situation
from backends.content import Content
from backends.errors import StorageError
from gateway.audit.record import Record, session_record
from gateway.errors import SessionEndedError
from gateway.handles import ReadHandle, WriteHandle
from gateway.model import (
    Action,
    Attempt,
    Client,
    Condition,
    Entry,
    Kind,
    LockInfo,
    NodeInfo,
    Outcome,
    PropertyName,
    Session,
    Usage,
    VersionInfo,
    Wire,
)
from gateway.open_file import Terms
from gateway.operations import content, copying, listing, locks, past, tree, whole
from gateway.operations.listing import Listing, Scan
from gateway.passage import Mode, Passage, Surroundings, noted
from gateway.paths import VirtualPath
from gateway.staging import staging
from gateway.upload import READ_END, Upload


class Monitor:
    """Makes doors. Thread-safe; every method blocks."""

    def __init__(self, surroundings: Surroundings) -> None:
        self.clock = surroundings.clock
        self._surroundings = surroundings
        self._login = surroundings.login

    def login(self, attempt: Attempt) -> Session:
        """Return the session that the attempt opens or joins.

        Raises LoginRefusedError, DirectoryUnavailableError, AuditUnavailableError.
        """
        return self._login.login(attempt)

    def recall(self, attempt: Attempt) -> Session | None:
        """Return the session of a header that this process has seen; it may be over by now.

        For a request that passes the door, which finds out; anything else must ``login``.
        """
        return self._login.recall(attempt)

    def forget(self, attempt: Attempt) -> None:
        """Recall a header no more: its session is over."""
        self._login.forget(attempt)

    def key_may_log_in(self, name: str, ssh_key: str, _client: Client) -> bool:
        """Return whether the key is listed for the user; its signature is still to be verified."""
        return self._login.key_may_log_in(name, ssh_key)

    def bind(self, session: Session) -> Door:
        """Return the door for ``session``."""
        return Door(Passage(self._surroundings, session))

    def deadline_us(self, session: Session) -> int | None:
        """Return when the session ends unless something happens; None when it is over."""
        now_us = self.clock()
        with self._surroundings.catalog.snapshot() as tx:
            try:
                fresh = self._surroundings.sessions.require_live(tx, session.id, now_us)
            except SessionEndedError:
                return None
        return min(fresh.idle_deadline_us, fresh.ends_us)

    def may_use_scp(self, session: Session) -> Decision:
        """Return whether policy lets the session speak scp's own protocol, and which rule."""
        situation = Situation(session.wire, session.client.address, self.clock())
        return decide_scp(self._surroundings.policy(), session.principal, situation)

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
        self._surroundings.journal.append_durably(record)


class Door:
    """The operations of one session. Thread-safe; every method blocks."""

    def __init__(self, passage: Passage) -> None:
        self.session = passage.session
        self._passage = passage
        self._operation = passage.operation

    def with_tokens(self, tokens: frozenset[str], condition: Condition | None = None) -> Door:
        """Return a door on which the client has submitted these lock tokens.

        Whatever changes anything through it fails with ConflictError unless ``condition`` holds
        in the transaction that makes the change.
        """
        return Door(Passage(self._passage.surroundings, self.session, tokens, condition))

    # Names

    def stat(
        self, path: VirtualPath, *, properties: bool = False, digest: bool = False
    ) -> NodeInfo:
        """Return what is known of the node; NotFoundError, DeniedError.

        With ``digest`` also the content's SHA-256, to whom may read the content.
        """
        with self._operation("stat", path, Mode.LOOK_UP) as op:
            return tree.stat(op, path, properties=properties, digest=digest)

    def scandir(self, path: VirtualPath, *, properties: bool = False) -> Listing:
        """Return the folder and its entries in pages; NotAFolderError for a file.

        Policy and session are asked again for each page, whose errors come when it is taken.
        """
        with self._operation(Action.LIST, path, Mode.READ) as op:
            scan = listing.begin(op, path, properties=properties)
        return Listing(scan.folder, self._pages(scan))

    def look(self, path: VirtualPath, *, properties: bool = False) -> Listing | NodeInfo:
        """Return a folder with its entries, as ``scandir``, or of anything else what ``stat`` does.

        For clients that ask for both at once, and mostly of files.
        """
        with self._operation("stat", path, Mode.LOOK_UP) as op:
            info = tree.stat(op, path, properties=properties, digest=False)
            if not info.is_folder:
                return info
            op.read_on(Action.LIST)
            scan = listing.begin(op, path, properties=properties)
        return Listing(scan.folder, self._pages(scan))

    def _pages(self, scan: Scan) -> Iterator[Sequence[Entry]]:
        yield scan.first
        while scan.after is not None:
            with self._operation(Action.LIST, scan.folder.path, Mode.PREPARE) as op:
                page = listing.go_on(op, scan)
            yield page

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

    def move(
        self,
        source: VirtualPath,
        target: VirtualPath,
        *,
        replace: bool = False,
        replace_folder: bool = False,
    ) -> bool:
        """Rename; True when nothing of the new name existed. A replaced file keeps its history.

        ``replace``: a file may give way to a file, an empty folder to a folder. With
        ``replace_folder`` also, anything may give way, with all that it holds.
        """
        with self._operation(Action.MOVE, source, Mode.CHANGE, target=target) as op:
            return tree.move(op, source, target, replace=replace, replace_folder=replace_folder)

    def copy(
        self,
        source: VirtualPath,
        target: VirtualPath,
        *,
        replace: bool = False,
        recursive: bool = True,
    ) -> bool:
        """Copy; True when nothing of the target's name existed.

        A large folder is made ready where nobody finds it, in turns with what others do; the
        operation that puts it in its place is the one that counts, and is recorded.
        """
        request = copying.Request(source, target, replace, recursive)
        with self._operation("copy", source, Mode.PREPARE, target=target) as op:
            plan = copying.plan(op, request)
        with (
            staging(self._passage, plan) as staged,
            self._operation("copy", source, Mode.CHANGE, target=target) as op,
        ):
            return copying.copy(op, request, plan, staged)

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

    def open_read(self, path: VirtualPath, *, whole_limit_bytes: int = 0) -> ReadHandle:
        """Open a file for reading; IsAFolderError, IntegrityError. Recorded before any byte.

        A file of at most ``whole_limit_bytes`` is read at once, and the record of its end committed
        with the first one: whoever reads it whole waits for the disk once and not twice.
        """
        with self._operation(Action.READ, path, Mode.READ) as op:
            info, source, own = content.open_read(op, path)
            if isinstance(source, Content):
                info = replace(info, sha256=source.sha256)
            if isinstance(source, Content) and source.size_bytes <= whole_limit_bytes:
                source = Content.of_bytes(source.read_at(0, source.size_bytes))
                op.closing = replace(
                    op.record(Outcome.OK), action=READ_END, bytes=source.size_bytes
                )
        if op.closing is not None:
            return ReadHandle(info, source, pulse=_nothing, on_close=_nothing_more)

        def on_close(sent_bytes: int, *, complete: bool, error: StorageError | None) -> None:
            op.action, op.bytes = READ_END, sent_bytes
            if error is None:
                record = op.record(Outcome.OK if complete else Outcome.ABORTED)
            else:
                record = noted(op.record(Outcome.FAILED, type(error).__name__), error)
            self._passage.append_durably(record)

        pulsed_us = op.now_us

        def pulse() -> None:
            nonlocal pulsed_us
            now_us = self._passage.pulse(None if own else Action.READ, path, pulsed_us)
            pulsed_us = pulsed_us if now_us is None else now_us

        return ReadHandle(info, source, pulse=pulse, on_close=on_close)

    def open_write(
        self,
        path: VirtualPath,
        *,
        create: bool = True,
        replace: bool = True,
        keep: bool = False,
        expected_size: int | None = None,
    ) -> WriteHandle:
        """Open a file for writing; nothing changes for anyone else before the handle's commit.

        In a session of SFTP the handles that are open on one path at a time share what they
        write: see ``WriteHandle``. For an open such a file exists already.

        ``create`` False: it must exist. ``replace`` False: it must not. ``keep``: begin with the
        present content. ``expected_size``: how many bytes the content must have at the commit; a
        handle opened with it has its file alone.
        """
        terms = Terms(replace=replace, expected_size=expected_size)
        return Upload(self._passage).open(path, terms, create=create, keep=keep)

    def duplicate(self, source: NodeInfo, target: WriteHandle) -> bool:
        """Have ``target``, to which nothing was written yet, share what ``source`` holds.

        ``source`` is what a handle for reading was opened on. However large it is, this takes no
        time, and the commit of ``target`` makes it its content. False, and nothing is done or
        recorded, where the bytes must be copied instead. After an error ``target`` is as after a
        write that failed.
        """
        return Upload(self._passage).duplicate(source, target)

    def store(
        self, path: VirtualPath, content: bytes, *, modified_us: int | None = None
    ) -> tuple[NodeInfo, bool]:
        """Write a whole file of at most WHOLE_LIMIT_BYTES in one operation; True: it is new.

        As ``open_write`` with its commit at once, and durable like it when it returns.
        """
        with self._operation(Action.WRITE, path, Mode.CHANGE) as op:
            return whole.store(op, path, content, modified_us=modified_us)

    # The past

    def versions(self, path: VirtualPath) -> list[VersionInfo]:
        """Return the versions of a file, newest first; IsAFolderError."""
        with self._operation("versions", path, Mode.READ) as op:
            return past.versions(op, path)

    def restore(self, path: VirtualPath, version_id: str) -> NodeInfo:
        """Make an older version (by its id in hex) the current content, as a new version.

        NotFoundError when the file has no such version.
        """
        with self._operation(Action.RESTORE, path, Mode.CHANGE) as op:
            return past.restore(op, path, bytes.fromhex(version_id))

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


def _nothing() -> None:
    """Ask nothing: what is read lies in memory, and was recorded."""


def _nothing_more(sent_bytes: int, *, complete: bool, error: StorageError | None) -> None:
    """Record nothing more."""
