"""Handles that share a file: it is renamed, replaced and deleted under them."""

from __future__ import annotations

import pytest

from backends.errors import StorageUnavailableError
from gateway.model import Wire
from gateway.monitor import Door
from tests.door.sharing import again, content_after_a_crash
from tests.door.support import FILE, Gate, at, get, names, opened, put

BIG = b"x" * 300_000
OTHER = "/radiology/other"


@pytest.fixture
def alice(gate: Gate) -> Door:
    """By SFTP, whose clients open a file again before its close has arrived."""
    return gate.door("alice", wire=Wire.SFTP)


@pytest.mark.parametrize("closed", [False, True])
def test_a_file_is_renamed_under_all_its_handles(
    alice: Door, bob: Door, gate: Gate, closed: bool
) -> None:
    """Before its first close or after: all that is written goes under the new name."""
    first, second, third = opened(alice, content=b"one"), again(alice), again(alice)
    if closed:
        third.commit()
    alice.move(at(FILE), at(OTHER))
    assert names(alice, "/radiology") == ["other"]
    fourth = again(alice, OTHER)
    first.append(b" two")
    first.commit()
    fourth.append(b" three")
    fourth.commit()
    second.commit()
    assert names(bob, "/radiology") == ["other"]
    assert get(bob, OTHER) == content_after_a_crash(gate, OTHER) == b"one two three"


@pytest.mark.parametrize("closed", [False, True])
def test_a_file_is_renamed_over_another_under_all_its_handles(
    alice: Door, bob: Door, closed: bool
) -> None:
    """The other's history goes on with what was written, and what is still to come."""
    node_id = put(alice, OTHER, b"other").node_id
    first, second = opened(alice, content=b"one"), again(alice)
    if closed:
        first.commit()
    alice.move(at(FILE), at(OTHER), replace=True)
    second.append(b" two")
    if not closed:
        first.commit()
    second.commit()
    assert names(bob, "/radiology") == ["other"]
    assert get(bob, OTHER) == b"one two"
    assert bob.stat(at(OTHER)).node_id == node_id
    assert get_version(bob, OTHER, -1) == len(b"other")


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("open_source", [False, True])
def test_what_a_rename_replaces_does_not_come_back(
    gate: Gate, alice: Door, stored: bool, open_source: bool
) -> None:
    """A late close of the file that was there before must not undo the rename."""
    if stored:
        put(alice, OTHER, b"old")
    late, late_too = opened(alice, OTHER, b"replaced"), again(alice, OTHER)
    source = opened(alice, content=b"renamed")
    if not open_source:
        source.commit()
    alice.move(at(FILE), at(OTHER), replace=True)
    late.commit()
    source.commit()
    late_too.commit()
    assert names(alice, "/radiology") == ["other"]
    assert get(alice, OTHER) == content_after_a_crash(gate, OTHER) == b"renamed"
    with pytest.raises(StorageUnavailableError):
        late.write_at(0, b"x")


@pytest.mark.parametrize("closed", [False, True])
def test_a_deleted_file_stays_so_for_all_its_handles(gate: Gate, alice: Door, closed: bool) -> None:
    """Their closes are answered well, change and record nothing; the name is free at once."""
    first, second, third = opened(alice, content=BIG), again(alice), again(alice)
    if closed:
        first.commit()
    second.append(b"more")
    alice.delete(at(FILE))
    assert names(alice, "/radiology") == []
    put(alice, FILE, b"another")
    gate.new_records()
    for handle in (first, second):
        handle.commit()
    third.abort()
    assert gate.new_records() == []
    assert get(alice, FILE) == b"another"
    assert gate.monitor._surroundings.writes._shown == {}


def test_a_file_that_others_have_renamed_is_opened_no_more_under_its_old_name(
    alice: Door, bob: Door
) -> None:
    """What is open follows its file; the old name is free, and what is made there is another."""
    put(alice, FILE, b"old")
    first = again(alice)
    bob.move(at(FILE), at(OTHER))
    second = opened(alice, content=b"another")
    first.append(b"!")
    first.commit()
    second.commit()
    assert (get(bob, OTHER), get(bob, FILE)) == (b"old!", b"another")


def test_a_file_that_others_have_deleted_is_made_anew(alice: Door, bob: Door) -> None:
    """By what is written; a handle through which nothing more comes is closed in peace."""
    first, second, third = opened(alice, content=b"one"), again(alice), again(alice)
    first.commit()
    bob.delete(at(FILE))
    second.commit()
    assert names(bob, "/radiology") == []
    third.append(b" two")
    third.commit()
    assert get(bob, FILE) == b"one two"


def test_a_cut_upload_is_continued_by_all_handles(gate: Gate, alice: Door) -> None:
    """What had arrived is the beginning of the file that they share."""
    opened(alice, content=b"one").suspend("disconnected")
    first = alice.open_write(at(FILE), keep=True)
    second, third = again(alice), again(alice)
    assert (first.resumes, second.resumes) == (True, False)
    second.append(b" two")
    first.commit()
    second.append(b" three")
    second.commit()
    third.set_modified(7)
    third.commit()
    assert gate.door("bob").stat(at(FILE)).modified_us == 7
    assert get(alice, FILE) == b"one two three"
    assert gate.sql("SELECT count(*) FROM unfinished") == [(0,)]


def get_version(door: Door, path: str, index: int) -> int:
    """Return the size of one version of a file, newest first."""
    return door.versions(at(path))[index].size_bytes
