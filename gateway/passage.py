"""The passage through the door: session, policy, transaction and record, bound together.

Every operation runs inside ``Passage.operation``. It requires a live session, has the body ask
policy (a body that did not ask cannot commit), acts in one catalog transaction and appends the
audit record in that same transaction; a refusal or a failure rolls back and is recorded instead.
Lock order: a handle's lock, the journal's chain, the catalog's write lock. Imports sessions,
policy, audit and the ``Operation`` that bodies work with.
"""

from __future__ import annotations

import contextlib
import enum
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from auth.policy import Policy, Situation, decide
from auth.session import Sessions
from backends.errors import IntegrityError, KeyUnavailableError, NotFoundError
from backends.vault import Vault
from gateway.audit.journal import Journal
from gateway.audit.record import Record, session_record
from gateway.errors import (
    AuditUnavailableError,
    DeniedError,
    LockedError,
    SealgateError,
    SessionEndedError,
)
from gateway.login import Login
from gateway.model import (
    SECOND_US,
    Action,
    Clock,
    Condition,
    Outcome,
    Session,
    Transaction,
    UnitOfWork,
)
from gateway.operations.operation import Operation
from gateway.operations.writes import OpenWrites
from gateway.paths import VirtualPath

log = logging.getLogger(__name__)

PULSE_US = SECOND_US
"""How often a running transfer asks whether its session still lives, and counts as activity."""


class Mode(enum.Enum):
    """How an operation is bound to its record."""

    CHANGE = "change"
    """Acts in a write transaction that holds the record too."""
    READ = "read"
    """Sees a snapshot; its record is durable before the caller gets anything."""
    LOOK_UP = "look-up"
    """Sees a snapshot; repeated ones become one counted record within a second, and they do not
    count as activity."""
    STAGE = "stage"
    """Acts in a write transaction on what nobody finds yet; what makes it found is recorded."""
    PREPARE = "prepare"
    """Sees a snapshot and changes nothing; the commit or the abort that follows is recorded."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every passage of one process shares. ``policy`` returns the policy in force."""

    vault: Vault
    catalog: UnitOfWork
    journal: Journal
    sessions: Sessions
    login: Login
    policy: Callable[[], Policy]
    clock: Clock
    writes: OpenWrites = field(default_factory=OpenWrites)


def noted(record: Record, error: Exception) -> Record:
    """Return the record with what is damaged, if that is the error.

    Which segment, node or row it is: whoever repairs it starts from there.
    """
    if isinstance(error, IntegrityError | KeyUnavailableError):
        return replace(record, note=str(error))
    return record


