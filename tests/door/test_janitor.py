"""What happens though no client asks: log-off, account re-checks, checkpoints, and care."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from auth.authenticator import principal_of
from auth.directory import Account, Directory
from auth.errors import DirectoryConfigError
from auth.file import FileUser, write_users
from backends.catalog.segments import Due
from backends.errors import StorageUnavailableError
from backends.keyring import MasterKey
from backends.scrub.reading import Pace, StoppedError
from gateway.app import Gateway, open_gateway
from gateway.audit import trail
from gateway.audit.trail import Line
from gateway.care.scrubbing import SILENT_LIMIT, Scrubbing
from gateway.care.turn import TURN_US, Turn
from gateway.config import parse_config
from gateway.janitor import Janitor
from gateway.model import SECOND_US, Client, Factor, LockInfo, Session, Wire
from gateway.monitor import Door
from gateway.paths import VirtualPath
from tests.auth.memory import FixedClock
from tests.door.support import put
from tests.support.users import until

DAY_S = 24 * 3600
LARGE_BYTES = 100_000
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
        return [(one["outcome"], one["rule"]) for one in self.records(action)]

    def records(self, action: str) -> list[Line]:
        self.gateway.journal.flush()
        with self.gateway.catalog.snapshot() as tx:
            lines = list(trail.lines(tx, self.gateway.audit_cipher))
        return [one for one in lines if one["action"] == action]

    def sql(self, statement: str) -> list[tuple[int, ...]]:
        """Run a statement on the catalog's file, past the gateway."""
        connection = sqlite3.connect(self.folder / "data" / "catalog.sqlite")
        found = connection.execute(statement).fetchall()
        connection.commit()
        connection.close()
        return found

    def blobs(self) -> list[Path]:
        return sorted((self.folder / "data" / "blobs").glob("*/*"))

    def fill(self, count: int) -> None:
        """Write that many files with a segment each."""
        door = self.door("alice")
        for number in range(count):
            put(door, f"/radiology/{number}", bytes([number]) * LARGE_BYTES)

    def scrubbing(self, pace: Pace | None = None, *, repair: bool = False) -> Scrubbing:
        pace = pace or Pace(None, self.clock, lambda _seconds: None)
        return Scrubbing(self.gateway, pace, shares=("radiology",), repair=repair)

    def everything(self) -> Due:
        return Due(self.clock() + 1, self.clock())


def people(folder: Path, *, alice_enabled: bool = True, bob_group: str = "staff") -> None:
    users = (
        FileUser("alice", "11111111-1111-4111-8111-111111111111", groups=("staff",)),
        FileUser("bob", "22222222-2222-4222-8222-222222222222", groups=(bob_group,)),
    )
    write_users(folder / "users.yaml", [replace(users[0], enabled=alice_enabled), users[1]])


def lock(door: Door, path: str, timeout_s: int = 600) -> LockInfo:
    """Lock a file, made where there is none."""
    info, _ = door.lock(
        VirtualPath.parse(path), exclusive=True, depth_infinity=False, owner="", timeout_s=timeout_s
    )
    return info


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


def test_a_disabled_account_loses_its_locks_and_others_keep_theirs(site: Site) -> None:
    """With one record, also where no session of the holder is left; others may write again."""
    alice, bob = site.door("alice"), site.door("bob")
    for name in ("one", "two", "three"):
        put(alice, f"/radiology/{name}")
    held = [lock(alice, f"/radiology/{name}") for name in ("one", "two")]
    kept = lock(bob, "/radiology/three")
    site.gateway.monitor.expire(alice.session, "idle")
    site.clock.forward(61)
    site.janitor.run_due()
    assert [info.principal_name for info in bob.locks(held[0].path)] == ["alice"]
    people(site.folder, alice_enabled=False)
    site.clock.forward(61)
    site.janitor.run_due()
    site.janitor.recheck_accounts()
    put(bob, "/radiology/one")
    put(bob, "/radiology/two")
    assert bob.locks(kept.path) == [kept]
    (record,) = site.records("unlock")
    assert (record["outcome"], record["rule"]) == ("expired", "account-removed-or-disabled")
    assert (record["principal_name"], record["count"]) == ("alice", 2)


