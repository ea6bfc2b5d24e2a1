"""Handles that share a file: what closing, giving up and failing are to the others."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from backends.errors import (
    NotFoundError,
    QuotaExceededError,
    StorageFullError,
    StorageUnavailableError,
)
from gateway.errors import DeniedError, LockedError, SealgateError
from gateway.handles import WriteHandle
from gateway.model import Action, Wire
from gateway.monitor import Door
from tests.door.sharing import again, configure, content_after_a_crash
from tests.door.support import FILE, Gate, at, get, names, opened, outline, put, staff, versions

BIG = b"x" * 300_000


@pytest.fixture
def alice(gate: Gate) -> Door:
    """By SFTP, whose clients open a file again before its close has arrived."""
    return gate.door("alice", wire=Wire.SFTP)


# Closing one of several


def test_a_close_stores_what_is_there_and_the_others_go_on(
    gate: Gate, alice: Door, bob: Door
) -> None:
    """For all to see and after any crash; each further change is a further version."""
    first, second, third = opened(alice, content=b"one"), again(alice), again(alice)
    second.append(b" two")
    first.commit()
    assert get(bob, FILE) == content_after_a_crash(gate) == b"one two"
    third.append(b" three")
    assert get(bob, FILE) == b"one two"
    third.commit()
    assert get(bob, FILE) == content_after_a_crash(gate) == b"one two three"
    second.commit()
    assert versions(gate) == 2
    assert get(bob, FILE) == b"one two three"


def test_segments_of_a_large_file_are_carried_over(gate: Gate, alice: Door, bob: Door) -> None:
    """Going on costs only what changes, and begins with what was committed."""
    first, second = opened(alice, content=BIG), again(alice)
    first.commit()
    blobs = dict(gate.blobs._blobs)
    second.write_at(150_000, b"y")
    second.commit()
    assert get(bob, FILE) == content_after_a_crash(gate) == BIG[:150_000] + b"y" + BIG[150_001:]
    (added,) = gate.blobs._blobs.keys() - blobs.keys()
    assert len(gate.blobs._blobs[added]) < 70_000


def test_a_close_without_a_change_makes_no_version(gate: Gate, alice: Door) -> None:
    """Nor does one where another has committed all changes; each leaves its record."""
    first, second, third = opened(alice, content=b"123"), again(alice), again(alice)
    committed = first.commit()
    assert second.commit() == committed
    assert third.commit() == committed
    third.abort()
    assert versions(gate) == 1
    records = gate.new_records()
    assert outline(records) == [("create", "ok"), ("write", "ok"), ("write", "ok")]
    assert [record["bytes"] for record in records] == [3, 0, 0]
    assert {record["version_id"] for record in records} == {committed.version_id}


def test_records_count_what_came_through_each_handle(gate: Gate, alice: Door) -> None:
    """So the bytes of a session add up."""
    put(alice, FILE, b"old content")
    first, second = again(alice), again(alice)
    gate.new_records()
    first.write_at(0, b"abc")
    second.write_at(0, b"ab")
    first.commit()
    second.write_at(0, b"a")
    second.abort("cut")
    records = gate.new_records()
    assert outline(records) == [("write", "ok"), ("write", "aborted")]
    assert [record["bytes"] for record in records] == [3, 3]
    assert get(alice, FILE) == b"abc content"


@pytest.mark.parametrize("end", [WriteHandle.abort, WriteHandle.suspend])
def test_a_handle_that_is_given_up_leaves_the_file_to_the_others(
    gate: Gate, alice: Door, end: Callable[[WriteHandle, str], None]
) -> None:
    """What it wrote stays in the file; its record says that others go on with it."""
    first, second = opened(alice, content=b"first"), again(alice)
    end(first, "disconnected")
    (record,) = gate.new_records()
    assert (record["outcome"], record["rule"], record["bytes"]) == ("aborted", "disconnected", 5)
    assert "goes on" in record["note"]
    with pytest.raises(StorageUnavailableError):
        first.write_at(0, b"late")
    second.append(b" second")
    second.commit()
    assert get(alice, FILE) == b"first second"


def test_the_last_one_that_is_cut_off_keeps_the_upload(gate: Gate, alice: Door) -> None:
    """Whoever wrote it: it waits for its uploader, and nobody else sees it."""
    first, second = opened(alice, content=b"first"), again(alice)
    first.suspend("disconnected")
    second.suspend("disconnected")
    assert get(gate.door("alice", wire=Wire.SFTP), FILE) == b"first"
    with pytest.raises(NotFoundError):
        gate.door("bob").stat(at(FILE))
    assert versions(gate) == 1
    assert gate.sql("SELECT count(*) FROM unfinished") == [(1,)]


@pytest.mark.parametrize("end", [WriteHandle.abort, WriteHandle.suspend])
def test_what_came_after_a_close_is_dropped_with_the_last_handle(
    gate: Gate, alice: Door, end: Callable[[WriteHandle, str], None]
) -> None:
    """An edit that is cut leaves what was committed, for its uploader too."""
    first, second = opened(alice, content=BIG), again(alice)
    first.commit()
    before = gate.content()
    second.write_at(0, b"y" * 200_000)
    end(second, "disconnected")
    assert gate.content()["blobs"] == before["blobs"]
    assert get(alice, FILE) == content_after_a_crash(gate) == BIG
    assert gate.sql("SELECT count(*) FROM unfinished") == [(0,)]


def test_a_crash_keeps_what_was_closed(gate: Gate, alice: Door) -> None:
    """And nothing of what was not."""
    first, second = opened(alice, content=b"closed"), again(alice)
    first.commit()
    second.write_at(0, b"not yet")
    assert content_after_a_crash(gate) == b"closed"


# Failing


def test_a_commit_that_fails_fails_for_all(gate: Gate, alice: Door, bob: Door) -> None:
    """Each handle says so, in whatever it is asked next, and leaves its record."""
    before = gate.content()
    first, second, third = opened(alice, content=BIG), again(alice), again(alice)
    lock, _ = bob.lock(
        at("/radiology"), exclusive=True, depth_infinity=True, owner="<o/>", timeout_s=60
    )
    gate.new_records()
    with pytest.raises(LockedError):
        first.commit()
    bob.unlock(at("/radiology"), lock.token)
    attempts: list[Callable[[], object]] = [
        lambda: second.write_at(0, b"x"),
        lambda: second.read_at(0, 1),
        lambda: second.truncate(0),
        second.sync,
        second.commit,
        third.commit,
    ]
    for attempt in attempts:
        with pytest.raises(StorageUnavailableError):
            attempt()
    records = [line for line in gate.new_records() if line["principal_name"] == "alice"]
    assert outline(records) == [("create", "denied"), ("create", "aborted"), ("create", "aborted")]
    assert {name: rows for name, rows in gate.content().items() if name != "shares"} == {
        name: rows for name, rows in before.items() if name != "shares"
    }
    assert names(alice, "/radiology") == []


def test_a_commit_of_unknown_fate_is_not_tried_again(gate: Gate, alice: Door) -> None:
    """Its segments stay, for they may be referred to; the other handles fail all the same."""
    first, second = opened(alice, content=BIG), again(alice)
    gate.refuse_records()
    with pytest.raises(SealgateError):
        first.commit()
    gate.accept_records()
    with pytest.raises(StorageUnavailableError):
        second.commit()
    assert names(alice, "/radiology") == []
    put(alice, FILE, b"again")
    assert get(alice, FILE) == b"again"


def test_a_write_that_fails_spoils_the_file_for_all(gate: Gate, alice: Door) -> None:
    """What one handle could not write is missing in everyone's file."""
    configure(gate, "small", quota_bytes=1000)
    first, second = opened(alice, "/small/a", b"x" * 900), again(alice, "/small/a")
    gate.clock.forward(1)
    first.append(b"x" * 101)
    gate.clock.forward(1)
    with pytest.raises(QuotaExceededError):
        first.append(b"x")
    for handle in (second, first):
        with pytest.raises(SealgateError):
            handle.commit()
    assert names(alice, "/small") == []


