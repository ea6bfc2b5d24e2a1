"""Sessions: opening, joining, keeping alive, ending. The rules; the rows are the store's.

Nothing here is remembered between calls, so a session ended by one worker is over for all.
Imports the shared model only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from gateway.errors import SessionEndedError
from gateway.model import (
    SECOND_US,
    Client,
    Factor,
    Lease,
    Principal,
    Session,
    Transaction,
    Wire,
)

JOIN_LIMIT = 10
"""The most connections that may share one SFTP session."""

TOUCH_US = SECOND_US
"""How exactly the last activity is known."""

ENDED = "ended"

TIMES = frozenset({"idle", "absolute"})
"""Why a session is over that nobody has ended."""


@dataclass(frozen=True, slots=True)
class Binding:
    """What a client must present again to join its session, and until when that is possible.

    ``tag`` is an HMAC of protocol, user, secret and client address. ``join_until_us`` None: as
    long as the session lives (HTTP, which sends the same header with every request).
    """

    tag: bytes
    join_until_us: int | None = None


class BoundLike(Protocol):
    """A session found by its binding."""

    @property
    def session(self) -> Session:
        """The session as stored."""

    @property
    def live(self) -> bool:
        """Whether its row was not ended."""

    @property
    def join_until_us(self) -> int:
        """Until when it may be joined."""


class SessionStore(Protocol):
    """Keeps session rows. A row is live until it was ended; time is not the store's business."""

    def insert(
        self, tx: Transaction, session: Session, binding: Binding | None, lease_id: str
    ) -> None:
        """Add a live session with one connection; its activity counts for the lease."""

    def get(self, tx: Transaction, session_id: str) -> Session | None:
        """Return the session of that id while its row is live."""

    def ended(self, tx: Transaction, session_id: str) -> tuple[Session, str] | None:
        """Return the session of that id once its row was ended, and why."""

    def bound(self, tx: Transaction, tag: bytes) -> BoundLike | None:
        """Return the session, live or ended, that was bound to ``tag`` last."""

    def count(self, tx: Transaction, session_id: str, change: int) -> int:
        """Add ``change`` to the session's connections; return how many there are then."""

    def update(
        self,
        tx: Transaction,
        session_id: str,
        *,
        last_active_us: int | None,
        ended: str,
        now_us: int,
    ) -> bool:
        """Set the last activity, or end the row with reason ``ended``; False if it was not live."""

    def live(self, tx: Transaction) -> Iterator[Session]:
        """Yield every live session."""

    def living(self, tx: Transaction, principal_id: str, now_us: int) -> int:
        """Return how many sessions of the principal are neither ended nor over."""

    def set_principal(self, tx: Transaction, session: Session) -> None:
        """Store what the directory now says of the session's principal."""


class Sessions:
    """The life of sessions. Stateless but for the store; every call names its transaction."""

    def __init__(self, store: SessionStore) -> None:
        self._store = store

    def open(
        self,
        tx: Transaction,
        *,
        session_id: str,
        principal: Principal,
        wire: Wire,
        client: Client,
        factors: frozenset[Factor],
        now_us: int,
        idle_timeout_s: int,
        session_timeout_s: int,
        binding: Binding | None,
        lease: Lease | None = None,
    ) -> Session:
        """Open and return a new session, whose activity counts for ``lease``.

        A session that was opened by the lease takes over its clock and its end: logging in is no
        activity, or two programs that take turns in coming back would keep each other signed in.
        """
        active_us, ends_us = now_us, now_us + session_timeout_s * SECOND_US
        if lease is not None and Factor.LEASE in factors:
            active_us, ends_us = lease.last_active_us, min(ends_us, lease.ends_us)
            idle_timeout_s = min(idle_timeout_s, lease.idle_timeout_s)
        session = Session(
            id=session_id,
            principal=principal,
            wire=wire,
            client=client,
            factors=factors,
            opened_us=now_us,
            last_active_us=active_us,
            idle_timeout_s=idle_timeout_s,
            ends_us=ends_us,
        )
        self._store.insert(tx, session, binding, "" if lease is None else lease.id)
        return session

    def living(self, tx: Transaction, principal_id: str, now_us: int) -> int:
        """Return how many sessions of the principal live."""
        return self._store.living(tx, principal_id, now_us)

    def joined(self, tx: Transaction, tag: bytes, now_us: int) -> Session | None:
        """Return the living session bound to ``tag``; None when there is none to join."""
        bound = self._store.bound(tx, tag)
        if bound is None or not bound.live or now_us >= bound.join_until_us:
            return None
        return None if bound.session.over(now_us) else bound.session

    def known(self, tx: Transaction, tag: bytes) -> bool:
        """Return whether any session of late, living or over, was bound to ``tag``."""
        return self._store.bound(tx, tag) is not None

    def connect(self, tx: Transaction, session: Session) -> bool:
        """Count one more connection of a joined session; False when JOIN_LIMIT is reached."""
        if self._store.count(tx, session.id, 1) <= JOIN_LIMIT:
            return True
        self._store.count(tx, session.id, -1)
        return False

    def require_live(self, tx: Transaction, session_id: str, now_us: int) -> Session:
        """Return the session as stored; SessionEndedError when it is over."""
        session = self._store.get(tx, session_id)
        if session is None:
            raise SessionEndedError(ENDED)
        reason = session.over(now_us)
        if reason:
            raise SessionEndedError(reason)
        return session

    def require_running(self, tx: Transaction, session_id: str, now_us: int) -> Session:
        """As ``require_live``, but for the end of a transfer that began while the session lived.

        That its time has run out since is no reason to lose what was sent; that somebody ended it
        is: SessionEndedError.
        """
        session = self._store.get(tx, session_id)
        if session is not None:
            return session
        ended = self._store.ended(tx, session_id)
        if ended is not None and ended[0].over(now_us) and ended[1] in TIMES:
            return ended[0]
        raise SessionEndedError(ENDED)

    def touch(self, tx: Transaction, session: Session, now_us: int) -> None:
        """Set the idle clock back, unless the session's time is over.

        Once in TOUCH_US is enough: a busy client would write its session's row with every request.
        """
        due = now_us >= session.last_active_us + TOUCH_US
        if due and not session.over(now_us):
            self._store.update(tx, session.id, last_active_us=now_us, ended="", now_us=now_us)

    def end(self, tx: Transaction, session_id: str, reason: str, now_us: int) -> bool:
        """End the session; False when it had ended before (then nothing is to be recorded)."""
        return self._store.update(tx, session_id, last_active_us=None, ended=reason, now_us=now_us)

    def disconnect(self, tx: Transaction, session_id: str, reason: str, now_us: int) -> bool:
        """Take one connection away; end the session with the last one. True: it ended now."""
        if self._store.count(tx, session_id, -1) > 0:
            return False
        return self.end(tx, session_id, reason, now_us)

    def set_principal(self, tx: Transaction, session: Session) -> None:
        """Store what the directory now says of the session's principal."""
        self._store.set_principal(tx, session)

    def live(self, tx: Transaction) -> list[Session]:
        """Return every session whose row is live, over or not."""
        return list(self._store.live(tx))
