"""Statements over sessions: the SQL store behind ``auth.session``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import sqlalchemy as sa

from backends.catalog.engine import connection_of, writer_of
from backends.catalog.schema import sessions
from gateway.model import Client, Factor, Principal, Session, Transaction, Wire

FOREVER_US = 1 << 62

_LIVE = sessions.c.ended_us.is_(None)
_BY_ID = sa.select(sessions).where(sessions.c.id == sa.bindparam("id"), _LIVE)
_BY_BINDING = sa.select(sessions).where(sessions.c.binding == sa.bindparam("binding"))
_TOUCH = (
    sessions.update()
    .where(sessions.c.id == sa.bindparam("session_id"), _LIVE)
    .values(last_active_us=sa.bindparam("now_us"))
)
_END = (
    sessions.update()
    .where(sessions.c.id == sa.bindparam("session_id"), _LIVE)
    .values(ended_us=sa.bindparam("now_us"), ended_reason=sa.bindparam("reason"))
)


class BindingLike(Protocol):
    """The shape of ``auth.session.Binding``, which this layer may not import."""

    @property
    def tag(self) -> bytes:
        """The HMAC that a joining client reproduces."""

    @property
    def join_until_us(self) -> int | None:
        """Until when joining is possible; None: while the session lives."""


@dataclass(frozen=True, slots=True)
class Bound:
    """Has the shape of ``auth.session.BoundLike``."""

    session: Session
    live: bool
    join_until_us: int


class SqlSessionStore:
    """Implements ``auth.session.SessionStore``."""

    def insert(self, tx: Transaction, session: Session, binding: BindingLike | None) -> None:
        connection = writer_of(tx)
        tag, join_until_us = None, 0
        if binding is not None:
            tag = binding.tag
            join_until_us = FOREVER_US if binding.join_until_us is None else binding.join_until_us
            # A session that is over but not yet reaped must not keep its binding from a new one.
            connection.execute(
                sessions.update().where(sessions.c.binding == tag).values(binding=None)
            )
        connection.execute(
            sessions.insert(),
            {
                "id": session.id,
                "principal_id": session.principal.id,
                "principal": _principal_text(session.principal),
                "wire": session.wire.value,
                "client_address": session.client.address,
                "client_software": session.client.software,
                "factors": ",".join(sorted(session.factors)),
                "binding": tag,
                "join_until_us": join_until_us,
                "connections": 1,
                "opened_us": session.opened_us,
                "last_active_us": session.last_active_us,
                "idle_timeout_s": session.idle_timeout_s,
                "ends_us": session.ends_us,
            },
        )

    def get(self, tx: Transaction, session_id: str) -> Session | None:
        row = connection_of(tx).execute(_BY_ID, {"id": session_id}).first()
        return None if row is None else _session(row)

    def bound(self, tx: Transaction, tag: bytes) -> Bound | None:
        row = connection_of(tx).execute(_BY_BINDING, {"binding": tag}).first()
        return (
            None if row is None else Bound(_session(row), row.ended_us is None, row.join_until_us)
        )

    def count(self, tx: Transaction, session_id: str, change: int) -> int:
        connection = writer_of(tx)
        connection.execute(
            sessions.update()
            .where(sessions.c.id == session_id)
            .values(connections=sessions.c.connections + change)
        )
        count = connection.execute(
            sa.select(sessions.c.connections).where(sessions.c.id == session_id)
        ).scalar()
        return 0 if count is None else int(count)

    def update(
        self,
        tx: Transaction,
        session_id: str,
        *,
        last_active_us: int | None,
        ended: str,
        now_us: int,
    ) -> bool:
        connection = writer_of(tx)
        if last_active_us is not None:
            result = connection.execute(
                _TOUCH, {"session_id": session_id, "now_us": last_active_us}
            )
        else:
            result = connection.execute(
                _END, {"session_id": session_id, "now_us": now_us, "reason": ended}
            )
        return bool(result.rowcount)

    def live(self, tx: Transaction) -> Iterator[Session]:
        for row in connection_of(tx).execute(sa.select(sessions).where(_LIVE)):
            yield _session(row)


def set_principal(tx: Transaction, session: Session) -> None:
    """Store what the directory now says of the session's principal."""
    writer_of(tx).execute(
        sessions.update()
        .where(sessions.c.id == session.id)
        .values(principal=_principal_text(session.principal))
    )


def forget_ended(tx: Transaction, before_us: int) -> None:
    """Remove the rows of sessions that ended before ``before_us``; their audit records stay."""
    writer_of(tx).execute(sessions.delete().where(sessions.c.ended_us < before_us))


def _principal_text(principal: Principal) -> str:
    return json.dumps([principal.name, principal.display_name, sorted(principal.memberships)])


def _session(row: Any) -> Session:  # noqa: ANN401  a SQLAlchemy row
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
