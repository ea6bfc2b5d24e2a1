"""Locks at the door (RFC 4918 sections 6 and 7): whom they bind, on what, and for how long."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from auth.policy import PathRule
from backends.catalog import locks as lock_rows
from backends.errors import LimitError, ParentMissingError
from gateway.errors import DeniedError, LockedError, LockTokenError
from gateway.locking import LOCK_LIMIT, TIMEOUT_LIMIT_S
from gateway.model import Action, LockInfo, Wire
from gateway.monitor import Door
from tests.door.support import SESSION_TIMEOUT_S, Gate, at, get, outline, put, staff

FILE = at("/radiology/a/file")
FOLDER = at("/radiology/a")


def lock(
    door: Door, path: str = str(FILE), *, exclusive: bool = True, deep: bool = False
) -> LockInfo:
    """Return a new lock."""
    info, _ = door.lock(
        at(path), exclusive=exclusive, depth_infinity=deep, owner="<o>me</o>", timeout_s=300
    )
    return info


def holding(door: Door, *held: LockInfo) -> Door:
    return door.with_tokens(frozenset(info.token for info in held))


@pytest.fixture
def files(alice: Door) -> None:
    """A folder with a file and a folder in it."""
    alice.mkdir(FOLDER)
    put(alice, str(FILE), b"old")
    alice.mkdir(at("/radiology/a/sub"))
    put(alice, "/radiology/a/sub/deep", b"deep")


pytestmark = pytest.mark.usefixtures("files")

CHANGES: dict[str, Callable[[Door], object]] = {
    "write": lambda door: put(door, str(FILE)),
    "delete": lambda door: door.delete(FILE),
    "move": lambda door: door.move(FILE, at("/radiology/new")),
    "move over": lambda door: door.move(at("/radiology/a/sub/deep"), FILE, replace=True),
    "copy over": lambda door: door.copy(at("/radiology/a/sub/deep"), FILE, replace=True),
    "set_times": lambda door: door.set_times(FILE, modified_us=7),
    "set_properties": lambda door: door.set_properties(FILE, put={}, remove=frozenset()),
    "delete folder": lambda door: door.delete(FOLDER),
    "move folder": lambda door: door.move(FOLDER, at("/radiology/new")),
}
every_change = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)


@every_change
@pytest.mark.parametrize("wire", [Wire.WEBDAV, Wire.SFTP])
def test_an_exclusive_lock_binds_everyone_else(
    gate: Gate, alice: Door, change: Callable[[Door], object], wire: Wire
) -> None:
    """On both protocols: refused as denied, naming the holder, and nothing changes."""
    lock(alice)
    gate.new_records()
    before = gate.content()
    with pytest.raises(LockedError) as caught:
        change(gate.door("bob", wire=wire))
    assert caught.value.holder == "Alice"
    (record,) = gate.new_records()
    assert (record["outcome"], record["error"]) == ("denied", "LockedError")
    assert gate.content() == before
    assert get(gate.door("bob", wire=wire), str(FILE)) == b"old"


@every_change
def test_a_lock_binds_its_owner_without_the_token(
    gate: Gate, alice: Door, change: Callable[[Door], object]
) -> None:
    """SFTP has no tokens, so the editor that holds the lock is safe from the same user there."""
    held = lock(alice)
    before = gate.content()
    with pytest.raises(LockedError):
        change(gate.door("alice", wire=Wire.SFTP))
    with pytest.raises(LockedError):
        change(alice)
    assert gate.content() == before
    change(holding(alice, held))


@every_change
def test_anothers_token_opens_nothing(
    alice: Door, bob: Door, change: Callable[[Door], object]
) -> None:
    """A token that leaked works for its principal alone."""
    held = lock(alice)
    with pytest.raises(LockedError):
        change(holding(bob, held))


def test_a_shared_lock_is_enough_for_each_holder(alice: Door, bob: Door) -> None:
    """Where shared locks lie, one of one's own is needed, and others may come."""
    mine = lock(alice, exclusive=False)
    theirs = lock(bob, exclusive=False)
    with pytest.raises(LockedError):
        put(alice, str(FILE))
    put(holding(alice, mine), str(FILE), b"mine")
    put(holding(bob, theirs), str(FILE), b"theirs")
    with pytest.raises(LockedError):
        lock(holding(alice, mine))


@pytest.mark.parametrize("exclusive", [True, False])
def test_an_exclusive_lock_admits_no_other(alice: Door, bob: Door, *, exclusive: bool) -> None:
    """Neither exclusive nor shared, nor to its own holder."""
    lock(alice)
    for door in (alice, bob):
        with pytest.raises(LockedError):
            lock(door, exclusive=exclusive)


