"""Leases: what a fresh code is worth to the SSH keys of the same principal and client address.

There is one lease at a time for each principal and address. Nothing is remembered between calls.
Imports the shared model only.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

from gateway.model import SECOND_US, Client, Lease, Principal, Transaction


class LeaseStore(Protocol):
    """Keeps leases, at most one for a principal and an address; time is not the store's business."""

    def put(self, tx: Transaction, lease: Lease) -> None:
        """Keep the lease in the place of the one that its principal has at its address."""

    def get(self, tx: Transaction, principal_id: str, address: str) -> Lease | None:
        """Return the principal's lease at ``address``, with the last activity of its sessions."""

    def all(self, tx: Transaction, now_us: int) -> Iterator[Lease]:
        """Yield every lease whose absolute end is not reached."""

    def remove(self, tx: Transaction, principal_id: str, address: str) -> bool:
        """Forget the principal's lease at ``address``; False when there is none."""


class Leases:
    """The life of leases. Stateless but for the store; every call names its transaction."""

    def __init__(self, store: LeaseStore) -> None:
        self._store = store

    def earn(
        self,
        tx: Transaction,
        principal: Principal,
        client: Client,
        *,
        now_us: int,
        idle_timeout_s: int,
        session_timeout_s: int,
    ) -> Lease:
        """Return the lease that a code which was just accepted earns.

        A living one is renewed, so that the sessions that it has already keep it alive.
        """
        lease = Lease(
            id=secrets.token_hex(16),
            principal_id=principal.id,
            principal_name=principal.name,
            client_address=client.address,
            opened_us=now_us,
            last_active_us=now_us,
            idle_timeout_s=idle_timeout_s,
            ends_us=now_us + session_timeout_s * SECOND_US,
        )
        known = self._store.get(tx, principal.id, client.address)
        if known is not None and not known.over(now_us):
            lease = replace(lease, id=known.id)
        self._store.put(tx, lease)
        return lease

    def living(
        self,
        tx: Transaction,
        principal: Principal,
        client: Client,
        *,
        now_us: int,
        idle_timeout_s: int,
        session_timeout_s: int,
    ) -> Lease | None:
        """Return the principal's living lease at the client's address; None: there is none.

        The time-outs are those of the policy in force: one that was shortened since the code was
        given shortens the lease.
        """
        lease = self._store.get(tx, principal.id, client.address)
        if lease is None:
            return None
        lease = replace(
            lease,
            idle_timeout_s=min(lease.idle_timeout_s, idle_timeout_s),
            ends_us=min(lease.ends_us, lease.opened_us + session_timeout_s * SECOND_US),
        )
        return None if lease.over(now_us) else lease

    def end(self, tx: Transaction, principal_id: str, address: str) -> bool:
        """End the principal's lease at ``address``; False when there is none."""
        return self._store.remove(tx, principal_id, address)

    def all(self, tx: Transaction, now_us: int) -> list[Lease]:
        """Return every living lease."""
        return [lease for lease in self._store.all(tx, now_us) if not lease.over(now_us)]
