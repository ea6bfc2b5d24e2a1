"""Statements over sessions: the SQL store behind ``auth.session``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import sqlalchemy as sa

from backends.catalog.schema import leases, sessions
from backends.catalog.statement import Command, Query, Row, insert, parameter
from backends.keyring import Mac
from backends.memo import Memo
from gateway.model import SECOND_US, Client, Factor, Principal, Session, Transaction, Wire

FOREVER_US = 1 << 62

KNOWN_LIMIT = 1024
"""How many sessions' verified rows are remembered."""


class SessionRow(NamedTuple):
    """One row of ``sessions``."""

    id: str
    principal_id: str
    principal: str
    wire: str
    client_address: str
    client_software: str
    factors: str
    binding: bytes | None
    join_until_us: int
    connections: int
    opened_us: int
    last_active_us: int
    idle_timeout_s: int
    ends_us: int
    ended_us: int | None
    ended_reason: str | None
    lease_id: str | None
    mac: bytes = b""


_COLUMNS = tuple(sessions.c[name] for name in SessionRow._fields)
_LIVE = sessions.c.ended_us.is_(None)
_THIS = sessions.c.id == parameter("session_id")
_BOUND = sessions.c.binding == parameter("tag")

_BY_ID = Query(sa.select(*_COLUMNS).where(_THIS, _LIVE))
_ENDED_BY_ID = Query(sa.select(*_COLUMNS).where(_THIS, sessions.c.ended_us.is_not(None)))
_BY_BINDING = Query(sa.select(*_COLUMNS).where(_BOUND))
_ALL_LIVE = Query(sa.select(*_COLUMNS).where(_LIVE))
_CONNECTIONS = Query(sa.select(sessions.c.connections).where(_THIS))
_INSERT = insert(sessions)
_UNBIND = Command(
    sessions.update().where(_BOUND).values(binding=sa.null(), mac=parameter("new_mac"))
)
_COUNT = Command(
    sessions.update().where(_THIS).values(connections=sessions.c.connections + parameter("change"))
)
_TOUCH = Command(sessions.update().where(_THIS, _LIVE), "last_active_us")
_END = Command(sessions.update().where(_THIS, _LIVE), "ended_us", "ended_reason")
_SET_PRINCIPAL = Command(sessions.update().where(_THIS), "principal", "mac")
# A lease lasts as long as there was activity in any of its sessions, those that ended too.
_FORGET = Command(
    sessions.delete().where(
        sessions.c.ended_us < parameter("before_us"),
        ~sa.exists().where(leases.c.id == sessions.c.lease_id),
    )
)
_IDLE_END = sessions.c.last_active_us + sa.cast(
    sessions.c.idle_timeout_s, sa.BigInteger
) * sa.literal_column(str(SECOND_US))
_LIVING = Query(
    sa.select(sa.func.count())
    .select_from(sessions)
    .where(
        sessions.c.principal_id == parameter("principal_id"),
        _LIVE,
        sessions.c.ends_us > parameter("now_us"),
        parameter("now_us") < _IDLE_END,
    )
)


class BindingLike(Protocol):
    """The shape of ``auth.session.Binding``, which this layer may not import."""

    @property
    def tag(self) -> bytes:
        """The HMAC that a joining client reproduces."""

    @property
    def join_until_us(self) -> int | None:
        """Until when joining is possible; None: while the session lives."""


class _Known(NamedTuple):
    """What a MAC was right for, and the session that it is."""

    fixed: tuple[object, ...]
    session: Session


@dataclass(frozen=True, slots=True)
class Bound:
    """Has the shape of ``auth.session.BoundLike``."""

    session: Session
    live: bool
    join_until_us: int