def test_a_deep_lock_covers_all_below(alice: Door, bob: Door) -> None:
    """Depth infinity is inherited by what is there and by what comes."""
    held = lock(alice, str(FOLDER), deep=True)
    for change in (
        lambda door: put(door, "/radiology/a/sub/deep"),
        lambda door: put(door, "/radiology/a/sub/new"),
        lambda door: door.mkdir(at("/radiology/a/sub/folder")),
        lambda door: door.copy(at("/radiology/a/file"), at("/radiology/a/copy")),
        lambda door: lock(door, "/radiology/a/sub/deep"),
        lambda door: lock(door, "/radiology/a/sub/locknull"),
    ):
        with pytest.raises(LockedError):
            change(bob)
        if "lock" not in change.__code__.co_names:
            change(holding(alice, held))
    put(bob, "/radiology/outside")


def test_a_lock_below_anothers_deep_lock_makes_nothing(gate: Gate, alice: Door, bob: Door) -> None:
    """A missing name is not made when its lock is refused."""
    lock(alice, str(FOLDER), deep=True)
    before = gate.content()
    with pytest.raises(LockedError):
        lock(bob, "/radiology/a/new")
    assert gate.content() == before


def test_a_deep_lock_is_refused_over_a_lock_below(alice: Door, bob: Door) -> None:
    """A shallow one on the same folder is not."""
    lock(alice, "/radiology/a/sub/deep")
    with pytest.raises(LockedError):
        lock(bob, str(FOLDER), deep=True)
    lock(bob, str(FOLDER))


def test_a_shallow_folder_lock_binds_its_membership(alice: Door, bob: Door) -> None:
    """Adding, removing and renaming members needs the token; changing a member does not."""
    held = lock(alice, str(FOLDER))
    for change in (
        lambda door: put(door, "/radiology/a/new"),
        lambda door: door.mkdir(at("/radiology/a/folder")),
        lambda door: door.move(FILE, at("/radiology/a/renamed")),
        lambda door: door.delete(at("/radiology/a/renamed")),
    ):
        with pytest.raises(LockedError):
            change(bob)
        change(holding(alice, held))
    put(bob, "/radiology/a/sub/deep")


def test_a_file_moved_out_or_into_a_locked_folder_changes_its_membership(
    alice: Door, bob: Door
) -> None:
    """Both folders of a move are asked."""
    put(alice, "/radiology/outside")
    lock(alice, str(FOLDER))
    with pytest.raises(LockedError):
        bob.move(FILE, at("/radiology/out"))
    with pytest.raises(LockedError):
        bob.move(at("/radiology/outside"), at("/radiology/a/in"))


def test_a_lock_that_came_during_an_upload_refuses_the_commit(
    gate: Gate, alice: Door, bob: Door
) -> None:
    """Locks are asked again at the end."""
    handle = alice.open_write(FILE)
    handle.write_at(0, b"new")
    lock(bob)
    gate.new_records()
    with pytest.raises(LockedError):
        handle.commit()
    assert outline(gate.new_records()) == [("write", "denied")]
    assert get(bob, str(FILE)) == b"old"


def test_locks_go_with_what_is_deleted_or_moved(gate: Gate, alice: Door, bob: Door) -> None:
    """A lock stays with the URL and not with the node (RFC 4918 section 7.5)."""
    held = lock(alice)
    holding(alice, held).move(FILE, at("/radiology/moved"))
    put(bob, "/radiology/moved")
    held = lock(alice, "/radiology/moved")
    holding(alice, held).delete(at("/radiology/moved"))
    assert gate.sql("SELECT count(*) FROM locks") == [(0,)]


def test_lock_of_a_missing_name_makes_an_empty_file(gate: Gate, alice: Door) -> None:
    """With one record, with the right to create, and not without a parent."""
    path = at("/radiology/new")
    gate.new_records()
    info, created = alice.lock(path, exclusive=True, depth_infinity=False, owner="", timeout_s=60)
    assert created
    assert (info.path, alice.stat(path).size_bytes) == (path, 0)
    assert outline(gate.new_records()) == [("lock", "ok"), ("stat", "ok")]
    with pytest.raises(ParentMissingError):
        lock(alice, "/radiology/none/new")
    gate.policy.replace(staff(without=frozenset({Action.CREATE})))
    with pytest.raises(DeniedError):
        lock(alice, "/radiology/other")


def test_tokens_are_told_to_their_principal_alone(gate: Gate, alice: Door, bob: Door) -> None:
    """Others see that there is a lock, whose, and the owner element, but no token."""
    held = lock(alice, str(FOLDER), deep=True)
    assert held.token.startswith("urn:uuid:")
    for path in (FOLDER, FILE, at("/radiology/a/sub/deep")):
        (mine,), (theirs,) = alice.locks(path), bob.locks(path)
        assert mine.token == held.token
        assert (theirs.token, theirs.principal_name) == ("", "Alice")
        assert (theirs.path, theirs.owner) == (FOLDER, "<o>me</o>")
    assert gate.door("alice", wire=Wire.SFTP).locks(FILE)[0].token == held.token


