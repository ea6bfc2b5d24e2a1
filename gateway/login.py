"""Logging in and off: throttled, recorded, and slow to refuse.

The decision itself is ``auth.authenticator``'s; here it is bound to a transaction and its audit
record. Imports ``auth``, ``gateway.audit``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from auth.authenticator import (
    CODE_MISSING,
    JOIN_LIMIT_REACHED,
    UNKNOWN_USER,
    WRONG_KEY,
    Authenticator,
    Claim,
)
from auth.errors import CODE_REASONS, SESSION_LIMIT, AuthError, LoginRefusedError
from auth.lease import Leases
from auth.session import TIMES, Sessions
from auth.throttle import Throttle
from backends.errors import StorageError
from backends.memo import Memo
from gateway.audit.journal import Journal
from gateway.audit.record import Record, session_record
from gateway.errors import AuditUnavailableError, SessionEndedError
from gateway.model import (
    SECOND_US,
    Attempt,
    Clock,
    Lease,
    Outcome,
    Session,
    Transaction,
    UnitOfWork,
    Wire,
)
from gateway.turnstile import Turnstile

REFUSAL_TIME_S = 1.0
"""A refused login is answered this long after it began, whatever refused it, so that the time
taken tells nothing about whether the user exists or which factor was wrong."""

NAME_LIMIT_CHARS = 256
"""How much of a typed name a record keeps."""

RECALL_LIMIT = 1024
"""How many headers of HTTP clients are remembered with their sessions."""

THROTTLED = "throttled"
SESSION_OVER = "session-over"

_NO_GUESS = frozenset({THROTTLED, SESSION_OVER, JOIN_LIMIT_REACHED, SESSION_LIMIT})
"""Reasons that say nothing against whoever tried."""

_KEY_GUESSES = frozenset({UNKNOWN_USER, WRONG_KEY})
"""Besides wrong codes: what counts as a guess of whoever has proven an SSH key."""


class Login:
    """Opens and ends sessions. Thread-safe; blocks while the directory answers."""

    def __init__(
        self,
        authenticator: Authenticator,
        sessions: Sessions,
        throttle: Throttle,
        journal: Journal,
        catalog: UnitOfWork,
        *,
        leases: Leases,
        clock: Clock,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._authenticator = authenticator
        self._sessions = sessions
        self._leases = leases
        self._throttle = throttle
        self._journal = journal
        self._catalog = catalog
        self._clock = clock
        self._pause = pause
        self._turnstile = Turnstile()
        self._recalled: Memo[bytes, Session] = Memo(RECALL_LIMIT)

    def recall(self, attempt: Attempt) -> Session | None:
        """Return the session that an HTTP request's header opened, if this process knows it.

        Nothing is checked but that the header is the same: the session may be over by now, which
        the door finds out in the transaction of whatever is done. Only for what passes the door.
        """
        return self._recalled.get(self._authenticator.tag(attempt))

    def forget(self, attempt: Attempt) -> None:
        """Recall an attempt no more."""
        self._recalled.drop(self._authenticator.tag(attempt))

    def login(self, attempt: Attempt) -> Session:
        """Return the session that the attempt opens, or joins.

        Raises LoginRefusedError, LoginBusyError, DirectoryUnavailableError,
        AuditUnavailableError.
        """
        session = self._log_in(attempt)
        if attempt.wire is Wire.WEBDAV:
            self._recalled.put(self._authenticator.tag(attempt), session)
        return session

    def _log_in(self, attempt: Attempt) -> Session:
        if attempt.wire is Wire.WEBDAV:
            with self._catalog.snapshot() as tx:
                session = self._authenticator.joined(tx, attempt)
                stale = session is None and self._authenticator.stale(tx, attempt)
            if session is not None:
                return session
            if stale:
                raise self._over(attempt)
        with self._turnstile.passing(attempt.name, attempt.client.address):
            return self._decide(attempt)

    def _decide(self, attempt: Attempt) -> Session:
        began_us = self._clock()
        try:
            with self._catalog.snapshot() as tx:
                session = self._authenticator.joined(tx, attempt)
                wait_us = self._throttle.wait_us(tx, attempt.name, attempt.client.address)
            if session is not None:
                return self._join(session)
            if wait_us:
                raise LoginRefusedError(THROTTLED)
            return self._open(self._authenticator.identify(attempt))
        except AuthError as error:
            self._refuse(attempt, error)
            left_s = REFUSAL_TIME_S - (self._clock() - began_us) / SECOND_US
            if (
                isinstance(error, LoginRefusedError)
                and not _half_way(attempt, error)
                and left_s > 0
            ):
                self._pause(min(left_s, REFUSAL_TIME_S))
            raise
        except StorageError as error:
            raise AuditUnavailableError("Nobody can log in: the catalog fails.") from error

    def _over(self, attempt: Attempt) -> LoginRefusedError:
        """Record that a drive replays the header of a session that is over; return the refusal.

        It does so until someone types a new code, every few seconds: that is no guess at a
        password, and neither the directory nor the throttle needs to hear of it.
        """
        error = LoginRefusedError(SESSION_OVER)
        key = (SESSION_OVER, attempt.name, attempt.client.address)
        self._journal.look_up(key, _refusal_record(attempt, error))
        return error

    def key_may_log_in(self, name: str, ssh_key: str) -> bool:
        """Return whether the key is listed for the user; proves nothing and records nothing."""
        return self._authenticator.key_listed(name, ssh_key)

    def log_off(self, session: Session, reason: str, outcome: Outcome = Outcome.OK) -> bool:
        """End the session and record it; False when it was over already."""
        with self._journal.begin() as tx:
            return self._ended(tx, session, reason, outcome)

    def disconnect(self, session: Session, reason: str) -> None:
        """Note that one connection of the session is gone; the last one ends it."""
        with self._journal.begin() as tx:
            now_us = self._clock()
            if self._sessions.disconnect(tx, session.id, reason, now_us):
                self._journal.append(tx, session_record("logoff", Outcome.OK, session, rule=reason))

    def end_overdue(self) -> list[Session]:
        """End every session that idled out or reached its end; return them."""
        now_us = self._clock()
        with self._catalog.snapshot() as tx:
            overdue = [session for session in self._sessions.live(tx) if session.over(now_us)]
        ended = []
        for session in overdue:
            with self._journal.begin() as tx:
                # Activity may have come in between: the decision is made again inside.
                try:
                    self._sessions.require_live(tx, session.id, now_us)
                except SessionEndedError as over:
                    if self._ended(tx, session, over.reason, Outcome.EXPIRED):
                        ended.append(session)
        return ended

    def end_leases(self, who: str, reason: str) -> int:
        """End the leases of a principal, by its id or name, and record it; return how many."""
        chosen = [one for one in self.leases() if who in {one.principal_id, one.principal_name}]
        if not chosen:
            return 0
        with self._journal.begin() as tx:
            return sum(
                self._lease_ended(
                    tx, one.principal_id, one.principal_name, one.client_address, reason
                )
                for one in chosen
            )

    def leases(self) -> list[Lease]:
        """Return every living lease."""
        with self._catalog.snapshot() as tx:
            return self._leases.all(tx, self._clock())

    def _lease_ended(
        self, tx: Transaction, principal_id: str, name: str, address: str, reason: str
    ) -> bool:
        ended = self._leases.end(tx, principal_id, address)
        if ended:
            record = Record(
                action="lease_end",
                outcome=Outcome.EXPIRED,
                principal_id=principal_id,
                principal_name=name,
                client_address=address,
                rule=reason,
            )
            self._journal.append(tx, record)
        return ended

    def _ended(self, tx: Transaction, session: Session, reason: str, outcome: Outcome) -> bool:
        ended = self._sessions.end(tx, session.id, reason, self._clock())
        if ended and outcome is Outcome.EXPIRED and reason not in TIMES:
            # Whom somebody signed off must not come back without a code.
            who, address = session.principal, session.client.address
            self._lease_ended(tx, who.id, who.name, address, reason)
        if ended:
            self._journal.append(tx, session_record("logoff", outcome, session, rule=reason))
        return ended

    def _join(self, session: Session) -> Session:
        if session.wire is Wire.WEBDAV:
            return session
        with self._journal.begin() as tx:
            try:
                session = self._sessions.require_live(tx, session.id, self._clock())
            except SessionEndedError as error:
                raise LoginRefusedError(SESSION_OVER, session.principal.id) from error
            joined = self._authenticator.connected(tx, session)
            self._journal.append(tx, session_record("login", Outcome.OK, joined, rule="joined"))
        return joined

    def _open(self, claim: Claim) -> Session:
        attempt = claim.attempt
        with self._journal.begin() as tx:
            session = self._authenticator.admit(tx, claim)
            self._throttle.succeeded(tx, attempt.name, attempt.client.address)
            rule = "+".join(sorted(session.factors))
            record = session_record("login", Outcome.OK, session, rule=rule)
            note = self._authenticator.certificate_note(attempt)
            self._journal.append(tx, replace(record, note=note))
        return session

    def _refuse(self, attempt: Attempt, error: AuthError) -> None:
        """Record a login that failed, and count it against its source if it was refused."""
        try:
            with self._journal.begin() as tx:
                if _is_guess(attempt, error):
                    self._throttle.failed(tx, attempt.name, attempt.client.address)
                note = self._authenticator.certificate_note(attempt)
                self._journal.append(tx, replace(_refusal_record(attempt, error), note=note))
        except StorageError as failure:
            raise AuditUnavailableError("Nobody can log in: the audit record fails.") from failure


def _is_guess(attempt: Attempt, error: AuthError) -> bool:
    """Return whether the refusal counts against its source.

    Whoever has proven a listed key and is refused by policy, or has no lease any more, guesses
    nothing: a program that keeps trying must not hold up the person who types a code beside it.
    """
    if not isinstance(error, LoginRefusedError) or error.reason in _NO_GUESS:
        return False
    if not attempt.ssh_key:
        return True
    wrong_code = error.reason.startswith(CODE_REASONS) and error.reason != CODE_MISSING
    return wrong_code or error.reason in _KEY_GUESSES


def _half_way(attempt: Attempt, error: LoginRefusedError) -> bool:
    """Return whether a proven key only waits for its code: no failure, and nothing to hide.

    With a password this would be an oracle: a fast refusal would mean that it is the right one.
    """
    return bool(attempt.ssh_key) and error.reason == CODE_MISSING


def _refusal_record(attempt: Attempt, error: AuthError) -> Record:
    """Return the record of an attempt that was refused, or that nobody could decide."""
    record = Record(
        action="login",
        outcome=Outcome.FAILED,
        protocol=attempt.wire.value,
        client_address=attempt.client.address,
        error=type(error).__name__,
        client_software=attempt.client.software,
        login_name=attempt.name[:NAME_LIMIT_CHARS],
    )
    if not isinstance(error, LoginRefusedError):
        return record
    return replace(
        record, outcome=Outcome.DENIED, principal_id=error.principal_id, rule=error.reason
    )