class SqlSessionStore:
    """Implements ``auth.session.SessionStore``.

    A row says who somebody is, so that it carries a MAC: whoever can write to the catalog, and has
    an account, could otherwise take over another's rights. An edited row counts as none.
    """

    def __init__(self, mac: Mac) -> None:
        self._mac = mac
        self._known: Memo[bytes, _Known] = Memo(KNOWN_LIMIT)

    def insert(
        self, tx: Transaction, session: Session, binding: BindingLike | None, lease_id: str
    ) -> None:
        tag, join_until_us = None, 0
        if binding is not None:
            tag = binding.tag
            join_until_us = FOREVER_US if binding.join_until_us is None else binding.join_until_us
            # A session that is over but not yet reaped must not keep its binding from a new one.
            self._unbind(tx, tag)
        row = SessionRow(
            id=session.id,
            principal_id=session.principal.id,
            principal=_principal_text(session.principal),
            wire=session.wire.value,
            client_address=session.client.address,
            client_software=session.client.software,
            factors=",".join(sorted(session.factors)),
            binding=tag,
            join_until_us=join_until_us,
            connections=1,
            opened_us=session.opened_us,
            last_active_us=session.last_active_us,
            idle_timeout_s=session.idle_timeout_s,
            ends_us=session.ends_us,
            ended_us=None,
            ended_reason=None,
            lease_id=lease_id or None,
        )
        _INSERT.run(tx, **row._replace(mac=self._mac.tag(_text(row)))._asdict())

    def get(self, tx: Transaction, session_id: str) -> Session | None:
        row = self._sound(_BY_ID.first(tx, session_id=session_id))
        return None if row is None else self._session(row)

    def ended(self, tx: Transaction, session_id: str) -> tuple[Session, str] | None:
        row = self._sound(_ENDED_BY_ID.first(tx, session_id=session_id))
        return None if row is None else (self._session(row), row.ended_reason or "")

    def bound(self, tx: Transaction, tag: bytes) -> Bound | None:
        row = self._sound(_BY_BINDING.first(tx, tag=tag))
        if row is None:
            return None
        return Bound(self._session(row), row.ended_us is None, row.join_until_us)

    def count(self, tx: Transaction, session_id: str, change: int) -> int:
        _COUNT.run(tx, session_id=session_id, change=change)
        return int(_CONNECTIONS.value(tx, session_id=session_id) or 0)

    def update(
        self,
        tx: Transaction,
        session_id: str,
        *,
        last_active_us: int | None,
        ended: str,
        now_us: int,
    ) -> bool:
        if last_active_us is not None:
            return bool(_TOUCH.run(tx, session_id=session_id, last_active_us=last_active_us))
        return bool(_END.run(tx, session_id=session_id, ended_us=now_us, ended_reason=ended))

    def live(self, tx: Transaction) -> Iterator[Session]:
        for found in _ALL_LIVE.rows(tx):
            row = self._sound(found)
            if row is not None:
                yield self._session(row)

    def living(self, tx: Transaction, principal_id: str, now_us: int) -> int:
        return int(_LIVING.value(tx, principal_id=principal_id, now_us=now_us))

    def set_principal(self, tx: Transaction, session: Session) -> None:
        row = self._sound(_BY_ID.first(tx, session_id=session.id))
        if row is not None:
            row = row._replace(principal=_principal_text(session.principal))
            mac = self._mac.tag(_text(row))
            _SET_PRINCIPAL.run(tx, session_id=row.id, principal=row.principal, mac=mac)

    def _unbind(self, tx: Transaction, tag: bytes) -> None:
        found = _BY_BINDING.first(tx, tag=tag)
        if found is not None:
            row = SessionRow(*found)._replace(binding=None)
            # A row that was edited must not become sound by this.
            mac = b"" if self._sound(found) is None else self._mac.tag(_text(row))
            _UNBIND.run(tx, tag=tag, new_mac=mac)

    def _sound(self, found: Row | None) -> SessionRow | None:
        """Return the row unless it was edited."""
        if found is None:
            return None
        row = SessionRow(*found)
        known = self._known.get(row.mac)
        if known is not None and known.fixed == _fixed(row):
            return row
        try:
            right = self._mac.verify(_text(row), row.mac)
        except (TypeError, ValueError):
            right = False
        if not right:
            return None
        self._known.put(row.mac, _Known(_fixed(row), _session(row)))
        return row

    def _session(self, row: SessionRow) -> Session:
        """Return the session of a sound row."""
        known = self._known.get(row.mac)
        if known is None:
            return _session(row)
        return replace(known.session, last_active_us=row.last_active_us)


def forget_ended(tx: Transaction, before_us: int) -> None:
    """Remove the rows of sessions that ended before ``before_us``; their audit records stay."""
    _FORGET.run(tx, before_us=before_us)


def _fixed(row: SessionRow) -> tuple[object, ...]:
    """Return everything but what changes with each use."""
    return (
        row.id,
        row.principal_id,
        row.principal,
        row.wire,
        row.client_address,
        row.client_software,
        row.factors,
        "" if row.binding is None else row.binding.hex(),
        row.join_until_us,
        row.opened_us,
        row.idle_timeout_s,
        row.ends_us,
    )


def _text(row: SessionRow) -> bytes:
    """Return what the MAC covers (FORMAT.md section 8)."""
    return json.dumps(_fixed(row), ensure_ascii=True, separators=(",", ":")).encode("ascii")


def _principal_text(principal: Principal) -> str:
    return json.dumps([principal.name, principal.display_name, sorted(principal.memberships)])


def _session(row: SessionRow) -> Session:
    name, display_name, memberships = json.loads(row.principal)
    return Session(
        id=row.id,
        principal=Principal(row.principal_id, name, display_name, frozenset(memberships)),
        wire=Wire(row.wire),
        client=Client(row.client_address, row.client_software),
        factors=frozenset(Factor(factor) for factor in row.factors.split(",") if factor),
        opened_us=row.opened_us,
        last_active_us=row.last_active_us,
        idle_timeout_s=row.idle_timeout_s,
        ends_us=row.ends_us,
    )