def test_locks_on_children_show_when_asked_for(alice: Door) -> None:
    """Direct children only."""
    lock(alice)
    lock(alice, "/radiology/a/sub/deep")
    assert alice.locks(FOLDER) == []
    assert [info.path for info in alice.locks(FOLDER, below=True)] == [FILE]


def test_refresh_and_unlock_need_an_own_living_lock(gate: Gate, alice: Door, bob: Door) -> None:
    """A wrong token, another's token and a token of another place are all the same error."""
    held = lock(alice)
    for door, path, token in (
        (alice, FILE, "urn:uuid:none"),
        (bob, FILE, held.token),
        (alice, at("/radiology/a/sub"), held.token),
    ):
        with pytest.raises(LockTokenError):
            door.refresh_lock(path, token, timeout_s=60)
        with pytest.raises(LockTokenError):
            door.unlock(path, token)
    gate.clock.forward(100)
    assert alice.refresh_lock(FILE, held.token, timeout_s=60).expires_us == (
        gate.clock() + 60_000_000
    )
    alice.unlock(FILE, held.token)
    put(bob, str(FILE))
    with pytest.raises(LockTokenError):
        alice.unlock(FILE, held.token)


def test_a_lock_runs_out(gate: Gate, alice: Door, bob: Door) -> None:
    """At its end it binds nobody, shows to nobody and cannot be refreshed."""
    held = lock(alice)
    gate.clock.forward(299)
    with pytest.raises(LockedError):
        put(bob, str(FILE))
    gate.clock.forward(1)
    put(bob, str(FILE))
    assert alice.locks(FILE) == []
    with pytest.raises(LockTokenError):
        alice.refresh_lock(FILE, held.token, timeout_s=60)


@pytest.mark.parametrize(
    ("asked_s", "given_s"), [(0, 1), (-5, 1), (60, 60), (2**32, TIMEOUT_LIMIT_S)]
)
def test_the_timeout_is_bounded(alice: Door, asked_s: int, given_s: int) -> None:
    """``Infinite`` and nonsense become what the gateway gives."""
    info, _ = alice.lock(FILE, exclusive=True, depth_infinity=False, owner="", timeout_s=asked_s)
    assert info.timeout_s == given_s
    assert alice.refresh_lock(FILE, info.token, timeout_s=asked_s).timeout_s == given_s
    assert given_s <= SESSION_TIMEOUT_S


def test_the_number_of_locks_is_bounded(gate: Gate, alice: Door, bob: Door) -> None:
    """One principal's many locks keep nobody else from locking."""
    with gate.catalog.begin() as tx:
        for number in range(LOCK_LIMIT):
            row = lock_rows.LockRow(
                token=f"urn:uuid:{number}",
                node_id=number.to_bytes(16, "big"),
                exclusive=True,
                depth_infinity=False,
                principal_id="id-alice",
                principal_name="Alice",
                owner_sealed=b"",
                timeout_s=60,
                expires_us=gate.clock() + 60_000_000,
            )
            lock_rows.insert_lock(tx, row)
    with pytest.raises(LimitError):
        lock(alice)
    lock(bob)


def test_the_owner_element_is_bounded(gate: Gate, alice: Door) -> None:
    """A client's own text in our tables has a limit."""
    before = gate.content()
    with pytest.raises(LimitError):
        alice.lock(FILE, exclusive=True, depth_infinity=False, owner="x" * 9000, timeout_s=60)
    assert gate.content() == before


def test_the_owner_element_is_sealed(gate: Gate, alice: Door) -> None:
    """It often holds a person's name."""
    alice.lock(FILE, exclusive=True, depth_infinity=False, owner="<o>Dr Secret</o>", timeout_s=60)
    assert all(b"Secret" not in bytes(row[0]) for row in gate.sql("SELECT owner_sealed FROM locks"))
    assert alice.locks(FILE)[0].owner == "<o>Dr Secret</o>"


def test_lock_needs_the_right_to_lock_or_write(gate: Gate, alice: Door) -> None:
    """Writing implies locking unless a rule denies it."""
    gate.policy.replace(staff(without=frozenset({Action.LOCK})))
    held = lock(alice)
    alice.unlock(FILE, held.token)
    gate.policy.replace(staff(PathRule("/**", deny=frozenset({Action.LOCK}))))
    with pytest.raises(DeniedError):
        lock(alice)
    put(alice, str(FILE))
