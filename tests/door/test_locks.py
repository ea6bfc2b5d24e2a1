"""Locks at the door (RFC 4918 sections 6 and 7): whom they bind, and on what."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from auth.policy import PathRule
from backends.errors import ConflictError, ParentMissingError
from gateway.errors import (
    DeniedError,
    LockedError,
)
from gateway.model import Action, Look, Wire
from gateway.monitor import Door
from tests.door.locked import FILE, FOLDER, holding, lock, make_files
from tests.door.support import Gate, at, get, outline, put, staff

EVERY_CATALOG = True

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


@pytest.fixture(autouse=True)
def _files(alice: Door) -> None:
    make_files(alice)


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


def test_shared_locks_are_asked_of_each_thing_that_changes(alice: Door, bob: Door) -> None:
    """One of one's own on a file does not open the folder that somebody else holds."""
    mine, theirs = lock(alice, exclusive=False), lock(bob, exclusive=False)
    on_folder = lock(bob, str(FOLDER), exclusive=False)
    with pytest.raises(LockedError):
        holding(alice, mine).move(FILE, at("/radiology/out"))
    with pytest.raises(LockedError):
        holding(bob, on_folder).delete(FILE)
    holding(bob, theirs, on_folder).delete(FILE)


def test_a_shared_lock_below_is_enough_for_each_holder(alice: Door, bob: Door) -> None:
    """Also where the file goes with its folder; what only another's deep lock covers stays."""
    mine = lock(alice, exclusive=False)
    lock(bob, exclusive=False)
    holding(alice, mine).delete(FOLDER)
    make_files(alice)
    mine = lock(alice, str(FOLDER), exclusive=False)
    lock(bob, str(FOLDER), exclusive=False, deep=True)
    with pytest.raises(LockedError):
        holding(alice, mine).delete(FOLDER)


def test_of_those_who_ask_at_once_one_gets_the_lock(gate: Gate) -> None:
    """Whether it is free is looked up in the transaction that takes it."""
    doors = [gate.door(name) for name in ("alice", "bob") * 4]

    def attempt(door: Door) -> bool:
        try:
            lock(door, "/radiology/a/new")
        except LockedError:
            return False
        return True

    with ThreadPoolExecutor(len(doors)) as pool:
        assert sorted(pool.map(attempt, doors)) == [False] * 7 + [True]
    assert gate.sql("SELECT count(*) FROM locks") == [(1,)]


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


def test_a_deep_lock_needs_the_right_on_all_below(gate: Gate, alice: Door, bob: Door) -> None:
    """Or it would keep others from where its holder has no business."""
    gate.policy.replace(staff(PathRule("/a/sub/**", deny=frozenset({Action.LOCK}))))
    before = gate.content()
    with pytest.raises(DeniedError):
        lock(alice, str(FOLDER), deep=True)
    assert gate.content() == before
    lock(alice, str(FOLDER))
    put(bob, "/radiology/a/sub/deep")


def test_lock_needs_the_right_to_lock_or_write(gate: Gate, alice: Door) -> None:
    """Writing implies locking unless a rule denies it."""
    gate.policy.replace(staff(without=frozenset({Action.LOCK})))
    held = lock(alice)
    alice.unlock(FILE, held.token)
    gate.policy.replace(staff(PathRule("/**", deny=frozenset({Action.LOCK}))))
    with pytest.raises(DeniedError):
        lock(alice)
    put(alice, str(FILE))


def test_a_condition_is_judged_before_an_empty_file_is_made(gate: Gate, alice: Door) -> None:
    """``If-None-Match: *`` on a free name holds, because what LOCK itself makes does not count."""
    path = at("/radiology/new")

    def free(look: Look) -> None:
        if look(path).info is not None:
            raise ConflictError("There is something already.")

    door = alice.with_tokens(frozenset(), free)
    _, created = door.lock(path, exclusive=False, depth_infinity=False, owner="", timeout_s=60)
    assert created
    before = gate.content()
    with pytest.raises(ConflictError):
        door.lock(path, exclusive=False, depth_infinity=False, owner="", timeout_s=60)
    assert gate.content() == before


def test_a_lock_is_not_copied(gate: Gate, alice: Door, bob: Door) -> None:
    """A copy is free, unless a lock lies where it goes (RFC 4918 section 7.6)."""
    lock(alice)
    lock(alice, "/radiology/a/sub/deep")
    bob.copy(FOLDER, at("/radiology/copy"))
    put(bob, "/radiology/copy/file")
    put(bob, "/radiology/copy/sub/deep")
    held = lock(alice, "/radiology/copy", deep=True)
    with pytest.raises(LockedError):
        bob.copy(FILE, at("/radiology/copy/more"))
    holding(alice, held).copy(FILE, at("/radiology/copy/more"))
    with pytest.raises(LockedError):
        put(bob, "/radiology/copy/more")


def test_what_is_moved_under_a_deep_lock_is_covered_by_it(alice: Door, bob: Door) -> None:
    """And what is moved away from under one is not (RFC 4918 section 7.6)."""
    held = lock(alice, str(FOLDER), deep=True)
    put(alice, "/radiology/outside")
    holding(alice, held).move(at("/radiology/outside"), at("/radiology/a/inside"))
    with pytest.raises(LockedError):
        put(bob, "/radiology/a/inside")
    holding(alice, held).move(at("/radiology/a/inside"), at("/radiology/outside"))
    put(bob, "/radiology/outside")


def test_a_file_that_replaces_a_locked_one_is_locked(alice: Door, bob: Door) -> None:
    """Editors save by renaming over the file that they hold (RFC 4918 section 7.6)."""
    held = lock(alice)
    put(alice, "/radiology/a/temporary", b"new")
    holding(alice, held).move(at("/radiology/a/temporary"), FILE, replace=True)
    assert [info.token for info in alice.locks(FILE)] == [held.token]
    with pytest.raises(LockedError):
        put(bob, str(FILE))
    alice.unlock(FILE, held.token)
    assert get(bob, str(FILE)) == b"new"


def test_a_deleted_folder_takes_the_locks_below_it_along(
    gate: Gate, alice: Door, bob: Door
) -> None:
    """With all their tokens; a name that is filled again is free."""
    held = [lock(alice), lock(alice, "/radiology/a/sub/deep"), lock(alice, str(FOLDER))]
    with pytest.raises(LockedError):
        holding(alice, *held[:2]).delete(FOLDER)
    holding(alice, *held).delete(FOLDER)
    assert gate.sql("SELECT count(*) FROM locks") == [(0,)]
    bob.mkdir(FOLDER)
    put(bob, str(FILE))


def test_a_restored_version_needs_the_token(gate: Gate, alice: Door, bob: Door) -> None:
    """Bringing an old version back changes the content like any write."""
    put(alice, str(FILE), b"newer")
    old = alice.versions(FILE)[-1].version_id
    held = lock(alice)
    for door in (bob, alice):
        with pytest.raises(LockedError):
            door.restore(FILE, old)
    holding(alice, held).restore(FILE, old)
    assert get(bob, str(FILE)) == b"old"


def test_reading_needs_no_token(alice: Door, bob: Door) -> None:
    """Write locks bind writes alone (RFC 4918 section 7)."""
    lock(alice, str(FOLDER), deep=True)
    assert get(bob, str(FILE)) == b"old"
    bob.scandir(FOLDER)
    bob.copy(FILE, at("/radiology/copy"))
