"""What the janitor does with leases that nobody is there to use."""

from __future__ import annotations

import dataclasses

import pytest

from auth.authenticator import principal_of
from auth.lease import Leases
from backends.catalog.leases import SqlLeaseStore
from backends.keyring import Mac
from backends.share import system_key
from gateway.model import Client, Factor, Lease, Wire
from tests.door.test_janitor import DAY_S, Site, people, site

__all__ = ["site"]

CLIENT = Client("10.0.0.1")


def _earned(site: Site, *, session_timeout_s: int = 7 * DAY_S, idle_timeout_s: int = 600) -> Lease:
    """Have alice earn a lease with a session that is over by now."""
    gateway = site.gateway
    account = gateway.directory.find("alice")
    assert account is not None
    with gateway.catalog.begin() as tx:
        leases = Leases(SqlLeaseStore(Mac(system_key(tx, gateway.masters), "lease")))
        lease = leases.earn(
            tx,
            principal_of(account),
            CLIENT,
            now_us=site.clock(),
            idle_timeout_s=idle_timeout_s,
            session_timeout_s=session_timeout_s,
        )
        session = gateway.sessions.open(
            tx,
            session_id="earning",
            principal=principal_of(account),
            wire=Wire.SFTP,
            client=CLIENT,
            factors=frozenset({Factor.PASSWORD, Factor.TOTP}),
            now_us=site.clock(),
            idle_timeout_s=idle_timeout_s,
            session_timeout_s=session_timeout_s,
            binding=None,
            lease=lease,
        )
        gateway.sessions.disconnect(tx, session.id, "disconnected", site.clock())
    return lease


def test_the_lease_of_a_disabled_account_ends_without_any_session(site: Site) -> None:
    """Enabling the account again does not bring it back."""
    _earned(site)
    people(site.folder, alice_enabled=False)
    site.clock.forward(61)
    site.janitor.run_due()
    assert site.recorded("lease_end") == [("expired", "account-removed-or-disabled")]
    people(site.folder)
    assert site.gateway.login.leases() == []


def test_a_lease_that_lives_is_left_alone(site: Site) -> None:
    """Looking an account up is no reason to end anything."""
    lease = _earned(site)
    site.clock.forward(61)
    site.janitor.run_due()
    assert site.gateway.login.leases() == [lease]


def test_rows_of_leases_that_are_over_are_tidied_away(site: Site) -> None:
    """Once their absolute end is reached."""
    _earned(site, session_timeout_s=700)
    site.clock.forward(699)
    site.janitor.run_due()
    assert site.sql("SELECT count(*) FROM leases") == [(1,)]
    site.clock.forward(301)
    site.janitor.run_due()
    assert site.sql("SELECT count(*) FROM leases") == [(0,)]


@pytest.mark.parametrize("idle_days", [1, 3])
def test_activity_counts_as_long_as_the_lease_lives(site: Site, idle_days: int) -> None:
    """Rows of ended sessions stay while they may still tell when somebody was last there."""
    lease = _earned(site, idle_timeout_s=idle_days * DAY_S)
    active_us = site.clock() + DAY_S * 1_000_000 // 2
    site.sql(f"UPDATE sessions SET last_active_us = {active_us}")
    site.clock.forward(1.25 * DAY_S)
    site.janitor.run_due()
    site.clock.forward(0.5)
    found = site.gateway.login.leases()
    assert found == [dataclasses.replace(lease, last_active_us=active_us)]