def test_a_spoilt_file_is_joined_by_nobody(gate: Gate, alice: Door) -> None:
    """A new open begins with what is stored, while the old handles are still to be closed."""
    put(alice, FILE, b"stored")
    first = opened(alice, content=b"lost")
    with pytest.raises(DeniedError):
        deny_once(gate, lambda: first.write_at(0, b"x"))
    assert alice.stat(at(FILE)).size_bytes == 6
    assert get(alice, FILE) == b"stored"
    second = again(alice)
    assert second.read_at(0, 10) == b"stored"
    second.append(b"!")
    second.commit()
    with pytest.raises(StorageUnavailableError):
        first.commit()
    assert get(alice, FILE) == b"stored!"


def test_a_full_store_at_the_first_close_is_told_at_the_second(gate: Gate, alice: Door) -> None:
    """Nothing was stored, so no close may say that it was."""
    first, second = opened(alice, content=BIG), again(alice)
    gate.blobs._capacity_bytes = 0
    with pytest.raises(StorageFullError):
        first.commit()
    gate.blobs._capacity_bytes = 1 << 40
    with pytest.raises(StorageUnavailableError):
        second.commit()


def deny_once(gate: Gate, attempt: Callable[[], object]) -> None:
    """Make ``attempt`` while policy allows no writing."""
    gate.clock.forward(1)
    gate.policy.replace(staff(without=frozenset({Action.WRITE, Action.CREATE})))
    try:
        attempt()
    finally:
        gate.policy.replace(staff())
