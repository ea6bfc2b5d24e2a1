"""What happens though no client asks: log-off, account re-checks, checkpoints, clearing away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from auth.authenticator import principal_of
from auth.directory import Account, Directory
from auth.errors import DirectoryConfigError
from auth.file import FileUser, write_users
from backends.keyring import MasterKey
from gateway.app import Gateway, open_gateway
from gateway.audit import trail
from gateway.config import parse_config
from gateway.janitor import Janitor
from gateway.model import Client, Factor, Session, Wire
from gateway.monitor import Door
from gateway.paths import VirtualPath
from tests.auth.memory import FixedClock
from tests.door.support import put

DAY_S = 24 * 3600
FILE = VirtualPath.parse("/radiology/file")
CONFIG = """\
server: {webdav: {certificate: none, private_key: none}}
storage: {data_dir: data}
keys: {master_key: {file: master.key}}
directory: {file: {users: users.yaml}}
shares: {radiology: {versions: {keep: 5, for: 10d}, trash: 2d}}
groups:
  staff:
    members: {file: staff}
    shares: {radiology: {allow: all}}
    idle_timeout: 10m
    session_timeout: 7d
audit: {anchor: anchor}
"""


@dataclass(slots=True)
class Site:
    """A gateway over a folder, with its janitor and a clock that tests move."""

    folder: Path
    clock: FixedClock
    gateway: Gateway
    janitor: Janitor

    def sign_in(self, name: str) -> Session:
        account = self.gateway.directory.find(name)
        assert account is not None
        with self.gateway.catalog.begin() as tx:
            return self.gateway.sessions.open(
                tx,
                session_id=f"session of {name}",
                principal=principal_of(account),
                wire=Wire.WEBDAV,
                client=Client("10.0.0.1"),
                factors=frozenset({Factor.PASSWORD}),
                now_us=self.clock(),
                idle_timeout_s=600,
                session_timeout_s=7 * DAY_S,
                binding=None,
            )

    def door(self, name: str) -> Door:
        return self.gateway.monitor.bind(self.sign_in(name))

    def alive(self) -> dict[str, frozenset[str]]:
        """Return who is signed in, with their memberships."""
        with self.gateway.catalog.snapshot() as tx:
            living = self.gateway.sessions.live(tx)
        return {each.principal.name: each.principal.memberships for each in living}

    def recorded(self, action: str) -> list[tuple[str, str]]:
        self.gateway.journal.flush()
        with self.gateway.catalog.snapshot() as tx:
            lines = list(trail.lines(tx, self.gateway.audit_cipher))
        return [(one["outcome"], one["rule"]) for one in lines if one["action"] == action]


def people(folder: Path, *, alice_enabled: bool = True, bob_group: str = "staff") -> None:
    users = (
        FileUser("alice", "11111111-1111-4111-8111-111111111111", groups=("staff",)),
        FileUser("bob", "22222222-2222-4222-8222-222222222222", groups=(bob_group,)),
    )
    write_users(folder / "users.yaml", [replace(users[0], enabled=alice_enabled), users[1]])


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A gateway as the supervisor opens it."""
    MasterKey(bytes(32)).write(tmp_path / "master.key")
    people(tmp_path)
    clock = FixedClock()
    gateway = open_gateway(parse_config(CONFIG.encode(), tmp_path / "config.yaml"), clock=clock)
    yield Site(tmp_path, clock, gateway, Janitor(gateway))
    gateway.close()


def test_overdue_session_is_ended_and_recorded_once(site: Site) -> None:
    """Whoever idles out is logged off, with one record that says why."""
    site.sign_in("alice")
    site.clock.forward(601)
    site.janitor.run_due()
    site.janitor.run_due()
    assert site.alive() == {}
    assert site.recorded("logoff") == [("expired", "idle")]


def test_disabled_account_is_logged_off_and_others_stay(site: Site) -> None:
    """A directory that no longer vouches for someone ends their sessions."""
    site.sign_in("alice")
    site.sign_in("bob")
    people(site.folder, alice_enabled=False)
    site.clock.forward(61)
    site.janitor.run_due()
    assert site.alive().keys() == {"bob"}
    assert site.recorded("logoff") == [("expired", "account-removed-or-disabled")]


def test_changed_groups_reach_living_sessions(site: Site) -> None:
    """Who was taken out of a group loses its rights within a minute, and that is recorded."""
    site.sign_in("bob")
    people(site.folder, bob_group="guests")
    site.clock.forward(61)
    site.janitor.run_due()
    assert "file:guests" in site.alive()["bob"]
    assert [outcome for outcome, _ in site.recorded("groups_changed")] == ["ok"]


class PartlyBroken:
    """A directory that fails for one account."""

    def __init__(self, inner: Directory, broken_id: str) -> None:
        self._inner = inner
        self._broken_id = broken_id

    def find(self, name: str) -> Account | None:
        return self._inner.find(name)

    def verify(self, account: Account | None, password: str) -> bool:
        return self._inner.verify(account, password)

    def refresh(self, principal_id: str) -> Account | None:
        if principal_id == self._broken_id:
            raise DirectoryConfigError("This entry has no id.")
        return None


def test_one_broken_account_does_not_shield_the_others(site: Site) -> None:
    """The re-check goes on to whoever comes after an account that fails."""
    broken = site.sign_in("alice").principal.id
    site.sign_in("bob")
    directory = PartlyBroken(site.gateway.directory, broken)
    Janitor(replace(site.gateway, directory=directory)).recheck_accounts()
    assert site.alive().keys() == {"alice"}


def test_checkpoints_are_anchored_each_once(site: Site) -> None:
    """One a minute while nothing much happens, in the catalog and in the anchor."""
    for _ in range(3):
        site.janitor.run_due()
        site.clock.forward(61)
    anchored = (site.folder / "anchor").read_text().splitlines()
    assert [json.loads(line)["number"] for line in anchored] == [1, 2, 3]


def test_what_a_share_no_longer_keeps_goes(site: Site) -> None:
    """Old versions and old trash go by age; their segments a day after that."""
    blobs = site.folder / "data" / "blobs"
    large = bytes(100_000)
    door = site.door("alice")
    put(door, str(FILE), large)
    put(door, str(FILE), b"small")
    site.clock.forward(11 * DAY_S)
    site.janitor.run_due()
    assert len(list(blobs.glob("*/*"))) == 1
    site.clock.forward(DAY_S + 1)
    site.janitor.run_due()
    assert list(blobs.glob("*/*")) == []
    again = site.door("bob")
    assert again.open_read(FILE).read_at(0, 10) == b"small"
    again.delete(FILE)
    with site.gateway.catalog.snapshot() as tx:
        assert site.gateway.vault.usage(tx, "radiology").used_bytes == 5
    site.clock.forward(2 * DAY_S + 1)
    site.janitor.run_due()
    with site.gateway.catalog.snapshot() as tx:
        assert site.gateway.vault.usage(tx, "radiology").used_bytes == 0


def test_a_failing_task_does_not_stop_the_others(site: Site) -> None:
    """An anchor that cannot be written is logged; sessions are ended all the same."""
    (site.folder / "anchor").mkdir()
    site.sign_in("alice")
    site.clock.forward(601)
    site.janitor.run_due()
    assert site.alive() == {}