class Passage:
    """One session's way through the door. Thread-safe; every method blocks."""

    def __init__(
        self,
        surroundings: Surroundings,
        session: Session,
        tokens: frozenset[str] = frozenset(),
        condition: Condition | None = None,
    ) -> None:
        """``tokens``: the lock tokens that the client has submitted.

        ``condition``: what must hold in the moment in which anything is changed.
        """
        self.surroundings = surroundings
        self.session = session
        self._tokens = tokens
        self._condition = condition

    @contextlib.contextmanager
    def operation(
        self,
        action: str,
        path: VirtualPath,
        mode: Mode,
        *,
        target: VirtualPath | None = None,
        activity: bool = True,
        running: bool = False,
    ) -> Iterator[Operation]:
        """Run one operation's body and bind it to its audit record, whatever happens.

        ``running``: it ends a transfer, which a session may outlast that is over by time alone.
        """
        around = self.surroundings
        situation = Situation(self.session.wire, self.session.client.address, around.clock())
        op: Operation | None = None
        try:
            with self._transaction(mode) as tx:
                session = self._required(tx, situation.now_us, running=running)
                op = Operation(
                    tx=tx,
                    session=session,
                    vault=around.vault,
                    policy=around.policy(),
                    situation=situation,
                    tokens=self._tokens,
                    condition=self._condition,
                    writes=around.writes,
                    action=str(action),
                    path=path,
                    target=target,
                )
                yield op
                # A body that forgot to ask policy is a hole: nothing that it did is kept.
                if not op.decided:
                    raise AssertionError(f"{action} did not ask policy")  # noqa: TRY301
                if activity and mode in {Mode.CHANGE, Mode.STAGE}:
                    around.sessions.touch(tx, session, situation.now_us)
                if mode is Mode.CHANGE:
                    around.journal.append(tx, op.record(Outcome.OK))
                    op.committing = True
            self._recorded(op, Mode.READ if op.reads else mode, situation.now_us)
        except AuditUnavailableError:
            raise
        except Exception as error:
            fallback = self.about(str(action), path, target)
            reads = op is not None and op.reads
            self.record_failure(op, fallback, Mode.READ if reads else mode, error)
            raise
        for finish in op.afterwards:
            try:
                finish()
            except SealgateError as error:
                # The operation is committed, and its answer must say so; what is left is gc's.
                log.warning("after %s: %s", action, error)

    def pulse(
        self, action: Action | None, path: VirtualPath, since_us: int, *, running: bool = False
    ) -> int | None:
        """Require, once a second, that a running transfer's session and right still live.

        ``since_us`` is when the transfer last asked; returns when it did now, None while that
        was less than a second ago. That counts as activity; a right that a reload took away ends
        its transfers too. ``action`` None: what the principal sees is its own upload. ``running``
        as in ``operation``.
        """
        around = self.surroundings
        now_us = around.clock()
        if now_us - since_us < PULSE_US:
            return None
        situation = Situation(self.session.wire, self.session.client.address, now_us)
        try:
            with around.catalog.begin() as tx:
                session = self._required(tx, now_us, running=running)
                around.sessions.touch(tx, session, now_us)
        except SessionEndedError as error:
            self.expire(error.reason)
            raise
        if action is None:
            return now_us
        decision = decide(around.policy(), session.principal, action, path, situation)
        if not decision.allowed:
            denied = DeniedError(decision.rule)
            about = replace(self.about(action, path, None), rule=decision.rule)
            self.record_failure(None, about, Mode.CHANGE, denied)
            raise denied
        return now_us

    def _required(self, tx: Transaction, now_us: int, *, running: bool) -> Session:
        """Return the session as stored; SessionEndedError when it is over."""
        sessions = self.surroundings.sessions
        require = sessions.require_running if running else sessions.require_live
        return require(tx, self.session.id, now_us)

    def expire(self, reason: str) -> None:
        """End the session, which is overdue. Idempotent."""
        self.surroundings.login.log_off(self.session, reason, Outcome.EXPIRED)

    def append_durably(self, record: Record) -> None:
        """Commit a record that belongs to no transaction."""
        self.surroundings.journal.append_durably(record)

    def _transaction(self, mode: Mode) -> contextlib.AbstractContextManager[Transaction]:
        around = self.surroundings
        if mode is Mode.CHANGE:
            return around.journal.begin()
        return around.catalog.begin() if mode is Mode.STAGE else around.catalog.snapshot()

    def _recorded(self, op: Operation, mode: Mode, now_us: int) -> None:
        """Record an operation that saw a snapshot and succeeded."""
        around = self.surroundings
        if mode is Mode.LOOK_UP:
            key = (self.session.id, op.action, str(op.path), Outcome.OK)
            around.journal.look_up(key, op.record(Outcome.OK))
        elif mode is Mode.READ:
            session = op.session
            records = [op.record(Outcome.OK)]
            if op.closing is not None:
                records.append(op.closing)
            around.journal.append_durably(
                *records, work=lambda tx: around.sessions.touch(tx, session, now_us)
            )

    def about(self, action: str, path: VirtualPath, target: VirtualPath | None) -> Record:
        """Return the record of an operation that got nowhere; its outcome is still to be set."""
        return replace(
            session_record(action, Outcome.FAILED, self.session),
            share=path.share,
            path=str(path),
            target="" if target is None else str(target),
        )

    def record_failure(
        self, op: Operation | None, fallback: Record, mode: Mode, error: Exception
    ) -> None:
        """Record a refusal or a failure; AuditUnavailableError when even that cannot be written.

        ``fallback`` is the record of an operation that was over before its body began.
        """
        if isinstance(error, SessionEndedError):
            outcome = Outcome.EXPIRED
            self.expire(error.reason)
        elif isinstance(error, DeniedError | LockedError):
            outcome = Outcome.DENIED
        else:
            outcome = Outcome.FAILED
        name = type(error).__name__
        if op is None:
            record = replace(fallback, outcome=outcome, error=name)
        else:
            record = op.record(outcome, name)
        record = noted(record, error)
        journal = self.surroundings.journal
        if mode is Mode.LOOK_UP and isinstance(error, NotFoundError):
            journal.look_up((self.session.id, record.action, record.path, outcome), record)
        else:
            journal.append_durably(record)
