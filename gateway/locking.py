"""What WebDAV locks forbid, for every protocol alike (RFC 4918 sections 6 and 7).

Only the rules: rows come from the catalog, and the monitor decides when to ask. Imports the
catalog's lock statements and the vault's nodes.
"""

from __future__ import annotations

from collections.abc import Sequence

from backends.catalog import locks
from backends.catalog.locks import LockRow
from backends.vault import Node
from gateway.errors import LockConflictError, LockedError
from gateway.model import SECOND_US, LockInfo, Transaction
from gateway.paths import VirtualPath

LOCK_LIMIT = 1000
"""The most live locks that one principal may hold."""


def covering(tx: Transaction, lineage: Sequence[Node], now_us: int) -> list[LockRow]:
    """Return the locks that bind a change to the last node of ``lineage`` (root first).

    For a node that is yet to be made, ``lineage`` ends with the folder, which is then what changes.
    """
    if not lineage:
        return []
    found = locks.on_nodes(tx, [node.id for node in lineage], now_us)
    return [row for row in found if row.depth_infinity or row.node_id == lineage[-1].id]


def missing(rows: Sequence[LockRow], principal_id: str, tokens: frozenset[str]) -> LockRow | None:
    """Return a lock that forbids the caller to change a node that ``rows`` cover, if any does.

    Every exclusive lock needs its token, submitted by the principal who took the lock; where only
    shared locks lie, one of the caller's own is enough. SFTP has no tokens, so a lock binds it
    even for the principal who holds it: the editor that holds the lock would lose its work.
    """
    held = [row.token in tokens and row.principal_id == principal_id for row in rows]
    for row, mine in zip(rows, held, strict=True):
        if row.exclusive and not mine:
            return row
    return rows[0] if rows and not any(held) else None


def conflicting(rows: Sequence[LockRow], *, exclusive: bool) -> LockRow | None:
    """Return one of ``rows`` that a new lock would conflict with, if any does."""
    return next((row for row in rows if exclusive or row.exclusive), None)


def refusal(row: LockRow, root: Node | None = None, *, conflict: bool = False) -> LockedError:
    """Return the error that tells of ``row``; of where it lies only with ``root``.

    ``conflict``: what is refused is another lock.
    """
    kind = LockConflictError if conflict else LockedError
    return kind(
        row.principal_name,
        renewed_us=row.expires_us - row.timeout_s * SECOND_US,
        expires_us=row.expires_us,
        root="" if root is None else str(root.path),
        root_is_folder=root is not None and root.is_folder,
    )


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