def test_a_directory_that_is_down_takes_no_locks(site: Site) -> None:
    """What cannot be asked is not gone."""
    held = lock(site.door("alice"), "/radiology/file")
    (site.folder / "users.yaml").unlink()
    site.clock.forward(61)
    site.janitor.run_due()
    assert site.door("bob").locks(held.path) != []


def test_locks_that_ran_out_are_tidied_away(site: Site) -> None:
    """They bound nobody since; those that live stay."""
    door = site.door("alice")
    lock(door, "/radiology/short", timeout_s=10)
    lock(door, "/radiology/long", timeout_s=3600)
    site.janitor.run_due()
    site.clock.forward(301)
    assert site.sql("SELECT count(*) FROM locks") == [(2,)]
    site.janitor.run_due()
    assert site.sql("SELECT timeout_s FROM locks") == [(3600,)]


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


def test_everything_is_read_once_in_a_cycle(site: Site) -> None:
    """In thirty days of a running gateway, a bite a while, and never much at once."""
    site.fill(40)
    began_us, most = site.clock() + SECOND_US, 0
    for _ in range(30 * 4):
        site.clock.forward(6 * 3600)
        site.janitor.run_due()
        (count,) = site.sql(f"SELECT count(*) FROM segments WHERE verified_us = {site.clock()}")[0]
        most = max(most, count)
    assert site.sql(f"SELECT count(*) FROM segments WHERE verified_us < {began_us}") == [(0,)]
    assert most <= 2
    assert site.recorded("scrub").count(("ok", "")) == 29
    notes = [one["note"].split(", ")[1] for one in site.records("scrub")]
    assert 38 <= sum(int(note.removesuffix(" segments")) for note in notes) <= 44


def test_what_was_missed_is_made_up_for(site: Site) -> None:
    """After a gateway was down for longer than a cycle, as fast as the rate allows."""
    site.fill(10)
    site.clock.forward(31 * DAY_S)
    Janitor(site.gateway).run_due()
    site.clock.forward(61)
    janitor = Janitor(site.gateway)
    site.clock.forward(61)
    janitor.run_due()
    assert site.sql(f"SELECT count(*) FROM segments WHERE verified_us < {site.clock()}") == [(0,)]


def test_a_damaged_segment_is_recorded_once_a_day(site: Site) -> None:
    """With share, node and path, but not quarantined: that is for an administrator to say."""
    site.fill(3)
    site.janitor.run_due()
    blob = site.blobs()[0]
    blob.write_bytes(blob.read_bytes()[:-1] + b"!")
    site.clock.forward(40 * DAY_S)
    for _ in range(5):
        site.clock.forward(3600)
        site.janitor.run_due()
    (found,) = (one for one in site.records("scrub") if one["rule"] == "segment")
    assert (found["outcome"], found["share"], found["error"]) == (
        "failed",
        "radiology",
        "IntegrityError",
    )
    assert found["node_id"]
    assert found["path"].startswith("/radiology/")
    assert blob.name in found["note"]
    assert found["path"] not in found["note"]
    assert site.sql("SELECT count(*) FROM quarantine") == [(0,)]
    site.clock.forward(DAY_S)
    site.janitor.run_due()
    site.clock.forward(3600)
    site.janitor.run_due()
    assert [one["rule"] for one in site.records("scrub")].count("segment") == 2


