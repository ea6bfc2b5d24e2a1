"""What WebDAV locks forbid, for every protocol alike (RFC 4918 sections 6 and 7).

Only the rules: rows come from the catalog, and the monitor decides when to ask. Imports the
catalog's lock statements and the vault's nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from backends.catalog import locks
from backends.catalog.locks import LockRow
from backends.vault import Node
from gateway.errors import LockedError
from gateway.model import LockInfo, Transaction
from gateway.paths import VirtualPath

LOCK_LIMIT = 1000
"""The most live locks that one principal may hold."""

TIMEOUT_LIMIT_S = 3600
"""The longest a lock lives without a refresh, whatever the client asks for."""


def covering(
    tx: Transaction, lineage: Sequence[Node], now_us: int, *, membership: bool
) -> list[LockRow]:
    """Return the locks that bind a change to the last node of ``lineage`` (root first).

    With ``membership`` the change also alters its folder's membership (it removes or renames the
    node), which a lock directly on the folder forbids too. For a node that is yet to be made,
    ``lineage`` ends with the folder, which is then what changes.
    """
    if not lineage:
        return []
    found = locks.on_nodes(tx, [node.id for node in lineage], now_us)
    direct = {lineage[-1].id}
    if membership and len(lineage) > 1:
        direct.add(lineage[-2].id)
    return [row for row in found if row.depth_infinity or row.node_id in direct]


def require_unlocked(rows: Iterable[LockRow], principal_id: str, tokens: frozenset[str]) -> None:
    """Raise LockedError unless the caller submitted what it needs to change what ``rows`` cover.

    Every exclusive lock needs its token, submitted by the principal who took the lock; where only
    shared locks lie, one of the caller's own is enough. SFTP has no tokens, so a lock binds it
    even for the principal who holds it: the editor that holds the lock would lose its work.
    """
    shared: list[LockRow] = []
    for row in rows:
        held = row.token in tokens and row.principal_id == principal_id
        if row.exclusive and not held:
            raise LockedError(row.principal_name)
        if not row.exclusive:
            shared.append(row)
    if shared and not any(
        row.token in tokens and row.principal_id == principal_id for row in shared
    ):
        raise LockedError(shared[0].principal_name)


def require_compatible(rows: Iterable[LockRow], *, exclusive: bool) -> None:
    """Raise LockedError when a new lock would conflict with one of ``rows``."""
    for row in rows:
        if exclusive or row.exclusive:
            raise LockedError(row.principal_name)


def described(row: LockRow, path: VirtualPath, owner: str, principal_id: str) -> LockInfo:
    """Return what the door tells of a lock; the token only to whom it belongs."""
    return LockInfo(
        token=row.token if row.principal_id == principal_id else "",
        path=path,
        principal_id=row.principal_id,
        principal_name=row.principal_name,
        exclusive=row.exclusive,
        depth_infinity=row.depth_infinity,
        owner=owner,
        timeout_s=row.timeout_s,
        expires_us=row.expires_us,
    )
