"""The own unfinished file, and what updates and renames leave of a file's history."""

from __future__ import annotations

import threading

import pytest

from backends.catalog.sqlite import SqliteDriver
from backends.errors import AlreadyExistsError, NotFoundError
from gateway.errors import DeniedError, SealgateError
from gateway.model import Action, Wire
from gateway.monitor import Door
from tests.door.support import FILE, Gate, at, get, names, opened, outline, put, staff, versions

BIG = b"x" * 300_000


@pytest.fixture
def alice(gate: Gate) -> Door:
    """By SFTP, whose clients look at files that they have open."""
    return gate.door("alice", wire=Wire.SFTP)


def test_own_unfinished_file_shows_to_its_session_alone(gate: Gate, alice: Door) -> None:
    """stat, list and read tell the writing session of it, and no other, of the same user either."""
    handle = opened(alice, content=b"part")
    other = gate.door("alice", wire=Wire.SFTP)
    assert alice.stat(at(FILE)).size_bytes == 4
    assert names(alice, "/radiology") == ["file"]
    assert get(alice, FILE) == b"part"
    assert names(other, "/radiology") == []
    with pytest.raises(NotFoundError):
        other.open_read(at(FILE))
    handle.write_at(4, b"ly")
    assert get(alice, FILE) == b"partly"
    assert alice.scandir(at("/radiology")).children[0].size_bytes == 6


def test_webdav_sees_what_is_committed(gate: Gate) -> None:
    """There a file is what its ETag names until the PUT is over, for its own session too."""
    alice = gate.door("alice", wire=Wire.WEBDAV)
    put(alice, FILE, b"old")
    handle, new = opened(alice, content=b"longer"), opened(alice, "/radiology/new")
    assert alice.stat(at(FILE)).size_bytes == 3
    assert get(alice, FILE) == b"old"
    assert names(alice, "/radiology") == ["file"]
    with pytest.raises(NotFoundError):
        alice.stat(at("/radiology/new"))
    handle.commit()
    new.commit()
    assert names(alice, "/radiology") == ["file", "new"]


def test_own_unfinished_file_of_a_present_one_hides_it(alice: Door, bob: Door) -> None:
    """The writer reads what it wrote, all others what was there."""
    put(alice, FILE, b"old content")
    handle = opened(alice, content=b"part")
    assert alice.stat(at(FILE)).size_bytes == 4
    assert get(alice, FILE) == b"part"
    assert get(bob, FILE) == b"old content"
    handle.abort()
    assert get(alice, FILE) == b"old content"


def test_own_unfinished_file_is_renamed(gate: Gate, alice: Door, bob: Door) -> None:
    """It shows under its new name, is committed there, and leaves nothing at the old one."""
    handle = opened(alice)
    assert alice.move(at(FILE), at("/radiology/renamed"))
    assert str(alice.stat(at("/radiology/renamed")).path) == "/radiology/renamed"
    assert names(alice, "/radiology") == ["renamed"]
    with pytest.raises(NotFoundError):
        alice.stat(at(FILE))
    assert str(handle.commit().path) == "/radiology/renamed"
    assert names(bob, "/radiology") == ["renamed"]
    assert ("create", "ok") in outline(gate.new_records())


def test_own_unfinished_file_is_renamed_over_a_present_one(alice: Door, bob: Door) -> None:
    """The target keeps its node; its old content shows until the commit."""
    node_id = put(alice, "/radiology/target", b"old").node_id
    handle = opened(alice)
    with pytest.raises(AlreadyExistsError):
        alice.move(at(FILE), at("/radiology/target"))
    assert not alice.move(at(FILE), at("/radiology/target"), replace=True)
    assert get(bob, "/radiology/target") == b"old"
    assert handle.commit().node_id == node_id
    assert get(bob, "/radiology/target") == b"new"


def test_present_file_is_renamed_over_another_while_it_is_written(alice: Door, bob: Door) -> None:
    """The upload follows its file, as an open file does everywhere; the old name stays free."""
    put(alice, FILE, b"old")
    put(alice, "/radiology/target", b"target")
    handle = opened(alice)
    alice.move(at(FILE), at("/radiology/target"), replace=True)
    handle.commit()
    assert get(bob, "/radiology/target") == b"new"
    assert names(bob, "/radiology") == ["target"]


def test_exclusively_made_file_is_renamed_over_a_present_one(alice: Door) -> None:
    """What had to be absent was the temporary name, and it was; the rename said to replace."""
    put(alice, "/radiology/target", b"old")
    handle = alice.open_write(at("/radiology/tmp"), replace=False)
    handle.write_at(0, b"new")
    alice.move(at("/radiology/tmp"), at("/radiology/target"), replace=True)
    handle.commit()
    assert get(alice, "/radiology/target") == b"new"