def test_the_catalog_is_judged_daily(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """What was done to it is in the trail, with the path; the log names no file."""
    put(site.door("alice"), "/radiology/secret", b"x")
    site.janitor.run_due()
    site.sql("UPDATE nodes SET modified_us = 1 WHERE is_folder = 0")
    site.clock.forward(DAY_S)
    site.janitor.run_due()
    found, ended = site.records("scrub")
    assert (found["rule"], found["path"]) == ("node", "/radiology/secret")
    assert (ended["outcome"], "1 findings" in ended["note"]) == ("failed", True)
    assert found["node_id"] in caplog.text
    assert "secret" not in caplog.text


def test_a_missing_hash_is_computed_within_the_hour(site: Site) -> None:
    """Of a file that was changed in place."""
    door = site.door("alice")
    put(door, str(FILE), bytes(LARGE_BYTES))
    handle = door.open_write(FILE, keep=True)
    handle.write_at(10, b"in place")
    handle.commit()
    assert site.sql("SELECT count(*) FROM versions WHERE sha256_sealed IS NULL") == [(1,)]
    site.clock.forward(3601)
    site.janitor.run_due()
    assert site.sql("SELECT count(*) FROM versions WHERE sha256_sealed IS NULL") == [(0,)]


def test_only_one_gateway_cares(site: Site) -> None:
    """Another one over the same catalog waits until the first is gone for a while."""
    put(site.door("alice"), str(FILE), b"1")
    put(site.door("bob"), str(FILE), b"2")
    site.janitor.run_due()
    site.clock.forward(11 * DAY_S)
    other = Turn(site.gateway.catalog, site.clock, "other")
    assert other.take()
    site.janitor.run_due()
    assert site.recorded("expire") == []
    site.clock.forward(TURN_US // SECOND_US + 1)
    site.janitor.run_due()
    assert site.recorded("expire") == [("ok", "")]
    assert not other.take()


def test_a_command_takes_precedence_over_a_gateway(site: Site) -> None:
    """At once, and for as long as it renews its turn; not over another command."""
    catalog, clock = site.gateway.catalog, site.clock
    gateway = Turn(catalog, clock, "gateway")
    one, two = (Turn(catalog, clock, name, commanded=True) for name in ("one", "two"))
    assert gateway.take()
    assert one.take()
    assert not gateway.take()
    assert not two.take()
    for _ in range(4):
        clock.forward(TURN_US // SECOND_US - 10)
        assert one.take()
        assert not gateway.take()
    two.give_up()
    assert not gateway.take()
    one.give_up()
    assert gateway.take()
    clock.forward(-DAY_S)
    assert one.take()


def test_a_turn_of_another_kind_is_taken_over(site: Site) -> None:
    """What stands in the row may be anything."""
    for stored in ("'nonsense'", "'[]'", "'{\"name\": 1}'"):
        site.sql(f"INSERT OR REPLACE INTO meta VALUES ('care_turn', CAST({stored} AS BLOB))")
        assert Turn(site.gateway.catalog, site.clock, "gateway").take()


def test_a_damaged_share_does_not_keep_the_others_from_care(site: Site) -> None:
    """It is logged, and everything else that is due is done."""
    put(site.door("alice"), str(FILE), b"x")
    site.janitor.run_due()
    site.sql("UPDATE shares SET used_bytes = 7")
    site.clock.forward(DAY_S)
    site.janitor.run_due()
    assert ("failed", "share") in site.recorded("scrub")


def test_a_share_that_cannot_be_opened_is_a_finding(site: Site) -> None:
    """Its key was edited, or its row is gone with all that named it."""
    site.fill(1)
    site.sql("UPDATE shares SET name_key_wrapped = x'00'")
    run = site.scrubbing()
    run.check_rows()
    assert run.hash_contents(1) == 0
    assert [each.kind.value for each in run.report.findings] == ["key"]
    site.sql("DELETE FROM shares")
    gone = site.scrubbing()
    gone.check_rows()
    assert [each.kind.value for each in gone.report.findings] == ["share", "share"]
    damaged = site.blobs()[0]
    damaged.write_bytes(b"")
    gone.check_segments(site.everything(), 1)
    (found,) = gone.report.findings[2:]
    assert (found.segment_id, found.share, found.path) == (damaged.name, "", "")


def test_an_interrupted_run_goes_on_where_it_was(site: Site) -> None:
    """What was verified is noted, and comes last the next time."""
    site.fill(6)
    site.clock.forward(DAY_S)
    left = iter([False] * 4)
    run = site.scrubbing(Pace(None, site.clock, lambda _s: None, lambda: next(left, True)))
    with pytest.raises(StoppedError):
        run.check_segments(site.everything(), 1 << 40)
    assert site.sql(f"SELECT count(*) FROM segments WHERE verified_us = {site.clock()}") == [(4,)]
    due = Due(site.clock(), site.clock())
    again = site.scrubbing()
    again.check_segments(due, 1 << 40)
    assert again.report.segments == 2
    assert site.sql(f"SELECT count(*) FROM segments WHERE verified_us < {site.clock()}") == [(0,)]


def test_a_budget_ends_a_run(site: Site) -> None:
    """With the segment that spends it."""
    site.fill(4)
    run = site.scrubbing()
    assert run.check_segments(site.everything(), LARGE_BYTES + 1000) > LARGE_BYTES + 1000
    assert run.report.segments == 2


def test_a_run_longer_than_its_clock_ends(site: Site) -> None:
    """What it verified lies in the future of the moment when it was begun."""
    site.fill(2)
    begun = Due(site.clock() + 1, site.clock())
    site.clock.forward(3 * DAY_S)
    run = site.scrubbing()
    run.check_segments(begun, 1 << 40)
    assert run.report.segments == 2


def test_repair_puts_into_quarantine_and_takes_out_again(site: Site) -> None:
    """A blob that came back from a backup verifies; nothing was deleted meanwhile."""
    site.fill(2)
    blob = site.blobs()[0]
    data = blob.read_bytes()
    blob.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    first = site.scrubbing(repair=True)
    first.check_segments(site.everything(), 1 << 40)
    assert len(first.report.findings) == len(first.report.repairs) == 1
    assert site.sql("SELECT count(*) FROM quarantine") == [(1,)]
    look = site.scrubbing()
    look.recheck_quarantine()
    assert [each.kind.value for each in look.report.findings] == ["segment"]
    still = site.scrubbing(repair=True)
    still.recheck_quarantine()
    assert len(still.report.findings) == 1
    blob.write_bytes(data)
    mended = site.scrubbing(repair=True)
    mended.recheck_quarantine()
    assert mended.report.findings == []
    assert mended.report.repairs == [f"Segment {blob.name} verifies again and left quarantine."]
    assert site.sql("SELECT count(*) FROM quarantine") == [(0,)]
    assert len(site.blobs()) == 2


def test_a_blob_store_that_is_out_of_order_ends_the_run(site: Site) -> None:
    """One unreadable blob is a finding; several in a row are a store that does not answer."""
    site.fill(SILENT_LIMIT + 2)
    for blob in site.blobs():
        blob.unlink()
        blob.symlink_to(blob)
    run = site.scrubbing(repair=True)
    with pytest.raises(StorageUnavailableError):
        run.check_segments(site.everything(), 1 << 40)
    assert {each.kind.value for each in run.report.findings} == {"unreadable"}
    assert site.sql("SELECT count(*) FROM quarantine") == [(0,)]


def test_care_runs_beside_log_off_and_ends_when_told_to(site: Site) -> None:
    """In a thread of its own, which gives up its turn at the end."""
    stop = threading.Event()
    thread = threading.Thread(target=site.janitor.run, args=(stop,))
    thread.start()
    until(lambda: "care" in {each.name for each in threading.enumerate()}, "the thread of care")
    stop.set()
    thread.join()
    assert "care" not in {each.name for each in threading.enumerate()}