def test_own_unfinished_file_is_deleted(gate: Gate, alice: Door) -> None:
    """It is gone at once and stays so when the handle is committed; the deletion is recorded."""
    handle = opened(alice, content=BIG)
    alice.delete(at(FILE))
    assert names(alice, "/radiology") == []
    handle.commit()
    assert names(alice, "/radiology") == []
    assert outline(gate.new_records())[0] == ("delete", "ok")
    assert gate.content()["blobs"] == []


def test_times_of_an_unfinished_file_are_the_committed_ones(alice: Door) -> None:
    """Clients set the time before they close."""
    handle = opened(alice)
    alice.set_times(at(FILE), modified_us=7)
    assert alice.stat(at(FILE)).modified_us == 7
    assert handle.commit().modified_us == 7


def test_times_whose_record_fails_are_not_set(gate: Gate, alice: Door) -> None:
    """An unfinished file is no exception to fail closed."""
    handle = opened(alice)
    gate.refuse_records()
    with pytest.raises(SealgateError):
        alice.set_times(at(FILE), modified_us=7)
    gate.accept_records()
    assert handle.present_info.modified_us != 7


def test_times_of_a_busy_upload_keep_nobody_waiting(gate: Gate, alice: Door, bob: Door) -> None:
    """While a file is busy writing, setting its time must not hold the catalog's write lock.

    A commit of the same file waits for that lock with the file's own held: both would wait for
    ever, and everybody else with them.
    """
    handle = opened(alice)
    setting = threading.Thread(target=alice.set_times, args=(at(FILE),), kwargs={"modified_us": 7})
    making = threading.Thread(target=bob.mkdir, args=(at("/radiology/folder"),))
    with handle.file.lock:
        setting.start()
        driver = gate.catalog._driver
        assert isinstance(driver, SqliteDriver)
        while not driver._writer.locked() and not gate.sql("SELECT 1 FROM audit"):
            pass
        making.start()
        making.join(5)
        waited = making.is_alive()
    for thread in (setting, making):
        thread.join()
    assert not waited
    assert handle.present_info.modified_us == 7


# Updates and history


def test_update_keeps_what_was_not_written(alice: Door) -> None:
    """keep=True begins with the present content; without it the file begins empty."""
    put(alice, FILE, b"0123456789")
    handle = alice.open_write(at(FILE), keep=True)
    handle.write_at(4, b"xy")
    handle.commit()
    assert get(alice, FILE) == b"0123xy6789"
    put(alice, FILE, b"ab")
    assert get(alice, FILE) == b"ab"


def test_update_that_changes_nothing_makes_no_version(gate: Gate, alice: Door) -> None:
    """Opening for update and closing is recorded and leaves the version as it was."""
    version = put(alice, FILE).version_id
    assert alice.open_write(at(FILE), keep=True).commit().version_id == version
    assert versions(gate) == 1


def test_reading_back_an_update_needs_the_right_to_read(gate: Gate, alice: Door) -> None:
    """Whoever may only write does not see the old content through a write handle."""
    put(alice, FILE, b"secret")
    gate.policy.replace(staff(without=frozenset({Action.READ, Action.LIST})))
    handle = alice.open_write(at(FILE), keep=True)
    gate.new_records()
    with pytest.raises(DeniedError):
        handle.read_at(0, 10)
    assert outline(gate.new_records()) == [("read", "denied")]
    fresh = alice.open_write(at(FILE))
    fresh.write_at(0, b"mine")
    assert fresh.read_at(0, 10) == b"mine"


def test_rename_over_a_file_adds_to_its_history(gate: Gate, alice: Door) -> None:
    """Saving through a temporary file keeps node and versions of the target."""
    target = put(alice, FILE, b"old")
    put(alice, "/radiology/tmp", b"new")
    assert not alice.move(at("/radiology/tmp"), at(FILE), replace=True)
    after = alice.stat(at(FILE))
    assert (after.node_id, after.size_bytes) == (target.node_id, 3)
    kept = gate.sql("SELECT count(*) FROM versions WHERE node_id = ?", bytes.fromhex(after.node_id))
    assert kept == [(2,)]
    assert names(alice, "/radiology") == ["file"]
    assert get(alice, FILE) == b"new"


def test_read_handle_is_closed_once_and_for_all(gate: Gate, alice: Door) -> None:
    """After its closing record no byte leaves any more."""
    put(alice, FILE)
    gate.new_records()
    handle = alice.open_read(at(FILE))
    assert handle.read_at(2, 3) == b"nte"
    handle.close(complete=False)
    handle.close()
    read, end = gate.new_records()
    assert (read["action"], read["outcome"], read["bytes"]) == ("read", "ok", None)
    assert (end["action"], end["outcome"], end["bytes"]) == ("read_end", "aborted", 3)
    with pytest.raises(SealgateError):
        handle.read_at(0, 10)
